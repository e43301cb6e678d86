"""Real servers: granian, and OpenSSL's."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transport.test_http_transport import Connect, connect

__all__ = ["connect"]

APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    request = b""
    while True:
        event = await receive()
        request += event.get("body", b"")
        if not event.get("more_body"):
            break
    answer = str(scope["client"][1]).encode() + b" " + request
    headers = [(b"content-type", b"application/pkixcmp")]
    await send({"type": "http.response.start", "status": 200 if request else 400, "headers": headers})
    for start in range(0, len(answer), 50_000):
        await send({"type": "http.response.body", "body": answer[start : start + 50_000], "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("the server did not start")


@pytest.fixture(scope="module")
def granian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("granian")
    directory = tmp_path_factory.mktemp("granian")
    (directory / "echo_app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--no-ws", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--log-level", "error", "echo_app:app"]
    process = subprocess.Popen(command, cwd=directory)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}/.well-known/cmp"
    finally:
        process.terminate()
        process.wait(20)


def test_granian_keeps_the_connection_and_chunks_its_answers(connect: Connect, granian: str) -> None:
    client = connect(granian)
    answers = [client.send(bytes([65 + number]) * 120_000) for number in range(5)]
    ports = {answer.partition(b" ")[0] for answer in answers}
    assert len(ports) == 1
    assert [answer[-1:] for answer in answers] == [b"A", b"B", b"C", b"D", b"E"]
    assert client.send(b"").startswith(ports.pop())  # under HTTP 400


def test_openssls_own_server_answers_over_one_connection(connect: Connect, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    request = tmp_path / "genm.der"
    server = ["-srv_ref", "x", "-srv_secret", "pass:y", "-config", ""]
    making = [
        openssl,
        "cmp",
        "-cmd",
        "genm",
        "-ref",
        "x",
        "-secret",
        "pass:y",
        "-use_mock_srv",
        "-reqout",
        str(request),
    ]
    subprocess.run([*making, *server], check=True, capture_output=True, timeout=20)
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([openssl, "cmp", "-port", str(port), *server], stdout=log, stderr=log)
    try:
        wait_for(port, process)
        client = connect(f"http://127.0.0.1:{port}/", message_timeout_seconds=5)
        for _ in range(3):
            assert client.send(request.read_bytes()).startswith(b"0")
            (connection,) = client.transport._idle
            assert connection.reused
    finally:
        process.terminate()
        process.wait(20)

"""HTTP as RFC 9811 has it: first the application alone, then served over real connections."""

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opensslcmp.server.app import OPERATIONS, App, Document
from opensslcmp.server.http_service import OLD_TYPES
from opensslcmp.server.peer import Peer
from opensslcmp.server.serve import serve
from opensslcmp.server.server_settings import ServerSettings
from tests.server.web_client import environment, exchange, post, read_response, running

ROOT = "/.well-known/cmp"
ECHO = str(Path(__file__).with_name("echo_server.py"))


class Recorder:
    """A responder that keeps what it was asked."""

    def __init__(self, answer: bytes = b"answer", error: Exception | None = None) -> None:
        self.asked: list[tuple[bytes, Peer]] = []
        self.answer = answer
        self.error = error

    def handle(self, der: bytes, peer: Peer) -> bytes:
        self.asked.append((der, peer))
        if self.error:
            raise self.error
        return self.answer


def ask(
    app: App, path: str = ROOT, *, method: str = "POST", headers: dict[str, str] | None = None, events: Any = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the application's answer; status 0 when it gave none."""
    headers = {"content-type": "application/pkixcmp"} if headers is None else headers
    incoming = iter([{"type": "http.request", "body": b"request"}] if events is None else events)
    sent: list[Any] = []

    async def receive() -> Any:
        event = next(incoming)
        if event is None:
            await asyncio.Event().wait()
        return event

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 4711),
    }
    try:
        asyncio.run(app(scope, receive, send))
    finally:
        app.close()
    if not sent:
        return 0, {}, b""
    start, body = sent
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, body["body"]


def test_a_message_gets_the_responders_bytes_with_200() -> None:
    responder = Recorder()
    status, headers, body = ask(App(responder))
    assert (status, body) == (200, b"answer")
    assert headers == {"content-length": "6", "content-type": "application/pkixcmp"}
    assert responder.asked == [(b"request", Peer(address="192.0.2.1"))]


@pytest.mark.parametrize("kind", [each.decode() for each in sorted(OLD_TYPES)])
def test_content_types_of_old_are_taken_where_they_are_asked_for(kind: str) -> None:
    responder = Recorder()
    assert ask(App(responder), headers={"content-type": kind})[0] == 415
    status, headers, body = ask(App(responder, content_types=OLD_TYPES), headers={"content-type": f"{kind}; x=y"})
    assert (status, headers["content-type"], body) == (200, "application/pkixcmp", b"answer")
    assert len(responder.asked) == 1


def test_an_announcement_gets_202_without_a_body() -> None:
    assert ask(App(Recorder(answer=b""))) == (202, {"content-length": "0"}, b"")


@pytest.mark.parametrize(
    ("path", "label", "operation"),
    [
        (ROOT, None, None),
        (ROOT + "/", None, None),
        *((f"{ROOT}/{operation}", None, operation) for operation in sorted(OPERATIONS)),
        (ROOT + "/p/devices", "devices", None),
        (ROOT + "/p/devices/", "devices", None),
        (ROOT + "/p/p", "p", None),
        *((f"{ROOT}/p/devices/{operation}", "devices", operation) for operation in sorted(OPERATIONS)),
    ],
)
def test_the_path_tells_the_responder_label_and_operation(path: str, label: str, operation: str) -> None:
    responder = Recorder()
    assert ask(App(responder), path)[0] == 200
    assert responder.asked == [(b"request", Peer(address="192.0.2.1", label=label, operation=operation))]


@pytest.mark.parametrize(
    "path",
    ["/", "", "/pkix/", ROOT + "x", ROOT + "//", ROOT + "/p", ROOT + "/p/", ROOT + "/p//initialization", ROOT + "/enroll",
     ROOT + "/Initialization", ROOT + "/p/devices/enroll", ROOT + "/initialization/", ROOT + "/p/a/b/c", "/crl"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_unknown_path_gets_404(path: str, method: str) -> None:
    responder = Recorder()
    assert ask(App(responder), path, method=method)[0] == 404
    assert not responder.asked


def test_further_paths_are_served_when_asked_for() -> None:
    responder = Recorder()
    assert ask(App(responder, paths=["/pkix/"]), "/pkix/")[0] == 200
    assert ask(App(responder, paths=["/pkix/"]), "/")[0] == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_get_405_and_are_told_which_is_allowed(method: str) -> None:
    responder = Recorder()
    status, headers, _ = ask(App(responder), method=method)
    assert (status, headers["allow"]) == (405, "POST")
    assert not responder.asked


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": ""}, {"content-type": "text/plain"}, {"content-type": "application/pkixcmpx"}]
)
def test_another_content_type_gets_415(headers: dict[str, str]) -> None:
    responder = Recorder()
    assert ask(App(responder), headers=headers)[0] == 415
    assert not responder.asked


@pytest.mark.parametrize(
    "value", ["application/pkixcmp; charset=binary", "Application/PKIXCMP", "application/pkixcmp ;a=b"]
)
def test_parameters_and_case_of_the_content_type_do_not_matter(value: str) -> None:
    assert ask(App(Recorder()), headers={"content-type": value})[0] == 200


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    headers = {"content-type": "application/pkixcmp", "content-length": "11"}
    assert ask(App(Recorder(), max_request_bytes=10), headers=headers, events=[])[0] == 413


def test_a_body_that_grows_too_long_is_not_read_to_its_end() -> None:
    responder = Recorder()
    events = [{"type": "http.request", "body": b"123456", "more_body": True}] * 2
    assert ask(App(responder, max_request_bytes=11), events=events)[0] == 413
    assert not responder.asked


def test_a_body_in_pieces_is_put_together() -> None:
    responder = Recorder()
    events = [{"type": "http.request", "body": piece, "more_body": piece != b"c"} for piece in (b"a", b"", b"b", b"c")]
    assert ask(App(responder, max_request_bytes=3), events=events)[0] == 200
    assert responder.asked[0][0] == b"abc"


def test_a_body_that_does_not_arrive_gets_408() -> None:
    events = [{"type": "http.request", "body": b"1", "more_body": True}, None]
    assert ask(App(Recorder(), read_timeout_seconds=0.01), events=events)[0] == 408


def test_a_client_that_goes_away_gets_nothing_and_asks_nothing() -> None:
    responder = Recorder()
    events = [{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}]
    assert ask(App(responder), events=events)[0] == 0
    assert not responder.asked


def test_a_failing_responder_gets_500_and_says_why_only_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = ask(App(Recorder(error=RuntimeError("details"))))
    assert status == 500
    assert b"details" not in body
    assert "details" in caplog.text


def test_the_crl_is_served_in_der() -> None:
    status, headers, body = ask(App(Recorder(), crl=lambda: b"crl"), "/crl", method="GET", headers={})
    assert (status, headers["content-type"], body) == (200, "application/pkix-crl", b"crl")


def test_a_document_is_asked_for_anew_and_sent_only_when_it_changed() -> None:
    document = Document(content=b"crl", made_at=1_000_000_000, good_until=4_000_000_000)

    def get(path: str = "/pki/ca.crl", **asked: str) -> tuple[int, dict[str, str], bytes]:
        app = App(Recorder(), crl=lambda: document, crl_paths=["/pki/ca.crl"])
        return ask(app, path, method="GET", headers={name.replace("_", "-"): value for name, value in asked.items()})

    status, headers, body = get()
    assert (status, body) == (200, b"crl")
    assert headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert headers["expires"] == "Tue, 02 Oct 2096 07:06:40 GMT"
    assert headers["cache-control"].startswith("no-cache, stale-if-error=")
    known = f'"other", W/{headers["etag"]}'
    status, again, body = get(if_none_match=known)
    assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert "content-length" not in again
    document = Document(content=b"new crl")
    status, headers, body = get(if_none_match=known)
    assert (status, body, headers["cache-control"]) == (200, b"new crl", "no-cache")
    assert get("/crl")[0] == 404


def test_the_crl_is_404_while_there_is_none_and_500_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bytes:
        raise OSError("disk")

    assert ask(App(Recorder(), crl=lambda: None), "/crl", method="GET")[0] == 404
    assert ask(App(Recorder(), crl=fail), "/crl", method="GET")[0] == 500
    assert "disk" in caplog.text


def test_health_is_told() -> None:
    assert ask(App(Recorder()), "/healthz", method="GET")[::2] == (200, b"ok\n")
    assert ask(App(Recorder()), "/healthz", method="POST")[1]["allow"] == "GET, HEAD"


def test_ticks_come_while_the_server_runs_and_survive_their_failures(caplog: pytest.LogCaptureFixture) -> None:
    ticks: list[int] = []
    enough = threading.Event()

    def tick() -> None:
        ticks.append(len(ticks))
        if len(ticks) == 3:
            enough.set()
        raise OSError("disk")

    async def run() -> None:
        events: asyncio.Queue[Any] = asyncio.Queue()
        sent: list[str] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        app = App(Recorder(), tick=tick, tick_seconds=0.001)
        server = asyncio.create_task(app({"type": "lifespan"}, events.get, send))
        await events.put({"type": "lifespan.startup"})
        assert await asyncio.to_thread(enough.wait, 10)
        await events.put({"type": "lifespan.shutdown"})
        await server
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(run())
    count = len(ticks)
    assert count >= 3
    assert "disk" in caplog.text
    assert len(ticks) == count


def test_the_life_span_ends_with_what_was_to_be_closed() -> None:
    closed: list[bool] = []
    app = App(Recorder(), on_close=lambda: closed.append(True))
    events = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> Any:
        return {"type": next(events)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert closed == [True]


def test_without_threads_the_responder_runs_in_the_loops_own() -> None:
    class Where:
        def handle(self, der: bytes, peer: Peer) -> bytes:
            return str(threading.get_ident()).encode()

    assert ask(App(Where(), threads=0))[2] == str(threading.get_ident()).encode()


def test_messages_are_worked_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    class Meeting:
        def handle(self, der: bytes, peer: Peer) -> bytes:
            both.wait()
            return b"met"

    app = App(Meeting())

    async def one() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"r"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/pkixcmp")]
        await app({"type": "http", "method": "POST", "path": ROOT, "headers": headers}, receive, send)
        return sent

    async def two() -> list[list[Any]]:
        return list(await asyncio.gather(one(), one()))

    assert [sent[1]["body"] for sent in asyncio.run(two())] == [b"met", b"met"]
    app.close()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    with running(ECHO, "1") as (_, host, port):
        yield host, port


@pytest.fixture
def connection(server: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(server, 10) as connection:
        yield connection


def test_twenty_requests_of_http_1_0_with_keep_alive_go_over_one_connection(connection: socket.socket) -> None:
    for number in range(20):
        request = post(ROOT, b"%d" % number, "Connection: keep-alive", version="1.0")
        status, headers, body = exchange(connection, request)
        assert (status, body) == (200, b"None None %d" % number)
        assert headers["connection"].lower() == "keep-alive"
        assert headers["content-length"] == str(len(body))


def test_twenty_requests_of_http_1_1_go_over_one_connection(connection: socket.socket) -> None:
    for number in range(20):
        path = f"{ROOT}/p/x%20y/keyupdate"
        assert exchange(connection, post(path, b"%d" % number))[::2] == (200, b"x y keyupdate %d" % number)


def test_http_1_0_without_keep_alive_is_answered_and_closed(connection: socket.socket) -> None:
    assert exchange(connection, post(ROOT, b"x", version="1.0"))[0] == 200
    assert connection.recv(1) == b""


def test_an_answer_comes_in_one_segment(connection: socket.socket) -> None:
    connection.sendall(post(ROOT, b"x"))
    assert connection.recv(65536).endswith(b"None None x")


def test_a_long_body_is_served_and_a_longer_one_refused_on_the_wire(server: tuple[str, int]) -> None:
    with socket.create_connection(server, 10) as connection:
        assert exchange(connection, post(ROOT, bytes(200_000)))[0] == 200
    with socket.create_connection(server, 10) as connection:
        connection.sendall(post(ROOT, bytes(200_001))[:1000])
        assert read_response(connection)[0] == 413


def test_a_chunked_body_is_bounded_as_well(connection: socket.socket) -> None:
    head = f"POST {ROOT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/pkixcmp\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode())
    for _ in range(3):
        connection.sendall(b"15f90\r\n" + bytes(90_000) + b"\r\n")
    assert read_response(connection)[0] == 413


def test_a_slow_body_gets_408_on_the_wire(connection: socket.socket) -> None:
    connection.sendall(post(ROOT, b"12345")[:-1])
    assert read_response(connection)[0] == 408


def test_nonsense_instead_of_http_does_not_disturb_others(server: tuple[str, int], connection: socket.socket) -> None:
    with socket.create_connection(server, 10) as other:
        other.sendall(b"\x30\x82\x00\x01" * 100)
        other.shutdown(socket.SHUT_WR)
        other.recv(1000)
    assert exchange(connection, post(ROOT, b"x"))[0] == 200


def test_several_workers_share_a_port_and_end_together() -> None:
    with running(ECHO, "2") as (_, host, port):
        for number in range(10):
            with socket.create_connection((host, port), 10) as connection:
                assert exchange(connection, post("/", b"%d" % number))[0] == 200


def test_a_signal_while_the_workers_start_ends_them_at_once() -> None:
    with running(ECHO, "2") as (_, host, port):
        begin = time.monotonic()
        assert host
        assert port
    assert time.monotonic() - begin < 10


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_workers_end_when_the_process_that_started_them_is_killed() -> None:
    with subprocess.Popen([sys.executable, ECHO, "2"], stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(b":")[2].partition(b"/")[0])
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(0.05)
    pytest.fail("a worker still listens")


def test_a_taken_port_is_a_clear_error(server: tuple[str, int]) -> None:
    with pytest.raises(OSError, match="taken"):
        serve(lambda: App(Recorder()), ServerSettings(host=server[0], port=server[1]))


def test_https_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -out tls.pem -keyout tls.key"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    with running(ECHO, "1", str(certificate), str(key)) as (url, host, port):
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        with (
            socket.create_connection((host, port), 10) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            assert exchange(connection, post(ROOT, b"x"))[::2] == (200, b"None None x")

"""The processes of a server: workers that die, drain, reload and end; TLS with certificates of clients."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from opensslcmp.server.server_settings import ServerSettings
from tests.server.web_client import environment, exchange, post, read_response

ROOT = "/.well-known/cmp"
PROGRAM = str(Path(__file__).with_name("worker_server.py"))


@dataclass
class Running:
    """A server in processes of its own."""

    process: subprocess.Popen[str]
    port: int
    words: Path

    def connect(self, tls: ssl.SSLContext | None = None) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        return plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")

    def ask(self, body: bytes, tls: ssl.SSLContext | None = None) -> bytes:
        with self.connect(tls) as connection:
            return exchange(connection, post(ROOT, body))[2]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def until_said(self, words: str) -> None:
        """Wait for a line in the log."""
        deadline = time.monotonic() + 20
        while words not in self.words.read_text():
            assert time.monotonic() < deadline, self.words.read_text()
            time.sleep(0.01)


@contextmanager
def running(tmp_path: Path, **settings: object) -> Iterator[Running]:
    words = tmp_path / "stderr"
    command = [sys.executable, PROGRAM, *(f"{name}={value}" for name, value in settings.items())]
    with words.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment())
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, words.read_text()
            yield Running(process, int(line.rpartition(":")[2].partition("/")[0]), words)
        finally:
            if process.poll() is None:
                process.kill()


def alive(pid: int) -> bool:
    """It runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_worker_answers_for_itself_and_one_that_died_is_started_anew(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        found = {int(server.ask(b"pid")) for _ in range(60)}
        assert len(found) == 2
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        other = int(server.ask(b"pid"))  # waits in the queue of the socket meanwhile
        assert other not in found
        server.until_said("a worker ended (status -9)")
        assert server.end(signal.SIGINT) == 0
        until_gone(other)


def test_a_worker_that_never_served_ends_the_server(tmp_path: Path) -> None:
    command = [sys.executable, PROGRAM, "load=fail"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no CA" in done.stderr
    assert "a worker ended before it served" in done.stderr


def test_who_is_told_twice_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.connect() as connection:
        pid = int(exchange(connection, post(ROOT, b"pid"))[2])
        connection.sendall(post(ROOT, b"for ever"))
        server.until_said("for ever begins")
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while listens(server.port):  # not once it drains
            assert time.monotonic() < deadline
        assert server.end() == 0
        until_gone(pid)


def test_what_does_not_end_in_time_is_cut_off(tmp_path: Path) -> None:
    with running(tmp_path, drain_seconds=0.1) as server, server.connect() as connection:
        connection.sendall(post(ROOT, b"for ever"))
        server.until_said("for ever begins")
        assert server.end() == 0
        assert "cut off" in server.words.read_text()


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        pid = int(server.ask(b"pid"))
        server.process.kill()
        server.process.wait()
        until_gone(pid)


def test_sighup_reloads_or_leaves_everything_as_it_was_and_the_end_waits_for_what_is_under_way(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("one")
    with running(tmp_path, told=told) as server, server.connect() as connection:
        assert exchange(connection, post(ROOT, b"told"))[2] == b"one"
        told.write_text("two")
        server.process.send_signal(signal.SIGHUP)
        server.until_said("reloaded")
        assert exchange(connection, post(ROOT, b"told"))[2] == b"two"
        told.unlink()
        server.process.send_signal(signal.SIGHUP)
        server.until_said("not reloaded; everything is as before")
        assert exchange(connection, post(ROOT, b"told"))[2] == b"two"
        connection.sendall(post(ROOT, b"slow"))
        server.until_said("slow begins")
        assert server.end() == 0
        assert read_response(connection)[2] == b"slow"


def test_ipv6_is_listened_on(tmp_path: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("there is no IPv6 here")
    with running(tmp_path, host="::1") as server:
        with socket.create_connection(("::1", server.port), 10) as connection:
            assert exchange(connection, post(ROOT, b"x"))[2] == b"x"
        assert server.end() == 0


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's certificate with an encrypted key, another one for it, and a client's."""
    place = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=place)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *key, "-nodes", "-out", "ca.pem", "-keyout", "ca.key", "-subj", "/CN=CA", *usage)
    # Python 3.13 wants of a path what RFC 5280 says (VERIFY_X509_STRICT).
    (place / "san").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name, cipher in (("server", ("-passout", "pass:open sesame")), ("next", ("-nodes",)), ("client", ("-nodes",))):
        openssl("req", "-new", *key, *cipher, "-out", f"{name}.csr", "-keyout", f"{name}.key", "-subj", f"/CN={name}")
        issue = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "san")
        openssl(*issue, "-out", f"{name}.pem")
    (place / "password").write_text("open sesame\n")
    return place


def client(pki: Path, certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    if certificate:
        context.load_cert_chain(pki / "client.pem", pki / "client.key")
    return context


@pytest.mark.parametrize("asked", ["optional", "required"])
def test_the_responder_sees_the_certificate_that_tls_verified(tmp_path: Path, pki: Path, asked: str) -> None:
    files = {"tls_certificate": pki / "server.pem", "tls_key": pki / "server.key"}
    files |= {"tls_key_password_file": pki / "password", "tls_client_ca": pki / "ca.pem"}
    own = x509.load_pem_x509_certificate((pki / "client.pem").read_bytes())
    with running(tmp_path, **files, tls_client=asked) as server:
        assert server.ask(b"certificate", client(pki, True)) == own.public_bytes(serialization.Encoding.DER)
        if asked == "optional":
            assert server.ask(b"certificate", client(pki, False)) == b""
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                server.ask(b"certificate", client(pki, False))
        assert server.end() == 0


def test_new_tls_files_are_taken_up_and_connections_stay(tmp_path: Path, pki: Path) -> None:
    for name in ("certificate", "key"):
        suffix = "pem" if name == "certificate" else "key"
        (tmp_path / name).write_bytes((pki / f"next.{suffix}").read_bytes())
    with running(tmp_path, tls_certificate=tmp_path / "certificate", tls_key=tmp_path / "key") as server:
        tls = client(pki, False)
        with server.connect(tls) as before:
            assert exchange(before, post(ROOT, b"x"))[2] == b"x"
            key = subprocess.run(
                ["openssl", "pkey", "-in", pki / "server.key", "-passin", "pass:open sesame"],
                check=True,
                capture_output=True,
            ).stdout
            (tmp_path / "key").write_bytes(key)
            server.process.send_signal(signal.SIGHUP)
            server.until_said("not reloaded")  # the key is not that of the certificate
            (tmp_path / "certificate").write_bytes((pki / "server.pem").read_bytes())
            server.process.send_signal(signal.SIGHUP)
            server.until_said(" reloaded\n")
            assert exchange(before, post(ROOT, b"y"))[2] == b"y"
        for _ in range(5):
            with server.connect(tls) as after:
                assert isinstance(after, ssl.SSLSocket)
                found = x509.load_der_x509_certificate(after.getpeercert(binary_form=True) or b"")
                assert found.subject.rfc4514_string() == "CN=server"
                assert exchange(after, post(ROOT, b"z"))[2] == b"z"
        assert server.end() == 0


def test_old_versions_of_tls_are_refused(pki: Path) -> None:
    context = ServerSettings(tls_certificate=pki / "next.pem", tls_key=pki / "next.key").tls()
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    assert ServerSettings().tls() is None


@pytest.mark.parametrize(
    ("certificate", "key", "more", "words"),
    [
        ("missing.pem", "next.key", {}, "No such file"),
        ("next.pem", "server.key", {}, "tls_key_password_file"),
        ("next.pem", "client.key", {}, "not that of the certificate"),
        ("password", "next.key", {}, "PEM"),
        ("server.pem", "server.key", {"tls_key_password_file": "missing"}, "missing: No such file"),
        ("server.pem", "server.key", {"tls_key_password_file": "san"}, "PEM"),
        ("next.pem", "next.key", {"tls_client_ca": "password"}, "password: not in PEM"),
    ],
)
def test_tls_files_that_do_not_load_are_named(
    pki: Path, certificate: str, key: str, more: dict[str, str], words: str
) -> None:
    files = {name: pki / value for name, value in more.items()}
    settings = ServerSettings(tls_certificate=pki / certificate, tls_key=pki / key, **files)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words) as caught:
        settings.tls()
    assert "open sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"port": 65536}, "port"),
        ({"workers": 0}, "workers"),
        ({"tls_key": Path("x")}, "tls_certificate is needed"),
        ({"tls_client_ca": Path("x")}, "tls_client_ca"),
        ({"tls_client": "required"}, "tls_client needs tls_client_ca"),
        ({"tls_client": "sometimes"}, "tls_client"),
        ({"trusted_proxies": ("nobody",)}, "nobody"),
        ({"drain_seconds": -1.0}, "drain_seconds"),
        ({"max_queue": 0}, "max_queue"),
        ({"idle_timeout_seconds": 0.0}, "idle_timeout_seconds"),
        ({"read_timeout_seconds": 0.0}, "read_timeout_seconds"),
        ({"paths": ("x",)}, "paths"),
    ],
)
def test_settings_that_make_no_sense_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerSettings(**values)  # type: ignore[arg-type]

"""CMP over TCP, the server's side: what each TCP-message gets, hostile ones too, and whole enrollments by URL."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from opensslcmp import Session
from opensslcmp.server.app import App
from opensslcmp.server.front import Bounds
from opensslcmp.server.tcp_front import TCPFront
from opensslcmp.transport import TLS
from opensslcmp.transport.tcp_message import TCPMessage, TCPType, decode
from tests.server.front_world import Gate, Serving, serving
from tests.server.test_serve_workers import client, pki
from tests.server.transfer_world import TWINS, Site

__all__ = ["pki"]

QUICK = Bounds(header_timeout_seconds=0.2, idle_timeout_seconds=0.3)


@dataclass
class Over:
    """A server of CMP over TCP."""

    serving: Serving
    front: TCPFront
    port: int

    @property
    def gate(self) -> Gate:
        return self.serving.gate

    def connect(self, tls: ssl.SSLContext | None = None) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        return plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")


@contextmanager
def over_tcp(
    bounds: Bounds | None = None,
    *,
    app: Callable[[Gate], App] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Over]:
    with serving(bounds, app=app) as server:
        listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        listening.setblocking(False)
        port = listening.getsockname()[1]

        async def start() -> TCPFront:
            front = TCPFront(server.front)
            await front.listen(listening, tls)
            return front

        found = Over(server, server.do(start()), port)
        try:
            yield found
        finally:
            server.call(server.gate.open.set)
            server.do(found.front.drain(5.0))


def receive(connection: socket.socket) -> TCPMessage | None:
    """The next TCP-message; None when the connection is at its end."""
    data = b""
    while (left := 5 - len(data) if len(data) < 5 else 4 + struct.unpack(">I", data[:4])[0] - len(data)) > 0:
        more = connection.recv(left)
        if not more:
            assert not data
            return None
        data += more
    return decode(data[:5], data[5:])


def request(body: bytes, **fields: object) -> bytes:
    return TCPMessage(kind=TCPType.PKI_REQUEST, value=body, **fields).encode()  # type: ignore[arg-type]


@TWINS
def test_a_certificate_comes_over_tcp_at_once_and_by_polling(twin: Callable[..., Session]) -> None:
    site = Site()
    with over_tcp(app=site.app) as server:
        site.enroll_twice(twin, f"cmp+tcp://127.0.0.1:{server.port}")
    assert {each.peer.address for each in site.events} == {"127.0.0.1"}


@TWINS
def test_a_certificate_comes_over_tls(twin: Callable[..., Session], pki: Path) -> None:
    site = Site()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key", "open sesame")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    tls = TLS(trusted=pki / "ca.pem", certificate=pki / "client.pem", key=pki / "client.key")
    with over_tcp(app=site.app, tls=context) as server:
        site.enroll_twice(twin, f"cmps+tcp://127.0.0.1:{server.port}", tls=tls)
    expected = ssl.PEM_cert_to_DER_cert((pki / "client.pem").read_text())
    assert {each.peer.tls_certificate for each in site.events} == {expected}


def test_messages_of_a_connection_are_answered_in_order() -> None:
    with over_tcp() as server, server.connect() as connection:
        connection.sendall(request(b"one") + request(b"announcement") + request(b"three", close=True))
        first, second, third = receive(connection), receive(connection), receive(connection)
        assert first == TCPMessage(kind=TCPType.PKI_REPLY, value=b"echo one")
        assert second == TCPMessage(kind=TCPType.FINISHED, value=b"\0")
        assert third == TCPMessage(kind=TCPType.PKI_REPLY, value=b"echo three", close=True)
        assert receive(connection) is None


def test_the_first_form_is_answered_in_kind() -> None:
    with over_tcp() as server, server.connect() as connection:
        connection.sendall(request(b"old", version=0) + TCPMessage(kind=TCPType.ERROR, version=0).encode())
        assert receive(connection) == TCPMessage(kind=TCPType.PKI_REPLY, value=b"echo old", version=0)
        refused = receive(connection)
        assert refused is not None
        assert refused.error == "a TCP-message of type 6 is not for a server"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (struct.pack(">IBBB", 1 << 31, 10, 0, 0), "0200: a TCP-message of 2147483648 bytes is too long"),
        (struct.pack(">IBBB", (1 << 20) + 4, 10, 0, 0), "0200: a TCP-message of 1048580 bytes is too long"),
        (struct.pack(">IBBB", 0, 10, 0, 0), "0200: a TCP-message cannot be 0 bytes long"),
        (struct.pack(">IBBB", 2, 10, 0, 0), "0200: a TCP-message cannot be 2 bytes long"),
        (struct.pack(">IB", 0, 0), "a TCP-message cannot be 0 bytes long"),
        (b"POST / HTTP/1.1\r\n\r\n", "0200: a TCP-message of 1347375956 bytes is too long"),
        (struct.pack(">IBBB", 3, 11, 0, 0), "0101: this server speaks version 10"),
        (TCPMessage(kind=TCPType.POLL_REQUEST, value=b"\0\0\0\7").encode(), "0202: nothing is there"),
        (TCPMessage(kind=TCPType.POLL_REQUEST).encode(), "0202: nothing is there"),
        (TCPMessage(kind=TCPType.PKI_REPLY, value=b"x").encode(), "0201: a TCP-message of type 5"),
        (TCPMessage(kind=200, value=b"x").encode(), "0201: a TCP-message of type 200"),
        (request(b"fail"), "0300: the server failed"),
    ],
)
def test_what_is_wrong_is_told_and_the_connection_ends(sent: bytes, error: str) -> None:
    with over_tcp() as server:
        with server.connect() as connection:
            connection.sendall(sent)
            refused = receive(connection)
            assert refused is not None
            assert refused.kind == TCPType.ERROR
            assert refused.error.startswith(error)
            with contextlib.suppress(ConnectionResetError):
                assert receive(connection) is None
        with server.connect() as connection:  # and others go on
            connection.sendall(request(b"hello"))
            assert receive(connection) == TCPMessage(kind=TCPType.PKI_REPLY, value=b"echo hello")


@pytest.mark.parametrize(
    "sent",
    [b"", b"\0\0", request(b"hello")[:9], request(b"whole") + b"\0"],
    ids=["nothing", "half a head", "half a body", "half of the second"],
)
def test_who_is_slow_is_left(sent: bytes) -> None:
    with over_tcp(QUICK) as server, server.connect() as connection:
        connection.sendall(sent)
        answer = receive(connection)
        if sent.startswith(request(b"whole")):
            assert answer is not None
            answer = receive(connection)
        assert answer is None
        assert server.serving.call(lambda: server.serving.front.buffered) == 0


def test_bodies_that_are_on_their_way_are_bounded() -> None:
    with over_tcp(Bounds(max_buffered_bytes=100)) as server, server.connect() as first, server.connect() as second:
        first.sendall(request(b"x" * 90)[:50])
        server.serving.until(lambda: server.serving.front.buffered > 0)
        second.sendall(request(b"x" * 90)[:50])
        refused = receive(second)
        assert refused is not None
        assert refused.error.startswith("0300: the server is busy")


@pytest.mark.parametrize("bound", ["max_connections", "max_connections_per_address"])
def test_connections_are_bounded(bound: str) -> None:
    with over_tcp(Bounds(**{bound: 1})) as server, server.connect() as first:
        first.sendall(request(b"hello"))
        assert receive(first) is not None
        with server.connect() as second:
            refused = receive(second)
            assert refused is not None
            assert refused.error == "0300: there are too many connections"
            assert receive(second) is None


def test_the_end_of_the_server_waits_for_what_was_begun() -> None:
    with over_tcp() as server, server.connect() as idle, server.connect() as busy:
        idle.sendall(request(b"hello"))
        assert receive(idle) is not None
        busy.sendall(request(b"wait"))
        server.gate.arrived.acquire()

        async def drained() -> bool:
            server.gate.open.set()
            return await server.front.drain(5.0)

        assert server.serving.do(drained())
        assert receive(idle) is None
        assert receive(busy) == TCPMessage(kind=TCPType.PKI_REPLY, value=b"echo wait", close=True)
        assert receive(busy) is None


def test_what_takes_too_long_is_cut_off() -> None:
    with over_tcp() as server, server.connect() as busy:
        busy.sendall(request(b"wait"))
        server.gate.arrived.acquire()
        assert not server.serving.do(server.front.drain(0.01))
        assert receive(busy) is None


def test_another_certificate_is_used_from_now_on(pki: Path) -> None:
    def context(name: str, password: str | None) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key", password)
        return made

    def subject(connection: socket.socket) -> object:
        assert isinstance(connection, ssl.SSLSocket)
        certificate = connection.getpeercert()
        return certificate["subject"][0][0][1] if certificate else None

    with over_tcp(tls=context("server", "open sesame")) as server, server.connect(client(pki, False)) as before:
        assert subject(before) == "server"
        server.serving.do(server.front.change_tls(context("next", None)))
        with server.connect(client(pki, False)) as after:
            assert subject(after) == "next"
        before.sendall(request(b"hello"))
        assert receive(before) is not None

"""Clients of CMP over TCP, against peers that do not keep to it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import anyio
import pytest

from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport import (
    TLS,
    AsyncHTTPTransport,
    AsyncTCPTransport,
    HTTPTransport,
    TCPTransport,
    as_async_transport,
    as_transport,
    async_transport_for,
    transport_for,
)
from opensslcmp.transport.tcp_message import TCPError, TCPMessage, TCPReader, TCPType, decode, error_message

Script = Callable[[TCPMessage], bytes | None]
ANSWER = TCPMessage(kind=TCPType.PKI_REPLY, value=b"answer")


class Peer:
    """Answers TCP-messages as a script says; None ends the connection."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"cmp+tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[tuple[int, TCPMessage]] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        workers = []
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                workers.append(threading.Thread(target=self._serve, args=(connection, self.connections)))
                workers[-1].start()
        for each in workers:
            each.join()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            while len(head := connection.recv(5, socket.MSG_WAITALL)) == 5:
                rest = connection.recv(struct.unpack(">I", head[:4])[0] - 1, socket.MSG_WAITALL)
                asked = decode(head, rest)
                self.asked.append((number, asked))
                answer = self._script(asked)
                if answer is None:
                    return
                connection.sendall(answer)

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join()


@contextmanager
def peer(script: Script) -> Iterator[Peer]:
    found = Peer(script)
    try:
        yield found
    finally:
        found.close()


def send(kind: Any, url: str, *requests: bytes, timeout: float = 10.0, **options: Any) -> list[bytes]:
    """The answers to requests over one transport."""
    if kind is TCPTransport:
        with TCPTransport(url, **options) as transport:
            return [transport.send(each, timeout) for each in requests]

    async def run() -> list[bytes]:
        async with AsyncTCPTransport(url, **options) as transport:
            return [await transport.send(each, timeout) for each in requests]

    return anyio.run(run)


KINDS = pytest.mark.parametrize("kind", [TCPTransport, AsyncTCPTransport], ids=["threads", "asyncio"])


@KINDS
def test_a_connection_is_kept_until_one_side_ends_it(kind: Any) -> None:
    def script(asked: TCPMessage) -> bytes:
        return TCPMessage(kind=TCPType.PKI_REPLY, value=asked.value, close=asked.value == b"2").encode()

    with peer(script) as found:
        assert send(kind, found.url, b"1", b"2", b"3") == [b"1", b"2", b"3"]
        assert [number for number, _ in found.asked] == [1, 1, 2]
        assert not any(asked.close for _, asked in found.asked)
        send(kind, found.url, b"4", b"5", keep_alive=False)
        assert [(number, asked.close) for number, asked in found.asked[3:]] == [(3, True), (4, True)]


@KINDS
def test_a_peer_that_closed_meanwhile_gets_the_same_again(kind: Any) -> None:
    with peer(lambda asked: ANSWER.encode() if len(found.asked) != 2 else None) as found:
        assert send(kind, found.url, b"1", b"2") == [b"answer", b"answer"]
        assert [(number, asked.value) for number, asked in found.asked] == [(1, b"1"), (1, b"2"), (2, b"2")]


@KINDS
def test_an_answer_is_polled_for(kind: Any) -> None:
    def script(asked: TCPMessage) -> bytes:
        if asked.kind == TCPType.PKI_REQUEST:
            return TCPMessage(kind=TCPType.POLL_REPLY, value=b"ref1" + bytes(4)).encode()
        if asked.value == b"ref1":
            return TCPMessage(kind=TCPType.POLL_REPLY, value=b"ref2" + bytes(4)).encode()
        return TCPMessage(kind=TCPType.PARTIAL_REPLY, value=b"ref3" + bytes(4) + b"answer").encode()

    with peer(script) as found:
        assert send(kind, found.url, b"1") == [b"answer"]
        assert [asked.value for _, asked in found.asked] == [b"1", b"ref1", b"ref2"]


@KINDS
def test_nothing_to_answer_is_no_bytes(kind: Any) -> None:
    with peer(lambda _: TCPMessage(kind=TCPType.FINISHED, value=b"\0").encode()) as found:
        assert send(kind, found.url, b"announcement") == [b""]


@KINDS
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no answer in time"),
        (ANSWER.encode()[:9], "the whole answer did not arrive in time"),
        (TCPMessage(kind=TCPType.POLL_REPLY, value=b"ref1\0\1\0\0").encode(), "not be there for 65536 seconds"),
    ],
)
def test_waiting_ends(kind: Any, answer: bytes, words: str) -> None:
    with peer(lambda _: answer) as found, pytest.raises(TimedOut, match=words):
        send(kind, found.url, b"1", timeout=0.2)


@KINDS
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "ended without an answer"),
        (struct.pack(">IBBB", 1 << 31, 10, 0, 5), "of 2147483648 bytes is too long"),
        (struct.pack(">IBBB", 1, 10, 0, 5), "cannot be 1 bytes long"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "of 1213486160 bytes is too long"),
        (ANSWER.encode() + b"x", "bytes follow the answer"),
        (TCPMessage(kind=TCPType.PKI_REPLY, value=b"x", version=11).encode(), "the peer speaks version 11"),
        (TCPMessage(kind=TCPType.PKI_REPLY, value=b"x", version=0).encode(), "the peer speaks version 0"),
        (TCPMessage(kind=TCPType.PKI_REPLY).encode(), "has no PKIMessage in it"),
        (TCPMessage(kind=TCPType.PARTIAL_REPLY, value=b"1234").encode(), "has no PKIMessage in it"),
        (TCPMessage(kind=TCPType.PKI_REQUEST, value=b"x").encode(), "a TCP-message of type 0"),
        (TCPMessage(kind=99, value=b"x").encode(), "a TCP-message of type 99"),
        (TCPMessage(kind=TCPType.POLL_REPLY, value=b"x").encode(), "a pollRep is too short"),
        (TCPMessage(kind=TCPType.ERROR).encode(), "the peer says 0000"),
        (error_message(TCPError.GENERAL_SERVER_ERROR, "no\x1b[31m more", b"data").encode(), r"0300: no \[31m more"),
        (error_message(TCPError.GENERAL_SERVER_ERROR, "x" * 9999).encode(), "x" * 390 + "$"),
    ],
)
def test_what_is_no_answer_is_told(kind: Any, answer: bytes | None, words: str) -> None:
    with peer(lambda _: answer) as found, pytest.raises(TransportError, match=words) as caught:
        send(kind, found.url, b"1")
    assert not isinstance(caught.value, TimedOut)
    assert str(caught.value).startswith("cmp+tcp://127.0.0.1:")


def test_a_message_may_come_byte_by_byte() -> None:
    reader = TCPReader(10)
    *most, last = [bytes([each]) for each in ANSWER.encode()]
    assert [reader.feed(each) for each in most] == [None] * len(most)
    assert reader.feed(last) == ANSWER
    reader = TCPReader(10)
    reader.feed(b"\0")
    with pytest.raises(TransportError, match="within"):
        reader.end()


def test_errors_of_both_forms_are_read() -> None:
    assert error_message(TCPError.INVALID_POLL_ID, "gone", b"\1\2").error == "0202: gone"
    assert error_message(TCPError.INVALID_POLL_ID, "gone", version=0).error == "gone"
    assert TCPMessage(kind=TCPType.ERROR, version=0).error == "no reason given"


@pytest.mark.parametrize(
    "url",
    ["cmp+tcp://ca.example/path", "cmp+tcp://user@ca.example", "cmp+tcp://", "cmp+tcp://ca.example:0", "http://x"],
)
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        TCPTransport(url)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="not a cmps"):
        TCPTransport("cmp+tcp://ca.example", tls=TLS())
    with pytest.raises(ValueError, match="max_response_bytes"):
        TCPTransport("cmp+tcp://ca.example", max_response_bytes=0)
    transport = TCPTransport("cmp+tcp://ca.example")
    transport.close()
    with pytest.raises(ValueError, match="closed"):
        transport.send(b"x")


def test_a_url_makes_its_transport() -> None:
    assert repr(transport_for("CMP+TCP://[::1]")) == "TCPTransport('cmp+tcp://[::1]:829')"
    assert isinstance(as_transport("cmps+tcp://ca.example:1"), TCPTransport)
    assert isinstance(transport_for("ca.example:8080"), HTTPTransport)
    assert isinstance(transport_for("https://ca.example", tls=TLS(), max_connections=3), HTTPTransport)

    async def twins() -> None:
        assert isinstance(as_async_transport("cmps+tcp://ca.example:1"), AsyncTCPTransport)
        assert isinstance(async_transport_for("cmp+tcp://ca.example", proxy="http://p"), AsyncTCPTransport)
        assert isinstance(async_transport_for("http://ca.example"), AsyncHTTPTransport)

    anyio.run(twins)
    with pytest.raises(ValueError, match=r"there is no transport for this scheme; there are http, https, cmp\+tcp"):
        transport_for("gopher://ca.example")
    with pytest.raises(TypeError, match="unexpected arguments: colour"):
        transport_for("http://ca.example", colour="blue")


def test_the_twins_of_tcp_take_the_same_arguments() -> None:
    assert signature(TCPTransport) == signature(AsyncTCPTransport)
    assert signature(TCPTransport.send) == signature(AsyncTCPTransport.send)

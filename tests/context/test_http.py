"""A connection to an HTTP server, one crossing at a time."""

import gc
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from opensslcmp.context import http
from opensslcmp.context.http import Connection, Outcome, TLSContext
from opensslcmp.errors import OpenSSLError, TransportError
from opensslcmp.transport import HTTPTransport
from tests.transport.http_peers import ANSWER, MESSAGE, Server


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours.detach())
    with theirs:
        yield connection, theirs
    connection.close()


Pair = tuple[Connection, socket.socket]


def test_a_step_without_patience_sends_and_says_what_it_waits_for(pair: Pair) -> None:
    connection, theirs = pair
    assert connection.step(b"request", 0) == (Outcome.WANTS_READ, 7, b"")
    assert theirs.recv(100) == b"request"
    theirs.sendall(b"answer")
    assert connection.step(b"request", 7) == (Outcome.DATA, 7, b"answer")
    assert connection.step(b"request", 7) == (Outcome.WANTS_READ, 7, b"")


def test_a_step_with_patience_brings_the_answer_that_is_there(pair: Pair) -> None:
    connection, theirs = pair
    theirs.sendall(b"answer")
    assert connection.step(b"request", 0, patience=5) == (Outcome.DATA, 7, b"answer")
    assert connection.step(b"", 0, patience=0.01) == (Outcome.WANTS_READ, 0, b"")


def test_a_full_socket_is_waited_for(pair: Pair) -> None:
    connection, theirs = pair
    request = os.urandom(5_000_000)
    outcome, sent, _ = connection.step(request, 0)
    assert outcome is Outcome.WANTS_WRITE
    received = bytearray()
    while sent < len(request):
        received += theirs.recv(1 << 20)
        _, sent, _ = connection.step(request, sent)
    theirs.setblocking(False)
    while len(received) < len(request):
        received += theirs.recv(1 << 20)
    assert received == request


def test_an_end_is_told_from_a_break(pair: Pair) -> None:
    connection, theirs = pair
    theirs.close()
    assert connection.step(b"", 0, patience=1) == (Outcome.CLOSED, 0, b"")
    with pytest.raises(TransportError, match="Broken pipe"):
        connection.step(b"request", 0)


@pytest.mark.parametrize("gone", [True, False])
def test_after_idling_nothing_is_sent_to_who_is_gone_or_spoke_unasked(pair: Pair, gone: bool) -> None:
    connection, theirs = pair
    assert connection.step(b"first", 0, after_idling=True) == (Outcome.WANTS_READ, 5, b"")
    if gone:
        theirs.shutdown(socket.SHUT_WR)
    else:
        theirs.sendall(b"!")
    assert connection.step(b"second", 0, after_idling=True) == (Outcome.CLOSED, 0, b"")
    assert theirs.recv(100) == b"first"


def test_a_closed_connection_says_so_and_closes_its_socket(pair: Pair) -> None:
    connection, theirs = pair
    connection.close()
    connection.close(politely=True)
    assert theirs.recv(1) == b""
    with pytest.raises(ValueError, match="closed"):
        connection.step(b"", 0)


def test_a_connection_that_goes_away_closes_its_socket() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours.detach())
    assert connection.tls_version is None
    del connection
    gc.collect()
    with theirs:
        assert theirs.recv(1) == b""


def test_a_name_that_cannot_be_checked_is_refused_and_the_connection_is_still_there(pair: Pair) -> None:
    connection, _ = pair
    with pytest.raises(OpenSSLError):
        connection.start_tls(TLSContext(trusted=[]), server_name=None, host=None, address="no address")
    assert connection.step(b"x", 0) == (Outcome.WANTS_READ, 1, b"")


def test_a_handshake_with_nonsense_says_what_is_wrong(pair: Pair) -> None:
    connection, theirs = pair
    connection.start_tls(TLSContext(trusted=[]), server_name="ca.example", host="ca.example", address=None)
    assert connection.handshake() is Outcome.WANTS_READ
    assert b"ca.example" in theirs.recv(5000)
    theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(TransportError, match="TLS handshake: SSL routines: wrong version number"):
        connection.handshake(1)


def test_a_handshake_with_nobody_says_so(pair: Pair) -> None:
    connection, theirs = pair
    connection.start_tls(TLSContext(trusted=[]), server_name=None, host=None, address="127.0.0.1")
    theirs.close()
    with pytest.raises(TransportError, match="TLS handshake: Broken pipe"):
        connection.handshake(1)


def test_a_certificate_that_does_not_decode_is_refused() -> None:
    with pytest.raises(OpenSSLError):
        TLSContext(trusted=[b"0\x00"])


def test_a_message_and_its_answer_are_one_crossing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(real, name)

    real = getattr(http, "lib")  # noqa: B009 -- not an export
    with Server() as server, HTTPTransport(server.url, proxy="") as transport:
        transport.send(MESSAGE)
        monkeypatch.setattr(http, "lib", Counting())
        for _ in range(5):
            assert transport.send(MESSAGE) == ANSWER
        monkeypatch.undo()
    assert calls == ["opensslcmp_http_step"] * 5


def test_nothing_is_left_of_many_connections() -> None:
    before = len(os.listdir("/proc/self/fd"))
    context = TLSContext(trusted=[])
    for _ in range(50):
        ours, theirs = socket.socketpair()
        connection = Connection(ours.detach())
        connection.start_tls(context, server_name=None, host=None, address="::1")
        del connection
        theirs.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before

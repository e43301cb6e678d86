"""Other ways than HTTP, and what counts as one."""

from functools import partial
from inspect import signature

import anyio
import pytest

from opensslcmp.transport import (
    AsyncHTTPTransport,
    AsyncTransport,
    HTTPTransport,
    InProcess,
    Transport,
    as_async_transport,
    as_transport,
)


class Responder:
    def __init__(self) -> None:
        self.peers: list[str] = []

    def handle(self, der: bytes, peer: str = "default") -> bytes:
        self.peers.append(peer)
        return der[::-1]


def test_in_process_asks_the_responder() -> None:
    responder = Responder()
    transport = InProcess(responder, peer="somebody")
    assert transport.send(b"abc") == InProcess(responder).send(b"abc", 3.0) == b"cba"
    assert responder.peers == ["somebody", "default"]
    transport.close()


def test_a_function_and_a_url_are_transports() -> None:
    assert as_transport(lambda request: request * 2).send(b"x", 1.0) == b"xx"
    transport = HTTPTransport("http://ca.example/")
    assert as_transport(transport) is transport
    assert isinstance(as_transport("http://ca.example/"), HTTPTransport)
    with pytest.raises(TypeError, match="int"):
        as_transport(3)  # type: ignore[arg-type]


def test_an_async_function_and_a_url_are_async_transports() -> None:
    async def double(request: bytes) -> bytes:
        return request * 2

    assert anyio.run(partial(as_async_transport(double).send, b"x", 1.0)) == b"xx"
    transport = AsyncHTTPTransport("http://ca.example/")
    assert as_async_transport(transport) is transport
    assert isinstance(as_async_transport("http://ca.example/"), AsyncHTTPTransport)
    with pytest.raises(TypeError, match="int"):
        as_async_transport(3)  # type: ignore[arg-type]


def test_the_twins_take_the_same_arguments() -> None:
    assert signature(HTTPTransport) == signature(AsyncHTTPTransport)
    assert signature(HTTPTransport.send) == signature(AsyncHTTPTransport.send)
    assert isinstance(HTTPTransport("http://ca"), Transport)
    assert isinstance(AsyncHTTPTransport("http://ca"), AsyncTransport)

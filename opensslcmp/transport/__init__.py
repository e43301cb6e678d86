"""Bytes to bytes: how a PKIMessage reaches the other side and its answer comes back.

``HTTPTransport`` and ``AsyncHTTPTransport`` speak HTTP and HTTPS (RFC 9811); ``InProcess`` asks a responder in this
process. Anything else is a ``Transport`` when it has a ``send``, and ``as_transport`` makes one of a plain function.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from opensslcmp.transport.http import TLS, AsyncHTTPTransport, HTTPTransport
from opensslcmp.transport.inprocess import InProcess

__all__ = [
    "TLS",
    "AsyncHTTPTransport",
    "AsyncTransport",
    "HTTPTransport",
    "InProcess",
    "Transport",
    "as_async_transport",
    "as_transport",
]


@runtime_checkable
class Transport(Protocol):
    """Carries one message to the peer and brings its answer. May be called from several threads at once.

    It raises ``TransportError`` when no answer arrived and ``TimedOut`` when none arrived in time. Each call is one
    round trip of its own: the order of messages is the caller's. A transport that holds something has a ``close()``
    as well.
    """

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``, both DER of a PKIMessage; ``timeout_seconds`` of None is the transport's own."""
        ...


@runtime_checkable
class AsyncTransport(Protocol):
    """What ``Transport`` is, awaited. Several sends may be under way at once; one that is cancelled leaves nothing
    behind."""

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``, both DER of a PKIMessage; ``timeout_seconds`` of None is the transport's own."""
        ...


class _Function:
    def __init__(self, function: Callable[[bytes], bytes]) -> None:
        self._function = function

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        return self._function(request)


class _AsyncFunction:
    def __init__(self, function: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._function = function

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        return await self._function(request)


def as_transport(way: Transport | Callable[[bytes], bytes] | str) -> Transport:
    """A ``Transport`` from what names one: one already, a function from bytes to bytes, or a URL.

    Raises:
        TypeError: it is none of these.
        ValueError: the URL cannot be used.
    """
    if isinstance(way, str):
        return HTTPTransport(way)
    if isinstance(way, Transport):
        return way
    if callable(way):
        return _Function(way)
    raise TypeError(f"a transport has send(bytes) or is a function or a URL, unlike {type(way).__name__}")


def as_async_transport(way: AsyncTransport | Callable[[bytes], Awaitable[bytes]] | str) -> AsyncTransport:
    """An ``AsyncTransport`` from what names one: one already, an async function from bytes to bytes, or a URL.

    Raises:
        TypeError: it is none of these.
        ValueError: the URL cannot be used.
    """
    if isinstance(way, str):
        return AsyncHTTPTransport(way)
    if isinstance(way, AsyncTransport):
        return way
    if callable(way):
        return _AsyncFunction(way)
    raise TypeError(f"a transport has send(bytes) or is a function or a URL, unlike {type(way).__name__}")

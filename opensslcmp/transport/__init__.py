"""Bytes to bytes: how a PKIMessage reaches the other side and its answer comes back.

``transport_for`` makes the transport of a URL:

=========================================  ================================================  ============================
``http://``, ``https://``                  HTTP (RFC 9811)                                   ``HTTPTransport``
``cmp+tcp://``, ``cmps+tcp://``            TCP, with TLS                                     ``TCPTransport``
``coap://``                                CoAP (RFC 9482)                                   ``CoAPTransport``
``file:DIRECTORY``                         files in a directory                              ``FileTransport``
``mailto:ADDRESS?from=...&maildir=...``    e-mail                                            ``MailTransport``
=========================================  ================================================  ============================

and ``async_transport_for`` its twin for event loops. ``InProcess`` asks a responder in this process. Anything else is a
``Transport`` when it has a ``send``, and ``as_transport`` makes one of a plain function.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from opensslcmp.transport.coap import AsyncCoAPTransport, CoAPTransport
from opensslcmp.transport.file import AsyncFileTransport, FileTransport
from opensslcmp.transport.http import TLS, AsyncHTTPTransport, HTTPTransport
from opensslcmp.transport.inprocess import InProcess
from opensslcmp.transport.mail import AsyncMailTransport, MailTransport
from opensslcmp.transport.tcp import AsyncTCPTransport, TCPTransport

__all__ = [
    "SCHEMES",
    "TLS",
    "AsyncCoAPTransport",
    "AsyncFileTransport",
    "AsyncHTTPTransport",
    "AsyncMailTransport",
    "AsyncTCPTransport",
    "AsyncTransport",
    "CoAPTransport",
    "FileTransport",
    "HTTPTransport",
    "InProcess",
    "MailTransport",
    "TCPTransport",
    "Transport",
    "as_async_transport",
    "as_transport",
    "async_transport_for",
    "scheme_of",
    "transport_for",
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


def scheme_of(url: str) -> str | None:
    """The scheme of a URL when a transport for it is here, in lower case; ``http`` when it has none, else None."""
    before, colon, after = url.partition(":")
    if not colon or (not after.startswith("//") and before.lower() not in _WITHOUT_SLASHES):
        return "http"
    return before.lower() if before.lower() in _OPTIONS else None


_HTTP_OPTIONS = frozenset(
    {
        "connect_timeout_seconds",
        "message_timeout_seconds",
        "proxy",
        "no_proxy",
        "tls",
        "max_response_bytes",
        "max_connections",
    }
)
_TCP_OPTIONS = _HTTP_OPTIONS - {"proxy", "no_proxy"}
# Which of the options mean something to which scheme.
_OPTIONS: dict[str, frozenset[str]] = {
    "http": _HTTP_OPTIONS,
    "https": _HTTP_OPTIONS,
    "cmp+tcp": _TCP_OPTIONS - {"tls"},
    "cmps+tcp": _TCP_OPTIONS,
    "coap": frozenset({"message_timeout_seconds", "max_response_bytes"}),
    "coaps": frozenset(),
    "file": frozenset({"message_timeout_seconds", "max_response_bytes"}),
    "mailto": frozenset({"message_timeout_seconds", "max_response_bytes"}),
}
SCHEMES = frozenset(_OPTIONS)
"""Of URLs that there are transports for."""

_WITHOUT_SLASHES = frozenset({"file", "mailto"})
_KINDS: dict[str, tuple[Callable[..., Transport], Callable[..., AsyncTransport]]] = {
    "http": (HTTPTransport, AsyncHTTPTransport),
    "https": (HTTPTransport, AsyncHTTPTransport),
    "cmp+tcp": (TCPTransport, AsyncTCPTransport),
    "cmps+tcp": (TCPTransport, AsyncTCPTransport),
    "coap": (CoAPTransport, AsyncCoAPTransport),
    "coaps": (CoAPTransport, AsyncCoAPTransport),
    "file": (FileTransport, AsyncFileTransport),
    "mailto": (MailTransport, AsyncMailTransport),
}


def _of(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The scheme, and those of the options that mean something to it."""
    scheme = scheme_of(url)
    if scheme is None:
        raise ValueError(f"there is no transport for this scheme; there are {', '.join(_OPTIONS)}")
    unknown = options.keys() - _HTTP_OPTIONS
    if unknown:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    return scheme, {name: value for name, value in options.items() if name in _OPTIONS[scheme]}


def transport_for(url: str, **options: Any) -> Transport:
    """The transport of a URL, for threads.

    Args:
        url: with one of the schemes above; without any, ``http``.
        **options: ``connect_timeout_seconds``, ``message_timeout_seconds``, ``proxy``, ``no_proxy``, ``tls``,
            ``max_response_bytes`` and ``max_connections``, as ``HTTPTransport`` has them; those that mean nothing to the
            scheme are passed over. For more, take its class.

    Raises:
        ValueError: the URL or an option cannot be used.
        TypeError: there is no such option.
    """
    scheme, fitting = _of(url, options)
    return _KINDS[scheme][0](url, **fitting)


def async_transport_for(url: str, **options: Any) -> AsyncTransport:
    """The transport of a URL, for event loops; arguments and errors are those of ``transport_for``."""
    scheme, fitting = _of(url, options)
    return _KINDS[scheme][1](url, **fitting)


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
        return transport_for(way)
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
        return async_transport_for(way)
    if isinstance(way, AsyncTransport):
        return way
    if callable(way):
        return _AsyncFunction(way)
    raise TypeError(f"a transport has send(bytes) or is a function or a URL, unlike {type(way).__name__}")

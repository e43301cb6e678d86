"""CMP over HTTP as an ASGI application (RFC 9811). It knows HTTP and nothing about certificates.

What a request gets, first match first:

==============================================================  ===========================================
its path is none of ours                                        404
its method is not POST                                          405, Allow: POST
its Content-Type is not application/pkixcmp                     415
its body is longer than the limit, declared or while it comes   413
its body does not arrive in time                                408
its client goes away                                            nothing
the responder fails                                             500
anything else                                                   200 and the PKIMessage that the responder made,
                                                                which may well be an error message of CMP
==============================================================  ===========================================

The exception is an announcement, for which the responder returns no bytes: it gets 202 without a body (RFC 9811, 3.5).
A body that is no PKIMessage, or not one for the operation in the path, is the responder's to answer: it is told the
operation in ``Peer.operation``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

from opensslcmp.server.peer import Peer

__all__ = ["OPERATIONS", "App", "Handler"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

OPERATIONS = frozenset(
    {
        "initialization",
        "certification",
        "keyupdate",
        "pkcs10",
        "revocation",
        "getcacerts",
        "getrootupdate",
        "getcertreqtemplate",
        "getcrls",
        "nested",
    }
)
"""The operation labels of RFC 9483, 6.1."""

_ROOT = "/.well-known/cmp"
_PKIXCMP = b"application/pkixcmp"
_TEXT = b"text/plain; charset=utf-8"
_log = logging.getLogger(__name__)


class Handler(Protocol):
    """The part of ``Responder`` that is needed here. May be called from several threads at once."""

    def handle(self, der: bytes, peer: Peer) -> bytes:
        """The answer to a message; no bytes to an announcement."""
        ...


class _TooLong(Exception):
    """The body is longer than the limit."""


class _Gone(Exception):
    """The client closed the connection before its body was complete."""


class App:
    """An ASGI application that puts a responder behind HTTP.

    Args:
        responder: answers messages.
        crl: gives the current CRL in DER, or None when there is none; it is then served at ``crl_path``.
        crl_path: where.
        paths: further paths that mean the same as ``/.well-known/cmp``, such as ``/`` or ``/pkix/`` for old clients.
        max_request_bytes: longer bodies get 413.
        read_timeout_seconds: within which a body must be complete.
        threads: in which ``handle`` runs, so that messages wait for each other only when all are busy. With 0 it runs
            in the event loop's own thread, one message after the other: a tenth to a quarter less CPU per enrollment
            with a CA on a local disk, but nothing else is served while an authority waits for somebody.
        on_close: called when the server ends, after the last message.

    The application also answers ``GET /healthz`` with ``ok``.
    """

    def __init__(
        self,
        responder: Handler,
        *,
        crl: Callable[[], bytes | None] | None = None,
        crl_path: str = "/crl",
        paths: Iterable[str] = (),
        max_request_bytes: int = 1 << 20,
        read_timeout_seconds: float = 30,
        threads: int = 8,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._responder = responder
        self._paths = frozenset({_ROOT, *paths})
        self._documents: dict[str, tuple[Callable[[], bytes | None], bytes]] = {"/healthz": (lambda: b"ok\n", _TEXT)}
        if crl is not None:
            self._documents[crl_path] = (crl, b"application/pkix-crl")
        self._max_request_bytes = max_request_bytes
        self._read_timeout_seconds = read_timeout_seconds
        self._threads = ThreadPoolExecutor(threads, "cmp") if threads else None
        self._on_close = on_close

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                status, content_type, body, headers = await self._answer(scope, receive)
            except _Gone:
                return
            await _respond(send, status, content_type, body, headers)

    async def _answer(self, scope: Message, receive: Receive) -> _Response:
        path, method = scope["path"], scope["method"]
        if (document := self._documents.get(path)) is not None:
            return await self._document(method, *document)
        place = self._place(path)
        if place is None:
            return _text(404, "there is nothing at this path; CMP is at /.well-known/cmp")
        if method != "POST":
            return _text(405, "CMP is spoken by POST", (b"allow", b"POST"))
        content_type = declared = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                declared = value
        if content_type.partition(b";")[0].strip().lower() != _PKIXCMP:
            return _text(415, "the Content-Type of CMP is application/pkixcmp", (b"accept-post", _PKIXCMP))
        limit = self._max_request_bytes
        too_long = _text(413, f"a message may have {limit} bytes", (b"connection", b"close"))
        if declared.isdigit() and int(declared) > limit:
            return too_long
        try:
            async with asyncio.timeout(self._read_timeout_seconds):
                body = await _read(receive, limit)
        except _TooLong:
            return too_long
        except TimeoutError:
            return _text(408, "the message did not arrive in time", (b"connection", b"close"))
        client = scope.get("client")
        label, operation = place
        peer = Peer(address=client[0] if client else None, label=label, operation=operation)
        try:
            answer: bytes = await self._run(lambda: self._responder.handle(body, peer))
        except Exception:
            _log.exception("the responder failed")
            return _text(500, "the server failed")
        return (200, _PKIXCMP, answer, ()) if answer else (202, None, b"", ())

    def _place(self, path: str) -> tuple[str | None, str | None] | None:
        """Label and operation of a path, or None when it is not ours (RFC 9811, 3.4)."""
        if path in self._paths:
            return None, None
        if not path.startswith(_ROOT + "/"):
            return None
        match path[len(_ROOT) + 1 :].split("/"):
            case [""]:
                return None, None
            case [operation] if operation in OPERATIONS:
                return None, operation
            case ["p", label] | ["p", label, ""] if label:
                return label, None
            case ["p", label, operation] if label and operation in OPERATIONS:
                return label, operation
        return None

    async def _document(self, method: str, make: Callable[[], bytes | None], content_type: bytes) -> _Response:
        if method not in {"GET", "HEAD"}:
            return _text(405, "this is to be read", (b"allow", b"GET, HEAD"))
        try:
            content = await self._run(make)
        except Exception:
            _log.exception("a document could not be made")
            return _text(500, "the server failed")
        if content is None:
            return _text(404, "there is none yet")
        return 200, content_type, content, ()

    async def _run(self, work: Callable[[], Any]) -> Any:
        if self._threads is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.get_running_loop().run_in_executor(None, self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def close(self) -> None:
        """Wait for the messages that are worked on, end the threads, and call ``on_close``."""
        if self._threads is not None:
            self._threads.shutdown()
        if self._on_close is not None:
            self._on_close()


_Response: TypeAlias = tuple[int, bytes | None, bytes, tuple[tuple[bytes, bytes], ...]]


def _text(status: int, text: str, *headers: tuple[bytes, bytes]) -> _Response:
    return status, _TEXT, text.encode() + b"\n", headers


async def _read(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > limit:
            raise _TooLong
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(
    send: Send, status: int, content_type: bytes | None, body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    # With Content-Length, and the body in one event: the server writes both in one segment.
    fields = [(b"content-length", str(len(body)).encode("ascii")), *headers]
    if content_type is not None:
        fields.append((b"content-type", content_type))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})

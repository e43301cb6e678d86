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
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol, TypeAlias

from opensslcmp.server.peer import Peer

__all__ = ["OPERATIONS", "App", "Document", "Handler"]

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What GET brings.

    Attributes:
        content: the bytes.
        made_at, good_until: seconds since 1970; None when it does not matter.
    """

    content: bytes
    made_at: float | None = None
    good_until: float | None = None


class App:
    """An ASGI application that puts a responder behind HTTP.

    Args:
        responder: answers messages.
        crl: gives the current CRL in DER, or None when there is none; it is then served at ``crl_paths``.
        crl_paths: where.
        paths: further paths that mean the same as ``/.well-known/cmp``, such as ``/`` or ``/pkix/`` for old clients.
        max_request_bytes: longer bodies get 413.
        read_timeout_seconds: within which a body must be complete.
        threads: in which ``handle`` runs, so that messages wait for each other only when all are busy. With 0 it runs
            in the event loop's own thread, one message after the other: a tenth to a quarter less CPU per enrollment
            with a CA on a local disk, but nothing else is served while an authority waits for somebody.
        tick: called in a thread of its own from the server's start to its end, for what is to be done when no message
            comes: ending overdue transactions, making the next CRL. What it raises is logged.
        tick_seconds: how often.
        on_close: called when the server ends, after the last message.

    The application also answers ``GET /healthz`` with ``ok``.
    """

    def __init__(
        self,
        responder: Handler,
        *,
        crl: Callable[[], bytes | Document | None] | None = None,
        crl_paths: Iterable[str] = ("/crl",),
        paths: Iterable[str] = (),
        max_request_bytes: int = 1 << 20,
        read_timeout_seconds: float = 30,
        threads: int = 8,
        tick: Callable[[], object] | None = None,
        tick_seconds: float = 5,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._responder = responder
        self._paths = frozenset({_ROOT, *paths})
        self._documents: dict[str, tuple[Callable[[], bytes | Document | None], bytes]] = {
            "/healthz": (lambda: b"ok\n", _TEXT)
        }
        if crl is not None:
            self._documents |= dict.fromkeys(crl_paths, (crl, b"application/pkix-crl"))
        self._tick = tick
        self._tick_seconds = tick_seconds
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
            asked = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
            return await self._document(method, asked, *document)
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

    async def _document(
        self, method: str, known: bytes, make: Callable[[], bytes | Document | None], content_type: bytes
    ) -> _Response:
        if method not in {"GET", "HEAD"}:
            return _text(405, "this is to be read", (b"allow", b"GET, HEAD"))
        try:
            content = await self._run(make)
        except Exception:
            _log.exception("a document could not be made")
            return _text(500, "the server failed")
        if content is None:
            return _text(404, "there is none yet")
        if isinstance(content, bytes):
            return 200, content_type, content, ()
        headers = tuple(_headers_of(content, time.time()))
        if dict(headers)[b"etag"] in [each.strip().removeprefix(b"W/") for each in known.split(b",")]:
            return 304, None, b"", headers
        return 200, content_type, content.content, headers

    async def _run(self, work: Callable[[], Any]) -> Any:
        if self._threads is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        ticking: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self._tick is not None:
                    ticking = asyncio.create_task(self._keep_ticking(self._tick))
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if ticking is not None:
                    ticking.cancel()
                    await asyncio.wait([ticking])
                await asyncio.get_running_loop().run_in_executor(None, self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _keep_ticking(self, tick: Callable[[], object]) -> None:
        with ThreadPoolExecutor(1, "cmp-tick") as thread:  # at the end it waits for a tick that has begun
            while True:
                try:
                    await asyncio.get_running_loop().run_in_executor(thread, tick)
                except Exception:
                    _log.exception("what is to be done now and then failed")
                await asyncio.sleep(self._tick_seconds)

    def close(self) -> None:
        """Wait for the messages that are worked on, end the threads, and call ``on_close``."""
        if self._threads is not None:
            self._threads.shutdown()
        if self._on_close is not None:
            self._on_close()


_Response: TypeAlias = tuple[int, bytes | None, bytes, tuple[tuple[bytes, bytes], ...]]


def _text(status: int, text: str, *headers: tuple[bytes, bytes]) -> _Response:
    return status, _TEXT, text.encode() + b"\n", headers


def _headers_of(document: Document, now: float) -> Iterator[tuple[bytes, bytes]]:
    """For caches: ask each time, since a document may change at once, but a copy does until it ends when we are down.

    Source: RFC 9110, 8.8; RFC 9111, 5.2.2; RFC 5861, 4.
    """
    yield b"etag", b'"%s"' % hashlib.sha256(document.content).hexdigest()[:32].encode()
    if document.made_at is not None:
        yield b"last-modified", formatdate(document.made_at, usegmt=True).encode()
    rest = b""
    if document.good_until is not None:
        yield b"expires", formatdate(document.good_until, usegmt=True).encode()
        rest = b", stale-if-error=%d" % max(0, int(document.good_until - now))
    yield b"cache-control", b"no-cache" + rest


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
    fields = [*headers] if status == 304 else [(b"content-length", str(len(body)).encode("ascii")), *headers]
    if content_type is not None:
        fields.append((b"content-type", content_type))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})

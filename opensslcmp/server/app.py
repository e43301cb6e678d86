"""CMP over HTTP as an ASGI application, to be mounted in any ASGI server or framework.

What a request gets is said by ``http_service``. ``opensslcmp serve`` serves the same application, without ASGI between
(``front``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias

from opensslcmp.server.http_service import OPERATIONS, Content, Document, Reading, Reply, Routes, answer_to, plain
from opensslcmp.server.peer import Peer

__all__ = ["OPERATIONS", "App", "Document", "Handler"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)


class Handler(Protocol):
    """The part of ``Responder`` that is needed here. May be called from several threads at once.

    One that has ``handle_async`` too, as ``Responder`` has, is asked by that one where there are no threads.
    """

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
        crl: gives the current CRL in DER, or None when there is none; it is then served at ``crl_paths``.
        crl_paths: where.
        documents: further documents for GET, by path.
        paths: further paths that mean the same as ``/.well-known/cmp``, such as ``/`` or ``/pkix/`` for old clients.
        max_request_bytes: longer bodies get 413.
        content_types: that mean the same as application/pkixcmp (``http_service.OLD_TYPES``).
        read_timeout_seconds: within which a body must be complete.
        threads: in which ``handle`` runs, so that messages wait for each other only when all are busy. With 0 it is
            ``handle_async`` in the event loop's own thread: the least CPU, with the commits of concurrent messages in
            one; what blocks there, such as an authority that waits for somebody, then blocks everything else
            (``InThreads`` is for those).
        tick: called in a thread of its own from the server's start to its end, for what is to be done when no message
            comes: ending overdue transactions, making the next CRL. What it raises is logged.
        tick_seconds: how often.
        on_close: called when the server ends, after the last message.
        ready: called in a thread for ``GET /readyz``: what it raises means 503.
        reload: called in a thread when ``opensslcmp serve`` gets SIGHUP; False when it has logged why nothing changed.

    The application also answers ``GET /healthz`` and ``GET /readyz``.
    """

    def __init__(
        self,
        responder: Handler,
        *,
        crl: Callable[[], Content] | None = None,
        crl_paths: Iterable[str] = ("/crl",),
        documents: Mapping[str, Callable[[], Content]] | None = None,
        paths: Iterable[str] = (),
        max_request_bytes: int = 1 << 20,
        content_types: Iterable[bytes] = (),
        read_timeout_seconds: float = 30,
        threads: int = 8,
        tick: Callable[[], object] | None = None,
        tick_seconds: float = 5,
        on_close: Callable[[], None] | None = None,
        ready: Callable[[], object] | None = None,
        reload: Callable[[], object] | None = None,
    ) -> None:
        self.responder = responder
        self.ready = ready
        self.reload = reload
        more = dict(documents or {})
        more["/readyz"] = lambda: _readiness(ready)
        self.routes = Routes(
            documents=more,
            crl=crl,
            crl_paths=crl_paths,
            paths=paths,
            max_request_bytes=max_request_bytes,
            content_types=content_types,
        )
        self.read_timeout_seconds = read_timeout_seconds
        self.threads = ThreadPoolExecutor(threads, "cmp") if threads else None
        self._tick = tick
        self._tick_seconds = tick_seconds
        self._on_close = on_close
        self._ticking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self._answer(scope, receive)
            except _Gone:
                return
            await _respond(send, reply)

    async def _answer(self, scope: Message, receive: Receive) -> Reply:
        content_type = declared = known = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                declared = value
            elif name == b"if-none-match":
                known = value
        routes = self.routes
        found = routes.route(scope["method"], scope["path"], content_type, declared, known)
        if isinstance(found, Reply):
            return found
        if isinstance(found, Reading):
            return await asyncio.get_running_loop().run_in_executor(self.threads, found.answer)
        try:
            async with asyncio.timeout(self.read_timeout_seconds):
                body = await _read(receive, routes.max_request_bytes)
        except _TooLong:
            return routes.too_long()
        except TimeoutError:
            return routes.too_slow()
        client = scope.get("client")
        peer = Peer(address=client[0] if client else None, label=found.label, operation=found.operation)
        try:
            return answer_to(await self.handle(body, peer))
        except Exception:
            _log.exception("the responder failed")
            return routes.failed()

    async def handle(self, body: bytes, peer: Peer) -> bytes:
        """The responder's answer."""
        if self.threads is not None:
            work = self.responder.handle
            answer: bytes = await asyncio.get_running_loop().run_in_executor(self.threads, work, body, peer)
            return answer
        handle_async: Callable[[bytes, Peer], Awaitable[bytes]] | None
        if (handle_async := getattr(self.responder, "handle_async", None)) is not None:
            answer = await handle_async(body, peer)
        else:
            answer = self.responder.handle(body, peer)
        return answer

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def start(self) -> None:
        """Begin to tick; called on the event loop."""
        if self._tick is not None:
            self._ticking = asyncio.create_task(self._keep_ticking(self._tick))

    async def stop(self) -> None:
        """End ticking, and ``close``."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        await asyncio.get_running_loop().run_in_executor(None, self.close)

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
        if self.threads is not None:
            self.threads.shutdown()
        if self._on_close is not None:
            self._on_close()


def _readiness(ready: Callable[[], object] | None) -> Reply:
    try:
        if ready is not None:
            ready()
    except Exception:
        _log.exception("not ready")
        return plain(503, "the store does not answer")
    return plain(200, "ready")


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


async def _respond(send: Send, reply: Reply) -> None:
    # With Content-Length, and the body in one event: the server writes both in one segment.
    length = (b"content-length", str(len(reply.body)).encode("ascii"))
    fields = [*reply.headers] if reply.status == 304 else [length, *reply.headers]
    if reply.content_type is not None:
        fields.append((b"content-type", reply.content_type))
    await send({"type": "http.response.start", "status": reply.status, "headers": fields})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})

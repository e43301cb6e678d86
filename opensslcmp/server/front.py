"""One worker's front end: asyncio, HTTP/1 by httptools, and the Responder on the same thread.

    bytes -> httptools -> Routes -> Intake -> Hub (Responder in a greenlet, commits shared) -> one write

It took the place of granian with ASGI. Measured side by side in one run, CPU of the server's processes for an enrollment
with explicit confirmation (two messages, one connection, SQLite with synchronous FULL), against the in-process Responder
with a memory store: granian 4.0; this on asyncio's own loop 2.75, on uvloop 2.67. Of these 2.67, 1.67 are the Responder and
HTTP without a disk, 0.75 SQLite, 0.25 waiting for the disk. With 32 connections, where commits are shared and the process
does not go to sleep after each message, it is 1.4 to 1.6 with the memory store and 1.6 to 2.2 with SQLite (``python -m benchmarks
service``, on a busy machine). What is Python here takes 14 microseconds for a message, the hub 9; the rest of HTTP is the
kernel's. Besides, granian gives no TLS client certificate, and 1,500 slow connections kept it from answering for 10 s.

A client that sends one message after the other sends the same head each time, but for Content-Length. A head that came before,
byte for byte, alone with its body, is not parsed again (``FrontEnd.heads``): HTTP then costs 7 microseconds instead of 20.

HTTP/1.0 with ``Connection: keep-alive`` keeps its connection, as every client made of OpenSSL asks. Pipelined requests are
answered in order. Each connection has one deadline at a time: for the head of a request, for its body, for the next one, for
an end that takes its time; all of them are looked at together a few times a second, so a connection that sends slowly costs
its memory and nothing else. At ``max_connections`` the one that has waited longest for its peer gives way.

Source: RFC 9110, RFC 9112, RFC 9811; RFC 9440 (Client-Cert) and RFC 7239 (Forwarded) behind a proxy.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import unquote

import httptools

from opensslcmp.enums import BodyType
from opensslcmp.server.app import App
from opensslcmp.server.http_service import Place, Reading, Reply, answer_to, plain
from opensslcmp.server.hub import Hub
from opensslcmp.server.overload import Intake, Job
from opensslcmp.server.peer import Peer
from opensslcmp.server.responder import Responder
from opensslcmp.server.store import Unavailable

__all__ = ["Bounds", "FrontEnd"]

_CLOSE = (b"connection", b"close")
_CARRY_ON = frozenset({BodyType.CERT_CONF, BodyType.POLL_REQ})
_MOST_PIPELINED = 64
_MOST_HEADS = 1024
_LONGEST_HEAD = 1024
_LINGER_SECONDS = 2.0
_SHUTDOWN_SECONDS = 3600.0  # it is ``late`` that ends who does not read
_LINGER_BYTES = 4 << 20
_log = logging.getLogger("opensslcmp.server")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Bounds on what peers may make a worker keep, and for how long.

    Attributes:
        max_connections: in all; more than these, and the one that waits longest for its peer is closed.
        max_connections_per_address: of one address that is not a trusted proxy.
        max_header_bytes, max_headers: of a request; more get 431.
        max_buffered_bytes: of bodies, and of answers that are not read, in all; beyond it those are closed whose peers
            keep us waiting longest, then more get 503.
        max_waiting, max_under_way: messages that wait for their turn, and that are worked on.
        header_timeout_seconds: for a request's head, and for the TLS handshake.
        idle_timeout_seconds: for the next request on a connection.
        retry_after_seconds: what who gets 503 is told.
    """

    max_connections: int = 4096
    max_connections_per_address: int = 2048
    max_header_bytes: int = 16 << 10
    max_headers: int = 64
    max_buffered_bytes: int = 64 << 20
    max_waiting: int = 1024
    max_under_way: int = 1024
    header_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 75.0
    retry_after_seconds: int = 5

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is more than 0")


_UNKNOWN = (Place(), -1)


class _Stage(Enum):
    """What a connection is doing. Its peer has to hurry, but for while we make an answer."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    UNREAD = auto()
    ENDING = auto()


@dataclass(slots=True)
class _Request:
    found: Reply | Reading | Place
    keep_alive: bool
    head_only: bool
    peer: Peer | None = None
    body: bytes = b""


class FrontEnd:
    """Serves an application over HTTP on the running event loop.

    Args:
        app: what is served.
        bounds: on what peers may do.
        trusted_proxies: addresses and networks whose X-Forwarded-For, Forwarded and Client-Cert are believed.
    """

    def __init__(self, app: App, bounds: Bounds = Bounds(), *, trusted_proxies: Iterable[str] = ()) -> None:
        self.app = app
        self.routes = app.routes
        self.bounds = bounds
        self.loop = asyncio.get_running_loop()
        self.hub = Hub.here()
        self.connections: dict[_Connection, None] = {}
        self.of_address: dict[str, int] = {}
        self.heads: dict[bytes, tuple[Place, int]] = {}
        """Of requests that were answered with their connection kept: where it goes, and the length of its body."""
        self.buffered = 0
        self.draining = False
        self.date = b""
        self.intake = Intake(
            self._begin,
            max_waiting=bounds.max_waiting,
            max_under_way=bounds.max_under_way,
            retry_after_seconds=bounds.retry_after_seconds,
            knows=self._knows,
        )
        self._networks = tuple(ip_network(each, strict=False) for each in trusted_proxies)
        self._documents = ThreadPoolExecutor(2, "cmp-documents")
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._watching: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        timeouts = (bounds.header_timeout_seconds, app.read_timeout_seconds, bounds.idle_timeout_seconds)
        self._look_seconds = max(0.02, min(0.5, *(each / 4 for each in timeouts)))

    # -- listening -----------------------------------------------------------------------------------------------

    async def listen(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on sockets that listen, and begin what the application does by itself."""
        self.app.start()
        self._tell_time()
        self._watching = self.loop.create_task(self._watch())
        self._sockets = list(sockets)
        await self._accept(tls)

    async def _accept(self, tls: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = {"backlog": 1024}
        if tls is not None:
            options |= {
                "ssl": tls,
                "ssl_handshake_timeout": self.bounds.header_timeout_seconds,
                "ssl_shutdown_timeout": _SHUTDOWN_SECONDS,
            }
        for each in self._sockets:
            # A copy: closing the server for another one with other TLS files leaves the socket listening.
            server = await self.loop.create_server(lambda: _Connection(self), sock=each.dup(), **options)
            self._servers.append(server)

    async def change_tls(self, tls: ssl.SSLContext) -> None:
        """Use this for connections from now on; those that are there stay as they are."""
        before, self._servers = self._servers, []
        for server in before:
            server.close()
        await self._accept(tls)

    async def drain(self, seconds: float) -> bool:
        """Accept nothing more, answer what was begun, close all connections.

        Returns:
            False when ``seconds`` were not enough; then what is left was cut off.
        """
        self.draining = True
        for server in self._servers:
            server.close()
        for each in self._sockets:
            each.close()
        for connection in list(self.connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                while self.connections or self.intake.under_way:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            pass
        left = len(self.connections) + self.intake.under_way
        for connection in list(self.connections):
            connection.abort()
        return not left

    async def close(self) -> None:
        """End what the application does by itself, and close it."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self.app.stop()
        self._documents.shutdown(wait=False, cancel_futures=True)

    # -- time ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            self._tell_time()
            now = self.loop.time()
            for connection in [each for each in self.connections if each.deadline < now]:
                connection.late()

    def _tell_time(self) -> None:
        self.date = formatdate(usegmt=True).encode("ascii")

    # -- connections ---------------------------------------------------------------------------------------------

    def joins(self, connection: _Connection) -> Reply | None:
        """Count a connection in; an answer when there is no room for it."""
        address = connection.address
        of_address = self.of_address.get(address, 0)
        self.of_address[address] = of_address + 1
        if len(self.connections) >= self.bounds.max_connections:
            ours = {_Stage.ANSWERING, _Stage.ENDING}
            waiting = (each for each in self.connections if each.stage not in ours)
            longest = min(waiting, key=lambda each: each.since, default=None)
            if longest is not None:
                longest.abort()
        self.connections[connection] = None
        full = len(self.connections) > self.bounds.max_connections
        if full or (of_address >= self.bounds.max_connections_per_address and not connection.by_proxy):
            return self.busy("there are too many connections")
        return None

    def leaves(self, connection: _Connection) -> None:
        """Count it out."""
        if connection not in self.connections:
            return
        del self.connections[connection]
        left = self.of_address[connection.address] - 1
        if left:
            self.of_address[connection.address] = left
        else:
            del self.of_address[connection.address]
        self._empty.set()

    def has_room(self, asking: _Connection) -> bool:
        """Whether what is kept for peers is within its bound, once those gave way that keep us waiting."""
        bound = self.bounds.max_buffered_bytes
        if self.buffered > bound:
            waiting = [each for each in self.connections if each is not asking and each.keeps_us_waiting]
            for each in sorted(waiting, key=lambda each: each.since):
                each.abort()
                if self.buffered <= bound:
                    break
        return self.buffered <= bound

    def busy(self, text: str) -> Reply:
        """The answer when there is no room."""
        return plain(503, text, (b"retry-after", b"%d" % self.bounds.retry_after_seconds), _CLOSE)

    def trusts(self, address: str) -> bool:
        """It is a proxy of ours."""
        return bool(self._networks) and _is_in(address, self._networks)

    def client_behind(self, proxy: str, forwarded_for: str, forwarded: str) -> str:
        """The address that the proxies tell of: the last that is not a proxy of ours."""
        listed = [_node(each.strip()) for each in forwarded_for.split(",") if each.strip()]  # some tell ports, too
        if not listed:
            listed = [_node(found) for found in re.findall(r'(?i)\bfor\s*=\s*("[^"]*"|[^;,\s]+)', forwarded)]
        for address in reversed(listed):
            if not _is_in(address, self._networks):
                return address
        return proxy

    # -- messages ------------------------------------------------------------------------------------------------

    def read_document(self, found: Reading, answered: Callable[[Reply], None]) -> None:
        """Make a document, beside the messages."""
        self._documents.submit(found.answer).add_done_callback(
            lambda done: self.loop.call_soon_threadsafe(answered, done.result())
        )

    async def ask(self, body: bytes, peer: Peer) -> Reply:
        """The answer to a message that came by another way than HTTP, as HTTP would have it.

        It waits for its turn with the others; who is cancelled here waits no more.
        """
        answer: asyncio.Future[Reply] = self.loop.create_future()

        def answered(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        job = Job(body, peer, answered)
        self.intake.offer(job)
        try:
            return await answer
        finally:
            job.gone = True

    def readiness(self) -> Reply | None:
        """Why no more should come, apart from the store; None when all is well."""
        if self.draining:
            return plain(503, "the server ends", _CLOSE)
        return self.busy("the queue is full") if self.intake.is_full else None

    def _knows(self, body_type: int | None, transaction_id: bytes) -> bool:
        responder = self.app.responder
        if self.app.threads is not None or not isinstance(responder, Responder):
            return body_type in _CARRY_ON  # a store that is waited for is not asked here
        try:
            return responder.store.look(transaction_id, b"")[0] is not None
        except Unavailable:
            return False

    def _begin(self, job: Job) -> None:
        def done(answer: bytes | None, error: BaseException | None) -> None:
            self.intake.finished()
            if error is not None or answer is None:
                _log.error("the responder failed", exc_info=error)
                reply = self.routes.failed()
            else:
                reply = answer_to(answer)
            job.answered(reply)
            if self.draining:
                self._empty.set()

        responder = self.app.responder
        if self.app.threads is None and isinstance(responder, Responder):
            self.hub.begin(responder, job.body, job.peer, done)
        else:
            task = self.loop.create_task(self.app.handle(job.body, job.peer))
            self.hub.watch(task, done)


class _Connection(asyncio.Protocol):
    """One connection: reads requests, answers them in order."""

    def __init__(self, front: FrontEnd) -> None:
        self.front = front
        self.transport: Any = None
        self.address = ""
        self.by_proxy = False
        self.certificate: bytes | None = None
        self.stage = _Stage.IDLE
        self.since = self.deadline = 0.0
        self._parser: Any = None
        self._requests: deque[_Request] = deque()
        self._job: Job | None = None
        self._answering = False
        self._tls = False
        self._last = False  # the peer sends no more
        self._paused = False
        self._blocked = False
        self._ended = self._completed = self._unread = self._left = 0
        self._repeats: tuple[Place, int] | None = None  # where the last request went, when its head may come again
        self._reset()

    def _reset(self) -> None:
        self._begun = False
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._fed = self._head_bytes = self._headers = self._hosts = 0
        self._content_type = self._declared = self._known = self._expect = self._coding = b""
        self._forwarded: dict[bytes, str] | None = None
        self._found: Reply | Reading | Place | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _enter(self, stage: _Stage, seconds: float) -> None:
        self.stage = stage
        self.since = self.front.loop.time()
        self.deadline = self.since + seconds

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """A connection was accepted, its TLS handshake done."""
        self.transport = transport
        name = transport.get_extra_info("peername")
        address = name[0] if isinstance(name, tuple) and name else ""
        self.address = (
            address.removeprefix("::ffff:") if "." in address else address
        )  # one that came by IPv4 is told so
        self.by_proxy = self.front.trusts(self.address)
        tls = transport.get_extra_info("ssl_object")
        self._tls = tls is not None
        if tls is not None and not self.by_proxy:
            self.certificate = tls.getpeercert(binary_form=True)
        self._parser = httptools.HttpRequestParser(self)
        self._enter(_Stage.HEAD, self.front.bounds.header_timeout_seconds)
        refusal = self.front.joins(self)
        if refusal is not None or self.front.draining:
            self._refuse(refusal or self.front.busy("the server ends"))

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.stage is _Stage.ENDING:
            self._ended += len(data)
            if self._ended > _LINGER_BYTES:
                self.abort()
            return
        if self._parser is None:
            return
        alone = not self._begun  # no request is under way in the parser
        if alone and self._comes_again(data):
            return
        if self.stage is _Stage.IDLE:
            self._enter(_Stage.HEAD, self.front.bounds.header_timeout_seconds)
        completed = self._completed
        self._repeats = None
        try:
            while True:
                try:
                    self._parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    if self._parser is None:  # its head was refused
                        return
                    # It is answered as if it had not asked for another protocol (RFC 9110, 7.8): llhttp has left its body
                    # alone, so its head comes once more, without that.
                    data = self._head_again() + data[upgrade.args[0] :]
                    self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            if self._parser is not None:  # else a callback refused, and the rest does not matter
                self._refuse(plain(400, "this is no HTTP", _CLOSE))
            return
        if alone and self._repeats is not None and self._completed == completed + 1 and not self._begun:
            self._remember(data, *self._repeats)
        if self._found is None and self._completed == completed:  # of a head only a part is there
            self._fed += len(data)
            if self._fed > self.front.bounds.max_header_bytes:
                self._refuse(plain(431, "the head of the request is too long", _CLOSE))

    def _comes_again(self, data: bytes) -> bool:
        """Whether this is a whole request whose head is known; then it is taken."""
        front = self.front
        end = data.find(b"\r\n\r\n") + 4
        place, length = front.heads.get(data[:end], _UNKNOWN)
        if len(data) - end != length or self.by_proxy:
            return False
        front.buffered += length
        if not front.has_room(self):
            front.buffered -= length
            return False
        peer = Peer(self.address or None, place.label, place.operation, self.certificate)
        self._take(_Request(place, True, False, peer, data[end:]))
        return True

    def _remember(self, data: bytes, place: Place, length: int) -> None:
        end = data.find(b"\r\n\r\n") + 4
        heads = self.front.heads
        if len(data) - end == length and end <= _LONGEST_HEAD:
            if len(heads) >= _MOST_HEADS:
                heads.clear()
            heads[data[:end]] = (place, length)

    def _head_again(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, self._parser.get_http_version().encode())]
        for name, value in self._fields:
            if name == b"connection":
                lines.append(b"connection: close" if b"close" in value.lower() else b"connection: keep-alive")
            elif name not in {b"upgrade", b"http2-settings"}:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def eof_received(self) -> bool:
        """The peer sends no more; what it asked for it still gets."""
        self._last = True
        return self._answering and self.stage is not _Stage.ENDING and not self._tls

    @property
    def keeps_us_waiting(self) -> bool:
        """Bytes are kept until its peer sends the rest, or reads."""
        return bool(self._unread or (self._body_bytes and self.stage is _Stage.BODY))

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._blocked = True
        self._unread = self._left = self.transport.get_write_buffer_size()
        self.front.buffered += self._unread
        self.front.has_room(self)

    def resume_writing(self) -> None:
        """It does again."""
        self._blocked = False
        self.front.buffered -= self._unread
        self._unread = 0
        if self.stage is _Stage.UNREAD:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed. What was begun goes on, and the answer is found when it is asked for again."""
        self._parser = None
        if self._job is not None:
            self._job.gone = True
        self._let_go()

    def _let_go(self) -> None:
        """Keep nothing for it any more; what was begun is counted until it is done."""
        self.front.buffered -= self._body_bytes + self._unread + sum(len(each.body) for each in self._requests)
        self._requests.clear()
        self._body.clear()
        self._body_bytes = self._unread = 0
        self.front.leaves(self)

    # -- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reset()
        self._begun = True
        if not self._answering and not self._blocked:
            self.stage = _Stage.HEAD

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url
        if len(self._url) > self.front.bounds.max_header_bytes:
            self._refuse(plain(431, "the target is too long", _CLOSE))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field."""
        self._headers += 1
        self._head_bytes += len(name) + len(value) + 4
        bounds = self.front.bounds
        if self._headers > bounds.max_headers or self._head_bytes > bounds.max_header_bytes:
            self._refuse(plain(431, "the head of the request is too long", _CLOSE))
            return
        if self._found is not None:  # a trailer: proxies leave those as their clients sent them (RFC 9110, 6.5.1)
            return
        name = name.lower()
        self._fields.append((name, value))
        if name == b"host":
            self._hosts += 1
        elif name == b"content-type":
            self._content_type = value
        elif name == b"content-length":
            self._declared = value
        elif name == b"transfer-encoding":
            self._coding = value.lower()
        elif name == b"if-none-match":
            self._known = value
        elif name == b"expect":
            self._expect = value.lower()
        elif self.by_proxy and name in {b"x-forwarded-for", b"forwarded", b"client-cert"}:
            self._forwarded = self._forwarded or {}
            before = self._forwarded.get(name)
            text = value.decode("latin-1")
            self._forwarded[name] = text if before is None else f"{before},{text}"

    def on_headers_complete(self) -> None:
        """The head is complete: what is wrong with it is said before the body comes."""
        if self._parser is None:
            return
        if self._parser.get_method() == b"CONNECT":  # to llhttp an upgrade, whatever its fields say
            self._refuse(plain(405, "CMP is spoken by POST", (b"allow", b"POST"), _CLOSE))
            return
        if self._parser.should_upgrade():
            return
        modern = self._parser.get_http_version() != "1.0"
        if self._parser.get_http_version() not in {"1.0", "1.1"}:
            self._refuse(plain(505, "HTTP/1.0 and HTTP/1.1 are spoken here", _CLOSE))
            return
        if self._hosts > 1 or (modern and not self._hosts):
            self._refuse(plain(400, "one Host is needed", _CLOSE))  # RFC 9112, 3.2
            return
        if self._coding and not (modern and self._coding == b"chunked"):  # RFC 9112, 6.1
            self._refuse(plain(501, "chunked is the only coding here, in HTTP/1.1", _CLOSE))
            return
        method = self._parser.get_method().decode("ascii")
        found = self.front.routes.route(method, _path(self._url), self._content_type, self._declared, self._known)
        if isinstance(found, Place) and not self.front.has_room(self):
            found = self.front.busy("too much is under way")
        if isinstance(found, Reply) and (_CLOSE in found.headers or self._expect):
            self._refuse(found)
            return
        if self._expect and self._expect != b"100-continue":
            self._refuse(plain(417, "what is expected is not done here", _CLOSE))
            return
        self._found = found
        if self._expect and modern and not self._answering and not self._requests:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._answering and not self._blocked:
            self._enter(_Stage.BODY, self.front.app.read_timeout_seconds)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._parser is None:
            return
        front = self.front
        self._body_bytes += len(piece)
        front.buffered += len(piece)
        if self._body_bytes > front.routes.max_request_bytes:
            self._refuse(front.routes.too_long())
        elif isinstance(self._found, Place):
            self._body.append(piece)
            if not front.has_room(self):
                self._refuse(front.busy("too much is under way"))

    def on_message_complete(self) -> None:
        """A request is complete."""
        if self._parser is None or self._found is None:
            return
        found = self._found
        head_only = self._parser.get_method() == b"HEAD"
        request = _Request(found, self._parser.should_keep_alive(), head_only)
        if isinstance(found, Place):
            request.body = b"".join(self._body)
            peer = self._peer(found)
            if peer is None:
                self._refuse(plain(400, "Client-Cert is malformed", _CLOSE))
                return
            request.peer = peer
            if request.keep_alive and self._declared.isdigit() and not (self._coding or self._expect or self.by_proxy):
                self._repeats = found, int(self._declared)
        else:
            self.front.buffered -= self._body_bytes
        self._reset()
        self._take(request)

    def _take(self, request: _Request) -> None:
        """A whole request: answer it, or keep it until those before it are answered."""
        self._completed += 1
        self._requests.append(request)
        if not request.keep_alive:
            self._stop_reading()
        if not self._answering and not self._blocked:
            self._answer_next()
        elif len(self._requests) >= _MOST_PIPELINED:
            self._stop_reading()
            request.keep_alive = False
        elif not self._paused:
            self._paused = True
            self.transport.pause_reading()

    # -- answers -------------------------------------------------------------------------------------------------

    def _stop_reading(self) -> None:
        """What comes after this request is not looked at."""
        self._parser = None

    def _peer(self, place: Place) -> Peer | None:
        """Who asks; None when a proxy's word is malformed."""
        address, certificate = self.address, self.certificate
        if self._forwarded is not None:
            said = self._forwarded
            address = self.front.client_behind(address, said.get(b"x-forwarded-for", ""), said.get(b"forwarded", ""))
            if b"client-cert" in said:
                certificate = _structured_bytes(said[b"client-cert"])
                if certificate is None:
                    return None
        return Peer(address or None, place.label, place.operation, certificate)

    def _answer_next(self) -> None:
        request = self._requests.popleft()
        self._answering = True
        self._enter(_Stage.ANSWERING, float("inf"))
        found = request.found
        if isinstance(found, Reply):
            self._answered(request, found)
        elif isinstance(found, Reading):
            refusal = self.front.readiness() if found.path == "/readyz" else None
            if refusal is not None or found.path == "/healthz":
                self._answered(request, refusal or found.answer())
            else:
                self.front.read_document(found, lambda reply: self._answered(request, reply))
        else:
            assert request.peer is not None
            self._job = Job(request.body, request.peer, lambda reply: self._answered(request, reply))
            self.front.intake.offer(self._job)

    def _answered(self, request: _Request, reply: Reply) -> None:
        self._job = None
        self.front.buffered -= len(request.body)
        transport = self.transport
        if transport.is_closing():
            return
        keep_alive = request.keep_alive and not self.front.draining and _CLOSE not in reply.headers
        self._write(reply, keep_alive, request.head_only)
        self._answering = False
        if not keep_alive or (self._last and not self._requests):
            self._end(may_send_more=isinstance(request.found, Reply))
        elif self._blocked:
            self._enter(_Stage.UNREAD, self.front.bounds.idle_timeout_seconds)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """With the next request, when it is here already."""
        if self._requests:
            self._answer_next()
            return
        if self._found is not None or self._fed:  # of the next request a part is there
            self._enter(_Stage.BODY, self.front.app.read_timeout_seconds)
        else:
            self._enter(_Stage.IDLE, self.front.bounds.idle_timeout_seconds)
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    def _write(self, reply: Reply, keep_alive: bool, head_only: bool = False) -> None:
        """Head and body in one segment, where they fit in one."""
        body = reply.body
        lines = [_status_line(reply.status), b"date: ", self.front.date]
        if reply.content_type is not None:
            lines += b"\r\ncontent-type: ", reply.content_type
        if reply.status != 304:
            lines.append(b"\r\ncontent-length: %d" % len(body))
        for name, value in reply.headers:
            if name != b"connection":
                lines += b"\r\n", name, b": ", value
        lines.append(b"\r\nconnection: keep-alive\r\n\r\n" if keep_alive else b"\r\nconnection: close\r\n\r\n")
        if not head_only:
            lines.append(body)
        self.transport.write(b"".join(lines))

    def _refuse(self, reply: Reply) -> None:
        """Answer what need not be read to its end, once what came before is answered."""
        if self._parser is None:
            return
        self._stop_reading()
        self.front.buffered -= self._body_bytes
        self._body_bytes = 0
        if self._answering or self._requests:
            self._requests.append(_Request(reply, keep_alive=False, head_only=False))
            return
        self._write(reply, keep_alive=False)
        self._end(may_send_more=True)

    def _end(self, may_send_more: bool = False) -> None:
        """Close; where the peer may still send, once it has read our answer, which TCP drops for bytes that nobody read."""
        self._stop_reading()
        self._enter(_Stage.ENDING, self.front.bounds.header_timeout_seconds if self._blocked else _LINGER_SECONDS)
        if not may_send_more or self._last or not self.transport.can_write_eof():
            self.transport.close()
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self.transport.write_eof()

    def late(self) -> None:
        """The deadline has passed."""
        left = self.transport.get_write_buffer_size() if self.stage in {_Stage.UNREAD, _Stage.ENDING} else 0
        if 0 < left < self._left:  # it reads, slowly
            self._left = left
            self.deadline = self.front.loop.time() + self.front.bounds.header_timeout_seconds
        elif self.stage is _Stage.BODY or (self.stage is _Stage.HEAD and self._fed):
            self._refuse(self.front.routes.too_slow())
        else:
            self.abort()

    def drain(self) -> None:
        """Close now, or after the answer that is due."""
        unread = self.stage is _Stage.UNREAD and not self._requests
        if unread or self.stage is _Stage.IDLE or (self.stage is _Stage.HEAD and not self._fed):
            self._end()

    def abort(self) -> None:
        """Close at once."""
        self._parser = None
        self.transport.abort()
        self._let_go()


@lru_cache(maxsize=512)
def _path(target: bytes) -> str:
    """The path of a request's target, percent-decoded (RFC 9112, 3.2)."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        _, scheme, rest = text.partition("://")
        text = "/" + rest.partition("/")[2] if scheme else text
    return unquote(text.partition("?")[0])


@lru_cache(maxsize=64)
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")


@lru_cache(maxsize=4096)
def _is_in(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in networks)


def _node(text: str) -> str:
    """The address of a node as Forwarded has it, without port (RFC 7239, 6)."""
    text = text.strip('"')
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _structured_bytes(text: str) -> bytes | None:
    """The bytes of ``:base64:`` (RFC 8941, 3.3.5); None when it is not that."""
    text = text.strip()
    if len(text) < 3 or not (text.startswith(":") and text.endswith(":")):
        return None
    try:
        return base64.b64decode(text[1:-1], validate=True)
    except (binascii.Error, ValueError):
        return None

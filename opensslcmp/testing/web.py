"""The CA over HTTP at a free port of the loopback interface, with the paths, methods and types of RFC 9811.

Threads and ``http.server`` of Python's own library: it needs no extra, and no event loop of the test's.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.client.async_session import AsyncSession
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.credentials import Credential
from opensslcmp.server import Peer
from opensslcmp.server.http_service import Reading, Routes, answer_to, plain
from opensslcmp.server.http_service import Reply as HTTPReply

if TYPE_CHECKING:
    from opensslcmp.testing.ca import CA

__all__ = ["Server"]

_NONE = HTTPReply(0)
"""No answer: the connection ends."""


class Server:
    """A CA over HTTP, until it is closed.

    Args:
        ca: answers.
        host, port: where; port 0 is a free one.
        ssl: an ``ssl.SSLContext`` for HTTPS.

    Attributes:
        ca: the same.
        url: of it, such as ``http://127.0.0.1:34567/.well-known/cmp``.
        host, port: the parts of it.
    """

    def __init__(self, ca: CA, *, host: str = "127.0.0.1", port: int = 0, ssl: Any = None) -> None:
        self.ca = ca
        self._http = _Server((host, port), ca)
        if ssl is not None:
            self._http.socket = ssl.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.host, self.port = host, int(self._http.server_address[1])
        self.url = f"{'http' if ssl is None else 'https'}://{host}:{self.port}/.well-known/cmp"
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="opensslcmp.testing", daemon=True
        )
        self._thread.start()

    def context(self, credential: Credential | None = None, **options: Any) -> Context:
        """As ``CA.context``, with this server."""
        return self.ca.context(credential, server=self.url, **options)

    def session(self, credential: Credential | None = None, **options: Any) -> Session:
        """As ``CA.session``, over HTTP. Close its ``context`` in the end, or let it go."""
        return Session(self.context(credential, **options))

    def async_session(self, credential: Credential | None = None, **options: Any) -> AsyncSession:
        """As ``CA.async_session``, over HTTP."""
        return AsyncSession(self.context(credential, **options))

    def close(self) -> None:
        """End it and its connections."""
        self._http.end()
        self._thread.join()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # joined by server_close
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], ca: CA) -> None:
        self.ca = ca
        self.ended = threading.Event()
        self.routes = Routes(crl=lambda: ca.crl().public_bytes(Encoding.DER))
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to tell of."""

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def handle_any(self) -> None:
        """One request."""
        reply = self._reply()
        if reply is _NONE:
            self.close_connection = True
            return
        self.send_response(reply.status)
        if reply.content_type is not None:
            self.send_header("Content-Type", reply.content_type.decode())
        for name, value in reply.headers:
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else reply.body)
        if dict(reply.headers).get(b"connection") == b"close":
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = handle_any  # noqa: N815 -- names of the library

    def _reply(self) -> HTTPReply:
        declared = self.headers.get("Content-Length", "")
        path = unquote(self.path.partition("?")[0])
        content_type = self.headers.get("Content-Type", "").encode()
        place = self.server.routes.route(self.command, path, content_type, declared.encode())
        if isinstance(place, HTTPReply):
            self.close_connection = True  # what else was sent has not been read
            return place
        if isinstance(place, Reading):
            return place.answer()
        if not declared.isdigit():
            return plain(411, "the length of the message is needed", (b"connection", b"close"))
        body = self.rfile.read(int(declared))
        peer = Peer(address=self.client_address[0], label=place.label, operation=place.operation)
        reply = self.server.ca.answer(body, peer)
        if reply.lost or (self.server.ended.wait(reply.delay_seconds) and reply.delay_seconds):
            return _NONE
        if reply.http_status != 200:
            seconds = reply.retry_after_seconds
            headers = () if seconds is None else ((b"retry-after", b"%d" % seconds),)
            return plain(reply.http_status, "by order of the test", *headers)
        return answer_to(reply.body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 -- the name of the library
        """Nothing: a test's output is its own."""

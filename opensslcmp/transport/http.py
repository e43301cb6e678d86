"""CMP over HTTP and HTTPS, for threads and for event loops (RFC 9811).

One generator, ``_exchange``, knows the order of things: take an idle connection or connect (names, TCP, proxy, TLS),
send, read, give the connection back. It never waits: it yields what it waits for, ``_Resolved`` or ``_Ready``, with a
deadline. ``HTTPTransport`` then blocks and ``AsyncHTTPTransport`` awaits; that is all the difference there is between
them.

An idle connection may have been closed by the server. It is looked at before anything is sent; when the server closes
it just then, so that no byte of an answer arrives, the message is sent once more, on a new connection. A CMP server
takes that for what it is, the same message again. Nothing else is ever sent twice.

All times are finite. ``connect_timeout_seconds`` covers names, TCP, the proxy's tunnel and TLS; the message's covers
everything, waiting for a free connection included. A name that does not resolve in time leaves a daemon thread behind
until the resolver gives up.
"""

import contextlib
import errno
import ipaddress
import math
import os
import queue
import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.http import Connection, Outcome, TLSContext
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.verification import VerifyParameters
from opensslcmp.credentials import CertificateSource, KeySource
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport import http1

__all__ = ["TLS", "AsyncHTTPTransport", "HTTPTransport"]

T = TypeVar("T")
Address: TypeAlias = tuple[int, int, int, str, Any]

# How long one crossing may wait inside C before Python waits itself.
PATIENCE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class TLS:
    """Whom to trust in HTTPS, and who we are. TLS 1.2 or newer, verified unless ``verify`` is off.

    Args:
        trusted: certificates to trust: one source or several; none: the system's.
        certificate: our own certificate, with its chain when the source holds more than one; not shown by repr, since a
            PEM may hold the key as well.
        key: its private key, never shown by repr; a provider URI stays with the provider.
        password: opens an encrypted ``key``, never shown by repr.
        check_host: the server's certificate must carry the host's name or IP address. Off, any trusted certificate
            will do.
        host: the name or IP address that it must carry instead of the URL's, also sent as SNI.
        extra_certificates: sent after our own: one source or several.
        parameters: what the path of the server's certificate must be like.
        verify: off, nobody knows who the server is: TLS then only hides messages from those who merely listen.
    """

    trusted: CertificateSource | Sequence[CertificateSource] = ()
    certificate: CertificateSource | None = field(default=None, repr=False)
    key: KeySource | None = field(default=None, repr=False)
    password: bytes | None = field(default=None, repr=False)
    check_host: bool = True
    host: str | None = None
    extra_certificates: CertificateSource | Sequence[CertificateSource] = ()
    parameters: VerifyParameters | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class _Ready:
    """Wait until the socket is; False when the deadline came first."""

    fd: int
    write: bool
    deadline: float

    def block(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT if self.write else select.POLLIN)
        return bool(poll.poll(max(0, math.ceil((self.deadline - monotonic()) * 1000))))

    async def wait(self) -> bool:
        import anyio

        with anyio.move_on_after(max(0.0, self.deadline - monotonic())):
            await (anyio.wait_writable if self.write else anyio.wait_readable)(self.fd)
            return True
        return False


@dataclass(frozen=True, slots=True)
class _Resolved:
    """Wait for a host's addresses; None when the deadline came first."""

    host: str
    port: int
    deadline: float

    def block(self) -> Sequence[Address] | None:
        # getaddrinfo(3) knows no timeout and no Ctrl-C, so a thread has to sit in it.
        answers: queue.SimpleQueue[Sequence[Address] | OSError] = queue.SimpleQueue()

        def resolve() -> None:
            try:
                answers.put(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)

        threading.Thread(target=resolve, daemon=True, name="opensslcmp-resolver").start()
        try:
            answer = answers.get(timeout=max(0.0, self.deadline - monotonic()))
        except queue.Empty:
            return None
        if isinstance(answer, OSError):
            raise answer
        return answer

    async def wait(self) -> Sequence[Address] | None:
        import anyio

        with anyio.move_on_after(max(0.0, self.deadline - monotonic())):
            return await anyio.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return None


_Steps: TypeAlias = Generator[_Ready | _Resolved, Any, T]


class _ClosedWhileIdle(Exception):
    """An idle connection turned out to be closed: nothing of an answer was read."""


def _block(steps: _Steps[T]) -> T:
    try:
        wait = next(steps)
        while True:
            try:
                result = wait.block()
            except OSError as error:
                wait = steps.throw(error)
            else:
                wait = steps.send(result)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        steps.close()


async def _await(steps: _Steps[T]) -> T:
    try:
        wait = next(steps)
        while True:
            try:
                result = await wait.wait()
            except OSError as error:
                wait = steps.throw(error)
            else:
                wait = steps.send(result)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        steps.close()


class _HTTP:
    """What both transports are, apart from waiting."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_seconds: float = 10.0,
        message_timeout_seconds: float = 60.0,
        proxy: str | None = None,
        no_proxy: str | None = None,
        tls: TLS | None = None,
        keep_alive: bool = True,
        require_keep_alive: bool = False,
        max_response_bytes: int = 1024 * 1024,
        max_connections: int = 32,
        max_idle_seconds: float = 30.0,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._target = http1.parse_url(url)
        secure = self._target.scheme == "https"
        if tls is not None and not secure:
            raise ValueError("TLS is given, but the URL is not an https one")
        if tls is not None and tls.host is not None and not http1.is_host(tls.host):
            raise ValueError("the TLS host is neither a DNS name nor an IP address")
        if max_connections < 1 or max_response_bytes < 1:
            raise ValueError("max_connections and max_response_bytes must be at least 1")
        self._connect_timeout = _seconds(connect_timeout_seconds)
        self._message_timeout = _seconds(message_timeout_seconds)
        self._max_idle = _seconds(max_idle_seconds)
        self._max_response = max_response_bytes
        self._max_connections = max_connections
        self._keep_alive = keep_alive
        self._require_keep_alive = require_keep_alive
        self._proxy = _choose_proxy(self._target, proxy, no_proxy)
        self._tls = tls or TLS()
        self._tls_context = _tls_context(self._tls) if secure else None
        fields = [*headers]
        http1.check_headers(fields)
        absolute = self._proxy is not None and not secure
        if self._proxy and absolute and self._proxy.authorization:
            fields.append(("Proxy-Authorization", self._proxy.authorization))
        self._head = http1.request_head(self._target, absolute=absolute, keep_alive=keep_alive, headers=fields)
        self._idle: deque[Connection] = deque()
        self._closed = False
        self._renew()
        _living.add(self)

    @property
    def url(self) -> str:
        """Where messages go, without user and password."""
        return str(self._target)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _renew(self) -> None:
        """Make what cannot be shared with a parent process."""
        for connection in self._idle:
            connection.close()
        self._idle = deque()

    def _close(self) -> None:
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close(politely=True)

    def _deadline(self, timeout_seconds: float | None) -> float:
        if self._closed:
            raise ValueError("the transport is closed")
        return monotonic() + (self._message_timeout if timeout_seconds is None else _seconds(timeout_seconds))

    def _no_connection(self) -> TimedOut:
        return TimedOut(f"{self.url}: none of {self._max_connections} connections became free in time", sent=False)

    def _exchange(self, request: bytes, deadline: float, *, announcement: bool, patient: bool) -> _Steps[bytes]:
        """Send ``request`` and return the PKIMessage that answers it."""
        message = b"".join((self._head, str(len(request)).encode(), b"\r\n\r\n", request))
        patience = PATIENCE_SECONDS if patient else 0.0
        sent = False
        try:
            answer = None
            if (connection := self._take()) is not None:
                sent = True
                try:
                    answer = yield from self._round_trip(connection, message, deadline, patience)
                except _ClosedWhileIdle:
                    connection = None
            if connection is None or answer is None:
                connection = yield from self._connect(deadline, patience)
                sent = True
                answer = yield from self._round_trip(connection, message, deadline, patience)
            if self._require_keep_alive and not (answer.reusable or connection.reused):
                connection.close()
                raise TransportError("the server does not keep the connection open")
            self._give_back(connection, answer.reusable)
            return http1.message_of(answer, announcement=announcement)
        except TransportError as error:
            raise type(error)(
                f"{self.url}: {error}",
                http_status=error.http_status,
                retry_after_seconds=error.retry_after_seconds,
                sent=sent,
            ) from (error.__cause__ or error)

    def _take(self) -> Connection | None:
        # pop and append of a deque are atomic; a look at it before is not, with other threads about.
        oldest = monotonic() - self._max_idle
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle_since >= oldest:
                return connection
            connection.close(politely=True)

    def _give_back(self, connection: Connection, reusable: bool) -> None:
        if not (reusable and self._keep_alive) or self._closed:
            connection.close(politely=True)
            return
        connection.reused = True
        connection.idle_since = now = monotonic()
        self._idle.append(connection)
        if self._closed:  # by another thread, just now
            self._close()
            return
        # The last used one is taken first, so after a burst the first ones only grow old.
        with contextlib.suppress(IndexError):
            eldest = self._idle.popleft()
            if eldest.idle_since >= now - self._max_idle:
                self._idle.appendleft(eldest)
            else:
                eldest.close(politely=True)

    def _round_trip(
        self,
        connection: Connection,
        message: bytes,
        deadline: float,
        patience: float,
        *,
        tunnel: bool = False,
    ) -> _Steps[http1.Answer]:
        reader = http1.AnswerReader(self._max_response, tunnel=tunnel)
        after_idling, sent, answer = connection.reused, 0, None
        try:
            while answer is None:
                left = deadline - monotonic()
                if left <= 0:
                    raise TimedOut("the whole answer did not arrive in time" if reader.started else "no answer in time")
                outcome, sent, data = connection.step(
                    message, sent, after_idling=after_idling, patience=min(patience, left)
                )
                after_idling = False
                if outcome is Outcome.DATA:
                    answer = reader.feed(data)
                elif outcome is Outcome.CLOSED:
                    answer = reader.end()
                else:
                    yield _Ready(connection.fd, outcome is Outcome.WANTS_WRITE, deadline)
        except BaseException as error:
            connection.close()
            unanswered = isinstance(error, TransportError) and not isinstance(error, TimedOut) and not reader.started
            if connection.reused and unanswered:
                raise _ClosedWhileIdle from error
            raise
        if sent < len(message):  # answered before it had read everything
            answer = http1.without_reuse(answer)
        return answer

    def _connect(self, deadline: float, patience: float) -> _Steps[Connection]:
        deadline = min(deadline, monotonic() + self._connect_timeout)
        peer = self._proxy or self._target
        connection = yield from self._open(peer, deadline)
        if self._tls_context is not None:
            try:
                if self._proxy is not None:
                    yield from self._tunnel(connection, self._proxy, deadline, patience)
                yield from self._secure(connection, self._tls_context, deadline, patience)
            except BaseException:
                connection.close()
                raise
        return connection

    def _open(self, peer: http1.Target, deadline: float) -> _Steps[Connection]:
        where = f"{peer.host_text}:{peer.port}"
        try:
            addresses: Sequence[Address] | None = yield _Resolved(peer.host, peer.port, deadline)
        except (OSError, UnicodeError) as error:
            raise TransportError(f"cannot resolve {peer.host}: {error}") from error
        if addresses is None:
            raise TimedOut(f"resolving {peer.host} took too long")
        failure: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            # An address that does not answer must not use up the time of those after it.
            now = monotonic()
            until = now + (deadline - now) / (len(addresses) - number)
            try:
                with socket.socket(family, kind, protocol) as connecting:
                    connecting.setblocking(False)
                    connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    code = connecting.connect_ex(address)
                    if code == errno.EINPROGRESS:  # pragma: no branch -- TCP always is
                        ready = yield _Ready(connecting.fileno(), True, until)
                        code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if ready else errno.ETIMEDOUT
                    if not code:
                        connection = Connection(connecting.fileno())
                        connecting.detach()
                        return connection
                    failure = OSError(code, os.strerror(code))
            except OSError as error:
                failure = error
        if failure is None or failure.errno == errno.ETIMEDOUT:
            raise TimedOut(f"cannot connect to {where} in time") from failure
        raise TransportError(f"cannot connect to {where}: {failure.strerror or failure}") from failure

    def _tunnel(self, connection: Connection, proxy: http1.Target, deadline: float, patience: float) -> _Steps[None]:
        request = http1.connect_request(self._target, proxy.authorization)
        answer = yield from self._round_trip(connection, request, deadline, patience, tunnel=True)
        if not 200 <= answer.status < 300:
            raise TransportError(f"proxy {proxy.host_text}:{proxy.port}: {http1.status_text(answer)}")

    def _secure(self, connection: Connection, tls: TLSContext, deadline: float, patience: float) -> _Steps[None]:
        host = self._tls.host or self._target.host
        name, address = (None, host) if _is_address(host) else (host, None)
        check = self._tls.check_host
        connection.start_tls(tls, server_name=name, host=name if check else None, address=address if check else None)
        while True:
            left = deadline - monotonic()
            if left <= 0:
                raise TimedOut("the TLS handshake took too long")
            outcome = connection.handshake(min(patience, left))
            if outcome is Outcome.DATA:
                return
            yield _Ready(connection.fd, outcome is Outcome.WANTS_WRITE, deadline)


class HTTPTransport(_HTTP):
    """Sends messages to one URL over a few kept connections. Use it from as many threads as you like.

    Args:
        url: ``http://`` or ``https://``; user and password in it become an Authorization field, and are never shown.
        connect_timeout_seconds: for a new connection: names, TCP, proxy, TLS.
        message_timeout_seconds: for a message and its answer, everything included.
        proxy: URL of an HTTP proxy, with user and password if it wants them; ``""``: none; None: what the environment's
            ``http_proxy`` or ``https_proxy`` (or upper-case forms) says.
        no_proxy: hosts to reach directly, separated by commas or spaces: a name, ``.domain`` or ``*``; None: the
            environment's ``no_proxy``.
        tls: whom to trust and who we are; None: the system's trust, no client certificate.
        keep_alive: keep connections for later messages.
        max_response_bytes: a larger answer is a ``TransportError``.
        max_connections: at one time; a message waits for one to become free.
        max_idle_seconds: a connection that idled longer is not used again.
        headers: further header fields, such as an API key of a gateway.

    Raises:
        ValueError: an argument cannot be used.

    Source: RFC 9811.
    """

    def _renew(self) -> None:
        super()._renew()
        # Permits. A queue.SimpleQueue is in C, where threading.Semaphore takes 5 µs.
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(self._max_connections):
            self._free.put(None)

    def send(self, request: bytes, timeout_seconds: float | None = None, *, announcement: bool = False) -> bytes:
        """The PKIMessage that answers ``request``.

        Args:
            request: DER of a PKIMessage.
            timeout_seconds: for all of it; None: the transport's ``message_timeout_seconds``.
            announcement: it may be acknowledged by an empty 200, 201 or 202 (RFC 9811, 3.5), which returns ``b""``.

        Raises:
            TimedOut: not in time.
            TransportError: no PKIMessage came back. One under HTTP 4xx or 5xx is returned.
            ValueError: the transport is closed.
        """
        deadline = self._deadline(timeout_seconds)
        free = self._free
        try:
            free.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            raise self._no_connection() from None
        try:
            return _block(self._exchange(request, deadline, announcement=announcement, patient=True))
        finally:
            free.put(None)

    def close(self) -> None:
        """Close the idle connections, and those under way when their answers are in. May be called twice."""
        self._close()

    def __enter__(self) -> "HTTPTransport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncHTTPTransport(_HTTP):
    """``HTTPTransport`` for asyncio and trio, with the same arguments. Needs ``anyio`` (the extra ``async``).

    Use it from one event loop at a time. Many sends may be under way; ``max_connections`` of them have a connection.
    A send that is cancelled closes its connection.
    """

    def _renew(self) -> None:
        import anyio

        super()._renew()
        self._free = anyio.Semaphore(self._max_connections, fast_acquire=True)

    async def send(self, request: bytes, timeout_seconds: float | None = None, *, announcement: bool = False) -> bytes:
        """The PKIMessage that answers ``request``; see ``HTTPTransport.send``."""
        import anyio

        deadline = self._deadline(timeout_seconds)
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            acquired = False
            with anyio.move_on_after(max(0.0, deadline - monotonic())):
                await self._free.acquire()
                acquired = True
            if not acquired:
                raise self._no_connection() from None
        try:
            return await _await(self._exchange(request, deadline, announcement=announcement, patient=False))
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close the idle connections, and those under way when their answers are in. May be called twice."""
        self._close()

    aclose = close

    async def __aenter__(self) -> "AsyncHTTPTransport":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


_living: "weakref.WeakSet[_HTTP]" = weakref.WeakSet()


def _after_fork() -> None:
    # The parent goes on using its connections, and a lock may have been held by a thread that the child does not have.
    for transport in list(_living):
        transport._renew()


os.register_at_fork(after_in_child=_after_fork)


def _seconds(seconds: float) -> float:
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ValueError("a timeout must be a positive, finite number of seconds")
    return float(seconds)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _choose_proxy(target: http1.Target, proxy: str | None, no_proxy: str | None) -> http1.Target | None:
    """The proxy to use for ``target``, as OSSL_HTTP_adapt_proxy(3) chooses it."""
    if proxy is None:
        names = [f"{target.scheme}_proxy", f"{target.scheme}_proxy".upper()]
        if "REQUEST_METHOD" in os.environ:  # in a CGI program, HTTP_PROXY is the peer's "Proxy:" header field
            names = names[:1]
        proxy = next((value for name in names if (value := os.environ.get(name))), "")
    if no_proxy is None:
        no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    host = target.host.lower()
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry in ("*", host, target.host_text) or (entry.startswith(".") and host.endswith(entry)):
            return None
    return http1.parse_url(proxy, schemes=("http",)) if proxy else None


def _tls_context(tls: TLS) -> TLSContext:
    """Load what ``tls`` names."""
    trusted, extra = (
        [der for source in (given if isinstance(given, list | tuple) else [given]) for der in load_certificates(source)]
        for given in (tls.trusted, tls.extra_certificates)
    )
    if (tls.certificate is None) != (tls.key is None):
        raise ValueError("a TLS certificate and its key are given together")
    own = [] if tls.certificate is None else load_certificates(tls.certificate, tls.password)
    key = None if tls.key is None else PrivateKey.load(tls.key, tls.password)
    return TLSContext(
        trusted=trusted or None,
        certificates=[*own, *extra],
        key=key,
        verify=tls.verify,
        parameters=tls.parameters,
    )

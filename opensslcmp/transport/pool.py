"""Connections to one host and port, TCP and TLS, kept for later messages; for threads and for event loops.

What goes over them is a generator of ``Steps``. It never waits: it yields what it waits for, with a deadline, and
``Blocking`` then blocks and ``Awaiting`` awaits; that is all the difference there is between them.

All times are finite. ``connect_timeout_seconds`` covers names, TCP and TLS; the message's covers everything, waiting for a
free connection included. A name that does not resolve in time leaves a daemon thread behind until the resolver gives up.
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
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.http import Connection, Outcome, TLSContext
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.verification import VerifyParameters
from opensslcmp.credentials import CertificateSource, KeySource
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport.http1 import Target, is_host

__all__ = [
    "PATIENCE_SECONDS",
    "TLS",
    "Awaiting",
    "Blocking",
    "Called",
    "ClosedWhileIdle",
    "Pause",
    "Pool",
    "Reader",
    "Ready",
    "Resolved",
    "Steps",
    "Wait",
    "run",
    "run_async",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Address: TypeAlias = tuple[int, int, int, str, Any]

PATIENCE_SECONDS = 0.1
"""How long one crossing may wait inside C before Python waits itself."""


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


class Wait(Protocol):
    """What a generator of steps yields."""

    def block(self) -> Any:
        """Wait; the result is what the generator gets."""
        ...

    async def wait(self) -> Any:
        """The same, awaited."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """Wait until the socket is; False when the deadline came first."""

    fd: int
    write: bool
    deadline: float

    def block(self) -> bool:
        """Block."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT if self.write else select.POLLIN)
        return bool(poll.poll(max(0, math.ceil((self.deadline - monotonic()) * 1000))))

    async def wait(self) -> bool:
        """Await."""
        import anyio

        with anyio.move_on_after(max(0.0, self.deadline - monotonic())):
            await (anyio.wait_writable if self.write else anyio.wait_readable)(self.fd)
            return True
        return False


@dataclass(frozen=True, slots=True)
class Resolved:
    """Wait for a host's addresses; None when the deadline came first."""

    host: str
    port: int
    deadline: float

    def block(self) -> Sequence[Address] | None:
        """Block."""
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
        """Await."""
        import anyio

        with anyio.move_on_after(max(0.0, self.deadline - monotonic())):
            return await anyio.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        return None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for a while."""

    seconds: float

    def block(self) -> None:
        """Block."""
        time.sleep(self.seconds)

    async def wait(self) -> None:
        """Await."""
        import anyio

        await anyio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Called:
    """Wait for a function that blocks; in a thread where an event loop runs."""

    function: Callable[[], Any]

    def block(self) -> Any:
        """Call it."""
        return self.function()

    async def wait(self) -> Any:
        """Call it in a thread, which goes on when nobody waits any more."""
        import anyio.to_thread

        return await anyio.to_thread.run_sync(self.function, abandon_on_cancel=True)


Steps: TypeAlias = Generator[Wait, Any, T]
"""Something that is done in steps, each of which waits."""


class Reader(Protocol[T_co]):
    """Makes an answer of what arrives.

    Attributes:
        started: something of the answer has been read.
    """

    started: bool

    def feed(self, data: bytes) -> T_co | None:
        """Take what arrived; the answer once it is complete."""
        ...

    def end(self) -> T_co:
        """The peer has ended the connection; the answer, when that is how it shows its end."""
        ...


class ClosedWhileIdle(Exception):
    """An idle connection turned out to be closed: nothing of an answer was read."""


def run(steps: Steps[T]) -> T:
    """What the steps come to, blocking in each."""
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


async def run_async(steps: Steps[T]) -> T:
    """What the steps come to, awaiting each."""
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


class Pool:
    """Connections to one target.

    Args:
        target: where to.
        tls: None for plain TCP.
        via: connect there instead, to a proxy.
    """

    def __init__(
        self,
        target: Target,
        *,
        connect_timeout_seconds: float,
        message_timeout_seconds: float,
        tls: TLS | None,
        keep_alive: bool,
        max_connections: int,
        max_idle_seconds: float,
        via: Target | None = None,
    ) -> None:
        if tls is not None and tls.host is not None and not is_host(tls.host):
            raise ValueError("the TLS host is neither a DNS name nor an IP address")
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._target = target
        self._via = via
        self._connect_timeout = _seconds(connect_timeout_seconds)
        self._message_timeout = _seconds(message_timeout_seconds)
        self._max_idle = _seconds(max_idle_seconds)
        self._max_connections = max_connections
        self._keep_alive = keep_alive
        self._tls = tls or TLS()
        self._tls_context = _tls_context(tls) if tls is not None else None
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

    def _converse(
        self, connection: Connection, message: bytes, reader: Reader[T], deadline: float, patience: float
    ) -> Steps[tuple[T, bool]]:
        """Send a message and read its answer; also whether all of the message was sent before it came."""
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
                    yield Ready(connection.fd, outcome is Outcome.WANTS_WRITE, deadline)
        except BaseException as error:
            connection.close()
            unanswered = isinstance(error, TransportError) and not isinstance(error, TimedOut) and not reader.started
            if connection.reused and unanswered:
                raise ClosedWhileIdle from error
            raise
        return answer, sent == len(message)

    def _connect(self, deadline: float, patience: float) -> Steps[Connection]:
        deadline = min(deadline, monotonic() + self._connect_timeout)
        connection = yield from self._open(self._via or self._target, deadline)
        if self._tls_context is not None:
            try:
                if self._via is not None:
                    yield from self._tunnel(connection, self._via, deadline, patience)
                yield from self._secure(connection, self._tls_context, deadline, patience)
            except BaseException:
                connection.close()
                raise
        return connection

    def _tunnel(self, connection: Connection, proxy: Target, deadline: float, patience: float) -> Steps[None]:
        """Ask a proxy for a way through."""
        raise NotImplementedError

    def _open(self, peer: Target, deadline: float) -> Steps[Connection]:
        where = f"{peer.host_text}:{peer.port}"
        try:
            addresses: Sequence[Address] | None = yield Resolved(peer.host, peer.port, deadline)
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
                        ready = yield Ready(connecting.fileno(), True, until)
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

    def _secure(self, connection: Connection, tls: TLSContext, deadline: float, patience: float) -> Steps[None]:
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
            yield Ready(connection.fd, outcome is Outcome.WANTS_WRITE, deadline)


class Blocking(Pool):
    """Connections for threads."""

    def _renew(self) -> None:
        super()._renew()
        # Permits. A queue.SimpleQueue is in C, where threading.Semaphore takes 5 µs.
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(self._max_connections):
            self._free.put(None)

    def _run(self, steps: Steps[T], deadline: float) -> T:
        """Do the steps once there is room for one more connection."""
        free = self._free
        try:
            free.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            raise self._no_connection() from None
        try:
            return run(steps)
        finally:
            free.put(None)

    def close(self) -> None:
        """Close the idle connections, and those under way when their answers are in. May be called twice."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Awaiting(Pool):
    """Connections for an event loop. Needs ``anyio`` (the extra ``async``)."""

    def _renew(self) -> None:
        import anyio

        super()._renew()
        self._free = anyio.Semaphore(self._max_connections, fast_acquire=True)

    async def _run(self, steps: Steps[T], deadline: float) -> T:
        """Do the steps once there is room for one more connection."""
        import anyio

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
            return await run_async(steps)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close the idle connections, and those under way when their answers are in. May be called twice."""
        self._close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()


_living: "weakref.WeakSet[Pool]" = weakref.WeakSet()


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

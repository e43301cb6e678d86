"""Worker processes that share one port, and the process that watches over them.

1. The first process binds a socket for each worker (SO_REUSEPORT, so that the kernel spreads connections) and listens at
   once. It forks the workers and keeps the sockets: a worker that died leaves its queue of connections to its successor.
2. Each worker loads the application, serves it with a ``FrontEnd``, and says so through a pipe. When all have, ``ready`` is
   called. A worker that ends before it was ever ready ends the server; one that ends later is started anew, at once the
   first time, then after 1, 2, 4 .. 60 seconds until it has lived for a minute.
3. SIGTERM and SIGINT drain: the workers accept nothing more, finish what was begun within ``drain_seconds``, and end. A
   second one ends them at once. SIGHUP has them read their TLS files and what ``App.reload`` reads, and closes nothing.
4. The workers hold one end of a pipe whose other end closes with the first process, however it ends; then they drain too.

Signals are blocked in the first process and fetched by ``sigtimedwait``, so none comes between two steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import importlib.util
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from opensslcmp.server.app import App
from opensslcmp.server.server_settings import ServerSettings
from opensslcmp.server.transfer_settings import TransferSettings

__all__ = ["serve"]

_log = logging.getLogger("opensslcmp.server")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LIVED_SECONDS = 60.0
_MOST_BACKOFF_SECONDS = 60.0
_GRACE_SECONDS = 5.0


def serve(
    load: Callable[[], App],
    settings: ServerSettings = ServerSettings(),  # noqa: B008 -- immutable
    *,
    transfers: TransferSettings = TransferSettings(),  # noqa: B008 -- immutable
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. To be called from the main thread of a process without others.

    Args:
        load: makes the application, in each worker process.
        settings: where, how many, and the bounds.
        transfers: ways beside HTTP, or instead of it.
        ready: called with the URL of the CMP service once connections are answered, and then with that of each other way.

    Raises:
        OSError: the address cannot be listened on.
        ValueError: the TLS files do not load.
        ImportError: CoAP is asked for, and aiocoap is missing.
        SystemExit: a worker ended before it served, as ``load`` failing makes it do; the log says why.
    """
    settings.tls()
    if transfers.coap_port is not None and importlib.util.find_spec("aiocoap") is None:
        raise ImportError("CoAP needs aiocoap: pip install 'opensslcmp[coap]'", name="aiocoap")
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with contextlib.ExitStack() as open_sockets:
            sockets: dict[str, list[socket.socket]] = {}
            urls: list[str] = []
            for name, scheme, port, path in _places(settings, transfers):
                family, address = _resolve(settings.host, port)
                sockets[name] = _listen(family, address, settings.workers)
                for each in sockets[name]:
                    open_sockets.callback(each.close)
                host, bound = sockets[name][0].getsockname()[:2]
                urls.append(f"{scheme}://{f'[{host}]' if ':' in host else host}:{bound}{path}")
            if transfers.coap_port is not None:
                transfers = replace(transfers, coap_port=_udp_port(settings.host, transfers.coap_port))
                host = f"[{settings.host}]" if ":" in settings.host else settings.host
                urls.append(f"coap://{host}:{transfers.coap_port}/.well-known/cmp")
            if transfers.mailbox is not None:
                urls.append(f"file:{transfers.mailbox}")
            if transfers.maildir is not None:
                urls.append(f"mailto:{transfers.mail_address}")
            of_workers = [{name: each[number] for name, each in sockets.items()} for number in range(settings.workers)]
            supervisor = _Supervisor(load, settings, transfers, of_workers)
            supervisor.run(lambda: [ready(url) for url in urls] if ready is not None else None)
    finally:
        while signal.sigtimedwait(_SIGNALS, 0) is not None:  # those that we have acted upon already
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


# -- the first process ---------------------------------------------------------------------------------------------


def _places(settings: ServerSettings, transfers: TransferSettings) -> Iterator[tuple[str, str, int, str]]:
    """What is listened on by the first process: name, scheme, port and path."""
    s = "s" if settings.tls_certificate else ""
    if transfers.http:
        yield "http", f"http{s}", settings.port, "/.well-known/cmp"
    if transfers.tcp_port is not None:
        yield "tcp", f"cmp{s}+tcp", transfers.tcp_port, ""


def _udp_port(host: str, port: int) -> int:
    """This port, or a free one for 0, which each worker then binds; OSError when another program has it."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind(address)
        bound: int = probe.getsockname()[1]
    return bound


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address


def _listen(family: socket.AddressFamily, address: tuple[Any, ...], number: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            # The first one alone: with SO_REUSEPORT two servers of one user would share the port silently.
            each = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if len(sockets) == 1:
                _refuse_a_taken_port(family, address)
            if number > 1:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(address)
            address = each.getsockname()
        for each in sockets:
            each.listen(1024)
            each.setblocking(False)
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def _refuse_a_taken_port(family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
    if address[1]:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    text = "is taken by another program; end that, or take another port (--port)"
                elif error.errno == errno.EACCES:
                    text = "may not be listened at; ports below 1024 are for root, so put a reverse proxy there"
                elif error.errno == errno.EADDRNOTAVAIL:
                    text = "is no address of this machine (--host)"
                else:
                    text = f"cannot be listened at: {error.strerror}"
                raise OSError(error.errno, f"{address[0]}:{address[1]} {text}") from None


@dataclass(slots=True)
class _Worker:
    """A place for a worker process."""

    sockets: dict[str, socket.socket]
    pid: int = 0
    started: float = 0.0
    was_ready: bool = False
    backoff: float = 0.0
    due: float = 0.0


class _Supervisor:
    """Starts workers, hands on signals, starts anew what died."""

    def __init__(
        self,
        load: Callable[[], App],
        settings: ServerSettings,
        transfers: TransferSettings,
        sockets: list[dict[str, socket.socket]],
    ) -> None:
        self._load = load
        self._settings = settings
        self._transfers = transfers
        self._workers = [_Worker(each) for each in sockets]
        self._life, self._life_held = os.pipe()
        self._news, self._news_told = os.pipe()
        os.set_blocking(self._news, False)

    def run(self, ready: Callable[[], object]) -> None:
        try:
            for worker in self._workers:
                self._start(worker)
            if self._until_ready():
                ready()
                self._watch()
            self._end()
        finally:
            for worker in self._workers:
                if worker.pid:
                    os.kill(worker.pid, signal.SIGKILL)
                    os.waitpid(worker.pid, 0)
            for each in (self._life, self._life_held, self._news, self._news_told):
                os.close(each)

    def _until_ready(self) -> bool:
        """True once all workers serve; False when we are to end before."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._news, selectors.EVENT_READ)
            while not all(worker.was_ready for worker in self._workers):
                selector.select(0.05)
                self._read_news()
                if self._caught(0) is not None:
                    return False
                for worker, status in self._ended():
                    if not worker.was_ready:
                        raise SystemExit(f"a worker ended before it served (status {status})")
                    self._start_again(worker)
        return True

    def _watch(self) -> None:
        """Until a signal says to end."""
        while True:
            due = [worker.due for worker in self._workers if not worker.pid]
            wait = max(0.0, min(due) - time.monotonic()) if due else 3600.0
            number = self._caught(wait)
            if number is not None:
                return
            self._read_news()
            for worker, status in self._ended():
                self._start_again(worker)
                wait = worker.due - time.monotonic()
                _log.error("a worker ended (status %d), a new one starts in %.0f seconds", status, max(0.0, wait))
            for worker in self._workers:
                if not worker.pid and worker.due <= time.monotonic():
                    self._start(worker)

    def _end(self) -> None:
        for worker in self._workers:
            for each in worker.sockets.values():
                each.close()
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds + _GRACE_SECONDS
        while any(worker.pid for worker in self._workers):
            left = deadline - time.monotonic()
            if left <= 0:
                _log.error("workers that did not end in time are killed")
                return
            if self._caught(left) is not None:
                self._tell(signal.SIGTERM)
                deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
            list(self._ended())

    def _caught(self, seconds: float) -> int | None:
        """SIGTERM or SIGINT, when one comes in this time. SIGHUP is handed on; the death of a child ends the waiting."""
        found = signal.sigtimedwait(_SIGNALS, seconds)
        if found is None or found.si_signo == signal.SIGCHLD:
            return None
        if found.si_signo == signal.SIGHUP:
            self._tell(signal.SIGHUP)
            return None
        return found.si_signo

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _ended(self) -> list[tuple[_Worker, int]]:
        found = []
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    worker.pid = 0
                    found.append((worker, os.waitstatus_to_exitcode(status)))
        return found

    def _read_news(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._news, 1024):
                self._workers[number].was_ready = True

    def _start_again(self, worker: _Worker) -> None:
        now = time.monotonic()
        if now - worker.started > _LIVED_SECONDS:
            worker.backoff = 0.0
        worker.due = now + worker.backoff
        worker.backoff = min(_MOST_BACKOFF_SECONDS, worker.backoff * 2 or 1.0)

    def _start(self, worker: _Worker) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        worker.started = time.monotonic()
        pid = os.fork()
        if pid:
            worker.pid = pid
            return
        status = 1
        try:
            os.close(self._life_held)
            for other in self._workers:
                if other is not worker:
                    for each in other.sockets.values():
                        each.close()
            _work(self._load, self._settings, self._transfers, worker.sockets, self._life, self._told(worker))
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
            if not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _told(self, worker: _Worker) -> Callable[[], None]:
        number = bytes([self._workers.index(worker)])

        def told() -> None:
            os.write(self._news_told, number)

        return told


# -- a worker ------------------------------------------------------------------------------------------------------


def _work(
    load: Callable[[], App],
    settings: ServerSettings,
    transfers: TransferSettings,
    sockets: dict[str, socket.socket],
    life: int,
    ready: Callable[[], None],
) -> None:
    """All of a worker's life."""
    # The terminal sends SIGINT to us too; it is the first process that tells us to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    app = load()
    gc.collect()
    gc.freeze()  # what is there now stays; the collector need not look at it again and again
    gc.set_threshold(10_000, 20, 20)  # a message makes hundreds of objects, and next to none in cycles
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(app, settings, transfers, sockets, life, ready))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's when it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(
    app: App,
    settings: ServerSettings,
    transfers: TransferSettings,
    sockets: dict[str, socket.socket],
    life: int,
    ready: Callable[[], None],
) -> None:
    from opensslcmp.server.front import Bounds, FrontEnd
    from opensslcmp.server.transfers import Transfers

    loop = asyncio.get_running_loop()
    bounds = Bounds(
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        max_header_bytes=settings.max_header_bytes,
        max_headers=settings.max_headers,
        max_buffered_bytes=settings.max_buffered_bytes,
        max_waiting=settings.max_queue,
        max_under_way=settings.max_under_way,
        header_timeout_seconds=settings.header_timeout_seconds,
        idle_timeout_seconds=settings.idle_timeout_seconds,
        retry_after_seconds=settings.retry_after_seconds,
    )
    front = FrontEnd(app, bounds, trusted_proxies=settings.trusted_proxies)
    others = Transfers(front, settings, transfers, sockets)
    over = asyncio.Event()

    def end() -> None:
        if over.is_set():
            os._exit(1)  # asked twice
        over.set()

    def orphaned() -> None:
        loop.remove_reader(life)
        over.set()

    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(_reload(app, settings, front, others))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_reader(life, orphaned)
    await front.listen([sockets["http"]] if transfers.http else [], settings.tls())
    await others.start(settings.tls())
    ready()
    await over.wait()
    drained = await asyncio.gather(front.drain(settings.drain_seconds), others.drain(settings.drain_seconds))
    if not all(drained):
        _log.warning("some requests were cut off after %g seconds", settings.drain_seconds)
    await front.close()


async def _reload(app: App, settings: ServerSettings, front: Any, others: Any) -> None:
    """What SIGHUP does; what fails leaves everything as it was."""
    try:
        tls = settings.tls()
        if app.reload is not None and await asyncio.to_thread(app.reload) is False:
            return
        if tls is not None:
            await front.change_tls(tls)
            await others.change_tls(tls)
    except Exception:
        _log.exception("not reloaded; everything is as before")
    else:
        _log.warning("reloaded")

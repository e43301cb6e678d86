"""Runs an ASGI application on granian: worker processes that share one port.

granian, because it is the one of the common servers that keeps a connection of HTTP/1.0 open when asked to by
``Connection: keep-alive``, which is what every client made of OpenSSL sends. HTTP/1 only: no CMP client speaks HTTP/2.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels

__all__ = ["TLSFiles", "serve"]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class TLSFiles:
    """What makes the server speak HTTPS (TLS 1.2 and 1.3).

    Attributes:
        certificate: PEM file, the server's certificate first, then its chain.
        key: PEM file of its private key.
        client_ca: PEM file; when given, clients need a certificate issued under one of these.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


def serve(
    load: Callable[[], Any],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    workers: int = 1,
    tls: TLSFiles | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, which let requests under way end. To be called from the main thread.

    Args:
        load: makes the application, in each worker process; it must be picklable (a function of a module, or a
            ``functools.partial`` of one) where processes are not forked.
        host: address or name to listen on.
        port: 0 picks a free one.
        workers: processes.
        tls: HTTPS instead of HTTP.
        ready: called with the URL of the CMP service once connections are accepted.

    Raises:
        OSError: the address cannot be listened on.
        SystemExit: the workers ended by themselves, which ``load`` failing makes them do; the log says why.
    """
    family, address = _resolve(host, port)
    # Holds the port between now and the workers' own sockets. It never listens, so it takes no connection.
    with socket.socket(family, socket.SOCK_STREAM) as placeholder:
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            _refuse_a_taken_port(family, address)
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        placeholder.bind(address)
        host, port = placeholder.getsockname()[:2]
        if sys.platform != "linux":
            placeholder.close()
        server = Granian(
            "opensslcmp",
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            workers=workers,
            loop=Loops.asyncio,
            http=HTTPModes.http1,
            websockets=False,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=64 * 1024),
            log_level=LogLevels.warning,
            log_dictconfig=_log_to_stderr(),
            ssl_cert=tls.certificate if tls else None,
            ssl_key=tls.key if tls else None,
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_ca=tls.client_ca if tls else None,
            ssl_client_verify=bool(tls and tls.client_ca),
            workers_kill_timeout=15,
        )
        over = threading.Event()
        _let_signals_end_workers()
        url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/.well-known/cmp"
        if ready is not None:
            threading.Thread(target=_announce, args=(family, (host, port), over, partial(ready, url))).start()
        try:
            server.serve(target_loader=partial(_load, load, os.getpid()), wrap_loader=False)
        finally:
            over.set()


_END = (signal.SIGTERM, signal.SIGINT)


@cache
def _let_signals_end_workers() -> None:
    """Have a worker end on a signal from its first moment on.

    It inherits granian's handlers of the main process, which swallow a signal that comes before the worker sets its own:
    then nobody but the kill timeout ends it. So no signal comes between the fork and the reset of the handlers.
    """
    if not hasattr(os, "register_at_fork"):
        return

    def in_child() -> None:
        for number in _END:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _END)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _END),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _END),
        after_in_child=in_child,
    )


def _load(load: Callable[[], Any], parent: int) -> Any:
    if sys.platform == "linux":
        # A worker does not outlive the process that started it, however that one ended (prctl(2)).
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the server's first process has ended")
    return load()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return family, address


def _refuse_a_taken_port(family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
    """Fail when somebody listens there: with SO_REUSEPORT two servers of one user would share the port silently."""
    if address[1]:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise OSError(error.errno, f"{address[0]}:{address[1]} is taken by another program") from None
                raise


def _announce(
    family: socket.AddressFamily, address: tuple[str, int], over: threading.Event, ready: Callable[[], None]
) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
    while not over.is_set():
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, address[1])) == 0:
                ready()
                return
        over.wait(0.01)


def _log_to_stderr() -> dict[str, Any]:
    return {
        "formatters": {"generic": {"format": "%(levelname)s %(message)s"}},
        "handlers": {
            "console": {"formatter": "generic", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
        },
        "loggers": {"_granian": {"handlers": ["console"], "level": "WARNING", "propagate": False}},
        "root": {"handlers": ["console"], "level": "WARNING"},
    }

"""Metrics for Prometheus: counted by each worker process for itself, added up by whichever is asked.

``Metrics`` is an observer of the Responder. It counts in an array of numbers whose places are fixed when the module is loaded:
every label has the values of an enumeration, so nothing that a peer sends can make another time series. With ``directory``
the array is a small file mapped into memory, one for each worker. A worker holds a lock on its file (flock(2)) while it
lives; the next one takes over the file of one that ended, and counts on, so counters of the server never go back while it
runs. Whoever is asked reads all files.

prometheus-client has a mode for several processes. It is not used, because it must be switched on by an environment variable
before the library is first imported, which is too late in a program that uses it for itself; leaves one more set of files for
each worker that was ever started; and costs a lock, a dictionary and a name in JSON for each count. The text that is served
is made by prometheus-client.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import logging
import mmap
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server.events import Decision, Event
from opensslcmp.server.store import Store

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["BUCKETS", "Metrics", "MetricsSettings"]

logger = logging.getLogger("opensslcmp.server")

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histograms, in seconds; one more has no bound."""

_BODIES = [*(each.name.lower() for each in BodyType), "none"]
_DECISIONS = [each.value for each in Decision]
_CHANGES = ("issued", "confirmed", "revoked", "released")
_PARTS = ("verify", "decide", "store")
_BODY_AT = {each: at for at, each in enumerate(BodyType)} | {None: len(BodyType)}
_DECISION_AT = {each: at for at, each in enumerate(Decision)}
_FAILURE_AT = {each: at for at, each in enumerate(FailureInfo)}

# The places in the array: one number names the layout, then come the counters.
_MESSAGES = 1
_FAILURES = _MESSAGES + len(_BODIES) * len(_DECISIONS)
_CERTIFICATES = _FAILURES + len(_FAILURE_AT)
_WIDTH = len(BUCKETS) + 2
"""A histogram: its buckets, the one without bound, the sum."""
_SECONDS = _CERTIFICATES + len(_CHANGES)
_PART_SECONDS = _SECONDS + len(_BODIES) * _WIDTH
_GAUGES = _PART_SECONDS + len(_PARTS) * _WIDTH
_BACKLOG, _DROPPED = _GAUGES, _GAUGES + 1
_SIZE = _GAUGES + 2
_LAYOUT = float(
    int.from_bytes(hashlib.sha256(repr((BUCKETS, _BODIES, _DECISIONS, list(_FAILURE_AT), _SIZE)).encode()).digest()[:6])
)
_MOST_WORKERS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsSettings:
    """The table ``[metrics]``. A change needs a restart.

    Attributes:
        enabled: count, and show what was counted.
        path: where, for GET, at the address of the server itself.
        host: address to listen on for that alone; then ``path`` is not at the server's own address. None: there.
        port: to listen on there.
    """

    enabled: bool = False
    path: str = "/metrics"
    host: str | None = None
    port: int = 9464

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError("path does not begin with /")
        if not 0 < self.port <= 65535:
            raise ValueError("port is not between 1 and 65535")


class Metrics:
    """Counts what a Responder does, and shows it. May be called by several threads at once.

    Args:
        directory: where the workers of one server keep their numbers; each of them makes its ``Metrics`` itself, after it was
            forked. None: there is this process only. Best in memory (tmpfs), and new for each start of the server.
        store: tells how many transactions are open, and of what age the CRL is.
        certificate: DER of the CA's, whose end is shown.
        crl: under which name the store has the CRL.
        audit: gives how many events wait to be written, and how many were dropped.
        clock: seconds since 1970.

    Raises:
        OSError: the directory cannot be used.
    """

    content_type = b"text/plain; version=0.0.4; charset=utf-8"
    """Of ``text()``."""

    def __init__(
        self,
        *,
        directory: Path | None = None,
        store: Store | None = None,
        certificate: bytes | None = None,
        crl: str = "crl",
        audit: Callable[[], tuple[int, int]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._store = store
        self._expires = facts(certificate).not_after if certificate is not None else None
        self._crl = crl
        self._audit = audit
        self._clock = clock
        self._lock = threading.Lock()
        self._file: int | None = None
        if directory is None:
            self._map = mmap.mmap(-1, 8 * _SIZE)
        else:
            self._file = _take_file(directory)
            self._map = mmap.mmap(self._file, 8 * _SIZE)
        self._numbers = memoryview(self._map).cast("d")
        if self._numbers[0] != _LAYOUT:
            for at in range(_SIZE):
                self._numbers[at] = 0.0
            self._numbers[0] = _LAYOUT
        self._numbers[_BACKLOG] = 0.0
        self._server: Any = None

    def __call__(self, event: Event) -> None:
        """Count this event."""
        body = _BODY_AT[event.body_type]
        numbers = self._numbers
        counts = [(_MESSAGES + body * len(_DECISIONS) + _DECISION_AT[event.decision], 1.0)]
        counts += [(_FAILURES + _FAILURE_AT[failure], 1.0) for failure in event.failures]
        changed = (event.issued, event.confirmed, event.revoked, event.released)
        counts += [(_CERTIFICATES + at, float(len(serials))) for at, serials in enumerate(changed) if serials]
        if event.decision is not Decision.EXPIRED:
            counts += _observed(_SECONDS + body * _WIDTH, event.seconds)
        parts = (event.verify_seconds, event.decide_seconds, event.store_seconds)
        for at, seconds in enumerate(parts):
            if seconds:
                counts += _observed(_PART_SECONDS + at * _WIDTH, seconds)
        with self._lock:
            for at, count in counts:
                numbers[at] += count
            self._look_at_audit()

    def _look_at_audit(self) -> None:
        if self._audit is not None:
            self._numbers[_BACKLOG], self._numbers[_DROPPED] = self._audit()

    # -- showing -------------------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """All numbers, of all workers, as Prometheus reads them."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry())

    def registry(self) -> CollectorRegistry:
        """For prometheus-client: a registry with these numbers."""
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

    def listen(self, host: str, port: int) -> bool:
        """Show them at an address of their own, too, in a thread; False while another worker does.

        Raises:
            OSError: the address cannot be listened on.
        """
        from prometheus_client import start_http_server

        if self._server is None:
            try:
                self._server, _ = start_http_server(port, host, self.registry())
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return False
        return True

    def describe(self) -> list[Any]:
        """For prometheus-client: nothing, so that registering asks for no numbers."""
        return []

    def collect(self) -> Iterator[Any]:
        """For prometheus-client: the families of metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        with self._lock:
            self._look_at_audit()
        numbers, workers = self._all()

        messages = CounterMetricFamily(
            "opensslcmp_messages", "Messages, by what became of them.", labels=["body", "decision"]
        )
        for (body, name), (decision, outcome) in itertools.product(enumerate(_BODIES), enumerate(_DECISIONS)):
            if count := numbers[_MESSAGES + body * len(_DECISIONS) + decision]:
                messages.add_metric([name, outcome], count)
        yield messages
        failures = CounterMetricFamily("opensslcmp_failures", "failInfo bits in answers.", labels=["failure"])
        for failure, at in _FAILURE_AT.items():
            if count := numbers[_FAILURES + at]:
                failures.add_metric([failure.text], count)
        yield failures
        certificates = CounterMetricFamily(
            "opensslcmp_certificates", "Certificates that changed so.", labels=["change"]
        )
        for at, change in enumerate(_CHANGES):
            certificates.add_metric([change], numbers[_CERTIFICATES + at])
        yield certificates

        seconds = HistogramMetricFamily("opensslcmp_message_seconds", "From a message to its answer.", labels=["body"])
        for at, name in enumerate(_BODIES):
            _add_histogram(seconds, [name], numbers, _SECONDS + at * _WIDTH)
        yield seconds
        parts = HistogramMetricFamily("opensslcmp_part_seconds", "Verifying, deciding, storing.", labels=["part"])
        for at, name in enumerate(_PARTS):
            _add_histogram(parts, [name], numbers, _PART_SECONDS + at * _WIDTH)
        yield parts

        gauges = {
            "workers": ("Worker processes that live.", float(workers)),
            "audit_backlog": ("Events that wait to be written to the audit log.", numbers[_BACKLOG]),
            "audit_dropped": ("Events dropped and not told of in the audit log yet.", numbers[_DROPPED]),
        }
        for name, (text, value) in (gauges | self._gauges()).items():
            yield GaugeMetricFamily(f"opensslcmp_{name}", text, value=value)

    def _gauges(self) -> dict[str, tuple[str, float]]:
        gauges: dict[str, tuple[str, float]] = {}
        if self._store is not None:
            gauges["open_transactions"] = ("Transactions that are open.", float(self._store.open_transactions(b"")[0]))
            if (crl := self._store.publication(self._crl)) is not None:
                gauges["crl_age_seconds"] = ("Since thisUpdate of the CRL.", self._clock() - crl.made_at)
                gauges["crl_expires_timestamp_seconds"] = ("nextUpdate of the CRL.", crl.good_until)
        if self._expires is not None:
            gauges["ca_expires_timestamp_seconds"] = ("notAfter of the CA's certificate.", self._expires)
        return gauges

    def _all(self) -> tuple[list[float], int]:
        """The numbers of all workers added up, those of now without the dead; and how many live."""
        if self._directory is None:
            return list(self._numbers), 1
        total, workers = [0.0] * _SIZE, 0
        for path in self._directory.glob("worker-*"):
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                alive = False
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    alive = True
                content = file.read(8 * _SIZE)
                numbers = memoryview(content).cast("d") if len(content) == 8 * _SIZE else None
                if numbers is None or numbers[0] != _LAYOUT:
                    continue
                workers += alive
                for at in range(_SIZE if alive else _GAUGES):
                    total[at] += numbers[at]
        return total, workers

    def close(self) -> None:
        """Stop listening, and let another worker count on from here."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._lock:
            self._numbers.release()
            self._map.close()
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _take_file(directory: Path) -> int:
    """A file of numbers that is nobody else's, locked."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(_MOST_WORKERS):
        file = os.open(directory / f"worker-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 8 * _SIZE)
        except BlockingIOError:
            os.close(file)
            continue
        except BaseException:
            os.close(file)
            raise
        return file
    raise OSError(errno.EMFILE, "too many workers count in one directory", str(directory))


def _observed(histogram: int, seconds: float) -> list[tuple[int, float]]:
    return [(histogram + bisect_left(BUCKETS, seconds), 1.0), (histogram + _WIDTH - 1, seconds)]


def _add_histogram(family: Any, labels: Sequence[str], numbers: Sequence[float], at: int) -> None:
    sums = list(itertools.accumulate(numbers[at : at + len(BUCKETS) + 1]))
    if sums[-1]:
        bounds = [*(str(each) for each in BUCKETS), "+Inf"]
        family.add_metric(labels, list(zip(bounds, sums, strict=True)), numbers[at + _WIDTH - 1])

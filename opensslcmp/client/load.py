"""Load on a server: many operations, at a rate or as fast as they are answered, and how long each took.

1. A ``Lane`` is one client: it prepares an operation, off the clock, and operates. ``SessionLane`` is one that has a Session.
2. A ``Generator`` runs lanes in threads. In a *closed* loop each lane begins its next operation when the last one ended. In an
   *open* loop operations begin at moments that a ``Pace`` fixes beforehand, whatever becomes of those before; a lane that is
   free takes the next one.
3. What is measured goes into a ``Tally``; tallies of threads, processes and moments are added up.

Latency counts from the moment at which an operation *should* have begun. So when a server stands still for a second, the open
loop shows what all the clients of that second would have seen, not only the one that happened to be waiting (the "coordinated
omission" of load generators). ``service`` counts from the real beginning. What should have begun and could not before the end
is counted as such, and is a failure.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from opensslcmp.asn1 import oids
from opensslcmp.client.context import Context
from opensslcmp.client.histogram import Histogram
from opensslcmp.client.results import Issued
from opensslcmp.client.session import Session
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import Signer
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError, Rejected, TimedOut, TransportError

__all__ = [
    "NOT_BEGUN",
    "Generator",
    "Lane",
    "Operation",
    "Pace",
    "Plan",
    "Second",
    "SessionLane",
    "Tally",
    "failure_kind",
]

Operation: TypeAlias = Literal["ir", "cr", "kur", "rr", "genm"]
"""What a lane does; ``rr`` revokes a certificate that it got just before, off the clock."""

NOT_BEGUN = "not begun in time"
"""The kind of failure of operations that an open loop could not begin before its end."""

_PAUSE_SECONDS = 0.1


class Lane(Protocol):
    """One client. Used by one thread at a time."""

    def prepare(self) -> None:
        """Get ready for the next operation; not measured."""

    def operate(self) -> None:
        """One operation; raises when it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """When the operations of an open loop begin, evenly spaced.

    Attributes:
        rate: operations for each second, at first.
        to: at the end of the ramp; None: as at first.
        ramp_seconds: in which the rate grows, or falls, from ``rate`` to ``to``.
    """

    rate: float
    to: float | None = None
    ramp_seconds: float = 0.0

    def __post_init__(self) -> None:
        rates = (self.rate, self.last)
        if not all(rate > 0 and math.isfinite(rate) for rate in rates):
            raise ValueError("a rate is above 0")
        if not (self.ramp_seconds >= 0 and math.isfinite(self.ramp_seconds)):
            raise ValueError("a ramp takes 0 seconds or more")

    @property
    def last(self) -> float:
        """The rate after the ramp."""
        return self.rate if self.to is None else self.to

    def begun(self, seconds: float) -> float:
        """How many have begun after so many seconds."""
        if seconds < self.ramp_seconds:
            return self.rate * seconds + (self.last - self.rate) * seconds**2 / (2 * self.ramp_seconds)
        return self._ramp_count + self.last * (seconds - self.ramp_seconds)

    def moment(self, number: int) -> float:
        """After how many seconds this one begins, from 0."""
        if number >= self._ramp_count:
            return self.ramp_seconds + (number - self._ramp_count) / self.last
        growth = (self.last - self.rate) / self.ramp_seconds
        # The root of growth / 2 * t^2 + rate * t = number, in the form that stands a growth of 0.
        return 2 * number / (self.rate + math.sqrt(self.rate**2 + 2 * growth * number))

    @property
    def _ramp_count(self) -> float:
        return (self.rate + self.last) / 2 * self.ramp_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much load, and for how long.

    Attributes:
        pace: of an open loop; None: a closed loop.
        duration_seconds, count: when it ends, whichever comes first; of a closed loop with several processes, ``count`` is
            that of this process.
        warm_up_seconds: load before anything is measured.
        process, processes: which process of how many this is; they share the pace.
    """

    pace: Pace | None = None
    duration_seconds: float = math.inf
    count: float = math.inf
    warm_up_seconds: float = 0.0
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not (self.duration_seconds > 0 and self.count > 0 and self.warm_up_seconds >= 0):
            raise ValueError("duration and count are above 0, and the warm-up is not below")
        if not 0 <= self.process < self.processes:
            raise ValueError("no such process")


@dataclass(kw_only=True, slots=True)
class Second:
    """What ended within one second."""

    latency: Histogram = field(default_factory=Histogram)
    failed: int = 0


@dataclass(kw_only=True, slots=True)
class Tally:
    """What was measured. Times are microseconds.

    Attributes:
        latency: of what went well, from the moment at which it should have begun.
        service: the same, from the moment at which it did begin.
        failures: how many failed, by kind.
        examples: for each kind, the words of the first.
        seconds: by second since the beginning, warm-up left out.
        ended: when the last one ended, in seconds since the beginning.
    """

    latency: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    seconds: dict[int, Second] = field(default_factory=dict)
    ended: float = 0.0

    @property
    def failed(self) -> int:
        """How many failed."""
        return self.failures.total()

    def succeed(self, ended: float, latency_seconds: float, service_seconds: float) -> None:
        """Count one that went well."""
        latency = round(latency_seconds * 1e6)
        self.latency.add(latency)
        self.service.add(round(service_seconds * 1e6))
        self._at(ended).latency.add(latency)

    def fail(self, ended: float, kind: str, words: str, count: int = 1) -> None:
        """Count what failed."""
        self.failures[kind] += count
        self.examples.setdefault(kind, words)
        self._at(ended).failed += count

    def _at(self, ended: float) -> Second:
        self.ended = max(self.ended, ended)
        return self.seconds.setdefault(max(int(ended), 0), Second())

    def merge(self, other: Tally) -> None:
        """Count all of another one's."""
        self.latency.merge(other.latency)
        self.service.merge(other.service)
        self.failures.update(other.failures)
        self.examples = {**other.examples, **self.examples}
        self.ended = max(self.ended, other.ended)
        for number, theirs in other.seconds.items():
            second = self.seconds.setdefault(number, Second())
            second.latency.merge(theirs.latency)
            second.failed += theirs.failed

    def to_json(self) -> dict[str, Any]:
        """All of it, for ``from_json``."""
        return {
            "latency": self.latency.to_json(),
            "service": self.service.to_json(),
            "failures": dict(self.failures),
            "examples": self.examples,
            "seconds": {
                str(number): {"latency": each.latency.to_json(), "failed": each.failed}
                for number, each in self.seconds.items()
            },
            "ended": self.ended,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Tally:
        """What ``to_json`` told."""
        return cls(
            latency=Histogram.from_json(told["latency"]),
            service=Histogram.from_json(told["service"]),
            failures=Counter(told["failures"]),
            examples=dict(told["examples"]),
            seconds={
                int(number): Second(latency=Histogram.from_json(each["latency"]), failed=each["failed"])
                for number, each in told["seconds"].items()
            },
            ended=told["ended"],
        )


def failure_kind(error: Exception) -> str:
    """What failures of one cause have in common: the failInfo bits, the HTTP status, or what became of the connection."""
    if isinstance(error, Rejected):
        return f"rejected: {', '.join(bit.text for bit in error.failures) or error.status.text}"
    if isinstance(error, TimedOut):
        return "transport: timed out"
    if isinstance(error, TransportError):
        if error.http_status is not None:
            return f"transport: HTTP {error.http_status}"
        cause = error.__cause__
        return f"transport: {type(cause).__name__ if cause is not None else 'no answer'}"
    if isinstance(error, ProtectionError):
        return f"protection: {error.failure.text}"
    if isinstance(error, BadMessage):
        return f"bad message: {error.failure.text}"
    if isinstance(error, OpenSSLError):
        return "OpenSSL"
    return type(error).__name__


class Generator:
    """Runs lanes, each in a thread of its own.

    Args:
        plan: how much, and for how long.
        lanes: at most so many operations are under way.
        clock: seconds; that of ``time.monotonic`` is the same in all processes of a machine.
    """

    def __init__(self, plan: Plan, lanes: Sequence[Lane], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._lock = threading.Lock()
        self._tally = Tally()
        self._taken = 0
        self._stop = threading.Event()
        self._go = threading.Event()
        self._begin = self._end = 0.0
        # So many operations of an open loop are of the warm-up.
        self._warm = math.ceil(plan.pace.rate * plan.warm_up_seconds) if plan.pace is not None else 0
        # Daemons: one that waits for a server without an answer shall not keep the program from ending.
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), daemon=True, name=f"opensslcmp-load-{number}")
            for number, lane in enumerate(lanes)
        ]
        self._preparing = len(self._threads)
        self._prepared = threading.Condition(self._lock)
        self._broken: Exception | None = None

    def prepare(self) -> None:
        """All lanes get ready for their first operation.

        Raises:
            Exception: what one of them raised.
        """
        for thread in self._threads:
            thread.start()
        with self._prepared:
            self._prepared.wait_for(lambda: not self._preparing or self._broken is not None)
        if self._broken is not None:
            self.stop()
            raise self._broken

    def start(self, at: float | None = None) -> None:
        """Begin, at this moment of the clock, or now."""
        now = self._clock() if at is None else at
        pace = self._plan.pace
        self._begin = now + (self._warm / pace.rate if pace is not None else self._plan.warm_up_seconds)
        self._end = self._begin + self._plan.duration_seconds
        self._go.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop.set()
        self._go.set()

    def wait(self, seconds: float) -> bool:
        """Until all have ended, at most so many seconds; whether they have.

        Raises:
            Exception: what a lane's thread ended with, when that was no failure of an operation.
        """
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))
        if self._broken is not None:
            raise self._broken
        return not any(thread.is_alive() for thread in self._threads)

    def take(self) -> Tally:
        """What was measured since the last call."""
        with self._lock:
            taken, self._tally = self._tally, Tally()
        return taken

    def _next(self) -> float | None:
        """When the next operation should begin; None when there is none."""
        plan = self._plan
        with self._lock:
            now = self._clock()
            if self._stop.is_set():
                return None
            if plan.pace is None:
                if now >= self._end or self._taken >= plan.count:
                    return None
                self._taken += now >= self._begin
                return now
            number = self._taken * plan.processes + plan.process - self._warm
            while number < 0 and now >= self._begin:
                # What is left of the warm-up is not made up for.
                self._taken += 1
                number += plan.processes
            moment = plan.pace.moment(number) if number >= 0 else number / plan.pace.rate
            if number >= plan.count or moment >= plan.duration_seconds:
                return None
            if now >= self._end:
                left = 0
                while number < plan.count and plan.pace.moment(number) < plan.duration_seconds:
                    left += 1
                    number += plan.processes
                self._taken += left
                words = (
                    "the server, or this machine, is too slow for this rate, or more may have to be under way at once"
                )
                self._tally.fail(plan.duration_seconds, NOT_BEGUN, words, left)
                return None
            self._taken += 1
            return self._begin + moment

    def _work(self, lane: Lane) -> None:
        try:
            lane.prepare()
            with self._prepared:
                self._preparing -= 1
                self._prepared.notify_all()
            self._go.wait()
            self._stop.wait(max(self._begin - self._warm_up - self._clock(), 0))
            self._loop(lane)
        except Exception as error:
            with self._prepared:
                self._broken = self._broken or error
                self._prepared.notify_all()
            self.stop()

    def _loop(self, lane: Lane) -> None:
        ready = True
        while (intended := self._next()) is not None:
            if self._stop.wait(max(intended - self._clock(), 0)):
                return
            begun = self._clock()
            failure = None
            try:
                if not ready:
                    lane.prepare()
                lane.operate()
            except Exception as error:
                failure = error
            self._count(intended, begun, self._clock(), failure)
            if self._plan.pace is None and isinstance(failure, TransportError):
                self._stop.wait(_PAUSE_SECONDS)
            # Where it fails the next operation tries again, and tells.
            ready = _works(lane.prepare)

    @property
    def _warm_up(self) -> float:
        pace = self._plan.pace
        return self._warm / pace.rate if pace is not None else self._plan.warm_up_seconds

    def _count(self, intended: float, begun: float, ended: float, failure: Exception | None) -> None:
        if intended < self._begin:
            return
        with self._lock:
            if failure is None:
                self._tally.succeed(ended - self._begin, ended - intended, ended - begun)
            else:
                words = str(failure) or type(failure).__name__
                self._tally.fail(ended - self._begin, failure_kind(failure), words)


def _works(function: Callable[[], None]) -> bool:
    try:
        function()
    except Exception:
        return False
    return True


class SessionLane:
    """One client that does one operation over and over.

    Args:
        context: who, whom and how; for ``kur``, and for an ``rr`` that the certificate itself signs, with trust for the
            signatures of the server.
        operation: what to do.
        number: makes its names differ from those of other lanes.
        subject: of certificates; ``{number}`` in it becomes a number that each operation has for itself.
        key_kind: of the keys, as for ``PrivateKey.generate``.
        fresh_keys: a new key for each operation; else the lane has one (for ``kur`` two, in turn), made when it prepares first.
        profile: certProfile to ask for.
        info_type: what ``genm`` asks for, a dotted OID; caCerts by default.
        transport: as for ``Session``.
    """

    def __init__(
        self,
        context: Context,
        operation: Operation = "ir",
        *,
        number: int = 0,
        subject: str = "/CN=bench-{number}",
        key_kind: str = "ec:P-256",
        fresh_keys: bool = False,
        profile: str | None = None,
        info_type: str = oids.IT_CA_CERTS,
        transport: Any = None,
    ) -> None:
        self._context = context
        self._transport = transport
        self._session = Session(context, transport)
        self._operation = operation
        self._number = number
        self._subject = subject
        self._kind = key_kind
        self._fresh = fresh_keys
        self._profile = profile
        self._info_type = info_type
        self._done = 0
        self._key: PrivateKey | None = None
        self._other: PrivateKey | None = None
        self._mine: Issued | None = None

    def prepare(self) -> None:
        """Make a key where one is needed, and get the certificate that is to be updated or revoked.

        Raises:
            CMPError: as ``Session``.
        """
        if self._operation == "genm":
            return
        if self._operation == "kur":
            if self._mine is None:
                self._key = PrivateKey.generate(self._kind)
                self._mine = self._enroll(self._first)
            if self._other is None or self._fresh:
                self._other = PrivateKey.generate(self._kind)
            return
        if self._key is None or self._fresh:
            self._key = PrivateKey.generate(self._kind)
        if self._operation == "rr":
            self._mine = self._enroll(self._first)

    @property
    def _first(self) -> Literal["ir", "cr"]:
        return "ir" if self._context.own_certificate is None else "cr"

    def operate(self) -> None:
        """One operation.

        Raises:
            CMPError: as ``Session``.
        """
        if self._operation == "genm":
            self._session.request_info(self._info_type, profile=self._profile)
        elif self._operation == "kur":
            self._update()
        elif self._operation == "rr":
            assert self._mine is not None
            self._signed().revoke(self._mine.certificate)
        else:
            self._enroll(self._operation)

    def _enroll(self, kind: Literal["ir", "cr"]) -> Issued:
        self._done += 1
        # Lanes count in steps that leave room for each other.
        name = self._subject.replace("{number}", str(self._number + self._done * 1_000_000))
        return self._session.enroll(name, self._key, kind=kind, profile=self._profile)

    def _update(self) -> None:
        assert self._mine is not None
        key, self._key, self._other = self._other, self._other, self._key
        try:
            self._mine = self._signed(self._other).update(key=key, profile=self._profile)
        except Exception:
            # Whether the server updated it is not known: the next one begins with a certificate of its own.
            self._mine = None
            raise

    def _signed(self, key: PrivateKey | None = None) -> Session:
        """A session of the certificate at hand, where there is trust for signed answers."""
        if self._context.trust is None and self._context.pinned is None:
            return self._session
        assert self._mine is not None
        credential = Signer(self._mine.certificate, self._key if key is None else key, self._mine.chain)
        return Session(self._context.with_credential(credential), self._transport)

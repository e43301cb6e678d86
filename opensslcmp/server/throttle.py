"""How often somebody may ask, and may be wrong, checked before a MAC or a signature is verified.

Three buckets of tokens, each of which fills at its rate: one for each credential, emptied by messages that it protected;
one for each address and one for each reference or signer that is claimed, emptied by messages that did not verify. When
one is empty the message is refused before anything dear is done for it, with systemUnavail and, over HTTP, 429 with
Retry-After. Nobody can use up a credential's own bucket but its holder. Failures under a reference that is not one's own can
keep its holder out at an address that it never came from; from where it has been accepted it is let through.

The tables hold a bounded number of entries, those that were used last, so nothing a peer sends makes them grow. They are
this process's own: with several workers each counts for itself.

Source: RFC 6585, 4; RFC 9810, 8 and Appendix F (systemUnavail).
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from opensslcmp.asn1 import Message
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage
from opensslcmp.server.tables import WrongValue

__all__ = ["Later", "RateLimits", "Throttle", "Throttled", "claim_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimits:
    """How often somebody may ask, and may be wrong; for each worker process.

    Attributes:
        messages_per_second: of one credential, in the long run; 0: as many as it likes.
        burst: as many at once.
        failures_per_minute_and_address: messages whose protection does not verify; 0: as many as come.
        failures_per_minute_and_credential: the same, for the reference or signer that they claim.
        tracked: so many credentials, addresses and claims are remembered, of each those that were seen last.
    """

    messages_per_second: float = 0.0
    burst: int = 20
    failures_per_minute_and_address: int = 600
    failures_per_minute_and_credential: int = 60
    tracked: int = 20_000

    def __post_init__(self) -> None:
        for name in ("messages_per_second", "failures_per_minute_and_address", "failures_per_minute_and_credential"):
            if getattr(self, name) < 0:
                raise WrongValue("is negative", name)
        for name in ("burst", "tracked"):
            if getattr(self, name) < 1:
                raise WrongValue("is not positive", name)


class Throttled(BadMessage):
    """Too much was asked, or was wrong; ``retry_after_seconds`` is when it may be asked again."""

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(FailureInfo.SYSTEM_UNAVAIL, "too many messages; try again later")


class Later(bytes):
    """An answer that says "not now"; over HTTP it comes with 429 (or ``http_status``) and Retry-After."""

    retry_after_seconds: int
    http_status: int

    @classmethod
    def after(cls, answer: bytes, seconds: int, http_status: int = 429) -> Later:
        """This answer, and when to ask again."""
        made = cls(answer)
        made.retry_after_seconds, made.http_status = seconds, http_status
        return made


class _Buckets:
    """Tokens by key."""

    def __init__(self, per_second: float, capacity: float, most: int) -> None:
        self._per_second, self._capacity, self._most = per_second, capacity, most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until there is a token; 0 when there is one."""
        if not self._per_second or key not in self._levels:
            return 0.0
        return max(0.0, (1.0 - self._level(key, now)) / self._per_second)

    def take(self, key: Hashable, now: float) -> None:
        """Use one up."""
        if self._per_second:
            self._levels[key] = (max(0.0, self._level(key, now) - 1.0), now)
            self._levels.move_to_end(key)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)

    def _level(self, key: Hashable, now: float) -> float:
        level, at = self._levels.get(key, (self._capacity, now))
        return min(self._capacity, level + max(0.0, now - at) * self._per_second)


class Throttle:
    """Counts. May be used by several threads at once.

    Args:
        limits: how much is too much.
        clock: seconds that never go back.
    """

    def __init__(self, limits: RateLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        most = limits.tracked
        by_address, by_claim = limits.failures_per_minute_and_address, limits.failures_per_minute_and_credential
        self._messages = _Buckets(limits.messages_per_second, limits.burst, most)
        self._of_address = _Buckets(by_address / 60, by_address, most)
        self._of_claim = _Buckets(by_claim / 60, by_claim, most)
        self._accepted: OrderedDict[tuple[bytes, str | None], None] = OrderedDict()
        self._most = most

    def check(self, address: str | None, claim: bytes) -> None:
        """Return when a message may be verified.

        Raises:
            Throttled: it is one too many.
        """
        with self._lock:
            now = self._clock()
            wait = max(self._messages.wait(claim, now), self._of_address.wait(address, now))
            of_claim = self._of_claim.wait(claim, now)  # asked whoever it is: the time tells nobody who was accepted
            wait = max(wait, of_claim if (claim, address) not in self._accepted else 0.0)
        if wait > 0:
            raise Throttled(min(3600, math.ceil(wait)))

    def accepted(self, address: str | None, claim: bytes) -> None:
        """A message was verified: what it claimed is its credential."""
        with self._lock:
            self._messages.take(claim, self._clock())
            known = (claim, address)
            self._accepted[known] = None
            self._accepted.move_to_end(known)
            if len(self._accepted) > self._most:
                self._accepted.popitem(last=False)

    def failed(self, address: str | None, claim: bytes) -> None:
        """A message did not verify."""
        with self._lock:
            now = self._clock()
            self._of_address.take(address, now)
            self._of_claim.take(claim, now)


def claim_of(message: Message) -> bytes:
    """Which credential a message claims to be protected with: the reference of a MAC, or the first certificate.

    It needs not be unique, and nobody is believed.
    """
    if message.mac is not None:
        return b"mac:" + (message.sender_kid or b"")
    if message.extra_certs:
        return b"cert:" + hashlib.sha256(message.extra_certs[0]).digest()
    return b"kid:" + (message.sender_kid or b"")

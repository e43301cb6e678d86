"""Which server gets a message, and when it gets it once more.

A message that is sent again is sent as the same bytes, so to a CMP server it is the same message: it gives the answer that it
gave, from whichever of its machines, since they share their state. Nothing else is ever sent in its place. A request under a
new transactionID where the first one may have been answered would be a second certificate.

What may come again: a connection that was not made or broke, an answer that did not come in time, an HTTP status of 408, 425,
429 or 5xx without a PKIMessage, and an error message with systemUnavail, whoever protects it. Another server is asked at
once; when all have failed, after a while that grows and is drawn anew each time ("full jitter"), so that thousands of
clients do not come back together. Retry-After is honoured. An HTTP status that tells of a wrong URL (404) or refused access
is not asked again there. All of it happens within the time of the transaction.

Servers are remembered as failed for a while by ``Servers``, which belongs to the context: what one transaction learned, all
others know.

Source: RFC 9810, 5.1.1 (transactionID); RFC 9110, 10.2.3.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opensslcmp.asn1 import ErrorMsgContent
from opensslcmp.enums import FailureInfo, PKIStatus
from opensslcmp.errors import TransportError

if TYPE_CHECKING:
    from opensslcmp.client.context import Context
    from opensslcmp.client.exchange import Waits

__all__ = ["Retry", "Servers", "deliver", "may_come_again"]

_TEMPORARY = frozenset((408, 425, 429))


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How often a message is sent, as the same bytes, until it is answered.

    Attributes:
        attempts: at most, the first one included; 1 sends once.
        first_seconds: the longest wait before the second round over all servers; it doubles for each further one.
        max_seconds: the longest wait of all, for Retry-After too.
        cool_down_seconds: how long a server that failed is asked only when all others failed as well; doubles with each
            failure in a row, up to 16 times.
        sticky: the messages of a transaction that follow go to the server that answered the first, as long as it does.
            For servers that do not share their state.
        spread: begin with any server instead of the first one.
    """

    attempts: int = 5
    first_seconds: float = 0.5
    max_seconds: float = 30.0
    cool_down_seconds: float = 10.0
    sticky: bool = False
    spread: bool = False

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        for name in ("first_seconds", "max_seconds", "cool_down_seconds"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and not negative")

    def wait_seconds(self, rounds: int) -> float:
        """How long to wait before one more round over the servers: anything up to a bound that doubles."""
        return random.uniform(0.0, min(self.max_seconds, self.first_seconds * 2.0 ** min(rounds - 1, 60)))


class Servers:
    """Which servers failed lately. May be used by several threads at once.

    Args:
        retry: how long a failure is remembered.
        now: a clock in seconds.
    """

    __slots__ = ("_failures", "_lock", "_now", "_retry", "_until")

    def __init__(self, retry: Retry, now: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._now = now
        self._until: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._lock = threading.Lock()

    def order(self, count: int, preferred: int | None = None) -> list[int]:
        """Numbers of ``count`` servers: those in order first, then the others, that with the least time to wait first.

        Args:
            preferred: the one to begin with, unless it failed.
        """
        if count == 1:
            return [0]
        now = self._now()
        with self._lock:
            down = {server: until for server, until in self._until.items() if until > now}
        found = [server for server in range(count) if server not in down]
        if self._retry.spread:
            random.shuffle(found)
        if preferred in found:
            found.remove(preferred)
            found.insert(0, preferred)
        return found + sorted((server for server in down if server < count), key=down.__getitem__)

    def is_down(self, server: int) -> bool:
        """It failed lately."""
        return self._until.get(server, 0.0) > self._now()

    def failed(self, server: int, retry_after_seconds: float | None = None) -> None:
        """It gave no answer; ``retry_after_seconds`` when it said when to come again."""
        with self._lock:
            failures = self._failures.get(server, 0) + 1
            self._failures[server] = failures
            seconds = self._retry.cool_down_seconds * 2.0 ** min(failures - 1, 4)
            if retry_after_seconds is not None:
                seconds = min(retry_after_seconds, self._retry.max_seconds)
            self._until[server] = self._now() + seconds

    def answered(self, server: int) -> None:
        """It is well."""
        if server in self._failures:
            with self._lock:
                self._failures.pop(server, None)
                self._until.pop(server, None)


def deliver(
    waits: Waits,
    context: Context,
    request: bytes,
    remaining: Callable[[], float],
    preferred: int | None = None,
    attempt: int = 0,
) -> tuple[bytes, int, int]:
    """The answer to a message, the server that gave it, and how often the message has been sent.

    Args:
        request: DER, sent as it is however often.
        remaining: seconds that the transaction has left; raises ``TimedOut`` when there are none.
        preferred: the server that answered the transaction's last message.
        attempt: how often the message was sent before; if it was, there is a wait first.

    Raises:
        TransportError: the last one, when the attempts or the time are used up.
        TimedOut: the transaction's time is.
    """
    retry, servers = context.retry, context.health
    count = 1 + len(waits.others)
    useless: set[int] = set()
    round_of: set[int] = set()
    rounds = 0
    if attempt:
        waits.sleep(min(retry.wait_seconds(attempt), remaining()))
    while True:
        order = servers.order(count, preferred if retry.sticky else None)
        server = next((each for each in order if each not in useless and each not in round_of), order[0])
        timeout = min(context.message_timeout_seconds, remaining())
        attempt += 1
        try:
            answer = waits.to(server, request, timeout)
        except TransportError as error:
            servers.failed(server, error.retry_after_seconds)
            if _is_final(error):
                useless.add(server)
            if attempt >= retry.attempts or len(useless) == count:
                raise
            round_of.add(server)
            if any(not servers.is_down(each) for each in range(count) if each not in round_of | useless):
                continue
            rounds += 1
            round_of.clear()
            seconds = retry.wait_seconds(rounds)
            if error.retry_after_seconds is not None:
                seconds = max(seconds, min(error.retry_after_seconds, retry.max_seconds))
            if seconds >= remaining():
                raise
            waits.sleep(seconds)
        else:
            servers.answered(server)
            return answer, server, attempt


def may_come_again(content: ErrorMsgContent, context: Context, attempt: int) -> bool:
    """An error message says that the server could not look at the request just now, and there are attempts left."""
    info = content.pki_status_info
    return (
        attempt < context.retry.attempts
        and info.status == PKIStatus.REJECTION
        and info.failures == (FailureInfo.SYSTEM_UNAVAIL,)
    )


def _is_final(error: TransportError) -> bool:
    """An answer that will not be another one the next time."""
    status = error.http_status
    return status is not None and status < 500 and status not in _TEMPORARY

"""Times taken side by side: rounds of one subject and the other in turn, so that a busy machine disturbs both alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "Share", "cpu_microseconds", "side_by_side", "sums"]


@dataclass(frozen=True, kw_only=True)
class Share:
    """CPU of one transaction in microseconds."""

    client: float
    server: float

    @property
    def total(self) -> float:
        """Both ends."""
        return self.client + self.server


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """What side_by_side found: the least of the rounds, since what disturbs a round only ever adds to it."""

    ours: float
    theirs: float
    ratio: float


def cpu_microseconds(work: Callable[[], object], count: int) -> float:
    """CPU of this thread for one call, over ``count`` calls."""
    start = time.thread_time_ns()
    for _ in range(count):
        work()
    return (time.thread_time_ns() - start) / count / 1000


def side_by_side(ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int = 5) -> Ratio:
    """Call both in turn; each returns what it took. The least of each counts."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return sums(pairs)


def sums(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The least of each side of measured pairs."""
    ours = min(mine for mine, _ in pairs)
    theirs = min(other for _, other in pairs)
    return Ratio(ours=ours, theirs=theirs, ratio=ours / theirs)

"""Latencies in little memory: how many there were in each of many narrow ranges.

A value below 256 has a range of its own; above, each power of two is cut into 128 ranges, so what is read from it is at most
1/128 too high, and never too low. Histograms of threads, processes and moments are added up without loss.

>>> histogram = Histogram()
>>> for microseconds in range(1, 1001):
...     histogram.add(microseconds)
>>> histogram.at(50), histogram.at(100), histogram.count
(501, 1000, 1000)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Histogram"]

_BITS = 7
_RANGES = 1 << _BITS


def _range_of(value: int) -> int:
    shift = max(value.bit_length() - _BITS - 1, 0)
    return (shift << _BITS) + (value >> shift)


def _highest(number: int) -> int:
    """The highest value of a range."""
    shift = max((number >> _BITS) - 1, 0)
    return (((number - (shift << _BITS)) + 1) << shift) - 1


class Histogram:
    """Whole numbers from 0 up, such as microseconds. Not for several threads at once."""

    __slots__ = ("_ranges", "count", "least", "most", "total")

    def __init__(self) -> None:
        self._ranges: Counter[int] = Counter()
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0

    def add(self, value: int) -> None:
        """Count one value; what is below 0 counts as 0."""
        value = max(value, 0)
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value)
        self.count += 1
        self.total += value
        self._ranges[_range_of(value)] += 1

    def merge(self, other: Histogram) -> None:
        """Count all of another one's."""
        if other.count:
            self.least = min(self.least, other.least) if self.count else other.least
            self.most = max(self.most, other.most)
            self.count += other.count
            self.total += other.total
            self._ranges.update(other._ranges)

    def at(self, percent: float) -> int:
        """What ``percent`` of all values are at most; 0 when there are none.

        Raises:
            ValueError: not of 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError("a percentile is from 0 to 100")
        # As 99.9 % of 1000 is 999.0000000000001 in binary.
        wanted = max(math.ceil(round(self.count * percent / 100, 6)), 1)
        seen = 0
        for number in sorted(self._ranges):
            seen += self._ranges[number]
            if seen >= wanted:
                return max(min(_highest(number), self.most), self.least)
        return self.most

    @property
    def mean(self) -> float:
        """The average, exactly; 0 when there are none."""
        return self.total / self.count if self.count else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it, for ``from_json``."""
        ranges = {str(number): count for number, count in self._ranges.items()}
        return {"total": self.total, "least": self.least, "most": self.most, "ranges": ranges}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Histogram:
        """What ``to_json`` told."""
        made = cls()
        made.total, made.least, made.most = told["total"], told["least"], told["most"]
        made._ranges.update({int(number): count for number, count in told["ranges"].items()})
        made.count = sum(made._ranges.values())
        return made

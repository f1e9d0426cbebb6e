"""How long the calls of an agent take: quantiles in little room.

Owns: `Histogram`, with buckets that are fixed, and `RecentLatencies`, which forgets. Pure: durations in whole
microseconds and the time in seconds of any steady clock are arguments.

Error: a quantile is never below the true one, and above it by less than an eighth of it. Up to 15 us it is exact. What
is longer than `MAX_US` counts as that.
"""

from __future__ import annotations

from itertools import zip_longest

_STEPS_BITS = 3
_STEPS = 1 << _STEPS_BITS
"""Buckets in each doubling of the duration."""

MAX_US = (1 << 40) - 1
"""Longest duration that is told apart: twelve days."""

WINDOW_S = 300.0
"""What is remembered of the past: at least this long, at most twice as long."""


class Histogram:
    """Counts durations; takes little room, however many there are."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts: list[int] = []  # as long as the longest duration asks for: most agents are never called
        self.total = 0
        """Durations that were added."""

    def add(self, duration_us: int) -> None:
        """Count one duration."""
        bucket = _bucket(min(max(duration_us, 0), MAX_US))
        if bucket >= len(self._counts):
            self._counts.extend([0] * (bucket + 1 - len(self._counts)))
        self._counts[bucket] += 1
        self.total += 1

    def __add__(self, other: Histogram) -> Histogram:
        """Return what both have counted."""
        both = Histogram()
        both._counts = [a + b for a, b in zip_longest(self._counts, other._counts, fillvalue=0)]
        both.total = self.total + other.total
        return both

    def quantile(self, per_cent: int) -> int:
        """Return the duration that this share of all durations does not exceed; 0 when there are none.

        Args:
            per_cent: share, 1 to 100.
        """
        rank = -(-self.total * per_cent // 100)
        for bucket, count in enumerate(self._counts):
            rank -= count
            if count and rank <= 0:
                return _longest(bucket)
        return 0


class RecentLatencies:
    """Durations of the last `WINDOW_S` to twice as many seconds."""

    __slots__ = ("_before", "_began", "_now")

    def __init__(self) -> None:
        self._before = Histogram()
        self._now = Histogram()
        self._began = float("-inf")

    def add(self, duration_us: int, now: float) -> None:
        """Count one duration that ended now."""
        self._turn(now)
        self._now.add(duration_us)

    def quantiles(self, now: float, *per_cent: int) -> tuple[int, ...]:
        """Return one quantile for each share."""
        self._turn(now)
        both = self._before + self._now
        return tuple(both.quantile(share) for share in per_cent)

    def _turn(self, now: float) -> None:
        age = now - self._began
        if age >= WINDOW_S:
            self._before = self._now if age < 2 * WINDOW_S else Histogram()
            self._now, self._began = Histogram(), now


def _bucket(duration_us: int) -> int:
    shift = max(0, duration_us.bit_length() - _STEPS_BITS - 1)
    return (shift << _STEPS_BITS) + (duration_us >> shift)


def _longest(bucket: int) -> int:
    """The longest duration in a bucket."""
    if bucket < 2 * _STEPS:
        return bucket
    shift = (bucket >> _STEPS_BITS) - 1
    return ((bucket - (shift << _STEPS_BITS) + 1) << shift) - 1

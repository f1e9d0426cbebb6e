"""A rate as a bucket of tokens.

Owns: `TokenBucket`. Pure: time is an argument, and whoever takes a token waits by its own means.
"""

from __future__ import annotations


class TokenBucket:
    """Lets `rate` things happen per second, and as many at once after a quiet second.

    Tokens may be taken before they are there: the taker is told how long to wait for its own, so that takers are served
    in order and the rate holds whatever they do with their turn.

    Args:
        rate: tokens per second, and the most that the bucket holds.
        now: seconds by any clock that never goes back; the bucket is full then.
    """

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._at = now

    def take(self, now: float) -> float:
        """Take one token; return the seconds until it is there, 0 if it is there already."""
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        return max(0.0, -self._tokens / self._rate)

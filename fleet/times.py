"""Moments as whole milliseconds since the Unix epoch: the form on the wire and in signed documents.

Owns the one conversion between `datetime` (UTC, aware) and that number. Never reads a clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Moment zero."""

MAX_MS = 253_402_300_799_999
"""Last millisecond of the year 9999, the greatest moment that `datetime` can hold."""

_MILLISECOND = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Milliseconds since the epoch, cut to whole ones; a naive `at` is a programmer's TypeError."""
    return (at - EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """Moment of a count of milliseconds in [0, MAX_MS]; the parser that calls this has checked the range."""
    return EPOCH + ms * _MILLISECOND

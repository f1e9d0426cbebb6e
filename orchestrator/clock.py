"""Time as the coordinator keeps it: an injected clock, and milliseconds since the Unix epoch in the database.

Owns: the `Clock` type, the one real clock, and the conversions at the edge of the store. Never asked by pure modules,
which take `now` as an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the present time, aware, in UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def system_clock() -> datetime:
    """Read the machine's clock."""
    return datetime.now(UTC)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the Unix epoch."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Moment of a number of milliseconds since the Unix epoch."""
    return _EPOCH + milliseconds * _MILLISECOND

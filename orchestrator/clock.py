"""The clock of the coordinator, injected everywhere but in pure modules, which take `now` as an argument."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present time, aware, in UTC."""


def system_clock() -> datetime:
    """Read the machine's clock."""
    return datetime.now(UTC)

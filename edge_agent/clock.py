"""Time as the node's parts receive it: by constructor, so that tests can own it.

Owns the `Clock` interface, waiting for a time by it, and the one that reads the operating system. Nothing else in
`edge_agent` asks for the time, apart from the runner processes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

LONGEST_SLEEP_S = 60.0
"""A timer looks at the wall clock at least this often, since a node's clock may be set while it waits."""


class Clock(Protocol):
    """Wall clock for what people read, sleeping for what must not jump."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        ...


async def sleep_until(clock: Clock, at: datetime) -> None:
    """Return at a time by the monotonic clock or by the wall clock, whichever comes first."""
    left = (at - clock.now()).total_seconds()
    while left > 0 and clock.now() < at:
        await clock.sleep(min(left, LONGEST_SLEEP_S))
        left -= LONGEST_SLEEP_S


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        await asyncio.sleep(seconds)

"""Time as the node's parts receive it: by constructor, so that tests can own it.

Owns the `Clock` interface and the one that reads the operating system. Nothing else in `edge_agent` asks for the
time, apart from the runner processes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall clock for what people read, sleeping for what must not jump."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> datetime:
        """Return the wall-clock time, UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        await asyncio.sleep(seconds)

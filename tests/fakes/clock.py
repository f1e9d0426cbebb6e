"""Time that moves only when a test says so: sleeping takes no time, and everything due happens in order."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

START = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)

TURNS = 50
"""Turns of the event loop that are enough for everything that is ready to run to have run."""


class VirtualClock:
    """Implements `edge_agent.clock.Clock`; the wall clock can be set apart from monotonic time."""

    def __init__(self, start: datetime = START) -> None:
        self.wall = start
        self.elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.elapsed_s + max(seconds, 0), next(self._numbers), future))
        await future

    async def settle(self) -> None:
        """Let everything run that needs no time."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move time, waking sleepers one after another."""
        await self.settle()
        end = self.elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._move(due)
            future.set_result(None)
            await self.settle()
        self._move(end)
        await self.settle()

    def _move(self, elapsed_s: float) -> None:
        self.wall += timedelta(seconds=elapsed_s - self.elapsed_s)
        self.elapsed_s = elapsed_s

"""Tells waiting tasks that something changed, without saying what.

Owns: one counter per topic (events, deployments, reports). A waiter reads its data, then waits for the counter to pass
what it was before it read: a change can be coalesced with others but never missed. Never carries data, so a slow
waiter costs nothing.
"""

from __future__ import annotations

import asyncio


class Changes:
    """A counter to wait for. `notify` may be called from any thread, everything else from the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """Number of changes so far; remember it before reading."""
        return self._count

    def notify(self) -> None:
        """Wake every waiter. After the loop has closed there is nobody to wake."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._advance)

    def _advance(self) -> None:
        self._count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, count: int) -> int:
        """Wait until the counter is greater than `count` and return it."""
        while self._count <= count:
            await self._changed.wait()
        return self._count

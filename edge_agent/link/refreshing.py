"""When a node looks at the release: at the beginning of a session, now and again, and soon after news of a newer one.

Owns that loop, and when a certificate is due. What a look does is the node's; leases count from the last one that
succeeded. A coordinator that withholds the news withholds no more than the time to the next look.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Never

from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from random import Random

    from edge_agent.clock import Clock

JITTER = 0.2
"""Looks come this share earlier or later, so that a fleet does not look in step."""

NEWS_LEAST_S, NEWS_MOST_S = 0.2, 2.0
"""Bounds of the delay after news: not all nodes of a fleet ask at once, and none does nothing but ask."""


async def renewal_due(until: datetime, early: asyncio.Event, clock: Clock, delay_s: Callable[[], float]) -> None:
    """Wait until a certificate is to be renewed: at its time, or some moment after the fleet asks for it.

    Args:
        until: its time.
        early: set when the fleet asks.
        clock: time.
        delay_s: draws how long to wait then: nodes hear of it together and do not come together.
    """
    asked = asyncio.create_task(early.wait())
    try:
        while (left := (until - clock.now()).total_seconds()) > 0:
            sleep = asyncio.create_task(clock.sleep(min(left, 60.0)))
            try:
                await asyncio.wait((sleep, asked), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleep.cancel()
            if asked.done():
                left = (until - clock.now()).total_seconds()
                await clock.sleep(max(0.0, min(left, delay_s())))
                return
    finally:
        asked.cancel()


class Refreshing:
    """Looks at the release while a session lasts.

    Args:
        refresh: one look; raises FleetError.
        refused: told of a look that failed.
        every_s: seconds between looks without news.
        clock: time.
        random: jitter.
    """

    def __init__(
        self,
        refresh: Callable[[], Awaitable[None]],
        refused: Callable[[FleetError], None],
        every_s: float,
        clock: Clock,
        random: Random,
    ) -> None:
        self._refresh = refresh
        self._refused = refused
        self._every_s = every_s
        self._clock = clock
        self._random = random
        self._news = asyncio.Event()

    def hear(self) -> None:
        """Take in that there is a newer release."""
        self._news.set()

    async def run(self) -> Never:
        """Look; returns only by cancellation."""
        while True:
            try:
                await self._refresh()
            except FleetError as error:
                self._refused(error)
            await self._wait(self._every_s * self._random.uniform(1 - JITTER, 1 + JITTER))
            if self._news.is_set():
                await self._clock.sleep(self._random.uniform(NEWS_LEAST_S, NEWS_MOST_S))
                self._news.clear()

    async def _wait(self, seconds: float) -> None:
        """Sleep, or wake at news."""
        sleep = asyncio.create_task(self._clock.sleep(seconds))
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait((sleep, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            news.cancel()

"""The time as a node believes it: its clock, or the earliest time that it can be when the clock says less.

Owns the one clock that all parts of a node are given (`Timekeeper`), and its loop, which lets the time floor of the
trust store rise while the node runs and says when the clock is behind it. What follows from the time is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.errors import FleetError

if TYPE_CHECKING:
    from datetime import datetime

    from edge_agent.clock import Clock
    from edge_agent.journal import Journal
    from edge_agent.trust_store import TrustStore

TOLERANCE = timedelta(minutes=5)
"""How far a clock may be behind the time floor before the node says so: clocks of different machines differ."""

TICK = timedelta(minutes=1)
"""How often the floor takes in that time has passed."""


class Timekeeper:
    """A clock over the operating system's one and the time floor.

    Args:
        clock: the operating system's clock.
        trust: has the time floor.
        journal: takes events.
    """

    def __init__(self, clock: Clock, trust: TrustStore, journal: Journal) -> None:
        self._clock = clock
        self._trust = trust
        self._journal = journal
        self._was_behind = False

    def now(self) -> datetime:
        """Return the time, UTC; never earlier than the floor."""
        return self._trust.floor(self._clock.now())

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""
        await self._clock.sleep(seconds)

    async def run(self) -> None:
        """Let the floor rise; returns only by cancellation."""
        while True:
            self._look()
            await self._clock.sleep(TICK.total_seconds())
            try:
                await asyncio.to_thread(self._trust.passed, self._clock.now(), TICK)
            except FleetError as error:
                self._journal.error(self.now(), "node:time:unsaved", error)

    def _look(self) -> None:
        """Say once when the clock is behind, until it was right again."""
        clock = self._clock.now()
        behind = self._trust.behind(clock) > TOLERANCE
        if behind and not self._was_behind:
            floor = self._trust.floor(clock)
            message = f"the clock says {clock:%Y-%m-%d %H:%M} UTC, and it is {floor:%Y-%m-%d %H:%M} or later: set it"
            self._journal.event(floor, "", "node:clock:behind", message)
        self._was_behind = behind

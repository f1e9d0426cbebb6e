"""The supervisor's side of a queue that makes its sources wait.

Owns: `QueueRoom`. The runner's reader must not wait for an agent, so whoever calls one waits here, before anything is
sent (see `edge_agent.runner.job_queue`).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class QueueRoom:
    """As many places as calls may wait for an agent.

    Args:
        places: how many; None where a full queue refuses instead.
    """

    def __init__(self, places: int | None) -> None:
        self._free = None if places is None else asyncio.Semaphore(places)

    @asynccontextmanager
    async def place(self, agent: str, deadline_ms: int | None) -> AsyncIterator[None]:
        """Hold a place while the block runs; the first to wait is the first to get one.

        Args:
            agent: for the error.
            deadline_ms: how long to wait; None for as long as it takes.

        Raises:
            FleetError: AGENT_BUSY when there is none within `deadline_ms`.
        """
        if self._free is None:
            yield
            return
        try:
            async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1000):
                await self._free.acquire()
        except TimeoutError:
            message = f"the queue of {agent} had no room within {deadline_ms} ms"
            raise FleetError(Code.AGENT_BUSY, message, agent=agent) from None
        try:
            yield
        finally:
            self._free.release()

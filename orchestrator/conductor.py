"""Keeps rollouts going and the audit log witnessed: looks again after every change, and when time alone can decide.

Owns: the tasks that call `Rollouts.advance` and `Witnessing.tend`. Knows nothing else, so that losing them costs time
and never a state: everything is read from the store each time. Both are edges of the process: they end by cancellation
only.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.changes import Changes
    from orchestrator.clock import Clock
    from orchestrator.rollouts import Rollouts
    from orchestrator.witnessing import Witnessing
    from orchestrator.workers import Workers

_LOG = logging.getLogger(__name__)

COALESCE_S = 0.02
"""Reports that come within this time are judged together."""

RETRY_S = 5.0
"""Pause after the rollouts could not be looked at, for example because another process holds the database."""


TEND_S = 5.0
"""How often it is looked whether the log waits for witnesses."""


async def conduct(rollouts: Rollouts, changes: Changes, workers: Workers, clock: Clock) -> None:
    """Advance the rollouts until cancelled."""
    while True:
        seen = changes.count
        try:
            until = await workers.run(rollouts.advance)
            wait_s = None if until is None else max((until - clock()).total_seconds(), 0.0)
        except Exception:  # noqa: BLE001 - one deployment's trouble ends in `advance`; this is the store's, or a bug
            _LOG.exception("rollouts do not advance, next try in %.0f s", RETRY_S)
            await asyncio.sleep(RETRY_S)
            continue
        try:
            async with asyncio.timeout(wait_s):
                await changes.after(seen)
        except TimeoutError:
            pass
        await asyncio.sleep(COALESCE_S)


async def tend(witnessing: Witnessing, workers: Workers) -> None:
    """Look after witnesses and the orders that wait for them until cancelled."""
    while True:
        try:
            await workers.run(witnessing.tend)
        except Exception:  # noqa: BLE001 - the store's trouble, or a bug; the next look may succeed
            _LOG.exception("the audit log is not tended, next try in %.0f s", TEND_S)
        await asyncio.sleep(TEND_S)

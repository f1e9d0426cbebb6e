"""Keeps rollouts going, the audit log witnessed and authorities renewed: looks again after every change, or regularly.

Owns: the tasks that call `Rollouts.advance`, and whatever wants to be looked after. Knows nothing else, so that losing
them costs time and never a state: everything is read from store and files each time. All are edges of the process: they
end by cancellation only.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.changes import Changes
    from orchestrator.clock import Clock
    from orchestrator.rollouts import Rollouts
    from orchestrator.workers import Workers

_LOG = logging.getLogger(__name__)

COALESCE_S = 0.02
"""Reports that come within this time are judged together."""

RETRY_S = 5.0
"""Pause after the rollouts could not be looked at, for example because another process holds the database."""


TEND_S = 5.0
"""How often it is looked whether the log waits for witnesses, or an authority for its successor."""


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


async def tend(look: Callable[[], None], workers: Workers) -> None:
    """Look after something now and again until cancelled."""
    while True:
        try:
            await workers.run(look)
        except Exception:  # noqa: BLE001 - the store's trouble, or a bug; the next look may succeed
            _LOG.exception("%s failed, next try in %.0f s", look, TEND_S)
        await asyncio.sleep(TEND_S)

"""Waiting for real processes: polled, with a deadline, so that a test fails with a reason and never hangs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S = 0.01
DEADLINE_S = 60.0


async def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
    """Return as soon as `condition` holds; fail naming `what` when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        if loop.time() > end:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        await asyncio.sleep(INTERVAL_S)


def wait_until(condition: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    """The same for tests with threads and no event loop."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen within {seconds} s")
        time.sleep(INTERVAL_S)

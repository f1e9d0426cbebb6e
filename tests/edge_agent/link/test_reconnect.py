"""When a node comes back: full jitter under a bound that doubles, so that a fleet does not return as one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from edge_agent.identity import Identity, IdentityStore
from edge_agent.link.link import Link, LinkSettings
from edge_agent.link.session import Ended
from tests.fakes.disk import MemoryDisk

INITIAL_S, CAP_S = 1.0, 60.0
NOWHERE = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:1", "00" * 32)


class RecordingClock:
    """Sleeps in no time, writes down how long, and cancels the sleeper in the end."""

    def __init__(self, sleeps: int) -> None:
        self.slept: list[float] = []
        self._most = sleeps

    def now(self) -> datetime:
        return datetime(2026, 6, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self._most:
            raise asyncio.CancelledError


class Nobody:
    """What of a node is asked for while there is no session."""

    def __init__(self) -> None:
        self.reissue = asyncio.Event()


def link(seed: int, clock: RecordingClock) -> Link:
    store = IdentityStore(MemoryDisk(), Path("/node"))
    return Link(Nobody(), store, LinkSettings(None, INITIAL_S, CAP_S, 1.0), clock, Random(seed))


async def delays(seed: int, count: int) -> list[float]:
    """How long a node waits after each of several tries to reach a coordinator that is gone."""
    clock = RecordingClock(count)
    with pytest.raises(asyncio.CancelledError):
        await link(seed, clock).run(NOWHERE)
    return clock.slept


async def test_the_bound_doubles_up_to_the_cap_and_never_beyond() -> None:
    for seed in range(20):
        for number, delay in enumerate(await delays(seed, 12)):
            assert 0 <= delay <= min(CAP_S, INITIAL_S * 2**number), (seed, number)


async def test_nodes_that_lost_their_coordinator_together_come_back_apart() -> None:
    firsts = sorted([(await delays(seed, 8))[-1] for seed in range(100)])
    tenths = [sum(CAP_S * n / 10 <= delay < CAP_S * (n + 1) / 10 for delay in firsts) for n in range(10)]
    assert min(tenths) >= 2, tenths
    assert max(tenths) <= 25, tenths


async def test_nodes_that_were_sent_away_together_come_back_apart_and_never_at_once() -> None:
    clock = RecordingClock(1)
    waits = [link(seed, clock)._delay_s(Ended(10_000, "asked to go")) for seed in range(100)]
    assert min(waits) >= 10
    assert max(waits) <= 20 + INITIAL_S
    assert max(waits) - min(waits) > 5

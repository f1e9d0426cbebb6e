"""When a node fetches again what it lost: until it has it, at a bounded rate, also over the end of a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import pytest

from edge_agent.journal import Journal
from edge_agent.link.session import RETRY_CAP_S, Session, SessionSettings
from fleet.errors import Code, FleetError
from tests.fakes.clock import VirtualClock

HOUR_S = 3_600.0
MOST_PER_HOUR = 2 * HOUR_S / RETRY_CAP_S + 10
SETTINGS = SessionSettings("boot", "0", 1_000, 10, 1_000, 1_000)


@dataclass
class LosingNode:
    """A node that has lost a blob, as a session sees it.

    Attributes:
        fault: what a repair raises; None when it succeeds.
        rots: whether a blob is lost again as soon as it was fetched.
    """

    fault: FleetError | None = None
    rots: bool = False
    repairs: int = 0
    blocked: bool = False
    missing: asyncio.Event = field(default_factory=asyncio.Event)
    journal: Journal = field(default_factory=lambda: Journal("node-1", 500))

    async def repair(self, _remote: object) -> None:
        self.repairs += 1
        if self.blocked:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        if self.rots:
            self.missing.set()


@asynccontextmanager
async def repairing(node: LosingNode, clock: VirtualClock, seed: int = 1) -> AsyncIterator[None]:
    session = Session(node, None, SETTINGS, clock, Random(seed))  # type: ignore[arg-type]
    task = asyncio.create_task(session._repair())
    await clock.settle()
    yield
    task.cancel()
    await asyncio.wait((task,))


@pytest.mark.parametrize("code", [Code.DIGEST_MISMATCH, Code.BLOB_MISSING, Code.UNAVAILABLE, Code.STORAGE_FULL])
async def test_a_repair_that_failed_is_tried_until_it_succeeds(code: Code) -> None:
    for seed in range(5):
        node, clock = LosingNode(FleetError(code, "wrong")), VirtualClock()
        node.missing.set()
        async with repairing(node, clock, seed):
            assert node.repairs == 1, "the first one at once"
            await clock.advance(10)
            assert node.repairs >= 3, "soon again"
            await clock.advance(HOUR_S)
            assert HOUR_S / RETRY_CAP_S <= node.repairs <= MOST_PER_HOUR
            node.fault, tried = None, node.repairs
            await clock.advance(RETRY_CAP_S)
            assert (node.repairs, node.missing.is_set()) == (tried + 1, False)
            await clock.advance(HOUR_S)
            assert node.repairs == tried + 1, "nothing more is missing"


async def test_what_is_lost_as_soon_as_it_is_fetched_is_not_fetched_without_end() -> None:
    node, clock = LosingNode(rots=True), VirtualClock()
    node.missing.set()
    async with repairing(node, clock):
        await clock.advance(HOUR_S)
        assert node.repairs <= MOST_PER_HOUR


async def test_after_a_quiet_time_a_new_loss_is_repaired_at_once() -> None:
    node, clock = LosingNode(FleetError(Code.UNAVAILABLE, "away")), VirtualClock()
    node.missing.set()
    async with repairing(node, clock):
        await clock.advance(HOUR_S)
        node.fault = None
        await clock.advance(HOUR_S)
        tried = node.repairs
        node.missing.set()
        await clock.settle()
        assert node.repairs == tried + 1


@pytest.mark.parametrize("blocked", [True, False])
async def test_what_a_session_could_not_repair_is_left_to_the_next(blocked: bool) -> None:
    node, clock = LosingNode(FleetError(Code.UNAVAILABLE, "away"), blocked=blocked), VirtualClock()
    node.missing.set()
    async with repairing(node, clock):
        assert node.repairs == 1
    assert node.missing.is_set()

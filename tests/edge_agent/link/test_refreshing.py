"""When a node looks at the release, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from edge_agent.link.refreshing import JITTER, NEWS_LEAST_S, NEWS_MOST_S, Refreshing
from fleet.errors import Code, FleetError
from tests.fakes.virtual_loop import VirtualLoop

HOUR_S = 3600.0


class LoopClock:
    """Implements what of `edge_agent.clock.Clock` is asked for."""

    def now(self) -> object:
        raise AssertionError("nobody asks for the time")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Looks:
    """The looks of one session; `busy_s` is how long one takes."""

    def __init__(self) -> None:
        self.loop = VirtualLoop(Random(5))
        self.at: list[float] = []
        self.refused: list[Code] = []
        self.fault: FleetError | None = None
        self.busy_s = 0.0
        self.refreshing = Refreshing(
            self.look, lambda error: self.refused.append(error.code), HOUR_S, LoopClock(), Random(6)
        )
        self.task = self.loop.create_task(self.refreshing.run())

    async def look(self) -> None:
        self.at.append(self.loop.time())
        await asyncio.sleep(self.busy_s)
        if self.fault is not None:
            raise self.fault

    def live(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        self.task.cancel()
        self.live(1)
        self.loop.close()


@pytest.fixture
def looks() -> Iterator[Looks]:
    looks = Looks()
    yield looks
    looks.close()


def test_a_node_looks_at_the_beginning_and_then_once_an_hour(looks: Looks) -> None:
    looks.live(10 * HOUR_S)
    assert looks.at[0] == 0
    gaps = [later - earlier for earlier, later in zip(looks.at, looks.at[1:], strict=False)]
    assert all(HOUR_S * (1 - JITTER) <= gap <= HOUR_S * (1 + JITTER) for gap in gaps)
    assert len(gaps) >= 8


def test_news_of_a_release_are_looked_at_within_seconds(looks: Looks) -> None:
    looks.live(100)
    looks.refreshing.hear()
    looks.live(NEWS_MOST_S)
    assert len(looks.at) == 2
    assert 100 + NEWS_LEAST_S <= looks.at[1] <= 100 + NEWS_MOST_S


def test_a_flood_of_news_is_one_look_at_a_time(looks: Looks) -> None:
    looks.live(1)
    for _ in range(1_000):
        looks.refreshing.hear()
        looks.live(0.01)
    assert 4 <= len(looks.at) <= 10 / NEWS_LEAST_S


def test_news_that_come_during_a_look_are_not_lost(looks: Looks) -> None:
    looks.busy_s = 10
    looks.live(100)
    looks.refreshing.hear()
    looks.live(5)
    assert len(looks.at) == 2
    looks.refreshing.hear()
    looks.live(20)
    assert len(looks.at) == 3


def test_a_look_that_fails_is_told_and_the_next_one_comes(looks: Looks) -> None:
    looks.fault = FleetError(Code.TRUST_ROLLBACK, "older")
    looks.live(5 * HOUR_S)
    assert looks.refused
    assert set(looks.refused) == {Code.TRUST_ROLLBACK}
    assert len(looks.at) >= 4

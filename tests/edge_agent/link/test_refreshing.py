"""When a node looks at the release, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from edge_agent.link.refreshing import JITTER, NEWS_LEAST_S, NEWS_MOST_S, Refreshing, renewal_due
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


class TimedClock(LoopClock):
    """The loop's time, from a moment on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return START + timedelta(seconds=self._loop.time())


START = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked_after_s", "delay_s", "ends_s"),
    [
        (None, 5.0, HOUR_S),  # at its time
        (100.0, 5.0, 105.0),  # soon after the fleet asked for it
        (0.0, 5.0, 5.0),
        (HOUR_S - 2, 5.0, HOUR_S),  # but never later than at its time
    ],
)
def test_a_certificate_is_due_at_its_time_or_when_the_fleet_asks(
    asked_after_s: float | None, delay_s: float, ends_s: float
) -> None:
    loop = VirtualLoop(Random(5))

    async def scenario() -> float:
        early, begun = asyncio.Event(), loop.time()
        if asked_after_s is not None:
            loop.call_later(asked_after_s, early.set)
        until = START + timedelta(seconds=begun + HOUR_S)
        await renewal_due(until, early, TimedClock(loop), lambda: delay_s)
        return loop.time() - begun

    assert loop.run_until_complete(scenario()) == pytest.approx(ends_s, abs=0.5)
    loop.close()

"""What is known about sources, what is told once, and who hears of new readings."""

import pytest

from edge_agent.runtime import SensorState
from edge_agent.sensors.declarations import FileSource, Source
from edge_agent.sensors.table import SensorTable
from tests.fakes.clock import START, VirtualClock

NS = int(START.timestamp()) * 1_000_000_000


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def table(clock, told):
    source = Source("roof", "file", FileSource("/x", 1_000, last_line=False), unit="celsius", low=-40, high=85, rate=3)
    other = Source("cellar", "file", FileSource("/y", 1_000, last_line=False), max_age_ms=1_000)
    return SensorTable((source, other), clock, lambda *event: told.append(event))


def test_nothing_is_known_before_the_first_value(table):
    assert table.states("roof") == (SensorState("roof", "file", "celsius", "unavailable"),)
    assert [state.source for state in table.states()] == ["cellar", "roof"]
    assert table.states("attic") == ()


def test_a_value_is_kept_until_the_next(table, told):
    table.take("roof", b"20.5")
    assert table.states("roof") == (SensorState("roof", "file", "celsius", "good", "20.5", NS),)
    table.put("roof", 90.0)
    assert table.states("roof")[0].state == "out-of-range"
    assert told == []


async def test_a_value_becomes_stale(table, clock):
    table.take("cellar", b"7")
    await clock.advance(1.5)
    state = table.states("cellar")[0]
    assert (state.state, state.value) == ("stale", "7.0")


def test_trouble_is_told_once_until_a_value_follows(table, told):
    table.take("roof", b"junk")
    table.take("roof", b"junk")
    table.fail("cellar", "gone")
    table.fail("cellar", "still gone")
    assert [kind for kind, _ in told] == ["node:sensor:malformed", "node:sensor:unavailable"]
    assert table.counts("roof") == (2, 0)
    state = table.states("cellar")[0]
    assert (state.state, state.fault) == ("unavailable", "still gone")
    told.clear()
    table.take("cellar", b"1")
    table.fail("cellar", "gone again")
    assert [kind for kind, _ in told] == ["node:sensor:recovered", "node:sensor:unavailable"]


async def test_readings_above_the_rate_are_passed_over_and_counted(table, clock):
    for value in range(10):
        table.take("roof", str(value).encode())
    assert table.states("roof")[0].value == "2.0"
    assert table.counts("roof") == (0, 7)
    await clock.advance(1)
    table.take("roof", b"10")
    assert table.states("roof")[0].value == "10.0"


def test_subscribers_hear_of_each_new_reading(table):
    heard = []
    end = table.subscribe("roof", heard.append)
    table.subscribe("attic", heard.append)()
    table.take("roof", b"1")
    table.take("roof", b"junk")
    table.take("cellar", b"2")
    end()
    end()
    table.take("roof", b"3")
    assert [state.value for state in heard] == ["1.0"]

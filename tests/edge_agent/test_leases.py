"""Fresh, stale, lapsed: what a node without news does for each `on_lapse`, over restarts, wrong clocks and years."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from edge_agent import clock as clock_module
from edge_agent import timekeeper
from fleet.errors import Code
from fleet.model import Phase
from fleet.release import Lifetimes
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, Publisher, role_keys
from tests.fakes.whole_node import WholeNode

KEYVALUE = "wasi:keyvalue/store@0.2.0-draft2"
LOGGING = "wasi:logging/logging@0.1.0-draft"
CAPS = "{'wasi:keyvalue/store': [{buckets: [context], ops: [get, set]}], 'wasi:logging/logging': []}"
DAY = timedelta(days=1)
DAYS = {"stale": 10, "lapsed": 40}
"""Days without news: metadata of a week has expired after ten, a lease of thirty after forty."""

DEAD_BATTERY = datetime.fromisoformat("1970-01-01T00:00:00Z")


@pytest.fixture(autouse=True)
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the time once an hour: a year is then 9,000 looks and not half a million."""
    monkeypatch.setattr(timekeeper, "TICK", timedelta(hours=1))
    monkeypatch.setattr(clock_module, "LONGEST_SLEEP_S", 3600.0)


Make = Callable[[str], WholeNode]


@pytest.fixture
def make() -> Iterator[Make]:
    nodes: list[WholeNode] = []

    def build(on_lapse: str) -> WholeNode:
        year = 365 * DAY
        keys = replace(role_keys(), lifetimes=lifetimes(year))
        world = FleetWorld(Publisher(keys=keys))
        document = grant(
            "app/one",
            "one",
            caps=CAPS,
            lease=f"{{max_stale: 30d, on_lapse: {on_lapse}}}",
            validity="{not_before: 2026-01-01T00:00:00Z, not_after: 2040-01-01T00:00:00Z}",
        )
        agent = world.release(bundle("one", "1.0.0", KEYVALUE, LOGGING), "one", document, "app/one")
        node = WholeNode(world)
        nodes.append(node)
        assert node.accept(world.assign(agent)) is None
        return node

    yield build
    for node in nodes:
        node.close()


def lifetimes(year: timedelta) -> Lifetimes:
    """Those of production, whatever their fields are called."""
    long = dict.fromkeys(Lifetimes.__dataclass_fields__, year)
    return Lifetimes(**{**long, "timestamp": 7 * DAY, "snapshot": 14 * DAY})


def may_store(node: WholeNode) -> bool:
    return node.authority().allows("wasi:keyvalue/store", bucket="context", op="get")


def may_log(node: WholeNode) -> bool:
    return node.authority().allows("wasi:logging/logging")


DROP = "{drop: ['wasi:keyvalue/store']}"
ACTIONS = ["stop", DROP, "continue"]


def check_whole(node: WholeNode) -> None:
    assert node.running() == {"app/one"}
    assert may_store(node)
    assert may_log(node)


def check_lapsed(node: WholeNode, on_lapse: str) -> None:
    if on_lapse == "stop":
        assert node.running() == set()
        observed = node.agent()
        assert observed.phase is Phase.FAILED
        assert observed.refusal is not None
        assert observed.refusal.code == Code.GRANT_EXPIRED
        assert "lease.max_stale" in observed.refusal.message
    else:
        assert node.running() == {"app/one"}
        assert may_store(node) == (on_lapse == "continue")
        assert may_log(node)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_fresh_then_stale_then_lapsed_while_the_node_runs(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    check_whole(node)
    node.live(DAYS["stale"] * DAY)
    assert node.refresh() is Code.TRUST_EXPIRED  # stale: nothing new is adopted, and what runs goes on
    check_whole(node)
    started = node.agent().running_since
    node.live(20 * DAY - timedelta(hours=2))  # a second before thirty days have passed, as good as
    check_whole(node)
    assert node.agent().running_since == started
    node.live(timedelta(hours=3))
    check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
@pytest.mark.parametrize("state", DAYS)
def test_a_restart_changes_neither_what_is_stale_nor_what_has_lapsed(make: Make, on_lapse: str, state: str) -> None:
    node = make(on_lapse)
    node.live(DAYS[state] * DAY)
    for _ in range(3):
        node.restart()
        check_whole(node) if state == "stale" else check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_what_lapsed_while_the_node_was_off_does_not_start_whole(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    node.switch_off()
    node.set_clock(NOW + DAYS["lapsed"] * DAY)
    node.switch_on()
    check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_years_without_any_network_and_with_many_restarts(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    for year in range(1, 11):
        node.switch_off()
        node.set_clock(NOW + year * 365 * DAY)
        node.switch_on()
        node.live(DAY)
        check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_news_give_everything_back(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    node.live(DAYS["lapsed"] * DAY)
    check_lapsed(node, on_lapse)
    node.world.publisher.now = node.now()
    node.world.publisher.publish()
    assert node.refresh() is None
    node.live(timedelta(minutes=1))
    check_whole(node)


def test_dropping_takes_the_interface_from_the_instance_that_runs(make: Make) -> None:
    node = make(DROP)
    before = node.runtime.running["app/one"]
    node.runtime.journal.clear()
    node.live(DAYS["lapsed"] * DAY)
    assert node.runtime.journal == ["stop app/one", "start app/one"]
    assert node.runtime.running["app/one"].authority != before.authority
    assert not may_store(node)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_a_clock_that_is_set_back_while_the_node_runs_extends_no_lease(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    node.live(20 * DAY)
    node.set_clock(NOW - 300 * DAY)
    node.live(20 * DAY)
    check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_a_machine_without_a_battery_for_its_clock_counts_on_where_it_was(make: Make, on_lapse: str) -> None:
    node = make(on_lapse)
    for _ in range(20):
        node.switch_off()
        node.set_clock(DEAD_BATTERY)
        node.switch_on()
        node.live(2 * DAY)
    check_lapsed(node, on_lapse)


@pytest.mark.parametrize("on_lapse", ACTIONS)
def test_what_has_lapsed_is_not_back_with_a_clock_that_was_set_back_between_two_starts(
    make: Make, on_lapse: str
) -> None:
    node = make(on_lapse)
    node.live(DAYS["lapsed"] * DAY)
    node.switch_off()
    node.set_clock(NOW)
    node.switch_on()
    check_lapsed(node, on_lapse)
    assert "node:clock:behind" in [event.kind for event in node.events()]


def test_the_end_of_the_grant_ends_every_agent_whatever_its_lease_says(make: Make) -> None:
    node = make("continue")
    node.switch_off()
    node.set_clock(datetime.fromisoformat("2040-01-01T00:00:00Z"))
    node.switch_on()
    refusal = node.agent().refusal
    assert refusal is not None
    assert refusal.code == Code.GRANT_EXPIRED

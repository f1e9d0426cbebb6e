"""fleet:sensors/reader as an agent sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.capabilities import sensor_reader
from edge_agent.capabilities.exchange import NO_EXCHANGE
from edge_agent.runtime import SensorState
from fleet.errors import Code, FleetError
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions

GRANT = {"fleet:sensors/reader": [{"sources": ["roof", "line-*"]}]}
GOOD = SensorState("roof", "mqtt", "celsius", "good", "20.5", 7)
READING = {"source": "roof", "value": 20.5, "unit": "celsius", "timestamp-ns": 7, "quality": "good"}


class Sources:
    """An exchange that knows these sources."""

    def __init__(self, *states: SensorState) -> None:
        self.states = states

    def sensors(self, source: str) -> tuple[SensorState, ...]:
        return tuple(state for state in self.states if source in ("", state.source))


def reader(node: Node, exchange: object, capabilities: dict[str, list[dict[str, object]]] = GRANT):
    context = replace(node.agent(capabilities), exchange=exchange)
    return functions(sensor_reader.interfaces(context), sensor_reader.INTERFACE)


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (GOOD, Ok(READING)),
        (replace(GOOD, unit=""), Ok(READING | {"unit": None})),
        (replace(GOOD, state="out-of-range"), Ok(READING | {"quality": "out-of-range"})),
        (replace(GOOD, state="stale"), Err(Variant("stale", READING))),
        (replace(GOOD, state="unavailable", fault="gone"), Err(Variant("unavailable", "gone"))),
        (
            SensorState("roof", "mqtt", "", "unavailable"),
            Err(Variant("unavailable", sensor_reader.NO_VALUE_YET)),
        ),
    ],
)
def test_what_is_known_of_a_source(node: Node, state: SensorState, answer: object) -> None:
    assert reader(node, Sources(state))["read"]("roof") == answer


def test_refusals_are_error_values(node: Node) -> None:
    read = reader(node, Sources(GOOD))["read"]
    assert read("cellar") == Err(Variant("not-granted"))
    assert read("line-7") == Err(Variant("unknown-source"))
    assert read("") == Err(Variant("not-granted"))
    denied = reader(node, NO_EXCHANGE)
    assert denied["read"]("roof").value.case == "unavailable"
    assert denied["sources"]().value.case == "unavailable"
    nothing = reader(node, Sources(GOOD), {})
    assert nothing["read"]("roof") == nothing["sources"]() == Err(Variant("not-granted"))


def test_only_granted_sources_are_listed(node: Node) -> None:
    states = (GOOD, SensorState("cellar", "file", "", "good"), SensorState("line-1", "stream", "", "stale"))
    assert reader(node, Sources(*states))["sources"]() == Ok(
        [
            {"name": "roof", "kind": "mqtt", "unit": "celsius"},
            {"name": "line-1", "kind": "stream", "unit": None},
        ]
    )


def test_the_grant_can_bound_the_rate(node: Node) -> None:
    rules = [{"sources": ["roof"], "max_rps": 2}]
    calls = reader(node, Sources(GOOD), {"fleet:sensors/reader": rules})
    assert calls["read"]("roof") == Ok(READING)
    assert isinstance(calls["sources"](), Ok)
    assert calls["read"]("roof") == calls["sources"]() == Err(Variant("rate-limited"))
    node.clock.advance(1)
    assert calls["read"]("roof") == Ok(READING)


def test_a_node_that_does_not_answer(node: Node) -> None:
    class Silent(Sources):
        def sensors(self, source: str) -> tuple[SensorState, ...]:
            raise FleetError(Code.UNAVAILABLE, f"no answer about {source}")

    assert reader(node, Silent())["read"]("roof") == Err(Variant("unavailable", "no answer about roof"))

"""wasi:clocks: the context's clocks, the wall clock only with a grant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.capabilities import clocks
from edge_agent.capabilities.wasi_io import IoHandles
from fleet.errors import Code, FleetError
from tests.fakes.agents import Node, functions


def test_wall_clock_tells_the_time(node: Node) -> None:
    wall = functions(clocks.interfaces(node.agent({"wasi:clocks/wall-clock": [{}]})), clocks.WALL_CLOCK)
    node.clock.wall_ns = 1_700_000_000_000_000_007
    assert wall["now"]() == {"seconds": 1_700_000_000, "nanoseconds": 7}
    assert wall["resolution"]() == {"seconds": 0, "nanoseconds": 1}
    node.clock.wall_ns = -1
    assert wall["now"]() == {"seconds": 0, "nanoseconds": 0}


def test_wall_clock_needs_a_grant(node: Node) -> None:
    wall = functions(clocks.interfaces(node.agent({})), clocks.WALL_CLOCK)
    with pytest.raises(FleetError) as refused:
        wall["now"]()
    assert refused.value.code is Code.CALL_DENIED


def test_monotonic_clock_measures(node: Node) -> None:
    steady = functions(clocks.interfaces(node.agent({})), clocks.MONOTONIC_CLOCK)
    before = steady["now"]()
    node.clock.advance(1.5)
    assert steady["now"]() - before == 1_500_000_000
    assert steady["resolution"]() == 1


def test_pollables_of_the_clock_are_those_of_wasi_io(node: Node) -> None:
    context = node.agent({})
    steady = functions(clocks.interfaces(context), clocks.MONOTONIC_CLOCK)
    pollables = context.shared(IoHandles).pollables
    assert pollables.get(steady["subscribe-instant"](42)) == 42
    assert pollables.get(steady["subscribe-duration"](42)) == steady["now"]() + 42


def test_the_clocks_of_0_3_are_the_same_ones(node: Node) -> None:
    offered = clocks.interfaces(node.agent({"wasi:clocks/system-clock": [{}]}))
    system, steady = functions(offered, clocks.SYSTEM_CLOCK_3), functions(offered, clocks.MONOTONIC_CLOCK_3)
    node.clock.wall_ns = 1_700_000_000_000_000_007
    assert system["now"]() == {"seconds": 1_700_000_000, "nanoseconds": 7}
    assert system["get-resolution"]() == steady["get-resolution"]() == 1
    assert steady["now"]() == functions(offered, clocks.MONOTONIC_CLOCK)["now"]()


def test_the_system_clock_needs_a_grant_of_its_own_name(node: Node) -> None:
    system = functions(clocks.interfaces(node.agent({"wasi:clocks/wall-clock": [{}]})), clocks.SYSTEM_CLOCK_3)
    with pytest.raises(FleetError) as refused:
        system["now"]()
    assert refused.value.code is Code.CALL_DENIED


def test_waiting_goes_on_until_the_moment_has_come(node: Node) -> None:
    """Something else may end a wait early; one for a moment that has passed is none."""
    waits: list[int] = []

    def wait(nanoseconds: int) -> None:
        waits.append(nanoseconds)
        node.clock.advance(min(nanoseconds / 1e9, 1.0))

    steady = functions(clocks.interfaces(replace(node.agent({}), wait=wait)), clocks.MONOTONIC_CLOCK_3)
    steady["wait-for"](2_500_000_000)
    assert waits == [2_500_000_000, 1_500_000_000, 500_000_000]
    steady["wait-until"](steady["now"]() - 1)
    steady["wait-for"](0)
    assert len(waits) == 3

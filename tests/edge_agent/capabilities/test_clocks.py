"""wasi:clocks: the context's clocks, the wall clock only with a grant."""

from __future__ import annotations

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

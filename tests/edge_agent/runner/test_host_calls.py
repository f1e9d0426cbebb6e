"""The rate at which an agent may call its host."""

import pytest

from edge_agent.capabilities.base import EndAgentError, HostFunction, HostInterface
from edge_agent.runner.host_calls import limit_rate
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from tests.fakes.agents import Node

SIGNATURE = parse_signature("func(n: u32) -> u32")


def interfaces():
    double = HostFunction(SIGNATURE, lambda n: 2 * n)
    return [
        HostInterface("a:b/c@1.0.0", {"x": double}, {"r": print}, {"r": "a:b/d"}),
        HostInterface("a:b/e", {"y": double}),
    ]


def test_without_the_limit_nothing_is_put_around_the_functions(tmp_path):
    given = interfaces()
    assert limit_rate(given, Node(tmp_path).agent({})) == given


def test_all_functions_share_one_rate_and_wait_by_the_agents_clock(tmp_path):
    node = Node(tmp_path)
    context = node.agent({}, host_calls_per_second=10)
    first, second = limit_rate(interfaces(), context)
    assert (first.name, first.resources, first.uses) == ("a:b/c@1.0.0", {"r": print}, {"r": "a:b/d"})
    assert first.functions["x"].signature is SIGNATURE
    began = node.clock.steady_ns
    assert [first.functions["x"].call(n) for n in range(5)] == [0, 2, 4, 6, 8]
    assert [second.functions["y"].call(n) for n in range(5)] == [0, 2, 4, 6, 8]
    assert node.clock.steady_ns == began, "the calls of one second may come at once"
    for _ in range(20):
        first.functions["x"].call(1)
    assert node.clock.steady_ns - began == pytest.approx(2e9, rel=1e-3)


def test_a_wait_that_is_woken_goes_on(tmp_path):
    node = Node(tmp_path)
    whole = node.clock.wait
    node.clock.wait = lambda nanoseconds: whole(min(nanoseconds, 10_000_000))
    (limited, _) = limit_rate(interfaces(), node.agent({}, host_calls_per_second=10))
    began = node.clock.steady_ns
    for _ in range(20):
        limited.functions["x"].call(1)
    assert node.clock.steady_ns - began == pytest.approx(1e9, rel=1e-3)


def test_a_wait_past_the_deadline_ends_the_agent_before_the_call(tmp_path):
    node = Node(tmp_path)

    def over(_nanoseconds):
        raise EndAgentError(ExitCause.DEADLINE, "the call was still waiting at its deadline")

    node.clock.wait = over
    (late, _) = limit_rate(interfaces(), node.agent({}, host_calls_per_second=1))
    late.functions["x"].call(1)
    with pytest.raises(EndAgentError):
        late.functions["x"].call(1)

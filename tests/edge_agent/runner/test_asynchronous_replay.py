"""Ends of asynchronous agents are replayed like those of others."""

from __future__ import annotations

import pytest

from edge_agent.runner.replay import replay
from fleet.model import ExitCause
from tests.fakes.agents import Node
from tests.fakes.asynchronous import sleeper, waiter
from tests.fakes.crashes import crash


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.close()


@pytest.mark.parametrize(
    ("calls", "cause"),
    [
        (["double(1)", "broken(2)"], ExitCause.UNREACHABLE),
        (["turns(10)", "forever(1)"], ExitCause.DEADLINE),
        (["yielding(1)"], ExitCause.DEADLINE),
        (["stuck(1)"], ExitCause.TRAP),
    ],
)
def test_it_ends_again_at_the_same_place(node: Node, calls: list[str], cause: ExitCause) -> None:
    report = crash(node, waiter(), calls, deadline="200ms")
    assert report.cause is cause
    outcome = replay(report, waiter())
    assert (outcome.same, outcome.exact, outcome.differences) == (True, True, ())
    assert (outcome.cause, outcome.calls) == (cause, len(calls))


def test_its_asynchronous_imports_answer_as_they_did(node: Node) -> None:
    report = crash(node, sleeper(), ["sleep(1000)", "deep(1000000)"])
    assert report.cause is ExitCause.STACK_OVERFLOW
    assert report.recording is not None
    assert len(report.recording.calls[0].host_calls) == 3
    assert replay(report, sleeper()).same

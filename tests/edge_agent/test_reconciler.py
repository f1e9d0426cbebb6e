"""Differences are closed in one pass, stops first, and closing them leaves no difference."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from edge_agent import lifecycle as life
from edge_agent import lifecycle_events as on
from edge_agent.lifecycle_state import AgentState, Moment
from edge_agent.reconciler import Change, diff
from fleet.model import AssignedAgent, Exit, ExitCause, Phase, Refusal, TargetRef

MOMENT = Moment(datetime(2026, 6, 1, tzinfo=UTC), 0.5)
REF = TargetRef("p", "sha256:" + "0" * 64)


def spec(name: str, version: int = 0) -> AssignedAgent:
    return AssignedAgent(f"app/{name}", REF, REF, config={"v": str(version)})


def running(wanted: AssignedAgent) -> AgentState:
    state = AgentState(wanted.name)
    for event in (on.Desired(wanted), on.Admitted(1), on.Started(1)):
        state, _ = life.step(state, event, MOMENT)
    return state


def test_ends_come_before_replacements_before_beginnings() -> None:
    known = {name: running(spec(name)) for name in ()} | {
        state.name: state for state in (running(spec("old")), running(spec("kept")), running(spec("changed")))
    }
    desired = (spec("new"), spec("changed", 1), spec("kept"))
    assert diff(desired, known) == (
        Change("app/old", on.Undesired()),
        Change("app/changed", on.Desired(spec("changed", 1))),
        Change("app/new", on.Desired(spec("new"))),
    )


def test_a_refused_agent_is_not_asked_again_for_the_same() -> None:
    state, _ = life.step(AgentState("app/a"), on.Desired(spec("a")), MOMENT)
    state, _ = life.step(state, on.Rejected(1, Refusal("c", "m", "r"), retryable=False), MOMENT)
    assert diff((spec("a"),), {"app/a": state}) == ()
    assert diff((spec("a", 1),), {"app/a": state}) == (Change("app/a", on.Desired(spec("a", 1))),)


def test_an_agent_on_its_way_out_is_called_back() -> None:
    state, _ = life.step(running(spec("a")), on.Undesired(), MOMENT)
    assert diff((), {"app/a": state}) == ()
    assert diff((spec("a"),), {"app/a": state}) == (Change("app/a", on.Desired(spec("a"))),)


desired_states = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2), max_size=4).map(
    lambda chosen: tuple(spec(name, version) for name, version in chosen.items())
)
outcomes = st.sampled_from(("admit", "reject", "start", "exit", "timer"))


def apply(known: dict[str, AgentState], changes: tuple[Change, ...]) -> None:
    for change in changes:
        state = known.get(change.agent, AgentState(change.agent))
        known[change.agent], actions = life.step(state, change.event, MOMENT)
        if on.Release() in actions:
            del known[change.agent]


def happen(state: AgentState, outcome: str) -> AgentState:
    n = state.attempt
    event: on.Event = {
        "admit": on.Admitted(n),
        "reject": on.Rejected(n, Refusal("c", "m", "r"), retryable=False),
        "start": on.Started(n),
        "exit": on.Exited(n, Exit(ExitCause.QUOTA, "", MOMENT.now)),
        "timer": on.TimerFired(n),
    }[outcome]
    if (state.phase, type(event)) not in life.TRANSITIONS:
        return state
    return life.step(state, event, MOMENT)[0]


@given(
    st.lists(st.tuples(desired_states, st.lists(st.tuples(st.sampled_from("abcd"), outcomes), max_size=8)), max_size=6)
)
def test_closing_the_difference_leaves_none(
    rounds: list[tuple[tuple[AssignedAgent, ...], list[tuple[str, str]]]],
) -> None:
    known: dict[str, AgentState] = {}
    for desired, happenings in rounds:
        changes = diff(desired, known)
        assert changes == diff(tuple(reversed(desired)), dict(reversed(known.items())))
        stops = [isinstance(change.event, on.Undesired) for change in changes]
        assert stops == sorted(stops, reverse=True)
        apply(known, changes)
        assert diff(desired, known) == ()
        for name, outcome in happenings:
            if (state := known.get(f"app/{name}")) is not None:
                known[f"app/{name}"] = happen(state, outcome)
        known = {name: state for name, state in known.items() if state.phase is not Phase.STOPPED}


def test_equal_content_in_another_mapping_is_no_change() -> None:
    state = running(spec("a"))
    assert diff((replace(spec("a"), config=dict(spec("a").config)),), {"app/a": state}) == ()

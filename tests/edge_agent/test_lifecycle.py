"""Every row of the table, every missing row, and the diagram that is drawn from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import lifecycle as life
from fleet.model import AssignedAgent, Exit, ExitCause, Phase, Refusal, TargetRef

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MOMENT = life.Moment(NOW, 0.5)
BUNDLE = TargetRef("bundles/default/one/1.0.0.json", "sha256:" + "1" * 64)
GRANT = TargetRef("grants/default/app/one/1.yaml", "sha256:" + "2" * 64)
SPEC = AssignedAgent("app/one", BUNDLE, GRANT)
OTHER = replace(SPEC, config={"unit": "kelvin"})
THIRD = replace(SPEC, config={"unit": "rankine"})
TRAP = Exit(ExitCause.UNREACHABLE, "unreachable", NOW)
STOPPED = Exit(ExitCause.STOPPED, "stopped", NOW)
REFUSAL = Refusal("IMPORT_NOT_GRANTED", "imports", "fleetctl grant propose")
NAME = "app/one"


def drive(*events: life.Event, state: life.AgentState | None = None) -> tuple[life.AgentState, list[life.Action]]:
    state = state or life.AgentState(NAME)
    actions: list[life.Action] = []
    for event in events:
        state, more = life.step(state, event, MOMENT)
        actions = list(more)
    return state, actions


def at(phase: Phase) -> life.AgentState:
    """An agent that came to a phase in the usual way."""
    paths: dict[Phase, tuple[life.Event, ...]] = {
        Phase.PENDING: (),
        Phase.ADMITTING: (life.Desired(SPEC),),
        Phase.STARTING: (life.Desired(SPEC), life.Admitted(1)),
        Phase.RUNNING: (life.Desired(SPEC), life.Admitted(1), life.Started(1)),
        Phase.STOPPING: (life.Desired(SPEC), life.Admitted(1), life.Started(1), life.Undesired()),
        Phase.BACKOFF: (life.Desired(SPEC), life.Admitted(1), life.Started(1), life.Exited(1, TRAP)),
        Phase.FAILED: (life.Desired(SPEC), life.Rejected(1, REFUSAL, retryable=False)),
        Phase.STOPPED: (life.Desired(SPEC), life.Undesired()),
    }
    state, _ = drive(*paths[phase])
    assert state.phase is phase
    return state


def event(kind: type[life.Event], attempt: int) -> life.Event:
    samples: dict[type[life.Event], life.Event] = {
        life.Desired: life.Desired(OTHER),
        life.Undesired: life.Undesired(),
        life.Admitted: life.Admitted(attempt),
        life.Rejected: life.Rejected(attempt, REFUSAL, retryable=False),
        life.Started: life.Started(attempt),
        life.Exited: life.Exited(attempt, TRAP),
        life.StopTimedOut: life.StopTimedOut(attempt),
        life.TimerFired: life.TimerFired(attempt),
        life.Lapsed: life.Lapsed(attempt),
    }
    return samples[kind]


KINDS = (
    life.Desired,
    life.Undesired,
    life.Admitted,
    life.Rejected,
    life.Started,
    life.Exited,
    life.StopTimedOut,
    life.TimerFired,
    life.Lapsed,
)
EVERY_PAIR = [(phase, kind) for phase in Phase for kind in KINDS]


@pytest.mark.parametrize(("phase", "kind"), EVERY_PAIR)
def test_every_pair_has_a_row_or_is_refused_with_the_story(phase: Phase, kind: type[life.Event]) -> None:
    state = at(phase)
    happening = event(kind, state.attempt)
    if (phase, kind) in life.TRANSITIONS:
        after, _ = life.step(state, happening, MOMENT)
        assert after.phase in life.TRANSITIONS[phase, kind][1]
    else:
        with pytest.raises(life.ImpossibleEventError, match=rf"app/one: .*{phase}\+{kind.__name__}"):
            life.step(state, happening, MOMENT)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (life.Desired, life.Undesired)])
def test_what_belongs_to_an_older_attempt_changes_nothing(phase: Phase, kind: type[life.Event]) -> None:
    state = at(phase)
    assert life.step(state, event(kind, state.attempt - 1), MOMENT) == (state, ())


@pytest.mark.parametrize(
    ("phase", "happening", "expected", "actions"),
    [
        (Phase.PENDING, life.Desired(SPEC), Phase.ADMITTING, [life.Admit(1, SPEC)]),
        (Phase.ADMITTING, life.Desired(SPEC), Phase.ADMITTING, []),
        (Phase.ADMITTING, life.Desired(OTHER), Phase.ADMITTING, [life.Admit(2, OTHER)]),
        (Phase.ADMITTING, life.Admitted(1), Phase.STARTING, [life.Start(1)]),
        (Phase.ADMITTING, life.Undesired(), Phase.STOPPED, [life.Release()]),
        (Phase.STARTING, life.Desired(SPEC), Phase.STARTING, []),
        (Phase.STARTING, life.Desired(OTHER), Phase.STOPPING, [life.Interrupt(1, 5_000, 10_000)]),
        (Phase.RUNNING, life.Desired(SPEC), Phase.RUNNING, []),
        (Phase.RUNNING, life.Desired(OTHER), Phase.STOPPING, [life.Interrupt(1, 5_000, 10_000)]),
        (Phase.RUNNING, life.Undesired(), Phase.STOPPING, [life.Interrupt(1, 5_000, 10_000)]),
        (Phase.RUNNING, life.Lapsed(1), Phase.STOPPING, [life.Interrupt(1, 5_000, 10_000)]),
        (Phase.STOPPING, life.Exited(1, STOPPED), Phase.STOPPED, [life.Release()]),
        (Phase.STOPPING, life.Started(1), Phase.STOPPING, []),
        (Phase.BACKOFF, life.Desired(SPEC), Phase.BACKOFF, []),
        (Phase.BACKOFF, life.Desired(OTHER), Phase.ADMITTING, [life.Admit(3, OTHER)]),
        (Phase.BACKOFF, life.TimerFired(2), Phase.ADMITTING, [life.Admit(3, SPEC)]),
        (Phase.FAILED, life.Desired(SPEC), Phase.ADMITTING, [life.Admit(3, SPEC)]),
        (Phase.FAILED, life.Undesired(), Phase.STOPPED, [life.Release()]),
    ],
)
def test_the_actions_of_a_transition(
    phase: Phase, happening: life.Event, expected: Phase, actions: list[life.Action]
) -> None:
    state, given_actions = life.step(at(phase), happening, MOMENT)
    assert (state.phase, list(given_actions)) == (expected, actions)


def test_an_exit_backs_off_and_a_restart_is_told_as_one() -> None:
    state, actions = life.step(at(Phase.RUNNING), life.Exited(1, TRAP), MOMENT)
    due = NOW + timedelta(milliseconds=250)
    assert actions == (life.SetTimer(2, due), life.Report("agent:trap:caught", "unreachable: unreachable"))
    assert (state.failures, state.last_exit, state.next_attempt_at) == (1, TRAP, due)
    state, actions = drive(life.TimerFired(2), life.Admitted(3), life.Started(3), state=state)
    assert actions == [life.Report("agent:trap:restarted", "restart 1 after unreachable")]
    assert (state.restarts, state.running_since, state.next_attempt_at) == (1, NOW, None)


def test_only_the_newest_specification_is_kept_while_stopping() -> None:
    state, _ = drive(life.Desired(OTHER), life.Desired(THIRD), state=at(Phase.RUNNING))
    state, actions = life.step(state, life.Exited(1, STOPPED), MOMENT)
    assert (state.phase, actions) == (Phase.ADMITTING, (life.Admit(2, THIRD),))
    state, _ = drive(life.Desired(OTHER), life.Undesired(), state=at(Phase.RUNNING))
    assert life.step(state, life.Exited(1, STOPPED), MOMENT)[0].phase is Phase.STOPPED


def test_a_stop_that_is_overdue_is_pressed() -> None:
    state, actions = life.step(at(Phase.STOPPING), life.StopTimedOut(1), MOMENT)
    assert state.phase is Phase.STOPPING
    assert actions[0] == life.Interrupt(1, 0, 5_000)


def test_a_refusal_waits_for_change_or_tries_again_by_its_kind() -> None:
    state, _ = life.step(at(Phase.ADMITTING), life.Rejected(1, REFUSAL, retryable=False), MOMENT)
    assert (state.phase, state.refusal) == (Phase.FAILED, REFUSAL)
    state, actions = life.step(at(Phase.ADMITTING), life.Rejected(1, REFUSAL, retryable=True), MOMENT)
    assert (state.phase, type(actions[0])) == (Phase.BACKOFF, life.SetTimer)
    state, _ = drive(life.TimerFired(2), state=state)
    assert state.refusal is None


def test_an_admission_lapses_unless_it_is_extended() -> None:
    end, later = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    state, actions = drive(life.Desired(SPEC), life.Admitted(1, end), life.Started(1))
    assert life.SetTimer(1, end) in actions
    state, actions = drive(life.Admitted(1, later), state=state)
    assert (state.valid_until, actions) == (later, [life.SetTimer(1, later)])
    state, _ = drive(life.TimerFired(1), state=state)
    assert (state.phase, state.next_spec) == (Phase.STOPPING, SPEC)


def test_a_changed_specification_owes_nothing_to_old_failures() -> None:
    state, _ = drive(life.Desired(OTHER), state=replace(at(Phase.BACKOFF), failures=9))
    assert state.failures == 0


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert life.mermaid() == Path(__file__).with_name("lifecycle.mmd").read_text()


specs = st.sampled_from((SPEC, OTHER, THIRD))
happenings = st.one_of(
    specs.map(life.Desired),
    st.just(life.Undesired()),
    st.sampled_from([kind for kind in KINDS if kind not in (life.Desired, life.Undesired)]),
)


@given(st.lists(st.tuples(happenings, st.integers(0, 1), st.floats(0, 1, exclude_max=True)), max_size=60))
def test_any_sequence_of_possible_events_keeps_the_invariants(
    sequence: list[tuple[life.Event | type[life.Event], int, float]],
) -> None:
    state = life.AgentState(NAME)
    wanted: AssignedAgent | None = None
    for number, (chosen, age, jitter) in enumerate(sequence):
        happening = event(chosen, state.attempt - age) if isinstance(chosen, type) else chosen
        if age == 0 and (state.phase, type(happening)) not in life.TRANSITIONS:
            continue
        if isinstance(happening, life.Desired | life.Undesired):
            wanted = happening.spec if isinstance(happening, life.Desired) else None
        if isinstance(happening, life.Desired | life.Undesired) and (
            (state.phase, type(happening)) not in life.TRANSITIONS
        ):
            continue
        before = state
        state, actions = life.step(state, happening, life.Moment(NOW + timedelta(seconds=number), jitter))
        assert state.attempt >= before.attempt
        assert state.restarts >= before.restarts or state.phase is Phase.STOPPED
        assert state.wanted == wanted
        assert (state.next_attempt_at is not None) == (state.phase is Phase.BACKOFF)
        assert (state.phase is Phase.BACKOFF) <= (state.running_since is None)
        assert len(state.story) <= life.STORY_LENGTH
        starts = [action for action in actions if isinstance(action, life.Start)]
        assert not starts or (before.phase is Phase.ADMITTING and state.phase is Phase.STARTING)
        assert all(action.attempt == state.attempt for action in actions if hasattr(action, "attempt"))

"""Every row of the table, every missing row, and the diagram that is drawn from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import lifecycle as life
from edge_agent import lifecycle_events as on
from edge_agent.lifecycle_state import STORY_LENGTH, AgentState, ImpossibleEventError, Moment, Older
from fleet.model import AssignedAgent, Exit, ExitCause, Phase, Refusal, TargetRef

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MOMENT = Moment(NOW, 0.5)
BUNDLE = TargetRef("bundles/default/one/1.0.0.json", "sha256:" + "1" * 64)
GRANT = TargetRef("grants/default/app/one/1.yaml", "sha256:" + "2" * 64)
SPEC = AssignedAgent("app/one", BUNDLE, GRANT)
OTHER = replace(SPEC, config={"unit": "kelvin"})
THIRD = replace(SPEC, config={"unit": "rankine"})
TRAP = Exit(ExitCause.UNREACHABLE, "unreachable", NOW)
STOPPED = Exit(ExitCause.STOPPED, "stopped", NOW)
REFUSAL = Refusal("IMPORT_NOT_GRANTED", "imports", "fleetctl grant propose")
NAME = "app/one"


def drive(*events: on.Event, state: AgentState | None = None) -> tuple[AgentState, list[on.Action]]:
    state = state or AgentState(NAME)
    actions: list[on.Action] = []
    for event in events:
        state, more = life.step(state, event, MOMENT)
        actions = list(more)
    return state, actions


def at(phase: Phase) -> AgentState:
    """An agent that came to a phase in the usual way."""
    paths: dict[Phase, tuple[on.Event, ...]] = {
        Phase.PENDING: (),
        Phase.ADMITTING: (on.Desired(SPEC),),
        Phase.STARTING: (on.Desired(SPEC), on.Admitted(1)),
        Phase.RUNNING: (on.Desired(SPEC), on.Admitted(1), on.Started(1)),
        Phase.STOPPING: (on.Desired(SPEC), on.Admitted(1), on.Started(1), on.Undesired()),
        Phase.BACKOFF: (on.Desired(SPEC), on.Admitted(1), on.Started(1), on.Exited(1, TRAP)),
        Phase.FAILED: (on.Desired(SPEC), on.Rejected(1, REFUSAL, retryable=False)),
        Phase.STOPPED: (on.Desired(SPEC), on.Undesired()),
    }
    state, _ = drive(*paths[phase])
    assert state.phase is phase
    return state


def event(kind: type[on.Event], attempt: int) -> on.Event:
    samples: dict[type[on.Event], on.Event] = {
        on.Desired: on.Desired(OTHER),
        on.Undesired: on.Undesired(),
        on.Admitted: on.Admitted(attempt),
        on.Rejected: on.Rejected(attempt, REFUSAL, retryable=False),
        on.Started: on.Started(attempt),
        on.Exited: on.Exited(attempt, TRAP),
        on.StopTimedOut: on.StopTimedOut(attempt),
        on.TimerFired: on.TimerFired(attempt),
        on.Lapsed: on.Lapsed(attempt),
        on.Swapped: on.Swapped(attempt),
        on.SwapFailed: on.SwapFailed(attempt, REFUSAL),
        on.Confirmed: on.Confirmed(attempt),
        on.Restored: on.Restored(attempt, TRAP),
    }
    return samples[kind]


KINDS = (
    on.Desired,
    on.Undesired,
    on.Admitted,
    on.Rejected,
    on.Started,
    on.Exited,
    on.StopTimedOut,
    on.TimerFired,
    on.Lapsed,
    on.Swapped,
    on.SwapFailed,
    on.Confirmed,
    on.Restored,
)
EVERY_PAIR = [(phase, kind) for phase in Phase for kind in KINDS]


@pytest.mark.parametrize(("phase", "kind"), EVERY_PAIR)
def test_every_pair_has_a_row_or_is_refused_with_the_story(phase: Phase, kind: type[on.Event]) -> None:
    state = at(phase)
    if phase is Phase.RUNNING and kind in (on.Swapped, on.SwapFailed, on.Confirmed, on.Restored):
        state = replace(state, swap=THIRD, older=Older(OTHER, NOW, None))
    happening = event(kind, state.attempt)
    if (phase, kind) in life.TRANSITIONS:
        after, _ = life.step(state, happening, MOMENT)
        assert after.phase in life.TRANSITIONS[phase, kind][1]
    else:
        with pytest.raises(ImpossibleEventError, match=rf"app/one: .*{phase}\+{kind.__name__}"):
            life.step(state, happening, MOMENT)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (on.Desired, on.Undesired)])
def test_what_belongs_to_an_older_attempt_changes_nothing(phase: Phase, kind: type[on.Event]) -> None:
    state = at(phase)
    assert life.step(state, event(kind, state.attempt - 1), MOMENT) == (state, ())


@pytest.mark.parametrize(
    ("phase", "happening", "expected", "actions"),
    [
        (Phase.PENDING, on.Desired(SPEC), Phase.ADMITTING, [on.Admit(1, SPEC)]),
        (Phase.ADMITTING, on.Desired(SPEC), Phase.ADMITTING, []),
        (Phase.ADMITTING, on.Desired(OTHER), Phase.ADMITTING, [on.Admit(2, OTHER)]),
        (Phase.ADMITTING, on.Admitted(1), Phase.STARTING, [on.Start(1)]),
        (Phase.ADMITTING, on.Undesired(), Phase.STOPPED, [on.Release()]),
        (Phase.STARTING, on.Desired(SPEC), Phase.STARTING, []),
        (Phase.STARTING, on.Desired(OTHER), Phase.STOPPING, [on.Interrupt(1, 5_000, 10_000)]),
        (Phase.RUNNING, on.Desired(SPEC), Phase.RUNNING, []),
        (Phase.RUNNING, on.Desired(OTHER), Phase.RUNNING, [on.Swap(1, OTHER)]),
        (Phase.RUNNING, on.Undesired(), Phase.STOPPING, [on.Interrupt(1, 5_000, 10_000)]),
        (Phase.RUNNING, on.Lapsed(1), Phase.STOPPING, [on.Interrupt(1, 5_000, 10_000)]),
        (Phase.STOPPING, on.Exited(1, STOPPED), Phase.STOPPED, [on.Release()]),
        (Phase.STOPPING, on.Started(1), Phase.STOPPING, []),
        (Phase.BACKOFF, on.Desired(SPEC), Phase.BACKOFF, []),
        (Phase.BACKOFF, on.Desired(OTHER), Phase.ADMITTING, [on.Admit(3, OTHER)]),
        (Phase.BACKOFF, on.TimerFired(2), Phase.ADMITTING, [on.Admit(3, SPEC)]),
        (Phase.FAILED, on.Desired(SPEC), Phase.ADMITTING, [on.Admit(3, SPEC)]),
        (Phase.FAILED, on.Undesired(), Phase.STOPPED, [on.Release()]),
    ],
)
def test_the_actions_of_a_transition(
    phase: Phase, happening: on.Event, expected: Phase, actions: list[on.Action]
) -> None:
    state, given_actions = life.step(at(phase), happening, MOMENT)
    assert (state.phase, list(given_actions)) == (expected, actions)


def test_an_exit_backs_off_and_a_restart_is_told_as_one() -> None:
    state, actions = life.step(at(Phase.RUNNING), on.Exited(1, TRAP), MOMENT)
    due = NOW + timedelta(milliseconds=250)
    assert actions == (on.SetTimer(2, due), on.Report("agent:trap:caught", "unreachable: unreachable"))
    assert (state.failures, state.last_exit, state.next_attempt_at) == (1, TRAP, due)
    state, actions = drive(on.TimerFired(2), on.Admitted(3), on.Started(3), state=state)
    assert actions == [on.Report("agent:trap:restarted", "restart 1 after unreachable")]
    assert (state.restarts, state.running_since, state.next_attempt_at) == (1, NOW, None)


def test_only_the_newest_specification_is_kept_while_stopping() -> None:
    state, _ = drive(on.Desired(OTHER), on.Desired(THIRD), state=at(Phase.STOPPING))
    state, actions = life.step(state, on.Exited(1, STOPPED), MOMENT)
    assert (state.phase, actions) == (Phase.ADMITTING, (on.Admit(2, THIRD),))
    state, _ = drive(on.Desired(OTHER), on.Undesired(), state=at(Phase.STOPPING))
    assert life.step(state, on.Exited(1, STOPPED), MOMENT)[0].phase is Phase.STOPPED


def test_a_stop_that_is_overdue_is_pressed() -> None:
    state, actions = life.step(at(Phase.STOPPING), on.StopTimedOut(1), MOMENT)
    assert state.phase is Phase.STOPPING
    assert actions[0] == on.Interrupt(1, 0, 5_000)


def test_a_refusal_waits_for_change_or_tries_again_by_its_kind() -> None:
    state, _ = life.step(at(Phase.ADMITTING), on.Rejected(1, REFUSAL, retryable=False), MOMENT)
    assert (state.phase, state.refusal) == (Phase.FAILED, REFUSAL)
    state, actions = life.step(at(Phase.ADMITTING), on.Rejected(1, REFUSAL, retryable=True), MOMENT)
    assert (state.phase, type(actions[0])) == (Phase.BACKOFF, on.SetTimer)
    state, _ = drive(on.TimerFired(2), state=state)
    assert state.refusal is None


def test_an_admission_lapses_unless_it_is_extended() -> None:
    end, later = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    state, actions = drive(on.Desired(SPEC), on.Admitted(1, end), on.Started(1))
    assert on.SetTimer(1, end) in actions
    state, actions = drive(on.Admitted(1, later), state=state)
    assert (state.valid_until, actions) == (later, [on.SetTimer(1, later)])
    state, _ = drive(on.TimerFired(1), state=state)
    assert (state.phase, state.next_spec) == (Phase.STOPPING, SPEC)


def test_a_changed_specification_owes_nothing_to_old_failures() -> None:
    state, _ = drive(on.Desired(OTHER), state=replace(at(Phase.BACKOFF), failures=9))
    assert state.failures == 0


def test_a_swap_takes_over_and_is_confirmed() -> None:
    state, actions = drive(on.Desired(OTHER), state=at(Phase.RUNNING))
    assert (state.spec, state.wanted, actions) == (SPEC, OTHER, [on.Swap(1, OTHER)])
    state, actions = drive(on.Swapped(1, NOW + timedelta(hours=1)), state=state)
    assert (state.phase, state.spec, state.wanted, state.attempt) == (Phase.RUNNING, OTHER, OTHER, 2)
    assert actions[0] == on.SetTimer(2, NOW + timedelta(hours=1))
    assert state.older is not None
    state, _ = drive(on.Confirmed(2), state=state)
    assert state.older is None


def test_a_swap_that_is_refused_leaves_the_older_one_running_and_is_not_tried_again() -> None:
    state, _ = drive(on.Desired(OTHER), on.SwapFailed(1, REFUSAL), state=at(Phase.RUNNING))
    assert (state.phase, state.spec, state.wanted) == (Phase.RUNNING, SPEC, OTHER)
    assert state.failed is not None
    state, actions = drive(on.Desired(SPEC), state=state)
    assert (state.failed, state.wanted, actions) == (None, SPEC, []), "what runs is desired again"


def test_an_end_on_probation_brings_the_older_one_back() -> None:
    state, _ = drive(on.Desired(OTHER), on.Swapped(1), on.Restored(2, TRAP), state=at(Phase.RUNNING))
    assert (state.phase, state.spec, state.wanted, state.older) == (Phase.RUNNING, SPEC, OTHER, None)
    assert state.failed is not None
    assert (state.failed.spec, state.failed.refusal.code, state.last_exit) == (OTHER, "AGENT_TRAPPED", TRAP)


def test_a_runner_lost_on_probation_starts_the_older_one_again() -> None:
    state, actions = drive(on.Desired(OTHER), on.Swapped(1), on.Exited(2, TRAP), state=at(Phase.RUNNING))
    assert (state.phase, state.spec, state.wanted, type(actions[0])) == (Phase.BACKOFF, SPEC, OTHER, on.SetTimer)
    state, actions = drive(on.TimerFired(3), state=state)
    assert actions == [on.Admit(4, SPEC)]
    assert state.wanted == OTHER, "the newer one stays refused"


def test_the_newest_order_follows_a_swap_that_is_under_way() -> None:
    state, actions = drive(on.Desired(OTHER), on.Desired(THIRD), state=at(Phase.RUNNING))
    assert (state.wanted, actions) == (THIRD, [])
    state, _ = drive(on.Swapped(1), state=state)
    assert state.wanted == OTHER, "the reconciler sees the difference and asks again"
    state, actions = drive(on.Desired(THIRD), state=state)
    assert actions == [on.Swap(2, THIRD)]


def test_an_agent_that_ends_during_a_swap_starts_again_and_is_asked_again() -> None:
    state, _ = drive(on.Desired(OTHER), on.Exited(1, TRAP), state=at(Phase.RUNNING))
    assert (state.phase, state.wanted, state.swap) == (Phase.BACKOFF, SPEC, None)


def test_the_diagram_in_the_documentation_is_drawn_from_the_table() -> None:
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    _, _, after = text.partition("<!-- lifecycle -->\n```mermaid\n")
    block, _, _ = after.partition("```\n<!-- /lifecycle -->")
    assert life.mermaid() == block


specs = st.sampled_from((SPEC, OTHER, THIRD))
happenings = st.one_of(
    specs.map(on.Desired),
    st.just(on.Undesired()),
    st.sampled_from([kind for kind in KINDS if kind not in (on.Desired, on.Undesired)]),
)


@given(st.lists(st.tuples(happenings, st.integers(0, 1), st.floats(0, 1, exclude_max=True)), max_size=60))
def test_any_sequence_of_possible_events_keeps_the_invariants(
    sequence: list[tuple[on.Event | type[on.Event], int, float]],
) -> None:
    state = AgentState(NAME)
    wanted: AssignedAgent | None = None
    for number, (chosen, age, jitter) in enumerate(sequence):
        happening = event(chosen, state.attempt - age) if isinstance(chosen, type) else chosen
        if age == 0 and (state.phase, type(happening)) not in life.TRANSITIONS:
            continue
        if isinstance(happening, on.Desired | on.Undesired):
            wanted = happening.spec if isinstance(happening, on.Desired) else None
        if isinstance(happening, on.Desired | on.Undesired) and (
            (state.phase, type(happening)) not in life.TRANSITIONS
        ):
            continue
        if age == 0 and (
            (isinstance(happening, on.Swapped | on.SwapFailed) and state.swap is None)
            or (isinstance(happening, on.Confirmed | on.Restored) and state.older is None)
        ):
            continue
        before = state
        state, actions = life.step(state, happening, Moment(NOW + timedelta(seconds=number), jitter))
        assert state.attempt >= before.attempt
        assert state.restarts >= before.restarts or state.phase is Phase.STOPPED or state.spec != before.spec
        if state.phase is Phase.RUNNING and wanted is not None and state.wanted != wanted:
            # A newer order came during a swap, or the agent ended in it: the reconciler asks again.
            assert isinstance(happening, on.Swapped | on.SwapFailed)
            state, actions = life.step(state, on.Desired(wanted), MOMENT)
        if state.phase is Phase.BACKOFF and before.swap is not None and wanted is not None:
            state, actions = life.step(state, on.Desired(wanted), MOMENT)
        assert state.wanted == wanted
        assert (state.next_attempt_at is not None) == (state.phase is Phase.BACKOFF)
        assert (state.phase is Phase.BACKOFF) <= (state.running_since is None)
        assert len(state.story) <= STORY_LENGTH
        starts = [action for action in actions if isinstance(action, on.Start)]
        assert not starts or (before.phase is Phase.ADMITTING and state.phase is Phase.STARTING)
        assert all(action.attempt == state.attempt for action in actions if hasattr(action, "attempt"))

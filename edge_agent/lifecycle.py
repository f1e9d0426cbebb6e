"""The life of one agent on its node: events in, actions out.

Pure. Owns the phases' transitions as a literal table and the diagram that is drawn from it; `edge_agent.supervisor`
carries the actions out and feeds one event back for each. Never starts, waits for or measures anything.

The phases: PENDING was just named; ADMITTING is being verified and compiled; STARTING is being instantiated; RUNNING
can be called; STOPPING ends a running instance, for good or for a newer specification; BACKOFF waits for the next
attempt; FAILED was refused and waits for a newer specification, grant or release; STOPPED is gone.

Every piece of work that was begun carries the number of the attempt that began it. What arrives with an older number
is late and changes nothing, so no race between a timer, an exit and an order needs a rule of its own.

A running agent that shall run differently is swapped: it stays RUNNING while the newer specification is prepared beside
it and takes over. When that is refused, or ends on probation, the older one runs on and the newer one is reported as
refused, until another is desired. Once the older one may not run either, what is desired is tried from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from edge_agent import lifecycle_swaps as swaps
from edge_agent import restarts
from edge_agent.lifecycle_events import (
    Admit,
    Admitted,
    Confirmed,
    Desired,
    Event,
    Exited,
    Interrupt,
    Lapsed,
    Rejected,
    Release,
    Report,
    Restored,
    SetTimer,
    Start,
    Started,
    StopTimedOut,
    SwapFailed,
    SwapHindered,
    Swapped,
    TimerFired,
    Undesired,
)
from edge_agent.lifecycle_state import STORY_LENGTH, AgentState, ImpossibleEventError, Moment, Step, spec_of
from fleet.model import AssignedAgent, Exit, ExitCause, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

STOP_GRACE_MS = 5_000
"""How long a call may go on after its agent was told to stop."""

STOP_MARGIN_MS = 5_000
"""How long after the grace an agent that has not ended is interrupted again."""


Transition = Callable[[AgentState, Event, Moment], Step]
Row = tuple[tuple[Phase, type[Event]], tuple[Transition, tuple[Phase, ...]]]
E = TypeVar(
    "E",
    Desired,
    Undesired,
    Admitted,
    Rejected,
    Started,
    Exited,
    StopTimedOut,
    TimerFired,
    Lapsed,
    Swapped,
    SwapFailed,
    SwapHindered,
    Confirmed,
    Restored,
)


def step(state: AgentState, event: Event, moment: Moment) -> Step:
    """Return the next state and what to do.

    Raises:
        ImpossibleEventError: the table has no such row.
    """
    if not isinstance(event, Desired | Undesired) and event.attempt != state.attempt:
        return state, ()
    row = TRANSITIONS.get((state.phase, type(event)))
    story = (*state.story, f"{state.phase}+{type(event).__name__}")[-STORY_LENGTH:]
    if row is None:
        raise ImpossibleEventError(f"{state.name}: {' '.join(story)} (attempt {state.attempt}) has no transition")
    transition, targets = row
    after, actions = transition(replace(state, story=story), event, moment)
    if after.phase not in targets:
        raise ImpossibleEventError(f"{state.name}: {' '.join(story)} led to {after.phase}, which its row does not name")
    return after, actions


# Transitions. Each takes the type of event that its rows name; `_row` holds the table to that.


def _begin(state: AgentState, spec: AssignedAgent) -> Step:
    """Try to run `spec` from the beginning."""
    attempt = state.attempt + 1
    return (
        replace(
            state,
            phase=Phase.ADMITTING,
            attempt=attempt,
            spec=spec,
            next_spec=None,
            swap=None,
            older=None,
            refusal=None,
            running_since=None,
            next_attempt_at=None,
            valid_until=None,
        ),
        (Admit(attempt, spec),),
    )


def _adopt(state: AgentState, event: Desired, _moment: Moment) -> Step:
    """Begin a specification; a changed one owes nothing to the failures and restarts of the old one."""
    kept = replace(state, failed=None)
    return _begin(kept if event.spec == state.spec else replace(kept, failures=0, restarts=0), event.spec)


def _adopt_if_changed(state: AgentState, event: Desired, moment: Moment) -> Step:
    return (replace(state, failed=None), ()) if event.spec == state.spec else _adopt(state, event, moment)


def _release(state: AgentState, _event: Event, _moment: Moment) -> Step:
    gone = AgentState(state.name, Phase.STOPPED, state.attempt + 1, story=state.story, last_exit=state.last_exit)
    return gone, (Release(),)


def _start(state: AgentState, event: Admitted, _moment: Moment) -> Step:
    return replace(state, phase=Phase.STARTING, valid_until=event.valid_until), (Start(state.attempt),)


def _run(state: AgentState, _event: Started, moment: Moment) -> Step:
    running = replace(state, phase=Phase.RUNNING, running_since=moment.now)
    if state.failures and state.last_exit is not None:
        report = Report("agent:trap:restarted", f"restart {state.restarts} after {state.last_exit.cause}")
    else:
        report = Report("agent:instance:started", f"attempt {state.attempt}")
    if state.valid_until is None:
        return running, (report,)
    return running, (SetTimer(state.attempt, state.valid_until), report)


def _extend(state: AgentState, event: Admitted, _moment: Moment) -> Step:
    extended = replace(state, valid_until=event.valid_until)
    return extended, () if event.valid_until is None else (SetTimer(state.attempt, event.valid_until),)


def _refuse(state: AgentState, event: Rejected, moment: Moment) -> Step:
    report = Report("agent:admission:refused", f"{event.refusal.code}: {event.refusal.message}")
    ended = Exit(ExitCause.ADMISSION_REFUSED, event.refusal.message, moment.now)
    refused = replace(state, refusal=event.refusal, last_exit=ended, running_since=None, valid_until=None)
    if state.failed is not None:  # what was refused is an older version: there is no reason left to keep to it
        begun, actions = _begin(replace(refused, failed=None, failures=0, restarts=0), state.failed.spec)
        return begun, (*actions, report)
    if event.retryable:
        after, timer = _back_off(refused, moment)
        return after, (timer, report)
    return replace(refused, phase=Phase.FAILED, attempt=state.attempt + 1), (report,)


def _back_off(state: AgentState, moment: Moment) -> tuple[AgentState, SetTimer]:
    ran = moment.now - state.running_since if state.running_since is not None else timedelta()
    ran_ms = max(ran / timedelta(milliseconds=1), 0)
    restart = restarts.after_exit(spec_of(state).restart, state.failures, ran_ms, moment.jitter)
    at = moment.now + timedelta(milliseconds=restart.delay_ms)
    waiting = replace(
        state,
        phase=Phase.BACKOFF,
        attempt=state.attempt + 1,
        failures=restart.failures,
        running_since=None,
        next_attempt_at=at,
        valid_until=None,
    )
    return waiting, SetTimer(waiting.attempt, at)


def _recover(state: AgentState, event: Exited, moment: Moment) -> Step:
    ended = replace(state, last_exit=event.exit, next_spec=None, swap=None)
    after, timer = _back_off(swaps.fall_back(ended, event.exit) if state.older is not None else ended, moment)
    report = Report("agent:trap:caught", f"{event.exit.cause}: {event.exit.message}")
    return after, (timer, report)


def _retry(state: AgentState, _event: TimerFired, _moment: Moment) -> Step:
    return _begin(replace(state, restarts=state.restarts + 1), spec_of(state))


def _interrupt(state: AgentState, spec: AssignedAgent | None, grace_ms: int = STOP_GRACE_MS) -> Step:
    stopping = replace(state, phase=Phase.STOPPING, next_spec=spec, swap=None, older=None)
    return stopping, (Interrupt(state.attempt, grace_ms, grace_ms + STOP_MARGIN_MS),)


def _stop(state: AgentState, _event: Undesired, _moment: Moment) -> Step:
    return _interrupt(state, None)


def _stop_if_changed(state: AgentState, event: Desired, _moment: Moment) -> Step:
    return (replace(state, failed=None), ()) if event.spec == state.spec else _interrupt(state, event.spec)


def _lapse(state: AgentState, event: TimerFired | Lapsed, _moment: Moment) -> Step:
    """The admission has lapsed: end the instance and ask admission again, about what is desired; it says why."""
    at_once = isinstance(event, Lapsed) and event.at_once
    return _interrupt(state, state.wanted, 0 if at_once else STOP_GRACE_MS)


def _stop_first(state: AgentState, event: SwapHindered, _moment: Moment) -> Step:
    stopping, actions = _interrupt(state, state.wanted)
    return stopping, (*actions, Report("agent:swap:hindered", f"stopped first: {event.reason}"))


def _keep_newest(state: AgentState, event: Desired | Undesired, _moment: Moment) -> Step:
    return replace(state, next_spec=event.spec if isinstance(event, Desired) else None), ()


def _interrupt_again(state: AgentState, _event: StopTimedOut, _moment: Moment) -> Step:
    report = Report("agent:stop:overdue", "still there after its grace; interrupted again")
    return state, (Interrupt(state.attempt, 0, STOP_MARGIN_MS), report)


def _stopped(state: AgentState, event: Exited, moment: Moment) -> Step:
    ended = replace(state, last_exit=event.exit)
    if ended.next_spec is None:
        return _release(ended, event, moment)
    return _adopt(ended, Desired(ended.next_spec), moment)


def _stay(state: AgentState, _event: Event, _moment: Moment) -> Step:
    return state, ()


def _row(phase: Phase, event: type[E], transition: Callable[[AgentState, E, Moment], Step], *targets: Phase) -> Row:
    return (phase, event), (cast("Transition", transition), targets)


_P = Phase
TRANSITIONS: Mapping[tuple[Phase, type[Event]], tuple[Transition, tuple[Phase, ...]]] = dict(
    (
        _row(_P.PENDING, Desired, _adopt, _P.ADMITTING),
        _row(_P.PENDING, Undesired, _release, _P.STOPPED),
        _row(_P.ADMITTING, Desired, _adopt_if_changed, _P.ADMITTING),
        _row(_P.ADMITTING, Undesired, _release, _P.STOPPED),
        _row(_P.ADMITTING, Admitted, _start, _P.STARTING),
        _row(_P.ADMITTING, Rejected, _refuse, _P.FAILED, _P.BACKOFF, _P.ADMITTING),
        _row(_P.STARTING, Desired, _stop_if_changed, _P.STARTING, _P.STOPPING),
        _row(_P.STARTING, Undesired, _stop, _P.STOPPING),
        _row(_P.STARTING, Started, _run, _P.RUNNING),
        _row(_P.STARTING, Rejected, _refuse, _P.FAILED, _P.BACKOFF, _P.ADMITTING),
        _row(_P.STARTING, Exited, _recover, _P.BACKOFF),
        _row(_P.RUNNING, Desired, swaps.begin_if_changed, _P.RUNNING),
        _row(_P.RUNNING, Swapped, swaps.take_over, _P.RUNNING),
        _row(_P.RUNNING, SwapFailed, swaps.give_up, _P.RUNNING),
        _row(_P.RUNNING, SwapHindered, _stop_first, _P.STOPPING),
        _row(_P.RUNNING, Confirmed, swaps.confirm, _P.RUNNING),
        _row(_P.RUNNING, Restored, swaps.restore, _P.RUNNING),
        _row(_P.RUNNING, Undesired, _stop, _P.STOPPING),
        _row(_P.RUNNING, Admitted, _extend, _P.RUNNING),
        _row(_P.RUNNING, TimerFired, _lapse, _P.STOPPING),
        _row(_P.RUNNING, Lapsed, _lapse, _P.STOPPING),
        _row(_P.RUNNING, Exited, _recover, _P.BACKOFF),
        _row(_P.STOPPING, Desired, _keep_newest, _P.STOPPING),
        _row(_P.STOPPING, Undesired, _keep_newest, _P.STOPPING),
        # The order to stop may cross the answer to Start or Swap, or the news that an admission goes on or lapses.
        _row(_P.STOPPING, Started, _stay, _P.STOPPING),
        _row(_P.STOPPING, Rejected, _stay, _P.STOPPING),
        _row(_P.STOPPING, Admitted, _stay, _P.STOPPING),
        _row(_P.STOPPING, TimerFired, _stay, _P.STOPPING),
        _row(_P.STOPPING, Lapsed, _stay, _P.STOPPING),
        _row(_P.STOPPING, Swapped, _stay, _P.STOPPING),
        _row(_P.STOPPING, SwapFailed, _stay, _P.STOPPING),
        _row(_P.STOPPING, SwapHindered, _stay, _P.STOPPING),
        _row(_P.STOPPING, Confirmed, _stay, _P.STOPPING),
        _row(_P.STOPPING, Restored, _stay, _P.STOPPING),
        _row(_P.STOPPING, StopTimedOut, _interrupt_again, _P.STOPPING),
        _row(_P.STOPPING, Exited, _stopped, _P.STOPPED, _P.ADMITTING),
        _row(_P.BACKOFF, Desired, _adopt_if_changed, _P.BACKOFF, _P.ADMITTING),
        _row(_P.BACKOFF, Undesired, _release, _P.STOPPED),
        _row(_P.BACKOFF, TimerFired, _retry, _P.ADMITTING),
        _row(_P.FAILED, Desired, _adopt, _P.ADMITTING),
        _row(_P.FAILED, Undesired, _release, _P.STOPPED),
        _row(_P.STOPPED, Desired, _adopt, _P.ADMITTING),
        _row(_P.STOPPED, Undesired, _stay, _P.STOPPED),
    )
)
"""(phase, event) -> (transition, phases it may lead to). A pair without a row is a fault of this program."""


def mermaid() -> str:
    """Draw the table as a Mermaid state diagram; ARCHITECTURE.md shows this text and a test compares them."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), (_, targets) in TRANSITIONS.items():
        for target in targets:
            if target is not phase:
                arrows.setdefault((phase, target), []).append(event.__name__)
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.PENDING}"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    lines.append(f"    {Phase.STOPPED} --> [*]")
    return "\n".join(lines) + "\n"

"""How a newer specification takes over from a running one, and what happens when it does not.

Pure. Owns the transitions of a swap; `edge_agent.lifecycle` has them in its table. The agent stays RUNNING throughout:
while the newer specification is prepared beside the instance that runs, while it runs on probation, and after the older
one came back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.lifecycle_events import Report, SetTimer, Swap
from edge_agent.lifecycle_state import Failed, ImpossibleEventError, Older, spec_of
from fleet.errors import Code
from fleet.model import Refusal

if TYPE_CHECKING:
    from edge_agent.lifecycle_events import Confirmed, Desired, Restored, SwapFailed, Swapped
    from edge_agent.lifecycle_state import AgentState, Moment, Step
    from fleet.model import Exit


def begin_if_changed(state: AgentState, event: Desired, _moment: Moment) -> Step:
    """Prepare what is desired beside what runs; what is being prepared already comes first."""
    if state.swap is not None:
        return replace(state, next_spec=event.spec), ()
    if event.spec == state.spec:
        return replace(state, failed=None), ()
    swapping = replace(state, swap=event.spec, next_spec=event.spec, failed=None)
    return swapping, (Swap(state.attempt, event.spec),)


def take_over(state: AgentState, event: Swapped, moment: Moment) -> Step:
    """The newer specification runs; it owes nothing to the failures and restarts of the older one."""
    if state.swap is None:
        raise ImpossibleEventError(f"{state.name}: {' '.join(state.story)} with nothing to swap")
    swapped = replace(
        state,
        attempt=state.attempt + 1,
        spec=state.swap,
        swap=None,
        next_spec=None,
        older=Older(spec_of(state), state.running_since, state.valid_until),
        failures=0,
        restarts=0,
        running_since=moment.now,
        valid_until=event.valid_until,
    )
    report = Report("agent:swap:taken-over", f"attempt {swapped.attempt}, the older instance waits")
    if event.valid_until is None:
        return swapped, (report,)
    return swapped, (SetTimer(swapped.attempt, event.valid_until), report)


def give_up(state: AgentState, event: SwapFailed, _moment: Moment) -> Step:
    """Go on as before; what was refused stays refused until something else is desired."""
    refused = None if state.swap is None else Failed(state.swap, event.refusal)
    report = Report("agent:swap:refused", f"{event.refusal.code}: {event.refusal.message}")
    return replace(state, swap=None, next_spec=None, failed=refused), (report,)


def confirm(state: AgentState, _event: Confirmed, _moment: Moment) -> Step:
    """The probation is over, there is no way back."""
    return replace(state, older=None), (Report("agent:swap:confirmed", f"attempt {state.attempt}"),)


def restore(state: AgentState, event: Restored, _moment: Moment) -> Step:
    """The older instance has taken over again."""
    restored = fall_back(replace(state, last_exit=event.exit), event.exit)
    report = Report("agent:swap:rolled-back", f"{event.exit.cause}: {event.exit.message}")
    if restored.valid_until is None:
        return restored, (report,)
    return restored, (SetTimer(restored.attempt, restored.valid_until), report)


def fall_back(state: AgentState, ended: Exit) -> AgentState:
    """Return to the older specification; the newer one ended within its probation."""
    if state.older is None:
        raise ImpossibleEventError(f"{state.name}: {' '.join(state.story)} with nothing to return to")
    message = f"ended on probation, {ended.cause}: {ended.message}"
    refusal = Refusal(str(Code.AGENT_TRAPPED), message, "Publish a version that does not end in its first calls.")
    return replace(
        state,
        spec=state.older.spec,
        running_since=state.older.running_since,
        valid_until=state.older.valid_until,
        older=None,
        failed=Failed(spec_of(state), refusal),
    )

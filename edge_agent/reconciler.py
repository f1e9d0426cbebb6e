"""What must change so that a node runs what it shall run.

Pure: `diff` compares the desired agents with the state of each known agent and names the events that close the gap.
Stops come before starts, so that what leaves makes room for what comes. Applying the result and asking again gives
nothing: a lost or repeated wake-up is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent import lifecycle_events as events
from fleet.model import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.lifecycle_state import AgentState
    from fleet.model import AssignedAgent


@dataclass(frozen=True, slots=True)
class Change:
    """One event for one agent."""

    agent: str
    event: events.Desired | events.Undesired


def diff(desired: Iterable[AssignedAgent], known: Mapping[str, AgentState]) -> tuple[Change, ...]:
    """Return the changes in the order to apply them: ends, replacements, beginnings; each by name."""
    wanted = {spec.name: spec for spec in desired}
    ends = [
        Change(name, events.Undesired())
        for name, state in known.items()
        if name not in wanted and (state.wanted is not None or state.phase is Phase.PENDING)
    ]
    replacements: list[Change] = []
    beginnings: list[Change] = []
    for name, spec in wanted.items():
        state = known.get(name)
        if state is None or state.phase in (Phase.PENDING, Phase.STOPPED):
            beginnings.append(Change(name, events.Desired(spec)))
        elif state.wanted != spec:
            replacements.append(Change(name, events.Desired(spec)))
    return tuple(change for group in (ends, replacements, beginnings) for change in sorted(group, key=_by_name))


def _by_name(change: Change) -> str:
    return change.agent

"""What a node tells about one of its agents: how it does, and why it was refused.

Pure. Owns: `observe`, which puts together what the lifecycle, the runtime and the traffic know, and what a fault is to
the lifecycle and to operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent import lifecycle_events as events
from edge_agent.health import vitals
from fleet.errors import Code, FleetError
from fleet.model import Exit, ExitCause, ObservedAgent, Refusal

if TYPE_CHECKING:
    from datetime import datetime

    from edge_agent.lifecycle_state import AgentState
    from edge_agent.runtime import AgentStats


def observe(state: AgentState, stats: AgentStats, last_output: str) -> ObservedAgent:
    """Describe an agent; a version that could not take over is told as refused beside what runs instead of it."""
    return ObservedAgent(
        name=state.name,
        phase=state.phase,
        bundle_digest=state.spec.bundle.digest if state.spec is not None else "",
        grant_digest=state.spec.grant.digest if state.spec is not None else "",
        restarts=state.restarts,
        last_exit=state.last_exit,
        next_attempt_at=state.next_attempt_at,
        running_since=state.running_since,
        calls=stats.calls,
        errors=stats.errors,
        memory_bytes=stats.memory_bytes,
        last_output=last_output,
        refusal=state.refusal or (None if state.failed is None else state.failed.refusal),
        vitals=vitals(state.phase, stats),
    )


def rejected(attempt: int, error: FleetError) -> events.Rejected:
    """Return the event of an attempt that admission or linking refused."""
    return events.Rejected(attempt, refusal_of(error), retryable=error.row.retryable)


def refusal_of(error: FleetError) -> Refusal:
    """Return a fault as nodes report it."""
    return Refusal(str(error.code), error.public, error.remedy)


def exit_of(error: FleetError, now: datetime) -> Exit:
    """Return how an agent ended that did not come to run."""
    known = {cause.value: cause for cause in ExitCause}
    fallback = ExitCause.ENGINE_CRASH if error.code is Code.RUNNER_LOST else ExitCause.HOST_ERROR
    return Exit(known.get(str(error.detail.get("cause")), fallback), error.private, now)


def may_pass(refusal: Refusal) -> bool:
    """Whether admission might think better of it; what ended once would end again."""
    return refusal.code != Code.AGENT_TRAPPED

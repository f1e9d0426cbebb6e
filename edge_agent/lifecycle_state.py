"""What decides what happens to an agent next, as plain data.

Owns: `AgentState` and its parts, for `edge_agent.lifecycle`, which alone changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.model import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from edge_agent.lifecycle_events import Action
    from fleet.model import AssignedAgent, Exit, Refusal


STORY_LENGTH = 16
"""Steps that an agent's story remembers, for the error of an impossible one."""


@dataclass(frozen=True, slots=True)
class Older:
    """What ran before the newest swap, while it can come back."""

    spec: AssignedAgent
    running_since: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A specification that could not take over, and why."""

    spec: AssignedAgent
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class AgentState:
    """Everything that decides what happens to an agent next.

    Attributes:
        name: `application/agent`.
        phase: where it stands.
        attempt: number of the current attempt; goes up whenever what was begun before no longer counts.
        spec: what runs or is being tried.
        next_spec: while STOPPING, what to run afterwards, None to run nothing; during a swap, the newest order.
        swap: what is being prepared to take over from the running instance.
        older: what comes back should the running instance end on probation.
        failed: what was desired and could not take over; `spec` is older.
        failures: consecutive failures, for the delay of the next restart.
        restarts: how often this specification was started again; a rollout judges a new version by it.
        last_exit: how the instance before the current one ended.
        refusal: why it was refused, while it is.
        running_since: when the current instance started.
        next_attempt_at: when BACKOFF ends.
        valid_until: when the admission of the running instance lapses.
        story: the newest steps as `phase+event`.
    """

    name: str
    phase: Phase = Phase.PENDING
    attempt: int = 0
    spec: AssignedAgent | None = None
    next_spec: AssignedAgent | None = None
    swap: AssignedAgent | None = None
    older: Older | None = None
    failed: Failed | None = None
    failures: int = 0
    restarts: int = 0
    last_exit: Exit | None = None
    refusal: Refusal | None = None
    running_since: datetime | None = None
    next_attempt_at: datetime | None = None
    valid_until: datetime | None = None
    story: tuple[str, ...] = ()

    @property
    def wanted(self) -> AssignedAgent | None:
        """What the agent is on its way to run; None when it is on its way out."""
        if self.phase is Phase.STOPPING:
            return self.next_spec
        if self.phase is Phase.STOPPED:
            return None
        return self.next_spec or (self.spec if self.failed is None else self.failed.spec)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a step needs from the world: the time, and a random number in [0, 1) for the restart delay."""

    now: datetime
    jitter: float


Step = tuple[AgentState, "tuple[Action, ...]"]
"""The next state, and what to do."""


class ImpossibleEventError(RuntimeError):
    """An event that the table has no row for: a fault of this program, told with the agent's story."""


def spec_of(state: AgentState) -> AssignedAgent:
    """Return what an agent runs or tries; only for phases in which there is something."""
    if state.spec is None:
        raise ImpossibleEventError(f"{state.name}: {' '.join(state.story)} without a specification")
    return state.spec

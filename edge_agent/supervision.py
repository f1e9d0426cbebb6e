"""What a supervisor is made of, what it is told to run, and what it has under way.

Plain values for `edge_agent.supervisor`, which alone works with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from edge_agent.admission import AdmittedAgent
    from edge_agent.clock import Clock
    from edge_agent.journal import Journal
    from edge_agent.runtime import AgentCrashed, AgentStart, Runtime
    from edge_agent.succession import Admission, Granting
    from edge_agent.traffic import Inputs
    from fleet.model import AssignedAgent


def allow_all(spec: AssignedAgent) -> None:
    """Allow any agent: where nothing is known of releases."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The accepted desired state, verified."""

    generation: int
    digest: str
    agents: tuple[AssignedAgent, ...]


NOTHING = Accepted(0, "", ())
"""Before the first desired state."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a supervisor is made of.

    Attributes:
        runtime: runs the agents.
        admit: decides whether one may run.
        granted: says what one may do that is not admitted.
        journal: takes events and log lines.
        clock: time.
        random: jitter of restarts.
        inputs: where triggers get their values from.
        max_admissions: admissions at once.
        keep_crash: takes what is known of an end: event, what was to run, how it was started, generation.
        listed: raises where the release no longer allows what an agent is made of; costs nothing, unlike `admit`.
    """

    runtime: Runtime
    admit: Admission
    granted: Granting
    journal: Journal
    clock: Clock
    random: Random
    inputs: Inputs
    max_admissions: int = 2
    keep_crash: Callable[[AgentCrashed, AssignedAgent, AgentStart, int], None] | None = None
    listed: Callable[[AssignedAgent], None] = allow_all


@dataclass(slots=True)
class Work:
    """What is under way for one agent, beside its state.

    Attributes:
        admitted: what runs, or is about to.
        newer: what is prepared to take over from it.
        older: what it took over from.
        instance: attempt of the instance that runs.
        starting: begins an instance.
        swapping: prepares the newer one.
        timer: what the lifecycle waits for.
        tasks: all that is under way.
    """

    admitted: AdmittedAgent | None = None
    newer: AdmittedAgent | None = None
    older: AdmittedAgent | None = None
    instance: int = -1
    starting: asyncio.Task[None] | None = None
    swapping: asyncio.Task[None] | None = None
    timer: asyncio.Task[None] | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

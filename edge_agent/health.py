"""Whether an agent is alive and whether it is ready, from what is known about it.

Pure. Owns: the counters of an agent, the words for health and the tables that lead to them. Asking a guest is
`edge_agent.runner.probes`; what follows from a bad answer is the lifecycle's business. Never starts, ends or calls
anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.health import Vitals
from fleet.model import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_HOST_CALLS: Mapping[str, int] = MappingProxyType({})


class Health(StrEnum):
    """What an instance says about itself, where it exports `fleet:agent/health`.

    `UNSERVED`: it exports nothing of the kind. `UNASKED`: no answer yet. `OK` and `FAILING`: its last answer.
    """

    UNSERVED = "unserved"
    UNASKED = "unasked"
    OK = "ok"
    FAILING = "failing"


class Liveness(StrEnum):
    """Whether an agent works: by its own word, else by the outcome of its last call."""

    ALIVE = "alive"
    FAILING = "failing"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Readiness(StrEnum):
    """Whether an agent takes work now, and if not, what keeps it from that."""

    READY = "ready"
    NOT_RUNNING = "not-running"
    UNASKED = "unasked"
    FAILING = "failing"
    QUEUE_FULL = "queue-full"


@dataclass(frozen=True, slots=True)
class AgentStats:
    """Counters of one agent by its last report; all zero before its first start and after `stop`.

    Attributes:
        calls: calls that began since its first start, restarts and the failed ones included.
        errors: those that trapped or passed their deadline.
        memory_bytes: linear memory that the agent holds; 0 while it does not run.
        dropped: calls that were refused because the queue was full, or gave way to newer ones there.
        p50_us: microseconds that half of its calls took at most, of the last minutes and of the run that goes on.
        p99_us: the same for 99 of 100 calls.
        memory_peak_bytes: most linear memory that a report has told since the first start.
        queue: calls that wait.
        queue_limit: how many may; 0 while it does not run.
        returned: calls of this instance that returned.
        health: what this instance says about itself.
        health_message: its own words, where it is not well.
        host_calls: calls into each interface since the first start.
    """

    calls: int = 0
    errors: int = 0
    memory_bytes: int = 0
    dropped: int = 0
    p50_us: int = 0
    p99_us: int = 0
    memory_peak_bytes: int = 0
    queue: int = 0
    queue_limit: int = 0
    returned: int = 0
    health: Health = Health.UNSERVED
    health_message: str = ""
    host_calls: Mapping[str, int] = field(default_factory=lambda: _NO_HOST_CALLS)


_BY_WORD = {Health.OK: Liveness.ALIVE, Health.FAILING: Liveness.FAILING, Health.UNASKED: Liveness.UNKNOWN}


_REASONS = {
    Readiness.READY: "",
    Readiness.NOT_RUNNING: "",  # the phase says it
    Readiness.UNASKED: "it has not said yet how it does",
    Readiness.QUEUE_FULL: "its queue is full",
}


def liveness(phase: Phase, health: Health, returned: int) -> Liveness:
    """Judge an agent.

    An instance that exports no health lives by its last call: a call that ends it shows in the phase, so one that
    returned is the proof, and before the first there is none.

    Args:
        phase: where it stands.
        health: its own word.
        returned: calls of this instance that returned.
    """
    if phase in (Phase.BACKOFF, Phase.FAILED):
        return Liveness.DEAD
    if phase is not Phase.RUNNING:
        return Liveness.UNKNOWN
    if health is Health.UNSERVED:
        return Liveness.ALIVE if returned else Liveness.UNKNOWN
    return _BY_WORD[health]


def readiness(phase: Phase, health: Health, queue: int, queue_limit: int) -> Readiness:
    """Judge an agent; an instance that exports health is not ready before its first good answer.

    Args:
        phase: where it stands.
        health: its own word.
        queue: calls that wait.
        queue_limit: how many may; 0 when that is not known.
    """
    if phase is not Phase.RUNNING:
        return Readiness.NOT_RUNNING
    if health is Health.UNASKED:
        return Readiness.UNASKED
    if health is Health.FAILING:
        return Readiness.FAILING
    if queue_limit and queue >= queue_limit:
        return Readiness.QUEUE_FULL
    return Readiness.READY


def vitals(phase: Phase, stats: AgentStats) -> Vitals:
    """Return what a node tells of how an agent does."""
    alive = liveness(phase, stats.health, stats.returned)
    ready = readiness(phase, stats.health, stats.queue, stats.queue_limit)
    return Vitals(
        healthy=None if alive is Liveness.UNKNOWN else alive is Liveness.ALIVE,
        ready=ready is Readiness.READY,
        reason=stats.health_message if ready is Readiness.FAILING else _REASONS[ready],
        dropped=stats.dropped,
        p50_us=stats.p50_us,
        p99_us=stats.p99_us,
        memory_peak_bytes=stats.memory_peak_bytes,
        queue=stats.queue,
        host_calls=stats.host_calls,
    )

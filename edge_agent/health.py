"""Whether an agent is alive and whether it is ready, from what is known about it.

Pure. Owns: the words for health and the tables that lead to them. Asking a guest is `edge_agent.runner.probes`; what
follows from a bad answer is the lifecycle's business. Never starts, ends or calls anything.
"""

from __future__ import annotations

from enum import StrEnum

from fleet.model import Phase


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


_BY_WORD = {Health.OK: Liveness.ALIVE, Health.FAILING: Liveness.FAILING, Health.UNASKED: Liveness.UNKNOWN}


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

"""How often an agent is asked how it does, and what a node tells of how its agents do.

Owns: `HealthPolicy` and `Vitals`, frozen data and nothing else. Their form in documents is in `fleet.triggers`, on the
wire in `fleet.wire`; what they lead to is decided by `edge_agent.health` and `orchestrator.rollout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HEALTH_INTERFACE = "fleet:agent/health"
"""What an agent exports that can tell how it does."""

HEALTH_VERSION = "0.1.0"
"""Version of that interface in `wit/`."""

MAX_INTERFACES = 64
"""Interfaces whose calls a node tells apart for one agent: those that were called most."""

_NO_CALLS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How an agent that exports `fleet:agent/health` is asked.

    Attributes:
        every_ms: from one answer to the next question; it waits while the agent has anything else to do.
        deadline_ms: time for one answer. An instance that exceeds it cannot go on and is replaced at once.
        failures: errors in a row that end the instance.
    """

    every_ms: int = 10_000
    deadline_ms: int = 1_000
    failures: int = 3


@dataclass(frozen=True, slots=True)
class Vitals:
    """How one agent does, beside its phase.

    Attributes:
        healthy: whether it works, by its own word or by its last call; None while that is not known.
        ready: whether it takes work now; None from a node that does not tell.
        reason: what keeps it from being healthy or ready, in words; the guest's own where it said any.
        dropped: calls that its full queue had no room for.
        p50_us: microseconds that half of its calls took at most, of the last five to ten minutes.
        p99_us: the same for 99 of 100 calls.
        memory_peak_bytes: most linear memory that a report has told since its first start.
        queue: calls that wait.
        host_calls: interface -> calls of the agent into it since its first start; `MAX_INTERFACES` at most.
    """

    healthy: bool | None = None
    ready: bool | None = None
    reason: str = ""
    dropped: int = 0
    p50_us: int = 0
    p99_us: int = 0
    memory_peak_bytes: int = 0
    queue: int = 0
    host_calls: Mapping[str, int] = field(default_factory=lambda: _NO_CALLS)

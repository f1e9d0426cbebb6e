"""What the host keeps about an agent from its start to its stop, also while it waits for its restart.

Owns: `KnownAgent`, plain data, and how the numbers of an agent's runs become one. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edge_agent.runner.queue_room import QueueRoom
from edge_agent.runtime import AgentStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.runner.message_values import Counters, Measures


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """An agent that was started and not stopped.

    Attributes:
        module: digest of its code, and whether that counts fuel.
        deadline_ms: of its grant.
        room: there for an agent whose full queue makes its sources wait: who calls it holds one of as many places as
            calls may wait in the queue.
        older: what the agent falls back to during a probation.
        past: totals of its earlier runs.
    """

    module: tuple[str, bool]
    deadline_ms: int
    room: QueueRoom = field(default_factory=lambda: QueueRoom(None))
    older: KnownAgent | None = None
    past: AgentStats = field(default_factory=AgentStats)

    def stats(self, counters: Counters, measures: Measures) -> AgentStats:
        """Return its numbers, those of the run that goes on included."""
        past = self.past
        return AgentStats(
            calls=past.calls + counters.calls,
            errors=past.errors + counters.errors,
            memory_bytes=counters.memory_bytes,
            dropped=past.dropped + counters.dropped,
            p50_us=measures.p50_us,
            p99_us=measures.p99_us,
            memory_peak_bytes=max(past.memory_peak_bytes, measures.peak_bytes, counters.memory_bytes),
            queue=measures.queue,
            queue_limit=measures.queue_limit,
            returned=measures.returned,
            health=measures.health,
            health_message=measures.health_message,
            host_calls=_sum(past.host_calls, {entry.interface: entry.calls for entry in measures.host_calls}),
        )

    def ended(self, counters: Counters, measures: Measures) -> KnownAgent:
        """Return the same after a run, whose totals it keeps."""
        stats = self.stats(counters, measures)
        totals = AgentStats(
            calls=stats.calls,
            errors=stats.errors,
            dropped=stats.dropped,
            memory_peak_bytes=stats.memory_peak_bytes,
            host_calls=stats.host_calls,
        )
        return replace(self, past=totals)


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> Mapping[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in sorted({**left, **right})}

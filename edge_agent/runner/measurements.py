"""What one agent has done since its start in this runner, in numbers.

Owns: `Measurements`. Whoever owns the agent tells it what happens, under the lock of the agent. Never calls a guest,
never sends: when it is time to report is told by `wait_s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.health import Health
from edge_agent.runner.latencies import RecentLatencies
from edge_agent.runner.message_values import HostCalls, Measures
from fleet.health import MAX_INTERFACES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.runner.probes import Probes

REPORT_S = 1.0
"""An agent that works is reported so often at most."""

_SHARES = (50, 99)


class Measurements:
    """The numbers of one agent. Seconds are those of any steady clock."""

    __slots__ = (
        "_changed",
        "_host_calls",
        "_latencies",
        "_peak",
        "_reported",
        "_returned",
        "calls",
        "dropped",
        "errors",
    )

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        """Calls that ended instances which are gone."""
        self.dropped = 0
        """What earlier queues refused."""
        self._returned = 0
        self._latencies = RecentLatencies()
        self._peak = 0
        self._host_calls: dict[str, int] = {}
        """Of instances that are gone."""
        self._changed = False
        self._reported = float("-inf")

    def begin(self) -> None:
        """Count a call that begins."""
        self.calls += 1
        self._changed = True

    def take_back(self) -> None:
        """Count a call less: it has not begun after all."""
        self.calls -= 1

    def end(self, began: float | None, now: float, *, returned: bool) -> None:
        """Count the end of a call that began then; None for what is no call."""
        self._changed = True
        if began is not None:
            self._latencies.add(int((now - began) * 1_000_000), now)
            self._returned += returned

    def renew(self) -> None:
        """Note that another instance takes the calls: none of them has returned there."""
        self._returned = 0
        self._changed = True

    def bury(self, host_calls: Mapping[str, int], *, trapped: bool) -> None:
        """Keep the numbers of an instance that is gone."""
        self.errors += trapped
        self._host_calls = _sum(self._host_calls, host_calls)
        self._changed = True

    def note_memory(self, memory_bytes: int) -> None:
        """Take what the agent holds now."""
        self._peak = max(self._peak, memory_bytes)

    def wait_s(self, now: float) -> float | None:
        """Seconds until there is something to report; None: there is nothing."""
        return max(0.0, self._reported + REPORT_S - now) if self._changed else None

    def report(
        self, now: float, queue: int, queue_limit: int, probes: Probes | None, living: Iterable[Mapping[str, int]]
    ) -> Measures:
        """Return the numbers as they are sent, and count this as a report.

        Args:
            now: the time.
            queue: calls that wait.
            queue_limit: how many may.
            probes: questions to the instance that takes the calls, where it can answer them.
            living: calls to the host of the instances that are there.
        """
        self._changed, self._reported = False, now
        p50, p99 = self._latencies.quantiles(now, *_SHARES)
        calls = self._host_calls
        for one in living:
            calls = _sum(calls, one)
        most = sorted(calls.items(), key=lambda item: (-item[1], item[0]))[:MAX_INTERFACES]
        return Measures(
            p50_us=p50,
            p99_us=p99,
            peak_bytes=self._peak,
            queue=queue,
            queue_limit=queue_limit,
            returned=self._returned,
            health=Health.UNSERVED if probes is None else probes.health,
            health_message="" if probes is None else probes.message,
            host_calls=tuple(HostCalls(interface, count) for interface, count in sorted(most)),
        )


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}

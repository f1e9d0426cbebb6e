"""What a node's own words reveal about its disk and about copies of it.

Owns: the comparison of what a node reports with what it reported before, and which start of a node's program came
after which. Pure; never decides what follows: `nodes` and `locks` do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from fleet.times import to_ms

if TYPE_CHECKING:
    from orchestrator.inventory import Report
    from orchestrator.nodes import Greeting
    from orchestrator.store.nodes import NodeRow

TWO_MACHINES = "two machines use this identity: a start of the node came back after a later one"

MAX_BOOTS = 16
"""Starts of one node that are remembered."""


@dataclass(frozen=True, slots=True)
class Reported:
    """How far a node says that it is; none of it ever goes back while its disk is the one that it had."""

    generation: int
    root_version: int
    release_version: int

    @classmethod
    def by(cls, greeting: Greeting) -> Self:
        """Return what a greeting says."""
        return cls(greeting.accepted_generation, greeting.root_version, greeting.release_version)

    @classmethod
    def known(cls, node: NodeRow, report: Report | None) -> Self:
        """Return what a node reported last, when it opened its session before and since."""
        fresh = report is not None and to_ms(report.received) >= node.joined_ms
        since = report.state.generation if report is not None and fresh else 0
        return cls(max(node.accepted_generation, since), node.root_version, node.release_version)

    def behind(self, before: Reported) -> tuple[str, ...]:
        """Return in words what is smaller than it was."""
        pairs = {
            "generation": (before.generation, self.generation),
            "root version": (before.root_version, self.root_version),
            "release version": (before.release_version, self.release_version),
        }
        return tuple(f"{name} {old} -> {new}" for name, (old, new) in pairs.items() if new < old)


def remember(node: NodeRow, reported: Reported, lost: tuple[str, ...]) -> NodeRow:
    """Return the node's row with what it reported now, and with a warning when something went back.

    The numbers follow the node down, so that one restored disk warns once and not at every session.
    """
    warning = f"its state went back (a restored or copied disk?): {', '.join(lost)}" if lost else node.warning
    return replace(
        node,
        accepted_generation=reported.generation,
        root_version=reported.root_version,
        release_version=reported.release_version,
        warning=warning,
    )


class Boots:
    """Which starts of each node's program were seen, in order.

    A program makes its boot id once, when it starts. One that was followed by another and then comes back is alive
    beside it: the identity is on two machines. A session that hangs after its machine lost power never comes back, so
    it accuses nobody.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, list[str]]] = {}

    def is_back(self, node: str, epoch: int, boot_id: str) -> bool:
        """Note a start that opens a session; return whether a later one was seen before, and then begin anew."""
        known_epoch, seen = self._seen.get(node, (epoch, []))
        if known_epoch != epoch:
            seen = []
        if boot_id in seen[:-1]:
            del self._seen[node]  # whoever unlocks the node has switched one of the two off, and may keep either
            return True
        if not seen or seen[-1] != boot_id:
            seen = [*seen, boot_id][-MAX_BOOTS:]
        self._seen[node] = (epoch, seen)
        return False

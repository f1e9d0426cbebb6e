"""What the coordinator remembers about its nodes in memory: open sessions and newest reports.

Owns: who is online and what each node said last. Safe to read from any thread. Never the only copy of anything that
matters: a report comes again, and transitions are stored by `nodes`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.rollout import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleet.grants.ceilings import OwnCeiling
    from fleet.model import ObservedState


@dataclass(frozen=True, slots=True)
class Report:
    """A node's newest report and when it came."""

    state: ObservedState
    received: datetime


class Inventory:
    """Reports and sessions of all nodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[str, Report] = {}
        self._sessions: dict[str, str] = {}
        self._ceilings: dict[str, OwnCeiling] = {}

    def put(self, node: str, report: Report) -> Report | None:
        """Replace a node's report and return the one before."""
        with self._lock:
            before = self._reports.get(node)
            self._reports[node] = report
            return before

    def open(self, node: str, session: str) -> bool:
        """Note an open session; return whether the node was offline before."""
        with self._lock:
            was_offline = node not in self._sessions
            self._sessions[node] = session
            return was_offline

    def close(self, node: str, session: str) -> bool:
        """Note that a session ended; return whether the node is offline now (no newer session took its place)."""
        with self._lock:
            if self._sessions.get(node) != session:
                return False
            del self._sessions[node]
            return True

    def report(self, node: str) -> Report | None:
        """Return a node's newest report."""
        with self._lock:
            return self._reports.get(node)

    def put_ceiling(self, node: str, ceiling: OwnCeiling) -> None:
        """Note what a node says of its own ceiling."""
        with self._lock:
            self._ceilings[node] = ceiling

    def ceiling(self, node: str) -> OwnCeiling | None:
        """Return what a node said last of its own ceiling; None: nothing since this program started."""
        with self._lock:
            return self._ceilings.get(node)

    def online(self) -> frozenset[str]:
        """Return the nodes with an open session."""
        with self._lock:
            return frozenset(self._sessions)

    def observations(self) -> Mapping[str, Observation]:
        """Return what `rollout` judges by."""
        with self._lock:
            return {node: Observation(report.state, node in self._sessions) for node, report in self._reports.items()}

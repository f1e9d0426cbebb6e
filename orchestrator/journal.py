"""Events of the fleet, stored in order and followable.

Owns: appending to the event table and telling followers. Events are for people and dashboards; what must be provable is
in the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.store import telemetry as rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.model import Event
    from orchestrator.store.database import Store


class Journal:
    """The fleet's events.

    Args:
        changed: tells followers to read again.
    """

    def __init__(self, store: Store, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed

    def append(self, *events: Event) -> None:
        """Store events in order."""
        with self._store.telemetry.write() as connection:
            rows.append_events(connection, events)
        self._changed()

    def after(self, sequence: int, limit: int, *, node: str = "", agent: str = "") -> tuple[Event, ...]:
        """Return events with a greater sequence, in order; an empty argument means any."""
        with self._store.telemetry.read() as connection:
            return rows.list_events(connection, after=sequence, limit=limit, node=node, agent=agent)

    def newest(self, limit: int, *, node: str = "", agent: str = "") -> tuple[Event, ...]:
        """Return the newest events, in order."""
        with self._store.telemetry.read() as connection:
            return rows.last_events(connection, limit=limit, node=node, agent=agent)

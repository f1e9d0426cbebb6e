"""Takes nodes out of the fleet, for a while or for good.

Owns: lock, unlock, revoke and reset. Each is one transaction with a leaf of the audit log, and ends what the node has
open. A locked node keeps its identity and its orders; a revoked one loses both; a reset begins a new epoch, in which
nothing of the old one counts: certificates, assignments, copies of its disk.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.model import Event
from fleet.times import to_ms
from orchestrator.audit import event_leaf
from orchestrator.operators import check_reason
from orchestrator.store import nodes as rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from orchestrator.audit import AuditLog
    from orchestrator.clock import Clock
    from orchestrator.director import Director
    from orchestrator.store.database import Store


class Locks:
    """What operators, and the coordinator itself, do to nodes that are not to be trusted.

    Args:
        journal: takes an event for operators to see.
        expel: ends the calls of a node, for a reason that the node is told.
        signal: tells that desired states changed; called after the commit.
    """

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        store: Store,
        log: AuditLog,
        director: Director,
        clock: Clock,
        journal: Callable[[Event], None],
        expel: Callable[[str, FleetError], None],
        signal: Callable[[Iterable[str]], None],
    ) -> None:
        self._store = store
        self._log = log
        self._director = director
        self._clock = clock
        self._journal = journal
        self._expel = expel
        self._signal = signal

    def lock(self, name: str, reason: str, by: str) -> None:
        """Refuse a node until it is unlocked; its agents go on as they can without a coordinator.

        Raises:
            FleetError: NOT_FOUND; VALUE_INVALID for no reason.
        """
        check_reason(reason)
        with self._store.control.write() as connection:
            node = _get(connection, name)
            rows.put_node(connection, replace(node, locked=reason))
            now = self._note(connection, "node:identity:locked", node, f"user/{by}", reason)
        self._end(now, name, "node:identity:locked", reason)

    def suspect(self, name: str, reason: str, **facts: str | int) -> None:
        """Lock a node because its identity seems to be in two places; a lock that stands already is kept."""
        with self._store.control.write() as connection:
            node = _get(connection, name)
            if node.locked:
                return
            rows.put_node(connection, replace(node, locked=reason))
            now = self._note(connection, "node:identity:locked", node, "coordinator", reason, **facts)
        self._end(now, name, "node:identity:locked", reason)

    def unlock(self, name: str, reason: str, by: str) -> None:
        """Let a node come back, and forget the warning about it.

        Raises:
            FleetError: NOT_FOUND; VALUE_INVALID; NODE_LOCKED for a revoked one, which only a new token brings back.
        """
        check_reason(reason)
        with self._store.control.write() as connection:
            node = _get(connection, name)
            if node.revoked_ms is not None:
                raise FleetError(
                    Code.NODE_LOCKED,
                    f"{name} is revoked",
                    node=name,
                    remedy=f"Join it again with a token of `fleetctl node token {name}`.",
                )
            rows.put_node(connection, replace(node, locked="", warning=""))
            now = self._note(connection, "node:identity:unlocked", node, f"user/{by}", reason)
        self._journal(Event(now, name, "", "node:identity:unlocked", reason))
        self._signal(())

    def revoke(self, name: str, reason: str, by: str) -> None:
        """Take a node's enrolment and its orders back for good, and every join token of its name.

        Raises:
            FleetError: NOT_FOUND; VALUE_INVALID for no reason.
        """
        check_reason(reason)
        with self._store.control.write() as connection:
            before = _get(connection, name)
            moment = self._clock()
            node = replace(before, epoch=before.epoch + 1, locked=reason, revoked_ms=to_ms(moment))
            rows.put_node(connection, node)
            rows.drop_tokens_of(connection, name)
            now = self._note(connection, "node:identity:revoked", node, f"user/{by}", reason)
            if rows.get_desired(connection, name) is not None:
                self._director.order(connection, node, (), now)
        self._end(now, name, "node:identity:revoked", reason)
        self._signal([name])

    def reset(self, name: str, reason: str, by: str) -> None:
        """Begin a new epoch: the node joins again with a new token and then gets its orders again.

        Raises:
            FleetError: NOT_FOUND; VALUE_INVALID for no reason.
        """
        check_reason(reason)
        with self._store.control.write() as connection:
            before = _get(connection, name)
            node = replace(
                before,
                epoch=before.epoch + 1,
                locked="",
                warning="",
                accepted_generation=0,
                root_version=0,
                release_version=0,
            )
            rows.put_node(connection, node)
            rows.drop_tokens_of(connection, name)
            now = self._note(connection, "node:identity:reset", node, f"user/{by}", reason)
        self._end(now, name, "node:identity:reset", reason)

    def _note(
        self, connection: Connection, kind: str, node: rows.NodeRow, actor: str, reason: str, **facts: str | int
    ) -> datetime:
        now = self._clock()
        leaf = event_leaf(kind, now, actor, node=node.name, epoch=node.epoch, reason=reason, **facts)
        self._log.append(connection, [leaf])
        return now

    def _end(self, now: datetime, name: str, kind: str, reason: str) -> None:
        self._expel(f"node/{name}", FleetError(Code.NODE_LOCKED, reason, node=name))
        self._journal(Event(now, name, "", kind, reason))


def _get(connection: Connection, name: str) -> rows.NodeRow:
    node = rows.get_node(connection, name)
    if node is None:
        raise FleetError(Code.NOT_FOUND, f"no node {name!r}", node=name[:64])
    return node

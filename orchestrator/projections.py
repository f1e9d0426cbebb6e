"""The projections of the audit log in the database: who was approved, ordered and confirmed to have what, and when.

Owns: taking the steps of `fleet.history` beside the log, in the transaction of each leaf, and making all rows again
from the leaves. The log is the truth: every answer names the leaf that anyone can check it against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.answers import Moment
from fleet.answers import who as who_had
from fleet.history import ApprovedRow, History, Rows, approve, assign, differences, enforce
from fleet.times import to_ms
from orchestrator.store import audit as rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from fleet.answers import Held
    from fleet.assignment import Receipt
    from fleet.model import Assignment

PAGE = 500
"""Leaves read at once."""


def record_approvals(
    connection: Connection, added: Iterable[ApprovedRow], removed: Iterable[str], now: datetime
) -> None:
    """Note which grants a publication lists anew and which no more."""
    ended, begun = approve(rows.list_approved(connection, open_only=True), added, removed)
    rows.end_approved(connection, ended, to_ms(now))
    rows.insert_approved(connection, begun)


def record_assignment(connection: Connection, assignment: Assignment, leaf: int) -> None:
    """Note what a new assignment changes; an agent that stays as it was keeps its row and its leaf."""
    before = rows.list_assigned(connection, node=assignment.node, open_only=True)
    ended, begun = assign(before, assignment, leaf)
    rows.end_assigned(connection, ended, to_ms(assignment.issued))
    rows.insert_assigned(connection, begun)


def record_receipt(connection: Connection, receipt: Receipt, leaf: int, now: datetime) -> None:
    """Note what a node confirmed, what it refused, and what it no longer runs."""
    before = rows.list_enforced(connection, node=receipt.node, open_only=True)
    ended, begun = enforce(before, receipt, leaf, to_ms(now))
    rows.end_enforced(connection, ended, to_ms(receipt.at), to_ms(now))
    rows.insert_enforced(connection, begun)


def load(connection: Connection, *, agent: str = "", node: str = "") -> Rows:
    """Return the rows of an agent and a node, or all; approvals always come whole."""
    return Rows(
        rows.list_approved(connection),
        rows.list_assigned(connection, agent=agent, node=node),
        rows.list_enforced(connection, agent=agent, node=node),
    )


def who(
    connection: Connection, at: datetime, *, agent: str = "", node: str = "", interface: str = ""
) -> tuple[Held, ...]:
    """Return who had authority at a moment; an empty argument means any."""
    return who_had(
        load(connection, agent=agent, node=node), Moment(to_ms(at)), agent=agent, node=node, interface=interface
    )


def from_leaves(connection: Connection) -> Rows:
    """Return all rows as the leaves alone give them.

    Raises:
        FleetError: AUDIT_INVALID for a leaf that cannot be read.
    """
    found, position = History(), 0
    while page := rows.list_leaves(connection, position, PAGE):
        for index, leaf in page:
            found.apply(index, leaf)
        position = page[-1][0] + 1
    return found.rows()


def rebuild(connection: Connection) -> bool:
    """Make every row again from the leaves when their tables are new; returns whether that was so."""
    if rows.is_projected(connection):
        return False
    found = from_leaves(connection)
    rows.replace_projections(connection, rows.log_size(connection), found.approved, found.assigned, found.enforced)
    return True


def check(connection: Connection) -> Mapping[str, int]:
    """Count the rows that the database and the leaves do not agree on, per projection; empty when all do."""
    return differences(load(connection), from_leaves(connection))

"""Statements about the audit log and its projections.

Owns: leaves, tree hashes (insert only; triggers refuse anything else) and the rows that answer questions about a
moment. Never hashes or signs, and never decides what a leaf changes: `orchestrator.audit` and `fleet.history` do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa

from fleet.documents import dump_json
from fleet.history import ApprovedRow, AssignedRow, EnforcedRow
from orchestrator.store.schema import approved, assigned, audit_entry, audit_node, enforced, projected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fleet.merkle import Node

BATCH = 1_000
"""Rows inserted at once."""


def log_size(connection: sa.Connection) -> int:
    """Number of leaves."""
    last = connection.execute(sa.select(sa.func.max(audit_entry.c.position))).scalar_one()
    return 0 if last is None else int(last) + 1


_HASH = sa.select(audit_node.c.hash).where(
    audit_node.c.level == sa.bindparam("level"), audit_node.c.position == sa.bindparam("position")
)
"""Made once: a proof asks it dozens of times."""


def read_hash(connection: sa.Connection, level: int, index: int) -> bytes:
    """Return a tree hash that exists."""
    value: bytes = connection.execute(_HASH, {"level": level, "position": index}).scalar_one()
    return value


def insert_leaves(connection: sa.Connection, first: int, leaves: Sequence[bytes], nodes: Iterable[Node]) -> None:
    """Append leaves and the tree hashes that they complete; a position that is taken fails the transaction."""
    connection.execute(sa.insert(audit_entry), [{"position": first + i, "leaf": leaf} for i, leaf in enumerate(leaves)])
    connection.execute(sa.insert(audit_node), [{"level": n.level, "position": n.index, "hash": n.hash} for n in nodes])


def list_leaves(connection: sa.Connection, first: int, limit: int) -> tuple[tuple[int, bytes], ...]:
    """Return leaves from `first` on, in order."""
    statement = sa.select(audit_entry).where(audit_entry.c.position >= first).order_by(audit_entry.c.position)
    return tuple((row.position, row.leaf) for row in connection.execute(statement.limit(limit)))


def is_projected(connection: sa.Connection) -> bool:
    """Whether the projections were made from the leaves since their tables were."""
    return connection.execute(sa.select(projected.c.leaves)).first() is not None


def replace_projections(
    connection: sa.Connection,
    leaves: int,
    approvals: Iterable[ApprovedRow],
    orders: Iterable[AssignedRow],
    confirmations: Iterable[EnforcedRow],
) -> None:
    """Put other rows in the place of all projections, and note from how many leaves they are."""
    for table in (approved, assigned, enforced, projected):
        connection.execute(sa.delete(table))
    insert_approved(connection, approvals)
    insert_assigned(connection, orders)
    insert_enforced(connection, confirmations)
    connection.execute(sa.insert(projected).values(leaves=leaves))


def list_approved(connection: sa.Connection, *, open_only: bool = False) -> tuple[ApprovedRow, ...]:
    """Return the grants that were ever listed, or that are."""
    statement = sa.select(approved).order_by(approved.c.number)
    if open_only:
        statement = statement.where(approved.c.to_ms.is_(None))
    return tuple(
        ApprovedRow(
            row.path, row.digest, tuple(json.loads(row.approvers)), row.document, row.leaf, row.from_ms, row.to_ms
        )
        for row in connection.execute(statement)
    )


def end_approved(connection: sa.Connection, ended: Iterable[ApprovedRow], at_ms: int) -> None:
    """End open rows."""
    for row in ended:
        mine = sa.and_(approved.c.path == row.path, approved.c.to_ms.is_(None))
        connection.execute(sa.update(approved).where(mine).values(to_ms=at_ms))


def insert_approved(connection: sa.Connection, rows: Iterable[ApprovedRow]) -> None:
    """Add rows."""
    values = [_values(row) for row in rows]
    for value in values:
        value["approvers"] = dump_json(list(value["approvers"])).decode()  # type: ignore[call-overload]  # a tuple of texts
    _insert(connection, approved, values)


def list_assigned(
    connection: sa.Connection, *, agent: str = "", node: str = "", open_only: bool = False
) -> tuple[AssignedRow, ...]:
    """Return what nodes were ever ordered to run, or are; empty `agent` or `node` means any."""
    rows = connection.execute(_chosen(assigned, assigned.c.to_ms, agent, node, open_only=open_only))
    fields = tuple(AssignedRow.__dataclass_fields__)
    return tuple(AssignedRow(*(getattr(row, name) for name in fields)) for row in rows)


def end_assigned(connection: sa.Connection, ended: Iterable[AssignedRow], at_ms: int) -> None:
    """End open rows."""
    for row in ended:
        mine = sa.and_(assigned.c.node == row.node, assigned.c.agent == row.agent, assigned.c.to_ms.is_(None))
        connection.execute(sa.update(assigned).where(mine).values(to_ms=at_ms))


def insert_assigned(connection: sa.Connection, rows: Iterable[AssignedRow]) -> None:
    """Add rows."""
    _insert(connection, assigned, [_values(row) for row in rows])


def list_enforced(
    connection: sa.Connection, *, agent: str = "", node: str = "", open_only: bool = False
) -> tuple[EnforcedRow, ...]:
    """Return what nodes ever confirmed, or what their newest receipts say; empty `agent` or `node` means any."""
    rows = connection.execute(_chosen(enforced, enforced.c.ended_ms, agent, node, open_only=open_only))
    fields = tuple(EnforcedRow.__dataclass_fields__)
    return tuple(EnforcedRow(*(getattr(row, name) for name in fields)) for row in rows)


def end_enforced(connection: sa.Connection, ended: Iterable[EnforcedRow], at_ms: int, known_ms: int) -> None:
    """End open rows."""
    for row in ended:
        mine = sa.and_(enforced.c.node == row.node, enforced.c.agent == row.agent, enforced.c.ended_ms.is_(None))
        connection.execute(sa.update(enforced).where(mine).values(ended_ms=at_ms, ended_known_ms=known_ms))


def insert_enforced(connection: sa.Connection, rows: Iterable[EnforcedRow]) -> None:
    """Add rows."""
    _insert(connection, enforced, [_values(row) for row in rows])


def _chosen(
    table: sa.Table, end: sa.Column[int], agent: str, node: str, *, open_only: bool
) -> sa.Select[tuple[object, ...]]:
    statement = sa.select(table).order_by(table.c.number)
    if agent:
        statement = statement.where(table.c.agent == agent)
    if node:
        statement = statement.where(table.c.node == node)
    return statement.where(end.is_(None)) if open_only else statement


def _values(row: ApprovedRow | AssignedRow | EnforcedRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def _insert(connection: sa.Connection, table: sa.Table, values: Sequence[dict[str, object]]) -> None:
    for batch in _batches(values):
        connection.execute(sa.insert(table), batch)


def _batches(values: Sequence[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(values), BATCH):
        yield list(values[start : start + BATCH])

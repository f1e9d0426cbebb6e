"""Statements about the audit log and its projections.

Owns: leaves, tree hashes (insert only; triggers refuse anything else) and the rows that answer questions about a
moment. Never hashes or signs: `orchestrator.audit` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orchestrator.store.schema import assigned, audit_entry, audit_node, enforced

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.merkle import Node


@dataclass(frozen=True, slots=True)
class AssignedRow:
    """An agent that a node was ordered to run from one moment to another (None: still)."""

    node: str
    agent: str
    bundle_path: str
    bundle_digest: str
    grant_path: str
    grant_digest: str
    leaf: int
    generation: int
    from_ms: int
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class EnforcedRow:
    """What a node confirmed, by a receipt under its own key, to have applied."""

    node: str
    agent: str
    bundle_digest: str
    grant_digest: str
    generation: int
    leaf: int
    received_ms: int


def log_size(connection: sa.Connection) -> int:
    """Number of leaves."""
    last = connection.execute(sa.select(sa.func.max(audit_entry.c.position))).scalar_one()
    return 0 if last is None else int(last) + 1


def read_hash(connection: sa.Connection, level: int, index: int) -> bytes:
    """Return a tree hash that exists."""
    statement = sa.select(audit_node.c.hash).where(audit_node.c.level == level, audit_node.c.position == index)
    value: bytes = connection.execute(statement).scalar_one()
    return value


def insert_leaves(connection: sa.Connection, first: int, leaves: Sequence[bytes], nodes: Iterable[Node]) -> None:
    """Append leaves and the tree hashes that they complete; a position that is taken fails the transaction."""
    connection.execute(sa.insert(audit_entry), [{"position": first + i, "leaf": leaf} for i, leaf in enumerate(leaves)])
    connection.execute(sa.insert(audit_node), [{"level": n.level, "position": n.index, "hash": n.hash} for n in nodes])


def list_leaves(connection: sa.Connection, first: int, limit: int) -> tuple[tuple[int, bytes], ...]:
    """Return leaves from `first` on, in order."""
    statement = sa.select(audit_entry).where(audit_entry.c.position >= first).order_by(audit_entry.c.position)
    return tuple((row.position, row.leaf) for row in connection.execute(statement.limit(limit)))


def list_open(connection: sa.Connection, node: str) -> tuple[AssignedRow, ...]:
    """Return what a node is ordered to run now."""
    return _assigned(connection, sa.select(assigned).where(assigned.c.node == node, assigned.c.to_ms.is_(None)))


def close_assigned(connection: sa.Connection, node: str, agents: Iterable[str], at_ms: int) -> None:
    """End the open rows of some agents of a node."""
    connection.execute(
        sa.update(assigned)
        .where(assigned.c.node == node, assigned.c.agent.in_(list(agents)), assigned.c.to_ms.is_(None))
        .values(to_ms=at_ms)
    )


def insert_assigned(connection: sa.Connection, rows: Iterable[AssignedRow]) -> None:
    """Add projection rows."""
    values = [{field: getattr(row, field) for field in AssignedRow.__dataclass_fields__} for row in rows]
    if values:
        connection.execute(sa.insert(assigned), values)


def insert_enforced(connection: sa.Connection, rows: Iterable[EnforcedRow]) -> None:
    """Add projection rows."""
    values = [{field: getattr(row, field) for field in EnforcedRow.__dataclass_fields__} for row in rows]
    if values:
        connection.execute(sa.insert(enforced), values)


def assigned_at(connection: sa.Connection, at_ms: int, *, agent: str, node: str) -> tuple[AssignedRow, ...]:
    """Return what held at a moment; empty `agent` or `node` means any."""
    statement = sa.select(assigned).where(
        assigned.c.from_ms <= at_ms, sa.or_(assigned.c.to_ms.is_(None), assigned.c.to_ms > at_ms)
    )
    if agent:
        statement = statement.where(assigned.c.agent == agent)
    if node:
        statement = statement.where(assigned.c.node == node)
    return _assigned(connection, statement)


def is_enforced(connection: sa.Connection, row: AssignedRow, at_ms: int) -> bool:
    """Whether the node's newest receipt before a moment confirms the row."""
    statement = (
        sa.select(enforced)
        .where(enforced.c.node == row.node, enforced.c.agent == row.agent, enforced.c.received_ms <= at_ms)
        .order_by(enforced.c.number.desc())
        .limit(1)
    )
    newest = connection.execute(statement).one_or_none()
    return (
        newest is not None
        and newest.generation >= row.generation
        and (newest.bundle_digest, newest.grant_digest) == (row.bundle_digest, row.grant_digest)
    )


def _assigned(connection: sa.Connection, statement: sa.Select[tuple[object, ...]]) -> tuple[AssignedRow, ...]:
    rows = connection.execute(statement.order_by(assigned.c.node, assigned.c.agent))
    return tuple(
        AssignedRow(
            row.node,
            row.agent,
            row.bundle_path,
            row.bundle_digest,
            row.grant_path,
            row.grant_digest,
            row.leaf,
            row.generation,
            row.from_ms,
            row.to_ms,
        )
        for row in rows
    )

"""Statements about nodes, join tokens and desired states.

Owns: the rows as frozen dataclasses, and the guards that let only one of two racing writers win. Never decides: the
use cases do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from fleet.documents import dump_json
from orchestrator.store.schema import desired, join_token, node

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A joined node.

    Attributes:
        locked: why it is locked; empty when it is not.
        sequence: join-state counter of the newest certificate issued.
        confirmed: newest counter that the node has proved to hold; lower than `sequence` while a reply may be lost.
        revoked_ms: when its enrolment was taken back for good; only a new join token brings the name back.
        accepted_generation: greatest generation that this enrolment ever reported; the versions likewise.
        warning: what went back; empty when nothing did since an operator looked.
        join_leaf: where the audit log has this enrolment; None for one that is older than the column.
        authority: fingerprint of the authority that signed the certificate of its newest session; empty before one.
    """

    name: str
    labels: Mapping[str, str]
    locked: str
    epoch: int
    sequence: int
    confirmed: int
    bound_key: bytes
    certificate_expires_ms: int
    agent_version: str
    architecture: str
    joined_ms: int
    last_seen_ms: int | None
    revoked_ms: int | None = None
    accepted_generation: int = 0
    root_version: int = 0
    release_version: int = 0
    warning: str = ""
    join_leaf: int | None = None
    authority: str = ""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A join token; `used_by` is the bound key that took it, `key` the public half of its own; empty: it has none."""

    id: str
    secret: bytes
    node: str
    labels: Mapping[str, str]
    created_by: str
    expires_ms: int
    used_by: bytes | None
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class DesiredRow:
    """The newest desired state of a node."""

    node: str
    epoch: int
    generation: int
    digest: str
    envelope: bytes
    leaf: int
    issued_ms: int
    expires_ms: int


def _labels(text: str) -> Mapping[str, str]:
    labels: dict[str, str] = json.loads(text)
    return labels


def _token(row: sa.Row[tuple[object, ...]]) -> TokenRow:
    return TokenRow(
        row.id, row.secret, row.node, _labels(row.labels), row.created_by, row.expires_ms, row.used_by, row.key
    )


def _node(row: sa.Row[tuple[object, ...]]) -> NodeRow:
    values = dict(row._mapping)  # noqa: SLF001 - the public accessor of SQLAlchemy's rows
    return NodeRow(**{**values, "labels": _labels(values["labels"])})


def list_nodes(connection: sa.Connection) -> tuple[NodeRow, ...]:
    """Return every node, by name."""
    return tuple(_node(row) for row in connection.execute(sa.select(node).order_by(node.c.name)))


def get_node(connection: sa.Connection, name: str) -> NodeRow | None:
    """Return one node."""
    row = connection.execute(sa.select(node).where(node.c.name == name)).one_or_none()
    return None if row is None else _node(row)


def put_node(connection: sa.Connection, row: NodeRow) -> None:
    """Insert or replace a node."""
    values = {field: getattr(row, field) for field in NodeRow.__dataclass_fields__}
    values["labels"] = dump_json(dict(row.labels)).decode()
    statement = insert(node).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[node.c.name], set_=values))


def set_seen(connection: sa.Connection, name: str, at_ms: int, version: str, architecture: str) -> None:
    """Note that a node's session opened."""
    connection.execute(
        sa.update(node)
        .where(node.c.name == name)
        .values(last_seen_ms=at_ms, agent_version=version, architecture=architecture)
    )


def set_last_seen(connection: sa.Connection, name: str, at_ms: int) -> None:
    """Note when a node was heard last."""
    connection.execute(sa.update(node).where(node.c.name == name).values(last_seen_ms=at_ms))


def put_token(connection: sa.Connection, row: TokenRow) -> None:
    """Insert a join token and forget those that expired more than a day before it does."""
    connection.execute(sa.delete(join_token).where(join_token.c.expires_ms < row.expires_ms - 86_400_000))
    connection.execute(
        sa.insert(join_token).values(
            id=row.id,
            secret=row.secret,
            node=row.node,
            labels=dump_json(dict(row.labels)).decode(),
            created_by=row.created_by,
            expires_ms=row.expires_ms,
            used_by=row.used_by,
            key=row.key,
        )
    )


def get_token(connection: sa.Connection, token: str) -> TokenRow | None:
    """Return a join token."""
    row = connection.execute(sa.select(join_token).where(join_token.c.id == token)).one_or_none()
    return None if row is None else _token(row)


def list_tokens(connection: sa.Connection, after_ms: int) -> tuple[TokenRow, ...]:
    """Return the join tokens that expire after a moment, the next to expire first."""
    statement = sa.select(join_token).where(join_token.c.expires_ms > after_ms)
    return tuple(
        _token(row) for row in connection.execute(statement.order_by(join_token.c.expires_ms, join_token.c.id))
    )


def drop_token(connection: sa.Connection, token: str) -> None:
    """Forget a join token."""
    connection.execute(sa.delete(join_token).where(join_token.c.id == token))


def drop_tokens_of(connection: sa.Connection, name: str) -> None:
    """Forget every join token of a node."""
    connection.execute(sa.delete(join_token).where(join_token.c.node == name))


def take_token(connection: sa.Connection, token: str, bound_key: bytes) -> None:
    """Bind a token to the key that used it."""
    connection.execute(sa.update(join_token).where(join_token.c.id == token).values(used_by=bound_key))


def get_desired(connection: sa.Connection, name: str) -> DesiredRow | None:
    """Return the desired state of one node."""
    row = connection.execute(sa.select(desired).where(desired.c.node == name)).one_or_none()
    return None if row is None else DesiredRow(*row)


def list_desired(connection: sa.Connection, names: Collection[str] | None = None) -> Mapping[str, DesiredRow]:
    """Return the desired states of some nodes, or of all."""
    rows = connection.execute(sa.select(desired).order_by(desired.c.node))
    return {row.node: DesiredRow(*row) for row in rows if names is None or row.node in names}


def put_desired(connection: sa.Connection, row: DesiredRow) -> None:
    """Replace the desired state of a node; the caller holds the write transaction in which it read the old one."""
    values = {field: getattr(row, field) for field in DesiredRow.__dataclass_fields__}
    statement = insert(desired).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[desired.c.node], set_=values))

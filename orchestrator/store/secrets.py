"""Statements about sealed secrets and the keys that they are sealed for.

Owns: the rows as frozen dataclasses. Everything secret in them is ciphertext; no key that opens it is in this database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from orchestrator.store.schema import sealed_secret, sealing_key, secret

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SealingKeyRow:
    """What a node said about its key, and the leaf of the audit log that shows it."""

    node: str
    epoch: int
    key: str
    statement: bytes
    leaf: int


@dataclass(frozen=True, slots=True)
class SecretRow:
    """A secret by name.

    Attributes:
        version: newest one, also of a secret that was removed.
        escrow: envelope for the operator; empty once removed.
    """

    agent: str
    name: str
    version: int
    set_ms: int
    operator: str
    removed: bool
    escrow: bytes


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A secret as one node gets it."""

    agent: str
    name: str
    node: str
    version: int
    envelope: bytes


def put_key(connection: sa.Connection, row: SealingKeyRow) -> None:
    """Insert or replace the key of a node."""
    values = {field: getattr(row, field) for field in SealingKeyRow.__dataclass_fields__}
    statement = insert(sealing_key).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[sealing_key.c.node], set_=values))


def list_keys(connection: sa.Connection) -> Mapping[str, SealingKeyRow]:
    """Return the key of every node that has said one, by node."""
    rows = connection.execute(sa.select(sealing_key).order_by(sealing_key.c.node))
    return {row.node: SealingKeyRow(*row) for row in rows}


def get_secret(connection: sa.Connection, agent: str, name: str) -> SecretRow | None:
    """Return one secret, removed or not."""
    where = (secret.c.agent == agent) & (secret.c.name == name)
    row = connection.execute(sa.select(secret).where(where)).one_or_none()
    return None if row is None else SecretRow(*row)


def list_secrets(connection: sa.Connection, agent: str) -> tuple[SecretRow, ...]:
    """Return the secrets, removed ones included, of one agent or ("") of all."""
    query = sa.select(secret).order_by(secret.c.agent, secret.c.name)
    return tuple(
        SecretRow(*row) for row in connection.execute(query if not agent else query.where(secret.c.agent == agent))
    )


def put_secret(connection: sa.Connection, row: SecretRow) -> None:
    """Insert or replace a secret."""
    values = {field: getattr(row, field) for field in SecretRow.__dataclass_fields__}
    statement = insert(secret).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[secret.c.agent, secret.c.name], set_=values))


def put_sealed(connection: sa.Connection, row: SealedRow) -> None:
    """Insert or replace what one node gets."""
    values = {field: getattr(row, field) for field in SealedRow.__dataclass_fields__}
    keys = [sealed_secret.c.agent, sealed_secret.c.name, sealed_secret.c.node]
    connection.execute(insert(sealed_secret).values(values).on_conflict_do_update(index_elements=keys, set_=values))


def sealed_for_node(connection: sa.Connection, node: str) -> tuple[SealedRow, ...]:
    """Return everything that one node gets."""
    query = sa.select(sealed_secret).where(sealed_secret.c.node == node)
    return tuple(
        SealedRow(*row) for row in connection.execute(query.order_by(sealed_secret.c.agent, sealed_secret.c.name))
    )


def sealed_versions(connection: sa.Connection, agent: str, name: str) -> Mapping[str, int]:
    """Return which version of a secret each node gets."""
    where = (sealed_secret.c.agent == agent) & (sealed_secret.c.name == name)
    query = sa.select(sealed_secret.c.node, sealed_secret.c.version).where(where).order_by(sealed_secret.c.node)
    return {row.node: row.version for row in connection.execute(query)}


def remove_sealed(connection: sa.Connection, agent: str, name: str) -> None:
    """Take a secret from every node."""
    where = (sealed_secret.c.agent == agent) & (sealed_secret.c.name == name)
    connection.execute(sa.delete(sealed_secret).where(where))


def remove_node(connection: sa.Connection, node: str) -> None:
    """Forget what was sealed for a key that the node has no more."""
    connection.execute(sa.delete(sealed_secret).where(sealed_secret.c.node == node))

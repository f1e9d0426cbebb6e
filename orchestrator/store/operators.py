"""Statements about operators, their bootstrap tokens and their signed actions.

Owns: the rows. Never decides: `orchestrator.operators` and `orchestrator.actions` do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from fleet.documents import dump_json
from orchestrator.store.schema import action, operator, operator_certificate, operator_token

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """Somebody who was invited.

    Attributes:
        team: whose applications alone a deployer may change; empty for all.
        epoch: number of the invitation; certificates of earlier ones are worthless.
        bound_key: DER SubjectPublicKeyInfo; None before the first login.
        revoked: why; empty when it is not.
        sequence: counter of the newest login; `confirmed` is the newest one that the operator has proved to hold.
    """

    name: str
    roles: tuple[str, ...]
    team: str
    epoch: int
    bound_key: bytes | None
    revoked: str
    created_by: str
    created_ms: int
    certificate_expires_ms: int
    sequence: int = 0
    confirmed: int = 0


@dataclass(frozen=True, slots=True)
class OperatorTokenRow:
    """A bootstrap token; `used_by` is the key that took it."""

    id: str
    secret: bytes
    operator: str
    expires_ms: int
    used_by: bytes | None


def get_operator(connection: sa.Connection, name: str) -> OperatorRow | None:
    """Return one operator."""
    row = connection.execute(sa.select(operator).where(operator.c.name == name)).one_or_none()
    return None if row is None else _operator(row)


def list_operators(connection: sa.Connection) -> tuple[OperatorRow, ...]:
    """Return every operator, by name."""
    return tuple(_operator(row) for row in connection.execute(sa.select(operator).order_by(operator.c.name)))


def put_operator(connection: sa.Connection, row: OperatorRow) -> None:
    """Insert or replace an operator."""
    values = {field: getattr(row, field) for field in OperatorRow.__dataclass_fields__}
    values["roles"] = dump_json(list(row.roles)).decode()
    statement = insert(operator).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=[operator.c.name], set_=values))


def put_token(connection: sa.Connection, row: OperatorTokenRow) -> None:
    """Insert a bootstrap token; an operator has at most one."""
    connection.execute(sa.delete(operator_token).where(operator_token.c.operator == row.operator))
    values = {field: getattr(row, field) for field in OperatorTokenRow.__dataclass_fields__}
    connection.execute(sa.insert(operator_token).values(values))


def get_token(connection: sa.Connection, token: str) -> OperatorTokenRow | None:
    """Return a bootstrap token."""
    row = connection.execute(sa.select(operator_token).where(operator_token.c.id == token)).one_or_none()
    return None if row is None else OperatorTokenRow(*row)


def take_token(connection: sa.Connection, token: str, key: bytes) -> None:
    """Bind a token to the key that used it."""
    connection.execute(sa.update(operator_token).where(operator_token.c.id == token).values(used_by=key))


def drop_token_of(connection: sa.Connection, name: str) -> None:
    """Forget an operator's bootstrap token."""
    connection.execute(sa.delete(operator_token).where(operator_token.c.operator == name))


def knows_certificate(connection: sa.Connection, digest: str) -> bool:
    """Whether the audit log shows a certificate already."""
    statement = sa.select(operator_certificate.c.leaf).where(operator_certificate.c.digest == digest)
    return connection.execute(statement).one_or_none() is not None


def put_certificate(connection: sa.Connection, digest: str, leaf: int) -> None:
    """Note where the audit log shows a certificate."""
    connection.execute(sa.insert(operator_certificate).values(digest=digest, leaf=leaf))


def take_nonce(connection: sa.Connection, nonce: bytes, at_ms: int, forget_before_ms: int) -> bool:
    """Note the nonce of an action, and forget those that are too old to pass; False when it was used before."""
    connection.execute(sa.delete(action).where(action.c.at_ms < forget_before_ms))
    statement = insert(action).values(nonce=nonce, at_ms=at_ms).on_conflict_do_nothing()
    return connection.execute(statement).rowcount == 1


def _operator(row: sa.Row[tuple[object, ...]]) -> OperatorRow:
    values: dict[str, object] = dict(row._mapping)  # noqa: SLF001 - the public accessor of SQLAlchemy's rows
    roles: Sequence[str] = json.loads(row.roles)
    return OperatorRow(**{**values, "roles": tuple(roles)})  # type: ignore[arg-type]  # columns are the fields

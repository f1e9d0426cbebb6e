"""Statements about checkpoints that were offered to witnesses, their cosignatures, and the witness keys of nodes.

Owns: rows that are only ever inserted; triggers refuse anything else for checkpoints and cosignatures. Never verifies:
`orchestrator.witnessing` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from orchestrator.store.schema import checkpoint, cosignature, release_file, witness

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint that was offered."""

    size: int
    note: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class CosignatureRow:
    """A witness's verified signature line."""

    size: int
    witness: str
    line: str
    at_s: int


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """The witness key of one enrolment of a node, and the leaf with the node's word for it."""

    vkey: str
    node: str
    epoch: int
    leaf: int


def newest(connection: sa.Connection, origin: str) -> CheckpointRow | None:
    """Return the checkpoint of a log that was offered last."""
    statement = sa.select(checkpoint).where(_is_of(origin)).order_by(checkpoint.c.size.desc()).limit(1)
    row = connection.execute(statement).one_or_none()
    return None if row is None else CheckpointRow(*row)


def largest(connection: sa.Connection) -> CheckpointRow | None:
    """Return the checkpoint that was offered last, of this log or of one that it continues."""
    row = connection.execute(sa.select(checkpoint).order_by(checkpoint.c.size.desc()).limit(1)).one_or_none()
    return None if row is None else CheckpointRow(*row)


def get_checkpoint(connection: sa.Connection, size: int) -> CheckpointRow | None:
    """Return the checkpoint of a size."""
    row = connection.execute(sa.select(checkpoint).where(checkpoint.c.size == size)).one_or_none()
    return None if row is None else CheckpointRow(*row)


def list_checkpoints(connection: sa.Connection, *, above: int, limit: int) -> tuple[CheckpointRow, ...]:
    """Return checkpoints of more than `above` leaves, the smallest first."""
    statement = sa.select(checkpoint).where(checkpoint.c.size > above).order_by(checkpoint.c.size).limit(limit)
    return tuple(CheckpointRow(*row) for row in connection.execute(statement))


def first_above(connection: sa.Connection, leaves: Collection[int]) -> Mapping[int, bytes]:
    """Return for each of these leaves the note of the smallest checkpoint that covers it; none where none does."""
    found: dict[int, bytes] = {}
    waiting = sorted(set(leaves), reverse=True)
    if not waiting:
        return found
    statement = sa.select(checkpoint.c.size, checkpoint.c.note).where(checkpoint.c.size > waiting[-1])
    with connection.execute(statement.order_by(checkpoint.c.size)) as rows:
        for size, note in rows:
            while waiting and waiting[-1] < size:
                found[waiting.pop()] = note
            if not waiting:
                break
    return found


def list_newest(connection: sa.Connection, origin: str, *, above: int, limit: int) -> tuple[CheckpointRow, ...]:
    """Return checkpoints of a log of more than `above` leaves, the largest first."""
    chosen = sa.select(checkpoint).where(checkpoint.c.size > above, _is_of(origin))
    rows = connection.execute(chosen.order_by(checkpoint.c.size.desc()).limit(limit))
    return tuple(CheckpointRow(*row) for row in rows)


def _is_of(origin: str) -> sa.ColumnElement[bool]:
    """Whether a note is of this log: its first line is the log's name."""
    line = f"{origin}\n".encode()
    return sa.func.substr(checkpoint.c.note, 1, len(line)) == line


def put_checkpoint(connection: sa.Connection, row: CheckpointRow) -> None:
    """Insert a checkpoint; the first of its size stays."""
    values = {"size": row.size, "note": row.note, "created_ms": row.created_ms}
    connection.execute(insert(checkpoint).values(values).on_conflict_do_nothing())


def list_cosignatures(connection: sa.Connection, size: int) -> tuple[CosignatureRow, ...]:
    """Return the cosignatures on a checkpoint."""
    rows = connection.execute(sa.select(cosignature).where(cosignature.c.size == size).order_by(cosignature.c.witness))
    return tuple(CosignatureRow(*row) for row in rows)


def put_cosignature(connection: sa.Connection, row: CosignatureRow) -> None:
    """Insert a cosignature; the first of a witness on a checkpoint stays."""
    values = {"size": row.size, "witness": row.witness, "line": row.line, "at_s": row.at_s}
    connection.execute(insert(cosignature).values(values).on_conflict_do_nothing())


def newest_cosignatures(connection: sa.Connection) -> Mapping[str, CosignatureRow]:
    """Return the newest cosignature of each witness, by verifier key."""
    largest = sa.select(cosignature.c.witness, sa.func.max(cosignature.c.size).label("size")).group_by(
        cosignature.c.witness
    )
    chosen = largest.subquery()
    statement = sa.select(cosignature).join(
        chosen, sa.and_(cosignature.c.witness == chosen.c.witness, cosignature.c.size == chosen.c.size)
    )
    return {row.witness: CosignatureRow(*row) for row in connection.execute(statement)}


def get_witness(connection: sa.Connection, node: str, epoch: int) -> WitnessRow | None:
    """Return the newest witness key of an enrolment of a node."""
    statement = sa.select(witness).where(witness.c.node == node, witness.c.epoch == epoch)
    row = connection.execute(statement.order_by(witness.c.leaf.desc()).limit(1)).one_or_none()
    return None if row is None else WitnessRow(*row)


def list_witnesses(connection: sa.Connection) -> tuple[WitnessRow, ...]:
    """Return every witness key of a node, by node and age."""
    rows = connection.execute(sa.select(witness).order_by(witness.c.node, witness.c.leaf))
    return tuple(WitnessRow(*row) for row in rows)


def nodes_of(connection: sa.Connection, vkeys: Collection[str]) -> tuple[str, ...]:
    """Return the nodes to which some witness keys belong."""
    rows = connection.execute(sa.select(witness.c.node).where(witness.c.vkey.in_(sorted(vkeys))).distinct())
    return tuple(row.node for row in rows)


def put_witness(connection: sa.Connection, row: WitnessRow) -> None:
    """Insert a witness key, or let one that was there before be the newest again."""
    values = {"node": row.node, "epoch": row.epoch, "leaf": row.leaf}
    statement = insert(witness).values(vkey=row.vkey, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[witness.c.vkey], set_=values))


def release_stamp(connection: sa.Connection) -> bytes:
    """Return the timestamp metadata of the adopted release: it changes with every publication; b"" before the first."""
    statement = sa.select(release_file.c.content).where(release_file.c.name == "timestamp.json")
    found: bytes | None = connection.execute(statement).scalar_one_or_none()
    return found or b""

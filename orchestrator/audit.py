"""The audit log: an append-only Merkle tree of everything that changed who may do what.

Owns: what a leaf is, appending it in the transaction of the change that it records, and the signed statements about the
tree: checkpoints (c2sp.org/tlog-checkpoint) and inclusion proofs (c2sp.org/tlog-proof). What a leaf is made of is
said in `fleet.leaves`. Nothing here, or
anywhere, changes or removes a leaf: triggers of the database refuse it, and nodes that hold a checkpoint would notice.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from fleet import merkle
from fleet.checkpoint import format_proof, format_vkey, key_name, sign_again, sign_checkpoint, split_note
from fleet.leaves import event_leaf as event_leaf  # noqa: PLC0414 - whoever appends a leaf finds its form here
from fleet.logs import next_origin
from orchestrator.store import audit as rows
from orchestrator.store import witnesses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from fleet.signing import SigningKey

PREFACE: ContextVar[Callable[[Connection, int], Sequence[bytes]] | None] = ContextVar("preface", default=None)
"""Makes the leaves that belong before the next ones: the signed action of who calls (`orchestrator.actions`)."""


class AuditLog:
    """The log of one fleet. Every method works inside the caller's transaction.

    Args:
        fleet: the fleet's name.
        key: the log's key, used for nothing else.
        former: the key before it, which signs too as long as somebody may not know the new one.
        origin: the log's name; of the first log of a fleet when empty.
    """

    def __init__(self, fleet: str, key: SigningKey, former: SigningKey | None = None, origin: str = "") -> None:
        self.origin = origin or next_origin(fleet, ())
        self.vkey = format_vkey(self.origin, key.public)
        self._keys = (key,) if former is None else (key, former)

    def append(self, connection: Connection, leaves: Sequence[bytes]) -> int:
        """Append leaves in a write transaction and return the index of the first."""
        size = rows.log_size(connection)
        preface = PREFACE.get()
        before = () if preface is None else preface(connection, size)
        leaves = (*before, *leaves)
        if not leaves:
            return size
        nodes = merkle.append(
            lambda level, index: rows.read_hash(connection, level, index), size, map(merkle.leaf_hash, leaves)
        )
        rows.insert_leaves(connection, size, leaves, nodes)
        return size + len(before)

    def checkpoint(self, connection: Connection) -> bytes:
        """Return the signed note about the log as the transaction sees it."""
        size = rows.log_size(connection)
        return sign_checkpoint(self.origin, size, self.root(connection, size), *self._keys)

    def root(self, connection: Connection, size: int) -> bytes:
        """Return the root of the first `size` leaves; the log has at least so many."""
        return merkle.root(lambda level, index: rows.read_hash(connection, level, index), size)

    def signed(self, note: bytes) -> bytes:
        """Return a checkpoint of this log as its keys of today sign it; that of an earlier log stays as it is."""
        return sign_again(note, self.origin, *self._keys)

    def proves(self, connection: Connection, leaf: int) -> bool:
        """Whether a leaf was first proven by this log under its newest key, or not yet at all."""
        provers = self.provers(connection, [leaf]).get(leaf)
        return provers is None or key_name(self.vkey) in provers

    def provers(self, connection: Connection, leaves: Collection[int]) -> Mapping[int, frozenset[str]]:
        """Return the names of the keys (`key_name`) under which leaves were first proven; none for those not yet."""
        notes = witnesses.first_above(connection, leaves)
        signers = {
            note: frozenset(f"{line.name}+{line.key_hash.hex()}" for line in split_note(note).signatures)
            for note in set(notes.values())
        }
        return {leaf: signers[note] for leaf, note in notes.items()}

    def proof(self, connection: Connection, index: int) -> bytes:
        """Return the proof file that a leaf is in the log, with the present checkpoint."""
        size = rows.log_size(connection)
        path = merkle.inclusion_proof(lambda level, i: rows.read_hash(connection, level, i), index, size)
        return format_proof(index, path, self.checkpoint(connection))

    def entries(self, connection: Connection, first: int, limit: int) -> tuple[tuple[int, bytes], ...]:
        """Return leaves in order, for somebody who recomputes the tree."""
        return rows.list_leaves(connection, first, limit)

"""The append-only Merkle tree of the audit log: RFC 6962 hashing, RFC 9162 proofs.

Owns: leaf and node hashes, which nodes an append adds, roots and proofs computed through a node reader, and their
verification. Never stores anything: the log's storage passes `read(level, index)`, which returns the hash of the
complete subtree over the leaves [index * 2**level, (index + 1) * 2**level). Signed statements about a tree are in
`fleet.checkpoint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fleet.errors import Code, FleetError

NodeReader = Callable[[int, int], bytes]
"""`read(level, index)`: hash of a complete subtree; only asked for subtrees that the tree's size covers."""

HASH_BYTES = 32
"""Size of a SHA-256 hash."""

MAX_SIZE = 2**63 - 1
"""Leaves in a tree: what fits a signed 64-bit column."""

MAX_PROOF = 126
"""Hashes in a proof: twice the greatest height covers the longest consistency proof."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a tree without leaves (RFC 9162, 2.1.1)."""


@dataclass(frozen=True, slots=True)
class Node:
    """Hash of a complete subtree of 2**level leaves, the index-th of its level from the left."""

    level: int
    index: int
    hash: bytes


class Frontier:
    """The right edge of a growing tree: enough to append and to tell the root, in memory of one hash per level."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []  # one complete subtree per bit of the size, the largest first

    def append(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        value, rest = leaf, self.size
        while rest & 1:
            value, rest = node_hash(self._subtrees.pop(), value), rest >> 1
        self._subtrees.append(value)
        self.size += 1

    def root(self) -> bytes:
        """Root over everything appended so far (RFC 9162, 2.1.1)."""
        if not self._subtrees:
            return EMPTY_ROOT
        value = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            value = node_hash(left, value)
        return value


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf (RFC 9162, 2.1.1); the 0x00 prefix keeps a leaf from passing for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def append(read: NodeReader, size: int, leaves: Iterable[bytes]) -> tuple[Node, ...]:
    """Return every node that `leaves` (leaf hashes) complete when appended to a tree of `size` leaves.

    The caller stores them in the transaction that stores the leaves. `read` is asked only for nodes of the old tree.
    """
    added: dict[tuple[int, int], bytes] = {}
    for position, leaf in enumerate(leaves, start=size):
        level, index, value = 0, position, leaf
        added[level, index] = value
        while index & 1:
            left = added.get((level, index - 1)) or read(level, index - 1)
            level, index, value = level + 1, index >> 1, node_hash(left, value)
            added[level, index] = value
    return tuple(Node(level, index, value) for (level, index), value in added.items())


def root(read: NodeReader, size: int) -> bytes:
    """Root of the first `size` leaves (RFC 9162, 2.1.1)."""
    return _range_hash(read, 0, size) if size else EMPTY_ROOT


def inclusion_proof(read: NodeReader, index: int, size: int) -> tuple[bytes, ...]:
    """Proof that leaf `index` is in the tree of `size` leaves (RFC 9162, 2.1.3.1), lowest sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_range_hash(read, middle, end))
            end = middle
        else:
            path.append(_range_hash(read, first, middle))
            first = middle
    return tuple(reversed(path))


def consistency_proof(read: NodeReader, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """Proof that the tree of `new_size` leaves begins with the tree of `old_size` (RFC 9162, 2.1.4.1).

    Empty when the sizes are equal and when the old tree is empty (then there is nothing to prove).
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"no proof from {old_size} to {new_size} leaves")
    if old_size == 0:
        return ()
    path: list[bytes] = []
    first, end = 0, new_size
    while end != old_size:
        middle = first + _split(end - first)
        if old_size <= middle:
            path.append(_range_hash(read, middle, end))
            end = middle
        else:
            path.append(_range_hash(read, first, middle))
            first = middle
    if first:  # the verifier knows the old root, and needs this subtree only when it is a part of it
        path.append(_range_hash(read, first, end))
    return tuple(reversed(path))


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], expected_root: bytes) -> None:
    """Check that the leaf hash is leaf `index` of the tree (RFC 9162, 2.1.3.2).

    Raises:
        FleetError: PROOF_INVALID.
    """
    if not 0 <= index < size:
        raise _invalid(f"there is no leaf {index} in a tree of {size}")
    _check_hashes((leaf, *proof))
    position, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _invalid("the inclusion proof is too long")
        if position & 1 or position == last:
            value = node_hash(sibling, value)
            position, last = _skip_missing(position, last)
        else:
            value = node_hash(value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise _invalid("the inclusion proof is too short")
    if value != expected_root:
        raise _invalid("the inclusion proof leads to another root")


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the new tree begins with the old one (RFC 9162, 2.1.4.2).

    An old size of 0 is refused here as the RFC has it: what follows an empty tree is a question for the witness
    (`fleet.checkpoint.check_extends`).

    Raises:
        FleetError: PROOF_INVALID.
    """
    if not 0 < old_size <= new_size:
        raise _invalid(f"no consistency between {old_size} and {new_size} leaves")
    _check_hashes(proof)
    if old_size == new_size:
        if proof or old_root != new_root:
            raise _invalid("two roots for one size")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise _invalid("the consistency proof is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_value = new_value = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _invalid("the consistency proof is too long")
        if position & 1 or position == last:
            old_value, new_value = node_hash(sibling, old_value), node_hash(sibling, new_value)
            position, last = _skip_missing(position, last)
        else:
            new_value = node_hash(new_value, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise _invalid("the consistency proof is too short")
    if old_value != old_root or new_value != new_root:
        raise _invalid("the consistency proof leads to other roots")


def _skip_missing(position: int, last: int) -> tuple[int, int]:
    """Climb the levels on which a last node without sibling was carried up unchanged."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _split(count: int) -> int:
    """Largest power of two smaller than `count` (RFC 9162, 2.1.1); `count` is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _range_hash(read: NodeReader, first: int, end: int) -> bytes:
    """Hash of the leaves [first, end); `first` is a multiple of the largest power of two within the range."""
    count = end - first
    if count & (count - 1) == 0:
        return read(count.bit_length() - 1, first // count)
    middle = first + _split(count)
    return node_hash(_range_hash(read, first, middle), _range_hash(read, middle, end))


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PROOF or any(len(value) != HASH_BYTES for value in hashes):
        raise _invalid("a proof is a short list of SHA-256 hashes")


def _invalid(message: str) -> FleetError:
    return FleetError(Code.PROOF_INVALID, message)

"""An audit log that anybody can recompute, and a ledger of who signed which of its trees.

Nothing here is read back with the code under test: the laws of the model are judged by it.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

from fleet.checkpoint import KeyKind, format_proof, format_vkey, sign_checkpoint
from fleet.merkle import consistency_proof, inclusion_proof, root
from fleet.witnesses import add_lines, cosign
from tests.fakes.publisher import LOG, MemoryLog, key

Tree = tuple[int, bytes]
"""Size and root hash."""


class ModelLog(MemoryLog):
    """An audit log with its leaves kept, so that its root can be computed from nothing else."""

    def __init__(self, *leaves: bytes) -> None:
        self.leaves: list[bytes] = []
        super().__init__(*leaves)

    def append(self, leaf: bytes) -> int:
        self.leaves.append(leaf)
        return super().append(leaf)

    @property
    def tree(self) -> Tree:
        return self.size, root(self.read, self.size)

    def consistency(self, base: int) -> tuple[bytes, ...]:
        """Proof that the tree begins with its first `base` leaves."""
        return consistency_proof(self.read, base, self.size) if base else ()


@dataclass
class Testimony:
    """Who signed which tree: keys of logs by name, and keys of witnesses.

    Attributes:
        signed: tree -> names of the keys that signed a checkpoint of it as a log.
        cosigned: tree -> names of the keys that cosigned one.
    """

    signed: defaultdict[Tree, set[str]] = field(default_factory=lambda: defaultdict(set))
    cosigned: defaultdict[Tree, set[str]] = field(default_factory=lambda: defaultdict(set))

    def prove(self, log: ModelLog, index: int, signers: tuple[str, ...], witnesses: frozenset[str], at_s: int) -> bytes:
        """Make the proof file of a leaf, with a checkpoint that these keys sign and these witnesses cosign."""
        note = sign_checkpoint(LOG, *log.tree, *(key(name) for name in signers))
        lines = [cosign(note, witness_name(name), key(name), at_s) for name in sorted(witnesses)]
        self.signed[log.tree] |= set(signers)
        self.cosigned[log.tree] |= witnesses
        return format_proof(index, inclusion_proof(log.read, index, log.size), add_lines(note, lines))


def log_vkey(name: str) -> str:
    """Verifier key of the log, made of a key."""
    return format_vkey(LOG, key(name).public)


def witness_name(name: str) -> str:
    """Under which name a key cosigns."""
    return f"{name}.example/witness"


def witness_vkey(name: str) -> str:
    """Verifier key of a witness, made of a key."""
    return format_vkey(witness_name(name), key(name).public, KeyKind.COSIGNER)


def tree_root(leaves: list[bytes]) -> bytes:
    """Root of a tree, word for word as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + tree_root(leaves[:split]) + tree_root(leaves[split:])).digest()


def checkpoint_of(proof: bytes) -> tuple[int, int, bytes]:
    """(index of the leaf, size, root) that a proof file claims, read without the code under test."""
    head, _, note = proof.decode().partition("\n\n")
    index = int(next(line for line in head.split("\n") if line.startswith("index ")).removeprefix("index "))
    lines = note.split("\n")
    return index, int(lines[1]), base64.b64decode(lines[2])

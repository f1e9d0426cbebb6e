"""What one party has seen of an audit log, and whether a new checkpoint fits to it.

Owns: `Sighting`, the memory of a witness (a node, or a machine outside of the fleet): the largest checkpoint that it
verified and a few earlier ones, and the two questions that are asked of it. A checkpoint that does not fit shows a log
with two histories, or one that was cut; the code is LOG_FORKED then, and whoever asked keeps both notes as evidence.
Never stores anything: bytes go in and out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.checkpoint import MAX_NOTE, Checkpoint, check_extends, open_checkpoint
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, verify_consistency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.logs import ClosedLog

SCHEMA = "fleet.sighting/v1"
MAX_KNOWN = 64
"""Earlier checkpoints that are remembered, so that an order that was long under way can still be placed."""

MAX_BYTES = 64 * 1024


_NOTHING: Mapping[int, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of one log.

    Attributes:
        size: leaves of the largest tree that was verified; 0 before the first.
        note: the checkpoint that says so, as it came; empty before the first.
        known: size to root of verified trees of the same history, the largest included.
        origin: name of the log; empty before the first.
    """

    size: int = 0
    note: bytes = b""
    known: Mapping[int, bytes] = field(default_factory=lambda: _NOTHING)
    origin: str = ""

    @property
    def root(self) -> bytes:
        """Root of the largest tree."""
        return self.known[self.size] if self.size else EMPTY_ROOT


def advance(seen: Sighting, note: bytes, vkeys: tuple[str, ...], proof: Sequence[bytes]) -> Sighting:
    """Go on to a newer checkpoint, as a witness does before it cosigns (c2sp.org/tlog-witness, "add-checkpoint").

    Checks, in this order:
        1. The log signed the checkpoint (`fleet.checkpoint.open_checkpoint`).
        2. It has at least as many leaves as were seen: no rollback.
        3. The proof shows that it begins with what was seen: no fork.

    Args:
        seen: what is known; the proof starts from its size.
        note: the checkpoint.
        vkeys: the log's verifier keys.
        proof: consistency proof; empty from an empty tree.

    Raises:
        FleetError: PROOF_INVALID for check 1; LOG_FORKED for 2 and 3.
    """
    new = open_checkpoint(note, vkeys)  # 1
    if new.size < seen.size:  # 2
        raise _forked(f"the log had {seen.size} leaves and is now shown with {new.size}", seen, new)
    try:
        check_extends(Checkpoint(new.origin, seen.size, seen.root), new, proof)  # 3
    except FleetError as error:
        raise _forked(f"the log of {new.size} leaves does not begin with the {seen.size} seen", seen, new) from error
    return _with(seen, new, note)


def place(seen: Sighting, note: bytes, vkeys: tuple[str, ...], base: int, proof: Sequence[bytes]) -> Sighting:
    """Place a checkpoint of any size in the history that was seen, before anything that it proves is acted on.

    Checks, in this order:
        1. The log signed the checkpoint.
        2. Nothing was seen before, or exactly this root of this size was: done. Another root of this size is a fork.
        3. A larger one than was seen follows from the largest that was seen (`advance`).
        4. For a smaller one, `base` is a size that was seen, and the proof shows that the smaller tree begins it.

    Args:
        seen: what is known.
        note: the checkpoint.
        vkeys: the log's verifier keys.
        base: size of the tree that the proof is about besides the note's.
        proof: consistency proof between the smaller and the larger.

    Raises:
        FleetError: PROOF_INVALID when the proof is not about anything that was seen; LOG_FORKED.
    """
    new = open_checkpoint(note, vkeys)  # 1
    if seen.size == 0 or seen.known.get(new.size) == new.root:  # 2
        return _with(seen, new, note) if new.size > seen.size else seen
    if new.size in seen.known:
        raise _forked(f"two logs of {new.size} leaves", seen, new)
    if new.size > seen.size:  # 3
        if base != seen.size:
            raise FleetError(
                Code.PROOF_INVALID, f"a proof from {base} leaves, and {seen.size} were seen", size=new.size
            )
        return advance(seen, note, vkeys, proof)
    if base not in seen.known or base < new.size:  # 4
        raise FleetError(Code.PROOF_INVALID, f"a proof to {base} leaves, which were not seen", size=new.size)
    try:
        verify_consistency(new.size, base, new.root, seen.known[base], proof)
    except FleetError as error:
        raise _forked(f"the log seen does not begin with this one of {new.size} leaves", seen, new) from error
    return _with(seen, new, seen.note)


def follow(seen: Sighting, origin: str, closed: Sequence[ClosedLog]) -> Sighting:
    """Go over to the log that continues the one that was seen, as the targets role says (`fleet.logs`).

    What came after the end of a closed log is forgotten; what came before never is: a statement about a log cannot
    make a witness accept another beginning than it saw.

    1. Where nothing was seen, or this very log, nothing changes. So it is when no statement closes the log that was
       seen: whatever the present log is called, it has to begin with that one.
    2. Of the log that was seen, and of each after it, the trees that are larger than what goes on are forgotten.
    3. Who only saw larger ones begins with the stated tree.

    Args:
        seen: what is known.
        origin: name of the present log.
        closed: logs that ended, the oldest first.
    """
    names = [log.origin for log in closed]
    if seen.origin in {"", origin} or seen.origin not in names:  # 1
        return seen
    known = dict(seen.known)
    for log in closed[names.index(seen.origin) :]:  # 2
        kept = {size: root for size, root in known.items() if size <= log.size}
        known = kept or ({log.size: log.root} if log.size else {})  # 3
    size = max(known, default=0)
    return Sighting(size, seen.note if size == seen.size else b"", MappingProxyType(known), origin)


def encode_sighting(seen: Sighting) -> bytes:
    """Write it as bytes to keep."""
    return dump_json(
        {
            "schema": SCHEMA,
            "size": seen.size,
            "note": seen.note.decode(),
            "known": {str(size): root.hex() for size, root in seen.known.items()},
            **({"origin": seen.origin} if seen.origin else {}),
        }
    )


def decode_sighting(data: bytes) -> Sighting:
    """Read what `encode_sighting` wrote.

    Raises:
        FleetError: STATE_CORRUPT.
    """
    code, name = Code.STATE_CORRUPT, "sighting"
    with Reader(load_json(data, code, name, MAX_BYTES), code, name) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        size = top.integer("size", 0, MAX_SIZE)
        note = top.text("note").encode()
        known = {_size(top, text): _root(top, root) for text, root in top.mapping("known", MAX_KNOWN).items()}
        origin = top.text("origin", note.partition(b"\n")[0].decode())  # earlier releases wrote the note alone
        if len(note) > MAX_NOTE or (size and size not in known):
            top.fail("size", "no root of this size")
    return Sighting(size, note, MappingProxyType(known), origin)


def _with(seen: Sighting, new: Checkpoint, note: bytes) -> Sighting:
    """Remember one more tree; the smallest gives way."""
    known = {**seen.known, new.size: new.root} if new.size else dict(seen.known)
    if len(known) > MAX_KNOWN:
        del known[min(known)]
    larger = new.size > seen.size
    note = note if larger or not seen.note else seen.note
    return Sighting(new.size if larger else seen.size, note, MappingProxyType(known), new.origin)


def _size(top: Reader, text: str) -> int:
    if not text.isdecimal() or not text.isascii() or str(int(text)) != text:
        top.fail("known", "not a size")
    return int(text)


def _root(top: Reader, text: str) -> bytes:
    try:
        root = bytes.fromhex(text)
    except ValueError:
        root = b""
    if len(root) != HASH_BYTES:
        top.fail("known", "not a root")
    return root


def _forked(message: str, seen: Sighting, new: Checkpoint) -> FleetError:
    return FleetError(Code.LOG_FORKED, message, seen=seen.size, shown=new.size)

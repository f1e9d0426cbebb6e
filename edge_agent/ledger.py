"""The desired state that the node has accepted, on disk.

Owns one file: the exact bytes of the newest accepted envelope and its proof, with the generation that they carry.
Accept means written and durable; only then may anything act on it. A lower generation is refused, and so is different
content under the same number, so a late, repeated or replayed message can do no harm and no leader is needed.
Never verifies a signature: it takes what `fleet.assignment` has verified, and gives back bytes to verify again.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from fleet.assignment import MAX_ENVELOPE
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.model import DesiredState
from fleet.signing import read_base64
from fleet.times import MAX_MS, from_ms, to_ms

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from edge_agent.disk import Disk
    from fleet.assignment import VerifiedAssignment

SCHEMA = "fleet.ledger/v1"
MAX_FILE = 2 * MAX_ENVELOPE
"""Bytes of the ledger: the largest order in base64, a proof and the frame around them, with room."""

MAX_NUMBER = 2**53
"""Largest epoch or generation: what JSON numbers carry exactly (RFC 8259 section 6)."""

FILE = "desired.json"
CORRUPT = "desired.corrupt"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger holds.

    Attributes:
        epoch: enrolment that the generation counts in; a node that joins again begins a new count.
        generation: number of the desired state.
        digest: `sha256:...` of the assignment's bytes.
        accepted_at: when it was accepted; its validity is judged as of then, for ever.
        desired: the exact bytes.
    """

    epoch: int
    generation: int
    digest: str
    accepted_at: datetime
    desired: DesiredState


class Ledger:
    """The newest accepted desired state. Call `load` once before anything else."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._path = folder / FILE
        self._entry: Entry | None = None

    @property
    def entry(self) -> Entry | None:
        """What is accepted; None before the first."""
        return self._entry

    def load(self) -> Entry | None:
        """Read what was accepted before.

        Raises:
            FleetError: LEDGER_CORRUPT when the file cannot be read back. It is moved aside then, for people to look
                at, and the ledger is empty: the coordinator sends the desired state again.
        """
        size = self._disk.size(self._path)
        if size is None:
            return None
        try:
            self._entry = _decode(self._disk.read(self._path, 0, MAX_FILE + 1))
        except FleetError as error:
            self._set_aside()
            raise FleetError(Code.LEDGER_CORRUPT, "the ledger cannot be read", place=CORRUPT) from error
        return self._entry

    def discard(self) -> None:
        """Move aside what does not verify any more."""
        self._set_aside()
        self._entry = None

    def is_new(self, verified: VerifiedAssignment) -> bool:
        """Whether this would change what is accepted; False when exactly this is accepted already.

        Raises:
            FleetError: GENERATION_STALE, GENERATION_CONFLICT.
        """
        current, assignment = self._entry, verified.assignment
        if current is None:
            return True
        number, accepted = (assignment.epoch, assignment.generation), (current.epoch, current.generation)
        if number < accepted:
            raise FleetError(
                Code.GENERATION_STALE,
                f"generation {number[1]} of epoch {number[0]} is older than {accepted[1]} of epoch {accepted[0]}",
                generation=number[1],
                accepted=accepted[1],
            )
        if number == accepted and verified.digest != current.digest:
            raise FleetError(
                Code.GENERATION_CONFLICT,
                f"generation {number[1]} was accepted with other content",
                generation=number[1],
                accepted=current.digest,
            )
        return number != accepted

    def accept(self, verified: VerifiedAssignment, desired: DesiredState, now: datetime) -> bool:
        """Accept a desired state durably; False when exactly this one is accepted already.

        Args:
            verified: the result of `fleet.assignment.open_assignment` over `desired`.
            desired: the exact bytes that were verified.
            now: when it was verified.

        Raises:
            FleetError: GENERATION_STALE, GENERATION_CONFLICT, STORAGE_FULL, LIMIT_EXCEEDED.
        """
        if not self.is_new(verified):
            return False
        assignment = verified.assignment
        entry = Entry(assignment.epoch, assignment.generation, verified.digest, now, desired)
        data = _encode(entry)
        if len(data) > MAX_FILE:
            raise FleetError(Code.LIMIT_EXCEEDED, f"the desired state takes {len(data)} bytes, the limit is {MAX_FILE}")
        replace_file(self._disk, self._path, data)
        self._entry = entry
        return True

    def _set_aside(self) -> None:
        if self._disk.size(self._path) is not None:
            self._disk.rename(self._path, self._path.with_name(CORRUPT))
            self._disk.sync(self._path.parent)


def _encode(entry: Entry) -> bytes:
    return dump_json(
        {
            "schema": SCHEMA,
            "epoch": entry.epoch,
            "generation": entry.generation,
            "digest": entry.digest,
            "accepted_at_ms": to_ms(entry.accepted_at),
            "envelope": base64.b64encode(entry.desired.envelope).decode(),
            "proof": base64.b64encode(entry.desired.proof).decode(),
        }
    )


def _decode(data: bytes) -> Entry:
    with Reader(load_json(data, Code.LEDGER_CORRUPT, FILE, MAX_FILE), Code.LEDGER_CORRUPT, FILE) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        return Entry(
            top.integer("epoch", 0, MAX_NUMBER),
            top.integer("generation", 0, MAX_NUMBER),
            top.text("digest"),
            from_ms(top.integer("accepted_at_ms", 0, MAX_MS)),
            DesiredState(read_base64(top, "envelope"), read_base64(top, "proof")),
        )

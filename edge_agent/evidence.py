"""The command `edge-agent witness`: what this node has seen of the audit log, for somebody who compares.

Owns: reading `witness/` beside a running node, and forgetting it on a stopped one, which is for a person who has
looked at the evidence. Never judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.data_dir import lock_data_dir
from edge_agent.disk import LocalDisk
from edge_agent.witness import EVIDENCE, MAX_EVIDENCE, SEEN, read_evidence
from fleet.errors import Code, FleetError
from fleet.sighting import MAX_BYTES, decode_sighting

if TYPE_CHECKING:
    from pathlib import Path


def held_note(data_dir: Path) -> str:
    """Return the newest checkpoint that the node verified, as the signed note that it got.

    Raises:
        FleetError: NOT_FOUND when it has seen none; STATE_CORRUPT.
    """
    disk, path = LocalDisk(), data_dir / "witness" / SEEN
    if disk.size(path) is None:
        raise FleetError(Code.NOT_FOUND, "this node has seen no checkpoint yet", place=str(path))
    return decode_sighting(disk.read(path, 0, MAX_BYTES + 1)).note.decode()


def evidence_text(data_dir: Path) -> str:
    """Return the evidence against the log: both notes, as JSON.

    Raises:
        FleetError: NOT_FOUND when there is none; STATE_CORRUPT.
    """
    disk, path = LocalDisk(), data_dir / "witness" / EVIDENCE
    if read_evidence(disk, path) is None:
        raise FleetError(Code.NOT_FOUND, "this node holds no evidence against the log", place=str(path))
    return disk.read(path, 0, MAX_EVIDENCE).decode() + "\n"


def forget(data_dir: Path) -> None:
    """Let the node begin to witness anew: what it saw and the evidence go.

    Raises:
        FleetError: ALREADY_EXISTS while the node runs.
    """
    with lock_data_dir(data_dir):
        for name in (EVIDENCE, SEEN):
            LocalDisk().remove(data_dir / "witness" / name)
        LocalDisk().sync(data_dir / "witness")

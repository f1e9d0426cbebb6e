"""A whole audit log, from a coordinator or from an export, checked leaf by leaf.

Owns: `Material`, what is checked, in one form from both sources, and the order of the check. What is trusted is in the
trust directory alone: the pinned root and what it leads to. The coordinator's own answers are among what is checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.audit import Anchors, HeldCheckpoint, LogCheck, group_held
from fleet.checkpoint import open_checkpoint
from fleet.errors import Code, FleetError
from fleet.history import Rows, differences
from fleet.targets import TRUST_PATH, WITNESS_POLICY_PATH
from fleet.trust import open_fleet_trust, open_release
from fleet.v1 import control_pb2 as pb
from fleet.wire_audit import from_pb_rows
from fleet.witnesses import NO_WITNESSES, open_cosignatures, parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from fleet.checkpoint import Checkpoint
    from fleet.trust import FleetTrust
    from fleet.witnesses import WitnessPolicy
    from orchestrator.audit_export import Export
    from orchestrator.cli.client import Client
    from orchestrator.cli.trust import TrustDirectory

STREAM_TIMEOUT_S = 3600.0
"""Longest that reading a log from a coordinator may take."""


@dataclass(frozen=True, slots=True)
class Believed:
    """What the check starts from: the fleet's keys and its witness policy, both from the verified release."""

    trust: FleetTrust
    policy: WitnessPolicy


@dataclass(frozen=True, slots=True)
class Material:
    """What is checked; nothing of it is believed.

    Attributes:
        note: the log's signed note about the leaves.
        leaves: all of them in order; read once.
        notes: checkpoints with cosignatures.
        rows: the coordinator's projections.
        rows_size: from how many leaves they are.
    """

    note: bytes
    leaves: Iterable[bytes]
    notes: Sequence[bytes]
    rows: Rows
    rows_size: int


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        checkpoint: the log that was checked.
        fleet: its fleet.
        signatures: how many of each kind verified.
        agreed: who holds checkpoints that fit, and the largest.
        quorum_size: leaves of the largest checkpoint that the policy's quorum has cosigned; None without a policy.
        rows: projections, rebuilt from the leaves.
        misfits: rows of each projection that the coordinator has otherwise; empty when all fit.
    """

    checkpoint: Checkpoint
    fleet: str
    signatures: Mapping[str, int]
    agreed: Mapping[str, int]
    quorum_size: int | None
    rows: Rows
    misfits: Mapping[str, int]


def believed_here(directory: TrustDirectory, now: datetime) -> Believed:
    """Return what this machine's own copy of the release says."""
    release = directory.release(now)
    trust = open_fleet_trust(release, directory.document(TRUST_PATH))
    target = release.documents.get(WITNESS_POLICY_PATH)
    return Believed(
        trust, NO_WITNESSES if target is None else parse_policy(target.check(directory.document(target.path)))
    )


def believed_export(directory: TrustDirectory, export: Export, now: datetime) -> Believed:
    """Return what the export's copy of the release says, verified from the root that is pinned here.

    A copy older than this machine's own is refused.

    Raises:
        FleetError: as `fleet.trust.open_release`; AUDIT_INVALID when a document is absent.
    """
    release = open_release(
        export.metadata(), root=directory.root, now=now, previous=directory.files() or None, allow_dev=True
    )
    trust = open_fleet_trust(release, export.small("fleet.json"))
    target = release.documents.get(WITNESS_POLICY_PATH)
    return Believed(trust, NO_WITNESSES if target is None else parse_policy(target.check(export.small("policy"))))


def from_coordinator(client: Client) -> Material:
    """Ask a coordinator for its log; leaves come as they are read."""
    rows, rows_size = rows_of(client)
    notes = tuple(item.note for item in client.stream(client.stub.AuditCheckpoints, pb.AuditCheckpointsRequest()))
    note = client.call(client.stub.AuditCheckpoint, pb.AuditCheckpointRequest()).checkpoint

    def leaves() -> Iterable[bytes]:
        entries = client.stream(client.stub.AuditEntries, pb.AuditEntriesRequest(), timeout_s=STREAM_TIMEOUT_S)
        for position, entry in enumerate(entries):
            if entry.index != position:
                raise FleetError(Code.AUDIT_INVALID, f"leaf {position} is missing; got leaf {entry.index}")
            yield entry.leaf

    return Material(note, leaves(), notes, rows, rows_size)


def from_export(export: Export) -> Material:
    """Read a log from an export; leaves come as they are read."""
    rows, _ = from_pb_rows(pb.AuditRow.FromString(item) for item in export.items("rows"))
    notes = tuple(export.items("notes"))
    return Material(export.small("checkpoint"), export.items("leaves"), notes, rows, export.header().rows_size)


def rows_of(client: Client, agent: str = "", node: str = "") -> tuple[Rows, int]:
    """Ask a coordinator for projections, and from how many leaves they are."""
    request = pb.AuditRowsRequest(agent=agent, node=node)
    return from_pb_rows(client.stream(client.stub.AuditRows, request, timeout_s=STREAM_TIMEOUT_S))


def check(
    material: Material,
    believed: Believed,
    held: Sequence[tuple[str, bytes]] = (),
    operator_authorities: Sequence[x509.Certificate] = (),
) -> Report:
    """Check a log.

    Checks, in this order:
        1. The log's key of the release signed the checkpoint, and every other one that is at hand.
        2. Each leaf (`fleet.audit.LogCheck`), and wherever somebody holds a checkpoint, that the tree has its root.
        3. All leaves together have the signed root, and nobody has seen a larger log.
        4. Cosignatures of the policy's witnesses, and of those that nodes certified, verify.
        5. The coordinator's projections are those that the leaves give; what is not is counted.

    Args:
        material: what is checked.
        believed: from where.
        held: name of a holder and the note it holds: of an earlier check, a node, a witness.
        operator_authorities: certificates of the operators' authority, where they are known.

    Raises:
        FleetError: PROOF_INVALID, AUDIT_INVALID, LOG_FORKED.
    """
    vkeys = believed.trust.log_vkeys
    checkpoint = open_checkpoint(material.note, vkeys)  # 1
    known = [HeldCheckpoint(open_checkpoint(note, vkeys), holder) for holder, note in held]
    offered = [(open_checkpoint(note, vkeys), note) for note in material.notes]
    known += [HeldCheckpoint(seen, "its own earlier checkpoint") for seen, _ in offered if seen.size <= checkpoint.size]
    anchors = Anchors(believed.trust.fleet, believed.trust.director_keys, operator_authorities)
    running = LogCheck(anchors, group_held(known), rows_at=material.rows_size)
    for leaf in material.leaves:
        if running.size == checkpoint.size:
            break
        running.add(leaf)  # 2
    running.finish(checkpoint)  # 3
    agreed = {holder: size for holder, size in running.agreed.items() if holder != "its own earlier checkpoint"}
    signatures = Counter(running.checked)
    quorum: int | None = None if believed.policy.is_met(()) else 0
    everybody = {*running.witnesses, *believed.policy.witnesses.values()}
    for seen, note in offered:
        cosigned = {cosignature.witness for cosignature in open_cosignatures(note, everybody)}  # 4
        signatures["cosignatures"] += len(cosigned)
        agreed.update((key.name, max(seen.size, agreed.get(key.name, 0))) for key in cosigned)
        if quorum is not None and believed.policy.is_met(cosigned):
            quorum = max(quorum, seen.size)
    rows = running.rows
    misfits = differences(material.rows, rows) if material.rows_size <= checkpoint.size else {}  # 5
    return Report(checkpoint, anchors.fleet, signatures, agreed, quorum, rows, misfits)

"""A whole audit log, from a coordinator or from an export, checked leaf by leaf.

Owns: `Material`, what is checked, in one form from both sources, and the order of the check. What is trusted is in the
trust directory alone: the pinned root and what it leads to. The coordinator's own answers are among what is checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet.audit import Anchors, Finding, FindingKind, HeldCheckpoint, LogCheck, dated_later, kept_of
from fleet.checkpoint import Checkpoint, claimed, open_checkpoint, parse_vkey
from fleet.errors import Code, FleetError
from fleet.history import Rows, differences
from fleet.metadata import MAX_METADATA
from fleet.oci import digest_of
from fleet.publications import Publications
from fleet.targets import TRUST_PATH, WITNESS_POLICY_PATH
from fleet.trust import open_fleet_trust, open_release
from fleet.v1 import control_pb2 as pb
from fleet.wire_audit import from_pb_rows
from fleet.witnesses import NO_WITNESSES, open_cosignatures, parse_policy
from orchestrator.audit_export import HISTORY
from orchestrator.cli.render import when

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from fleet.checkpoint import VerifierKey
    from fleet.trust import FleetTrust
    from fleet.witnesses import WitnessPolicy
    from orchestrator.audit_export import Export
    from orchestrator.cli.client import Client
    from orchestrator.cli.trust import TrustDirectory

STREAM_TIMEOUT_S = 3600.0
"""Longest that reading a log from a coordinator may take."""


@dataclass(frozen=True, slots=True)
class Believed:
    """What the check starts from: the pinned root, and keys and witness policy, both from the verified release."""

    trust: FleetTrust
    policy: WitnessPolicy
    root: bytes


@dataclass(frozen=True, slots=True)
class Material:
    """What is checked; nothing of it is believed.

    Attributes:
        note: the log's signed note about the leaves.
        leaves: all of them in order; read once.
        notes: checkpoints with cosignatures.
        rows: the coordinator's projections.
        rows_size: from how many leaves they are.
        read: returns what the log names by digest; None where it is not there.
    """

    note: bytes
    leaves: Iterable[bytes]
    notes: Sequence[bytes]
    rows: Rows
    rows_size: int
    read: Callable[[str], bytes | None]


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
        findings: what somebody should look at though the log is whole.
    """

    checkpoint: Checkpoint
    fleet: str
    signatures: Mapping[str, int]
    agreed: Mapping[str, int]
    quorum_size: int | None
    rows: Rows
    misfits: Mapping[str, int]
    findings: tuple[Finding, ...]


def believed_here(directory: TrustDirectory, now: datetime) -> Believed:
    """Return what this machine's own copy of the release says."""
    release = directory.release(now)
    trust = open_fleet_trust(release, directory.document(TRUST_PATH))
    target = release.documents.get(WITNESS_POLICY_PATH)
    policy = NO_WITNESSES if target is None else parse_policy(target.check(directory.document(target.path)))
    return Believed(trust, policy, directory.root)


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
    policy = NO_WITNESSES if target is None else parse_policy(target.check(export.small("policy")))
    return Believed(trust, policy, directory.root)


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

    return Material(note, leaves(), notes, rows, rows_size, lambda digest: _fetched(client, digest))


def from_export(export: Export) -> Material:
    """Read a log from an export; leaves come as they are read."""
    rows, _ = from_pb_rows(pb.AuditRow.FromString(item) for item in export.items("rows"))
    notes = tuple(export.items("notes"))
    found = {digest_of(data): data for data in export.items(HISTORY)} if export.has(HISTORY) else {}
    leaves, size = export.items("leaves"), export.header().rows_size
    return Material(export.small("checkpoint"), leaves, notes, rows, size, found.get)


def _fetched(client: Client, digest: str) -> bytes | None:
    try:
        return client.get_blob(digest, MAX_METADATA)
    except FleetError as error:
        if error.code is Code.BLOB_MISSING:
            return None
        raise


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
        1. A key of the log that the release lists signed the checkpoint.
        2. Each leaf (`fleet.audit.LogCheck`): also what the release repository was at each publication.
        3. All leaves together have the signed root.
        4. Checkpoints that others hold, and the log's own earlier ones, are signed by a key that was listed for the log
           at some time, and agree with the leaves; so do those that close a log.
        5. Cosignatures of the policy's witnesses, and of those that nodes certified, verify; and a quorum had not seen
           a leaf before the time that it claims. (That a single witness had may be that witness's clock.)
        6. The coordinator's projections are those that the leaves give; what is not is counted.

    Args:
        material: what is checked.
        believed: from where.
        held: name of a holder and the note it holds: of an earlier check, a node, a witness.
        operator_authorities: certificates of the operators' authority, where they are known.

    Raises:
        FleetError: PROOF_INVALID, AUDIT_INVALID, LOG_FORKED.
    """
    trust = believed.trust
    checkpoint = open_checkpoint(material.note, trust.log_vkeys)  # 1
    ends = [Checkpoint(log.origin, log.size, log.root) for log in trust.closed_logs]
    sizes = {claimed(note).size for note in (*(note for _, note in held), *material.notes)} | {e.size for e in ends}
    anchors = Anchors(trust.fleet, trust.director_keys, operator_authorities)
    publications = Publications(trust.fleet, believed.root, material.read)
    running = LogCheck(anchors, publications, sizes, rows_at=material.rows_size)
    for leaf in material.leaves:
        if running.size == checkpoint.size:
            break
        running.add(leaf)  # 2
    running.finish(checkpoint)  # 3
    vkeys = {*trust.log_vkeys, *publications.log_vkeys, *(vkey for log in trust.closed_logs for vkey in log.vkeys)}
    others = [HeldCheckpoint(_opened(note, vkeys), holder) for holder, note in held]  # 4
    findings = running.compare(others, trust.closed_logs)
    agreed = dict(running.agreed)
    offered = [(_opened(note, vkeys), note) for note in material.notes]
    own = [seen for seen, _ in offered if seen.size <= _known_of(seen, checkpoint, trust)]
    running.compare([HeldCheckpoint(one, "its own earlier checkpoint") for one in (*own, *ends)], trust.closed_logs)
    witnessed = _witnessed(running, believed.policy, [(seen, note) for seen, note in offered if seen in own])  # 5
    signatures = Counter(running.checked)
    signatures["cosignatures"] = witnessed.cosignatures
    for name, size in witnessed.seen.items():
        agreed[name] = max(size, agreed.get(name, 0))
    rows = running.rows
    misfits = differences(material.rows, rows) if material.rows_size <= checkpoint.size else {}  # 6
    found = (*findings, *witnessed.findings)
    return Report(checkpoint, trust.fleet, signatures, agreed, witnessed.quorum_size, rows, misfits, found)


@dataclass(slots=True)
class _Witnessed:
    """What the cosignatures on a log's checkpoints say."""

    quorum_size: int | None
    cosignatures: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def _witnessed(running: LogCheck, policy: WitnessPolicy, offered: Sequence[tuple[Checkpoint, bytes]]) -> _Witnessed:
    asked = not policy.is_met(())
    found = _Witnessed(0 if asked else None)
    everybody = {*running.witnesses, *policy.witnesses.values()}
    early: dict[int, set[VerifierKey]] = {}
    for seen, note in offered:
        cosignatures = open_cosignatures(note, everybody)
        found.cosignatures += len(cosignatures)
        for one in cosignatures:
            found.seen[one.witness.name] = max(seen.size, found.seen.get(one.witness.name, 0))
            mark = running.marks.get(seen.size)
            if mark is None or not dated_later(mark, one):
                continue
            if one.witness not in early.setdefault(mark.leaf, set()):
                text = (
                    f"cosigned leaf {mark.leaf} at {when(one.at_s * 1000)}; it claims to be of {when(mark.latest_ms)}"
                )
                found.findings.append(Finding(FindingKind.CLOCK, one.witness.name, text, mark.leaf))
            early[mark.leaf].add(one.witness)
        if asked and policy.is_met({one.witness for one in cosignatures}):
            found.quorum_size = max(found.quorum_size or 0, seen.size)
    for leaf, witnesses in early.items():
        if asked and policy.is_met(witnesses):
            raise FleetError(Code.AUDIT_INVALID, "a quorum of witnesses had seen it before its own time", leaf=leaf)
    return found


def _opened(note: bytes, vkeys: Iterable[str]) -> Checkpoint:
    """Verify a note with the keys of the log that it names."""
    origin = claimed(note).origin
    return open_checkpoint(note, tuple(vkey for vkey in sorted(vkeys) if parse_vkey(vkey).name == origin))


def _known_of(seen: Checkpoint, checkpoint: Checkpoint, trust: FleetTrust) -> int:
    """Up to which size a checkpoint of the log itself can be compared: what was added while a log ended cannot."""
    kept = kept_of(seen.origin, trust.closed_logs)
    return checkpoint.size if kept is None else min(kept, checkpoint.size)

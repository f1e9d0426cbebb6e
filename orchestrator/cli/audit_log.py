"""`fleetctl audit verify` and `export`: the whole log, checked here or taken away to be checked elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.checkpoint import open_checkpoint
from fleet.errors import Code, FleetError
from fleet.leaves import PUBLISHED, EventLeaf, read_leaf
from fleet.publications import documents_of
from fleet.targets import TRUST_PATH, WITNESS_POLICY_PATH
from fleet.wire_audit import to_pb_rows
from fleet.x509 import load_certificate
from orchestrator.audit_export import HISTORY, Header, Writer, open_export
from orchestrator.cli.audit_check import Report, believed_export, believed_here, check, from_coordinator, from_export
from orchestrator.cli.render import when
from orchestrator.cli.trust import TrustDirectory, fetch_document, synchronise
from orchestrator.files import read_named

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.session import Session

REMEMBERED = "log.checkpoint"
"""File of the trust directory with the newest checkpoint that was verified here."""

HERE = "this machine"
"""Holder of that checkpoint, in messages."""

MAX_NOTE_FILE = 64 * 1024


def trust_directory(session: Session) -> TrustDirectory:
    """Return the trust directory: of --trust, or of the context."""
    return TrustDirectory(session.trust_folder())


@click.command()
@click.option(
    "--offline", type=click.Path(path_type=Path, exists=True), metavar="EXPORT", help="Check a file or folder instead."
)
@click.option(
    "--held",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="NOTE",
    help="A checkpoint that somebody holds, as a witness or a node gives it; may be repeated.",
)
@click.option(
    "--operator-ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="Certificate that operators' certificates must come from; may be repeated.",
)
@click.pass_obj
def verify(session: Session, offline: Path | None, held: tuple[Path, ...], operator_ca: tuple[Path, ...]) -> None:
    """Read the whole log and check it.

    \b
    1. The checkpoint is signed by a log key that the release repository names.
    2. Every leaf is there; orders, receipts, operators' actions and witness keys are signed by whom they name, and
       who approved a grant is what the metadata of that day shows.
    3. The log contains, unchanged, everything that was verified here before, and what others hold (--held).
    4. All leaves together give the signed root; cosignatures of witnesses verify, and come not before the leaves.
    5. The coordinator's answers (`who`, `drift`, ...) are those that the leaves give.

    With --offline an export is checked the same way, with no coordinator; trust comes from the trust directory alone.
    """  # noqa: D301 - \b is click's mark for keeping line breaks
    directory, now = trust_directory(session), session.now()
    authorities = [
        load_certificate(read_named(file, MAX_NOTE_FILE), Code.CONFIG_INVALID, str(file)) for file in operator_ca
    ]
    notes = [(str(file), read_named(file, MAX_NOTE_FILE)) for file in held]
    remembered = directory.path / REMEMBERED
    if remembered.exists():
        notes.append((HERE, read_named(remembered, MAX_NOTE_FILE)))
    if offline is not None:
        with open_export(offline) as found:
            material = from_export(found)
            report = check(material, believed_export(directory, found, now), notes, authorities)
    else:
        with session.connect() as client:
            synchronise(directory, client, now)
            release = directory.release(now)
            for path in (TRUST_PATH, WITNESS_POLICY_PATH):
                if path in release.documents:
                    directory.write(f"documents/{path}", fetch_document(directory, client, release, path))
            material = from_coordinator(client)
            report = check(material, believed_here(directory, now), notes, authorities)
    if report.misfits:
        raise FleetError(
            Code.AUDIT_INVALID,
            "the coordinator's answers are not what the leaves say",
            **{f"wrong_{name}": count for name, count in report.misfits.items()},
        )
    earlier = report.agreed.get(HERE, 0)
    if report.checkpoint.size >= earlier:
        directory.write(REMEMBERED, material.note)
    _show(session, report, earlier)


def _show(session: Session, report: Report, earlier: int) -> None:
    checkpoint = report.checkpoint
    if session.output.machine:
        session.output.value(
            {
                "verified": True,
                "fleet": report.fleet,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "signatures": dict(sorted(report.signatures.items())),
                "held_by": dict(sorted(report.agreed.items())),
                "quorum_size": report.quorum_size,
                "findings": [
                    {"kind": str(found.kind), "holder": found.holder, "text": found.text, "leaf": found.leaf}
                    for found in report.findings
                ],
            }
        )
        return
    text = session.output.text
    text(f"Fleet {report.fleet} · audit log verified at {when(session.now_ms())}")
    text(f"The log is whole: {checkpoint.size} leaves, root {checkpoint.root.hex()}")
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.signatures.items()) if count)
    text(f"Signatures that verify: {counts or 'none'}")
    if earlier:
        text(f"It extends the {earlier} leaves that were verified here before.")
    for holder, size in sorted(report.agreed.items()):
        if holder != HERE:
            text(f"It has the {size} leaves that {holder} has seen.")
    if report.quorum_size is not None:
        text(f"The witnesses' quorum has cosigned its first {report.quorum_size} leaves.")
    for found in report.findings:
        text(f"To look at: {found.holder}: {found.text}.")
    text("The coordinator's answers are those that the leaves give.")


@click.command()
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--folder", is_flag=True, help="Write a folder instead of one tar.")
@click.pass_obj
def export(session: Session, /, target: Path, folder: bool) -> None:  # noqa: FBT001 - click passes options by value
    """Write the whole log into a file, to be checked elsewhere.

    It holds the leaves, the signed checkpoint, the checkpoints with the cosignatures of witnesses, the coordinator's
    answers, and the release repository's metadata, of today and of every publication. `fleetctl audit verify --offline
    FILE` checks it. The same log gives the same bytes.
    """
    directory, now = trust_directory(session), session.now()
    if target.exists():
        raise FleetError(Code.ALREADY_EXISTS, "nothing is written over", place=str(target))
    with session.connect() as client, tempfile.TemporaryDirectory(dir=target.absolute().parent) as scratch:
        release = synchronise(directory, client, now)
        material = from_coordinator(client)
        checkpoint = open_checkpoint(material.note, directory.fleet_trust(now).log_vkeys)
        work = Path(scratch) / "export"
        work.mkdir()
        writer = Writer(target, work)
        named: dict[str, None] = {}
        count = writer.long("leaves", _noting(_first(material.leaves, checkpoint.size), named))
        if count != checkpoint.size:
            raise FleetError(Code.AUDIT_INVALID, f"{count} leaves came, the checkpoint has {checkpoint.size}")
        writer.long("notes", material.notes)
        writer.long(HISTORY, (data for digest in named if (data := material.read(digest)) is not None))
        rows = (row.SerializeToString(deterministic=True) for row in to_pb_rows(material.rows, material.rows_size))
        writer.long("rows", rows)
        for name, data in release.files.items():
            writer.small(f"trust/{name}", data)
        writer.small("fleet.json", fetch_document(directory, client, release, TRUST_PATH))
        if WITNESS_POLICY_PATH in release.documents:
            writer.small("policy", fetch_document(directory, client, release, WITNESS_POLICY_PATH))
        writer.small("checkpoint", material.note)
        writer.header(Header(directory.fleet_trust(now).fleet, checkpoint.size, material.rows_size))
        writer.finish(folder=folder)
    if session.output.machine:
        session.output.value({"file": str(target), "size": checkpoint.size, "root": checkpoint.root.hex()})
    else:
        session.output.text(f"{target}: {checkpoint.size} leaves, root {checkpoint.root.hex()}")


def _noting(leaves: Iterable[bytes], named: dict[str, None]) -> Iterable[bytes]:
    """Pass leaves on, and note what their publications name."""
    for data in leaves:
        leaf = read_leaf(data)
        if isinstance(leaf, EventLeaf) and leaf.kind == PUBLISHED:
            named.update(dict.fromkeys(documents_of(leaf)))
        yield data


def _first(leaves: Iterable[bytes], count: int) -> Iterable[bytes]:
    for number, leaf in enumerate(leaves):
        if number == count:
            return
        yield leaf

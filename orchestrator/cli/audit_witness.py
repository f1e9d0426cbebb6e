"""`fleetctl audit witness` and `witnesses`: a witness outside of the fleet, and how far the log is witnessed.

Owns: the folder of such a witness: its key, which signs nothing but checkpoints, what it has seen of the log, and the
evidence once the log has shown two histories. It keeps its own memory, so it believes neither the coordinator nor the
machine that it runs on beside.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.checkpoint import MAX_NOTE, KeyKind, VerifierKey, format_vkey, open_checkpoint, parse_vkey
from fleet.documents import dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.logs import origin_of
from fleet.release import AddDocument
from fleet.sighting import MAX_BYTES, Sighting, advance, decode_sighting, encode_sighting, follow
from fleet.signing import KEY_BYTES, SigningKey
from fleet.targets import WITNESS_POLICY_PATH
from fleet.v1 import control_pb2 as pb
from fleet.witnesses import MAX_POLICY, NO_WITNESSES, add_lines, cosign, parse_policy
from orchestrator.cli.audit_log import trust_directory
from orchestrator.cli.render import Column, Row, exact, when
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.cli.trust_change import OFFLINE, YES, perform
from orchestrator.files import read_named

if TYPE_CHECKING:
    from fleet.release import Operation
    from fleet.trust import FleetTrust, Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

KEY, NAME, SEEN, NOTE, EVIDENCE = "witness.pem", "witness.vkey", "seen.json", "cosigned.note", "evidence.json"
"""Files of a witness's folder."""

CLOSED_EVIDENCE = "evidence.closed.json"
"""Where the evidence goes once its log is closed."""

MAX_EVIDENCE = 4 * MAX_NOTE

OUTDATED = frozenset({Code.PROOF_INVALID, Code.LOG_FORKED})
"""What a checkpoint fails with when this machine's release is older than the log's key, or than the end of the log."""

WITNESS_COLUMNS = (
    Column("WITNESS", "name"),
    Column("NODE", "node"),
    Column("IN POLICY", "policy_name"),
    Column("LEAVES", "size", right=True),
    Column("AT", "at"),
    Column("VERIFIER KEY", "vkey", wide=True),
)
PAGE_WIDTH = 120


@dataclass(frozen=True, slots=True)
class _Folder:
    """The files of one witness."""

    files: TrustDirectory

    def key(self) -> tuple[VerifierKey, SigningKey]:
        """Return the witness's name and key.

        Raises:
            FleetError: NOT_FOUND before `--new`; CONFIG_INVALID.
        """
        path = self.files.path
        if not (path / KEY).exists():
            raise FleetError(
                Code.NOT_FOUND,
                "no witness key here",
                place=str(path),
                remedy="Make one: fleetctl audit witness --new NAME",
            )
        key = SigningKey.from_pem(read_named(path / KEY, MAX_NOTE))
        vkey = parse_vkey(read_named(path / NAME, MAX_NOTE).decode("utf-8", "replace").strip(), KeyKind.COSIGNER)
        if vkey.public != key.public:
            raise FleetError(Code.CONFIG_INVALID, "the key is not the one of witness.vkey", place=str(path / KEY))
        return vkey, key

    def make(self, name: str) -> str:
        """Make a key and return its verifier key.

        Raises:
            FleetError: ALREADY_EXISTS; VALUE_INVALID for a name that no witness may have.
        """
        if (self.files.path / KEY).exists():
            raise FleetError(Code.ALREADY_EXISTS, "there is a witness key", place=str(self.files.path / KEY))
        key = SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))
        try:
            vkey = format_vkey(name, key.public, KeyKind.COSIGNER)
        except ValueError as error:
            raise FleetError(Code.VALUE_INVALID, str(error), place="--new") from error
        self.files.write(NAME, f"{vkey}\n".encode())
        self.files.write(KEY, key.to_pem(), 0o600)
        return vkey

    def seen(self, trust: FleetTrust) -> Sighting:
        """Return what was seen, of the log that a release names: where that ended the one that was seen, of the next.

        Raises:
            FleetError: STATE_CORRUPT; LOG_FORKED while there is evidence against a log that is not closed.
        """
        path = self.files.path
        if (path / EVIDENCE).exists():
            value = load_json(read_named(path / EVIDENCE, MAX_EVIDENCE), Code.STATE_CORRUPT, EVIDENCE, MAX_EVIDENCE)
            shown = value.get("shown") if isinstance(value, dict) else None
            if str(shown).partition("\n")[0] not in {log.origin for log in trust.closed_logs}:
                where = str(path / EVIDENCE)
                raise FleetError(Code.LOG_FORKED, "this witness holds evidence against the log", place=where)
            (path / EVIDENCE).rename(path / CLOSED_EVIDENCE)
        known = decode_sighting(read_named(path / SEEN, MAX_BYTES)) if (path / SEEN).exists() else Sighting()
        return follow(known, origin_of(trust.log_vkeys), trust.closed_logs)

    def remember(self, seen: Sighting) -> None:
        """Write what was seen, durably."""
        self.files.write(SEEN, encode_sighting(seen))
        for path in (self.files.path / SEEN, self.files.path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def accuse(self, error: FleetError, seen: Sighting, shown: bytes, at_ms: int) -> None:
        """Keep both notes."""
        notes = {"seen": seen.note.decode(), "shown": shown.decode(), "reason": error.private, "at_ms": at_ms}
        self.files.write(EVIDENCE, dump_json({"schema": "fleet.evidence/v1", **notes}))


@click.command()
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER", help="The witness's folder."
)
@click.option("--new", "name", metavar="NAME", help="Make a witness key, and print its verifier key for the policy.")
@click.option("--follow", is_flag=True, help="Go on until interrupted.")
@click.option("--every", "every_s", type=click.IntRange(1, 86_400), default=10, show_default=True, help="Seconds.")
@click.pass_obj
def witness(session: Session, /, state: Path | None, name: str | None, every_s: int, **how: bool) -> None:
    """Cosign the log's newest checkpoint, from outside of the fleet.

    For the security team's machine: it remembers what it saw, and refuses a log that shows two histories or lost its
    end; it keeps both notes then and exits with 7. The policy `policy/witness.policy` must name its verifier key for
    nodes to ask for it.
    """
    folder = _Folder(TrustDirectory(state or session.home / "witness"))
    if name is not None:
        vkey = folder.make(name)
        if session.output.machine:
            session.output.value({"name": name, "vkey": vkey})
        else:
            session.output.text(f"witness {name.replace('/', '-')} {vkey}")
        return
    try:
        while True:
            _cosign_once(session, folder)
            if not how["follow"]:
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        return


def _cosign_once(session: Session, folder: _Folder) -> None:
    vkey, key = folder.key()
    directory = trust_directory(session)
    trust = directory.fleet_trust(session.now())
    with session.connect() as client:
        try:
            seen, offer = _offered(client, folder, trust)
        except FleetError as error:
            if error.code not in OUTDATED:
                raise
            synchronise(directory, client, session.now())  # the log has another key, or goes on under another name
            trust = directory.fleet_trust(session.now())
            seen, offer = _offered(client, folder, trust, now_ms=session.now_ms())
        size = open_checkpoint(offer.note, trust.log_vkeys).size
        line = cosign(offer.note, vkey.name, key, session.now_ms() // 1000)
        folder.files.write(NOTE, add_lines(offer.note, [line]))
        try:
            met = client.call(client.stub.AuditCosign, pb.AuditCosignRequest(size=size, line=line)).met
        except FleetError as error:
            if error.code is not Code.PERMISSION_DENIED:
                raise
            session.output.note(f"kept here only: the policy does not name {vkey.name}")
            met = False
    if session.output.machine:
        session.output.item({"size": size, "from": seen.size, "quorum": met, "note": str(folder.files.path / NOTE)})
    else:
        quorum = ", and the quorum is met" if met else ""
        session.output.text(f"{when(session.now_ms())}  cosigned {size} leaves, up from {seen.size}{quorum}")


def _offered(
    client: Client, folder: _Folder, trust: FleetTrust, now_ms: int | None = None
) -> tuple[Sighting, pb.AuditOfferReply]:
    """Take the coordinator's newest checkpoint in; returns what was seen before, and the checkpoint.

    Args:
        client: connection to the coordinator.
        folder: the witness's.
        trust: which log is believed.
        now_ms: for the evidence against the log where it forked; None: `trust` may be outdated, so none is kept.

    Raises:
        FleetError: PROOF_INVALID, LOG_FORKED, STATE_CORRUPT.
    """
    seen = folder.seen(trust)
    offer = client.call(client.stub.AuditOffer, pb.AuditOfferRequest(old_size=seen.size))
    try:
        later = advance(seen, offer.note, trust.log_vkeys, offer.consistency)
    except FleetError as error:
        if error.code is Code.LOG_FORKED and now_ms is not None:
            folder.accuse(error, seen, offer.note, now_ms)
        raise
    folder.remember(later)  # durably, before it is signed
    return seen, offer


@click.command()
@click.option("--policy", "as_policy", is_flag=True, help="Print a draft of policy/witness.policy with these keys.")
@click.pass_obj
def witnesses(session: Session, /, as_policy: bool) -> None:  # noqa: FBT001 - click passes options by value
    """Show who cosigns the log, how far, and who waits for a quorum."""
    with session.connect() as client:
        reply = client.call(client.stub.AuditWitnesses, pb.AuditWitnessesRequest())
    if as_policy:
        session.output.text(_draft(reply))
        return
    rows = [
        Row(
            {
                "name": item.name,
                "node": item.node,
                "policy_name": item.policy_name,
                "required": item.required,
                "size": item.size,
                "at": exact(item.at_ms),
                "vkey": item.vkey,
            },
            {"at": when(item.at_ms), "policy_name": item.policy_name or "no"},
        )
        for item in reply.witnesses
    ]
    if session.output.machine:
        session.output.value(
            {
                "size": reply.size,
                "witnessed_size": reply.witnessed_size if reply.policy else None,
                "quorum": parse_policy(reply.policy).quorum if reply.policy else NO_WITNESSES.quorum,
                "waiting": list(reply.waiting),
                "witnesses": [row.record for row in rows],
            }
        )
        return
    if reply.policy:
        quorum = parse_policy(reply.policy).quorum
        session.output.text(f"Log of {reply.size} leaves; quorum {quorum} has cosigned {reply.witnessed_size}.")
    else:
        session.output.text(f"Log of {reply.size} leaves; the release has no witness policy, so nobody is asked for.")
    if reply.waiting:
        session.output.text(f"Orders that wait for the quorum: {', '.join(reply.waiting)}")
    session.output.text("")
    session.output.rows(WITNESS_COLUMNS, rows, "Nobody has cosigned yet.", width=PAGE_WIDTH)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE")
@OFFLINE
@YES
@click.pass_obj
def policy(session: Session, /, file: Path, **how: bool) -> None:
    """Sign and publish a witness policy: who must cosign the log.

    The policy role signs it; where that takes more than one person, the change is staged as any other. From its
    publication on, nodes take no order that this quorum has not seen in the log. `fleetctl audit witnesses --policy`
    drafts one from the witnesses of today.
    """
    data = read_named(file, MAX_POLICY)
    read = parse_policy(data)

    def operations(release: Release) -> tuple[Operation, ...]:
        listed = release.documents.get(WITNESS_POLICY_PATH)
        return (AddDocument(WITNESS_POLICY_PATH, data, replaces="" if listed is None else listed.digest),)

    title = f"ask for quorum {read.quorum} of {len(read.witnesses)} witnesses"
    perform(session, operations, title, offline=how["offline"], yes=how["yes"])


def _draft(reply: pb.AuditWitnessesReply) -> str:
    """A policy over the present witness keys, of which more than half must have cosigned."""
    newest = {item.node or item.name: item for item in reply.witnesses}
    names = {name.replace("/", "-"): item.vkey for name, item in newest.items()}
    lines = [f"witness {name} {vkey}" for name, vkey in names.items()]
    if not names:
        return "quorum none"
    return "\n".join([*lines, f"group most {len(names) // 2 + 1} {' '.join(names)}", "quorum most"])

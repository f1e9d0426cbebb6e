"""`fleetctl trust restart-log`: a new audit log in the place of one that lost its end.

Owns: what the targets role signs then (`fleet.logs`): how far the old log goes on in the new one, which is what was in
it when the backup was made: since then it may have gone another way than the one that others saw. Nodes and witnesses
that saw more of the old log go over by that statement; without it each of them would have to be asked by hand.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.audit import Beginning
from fleet.checkpoint import claimed, format_vkey, open_checkpoint
from fleet.errors import Code, FleetError
from fleet.logs import ClosedLog, next_origin
from fleet.release import AddDocument
from fleet.signing import KEY_BYTES, SigningKey
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from orchestrator.cli.audit_check import from_coordinator
from orchestrator.cli.times import TIME
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trust_change import FILE, YES, perform
from orchestrator.cli.trust_fleet import named_logs
from orchestrator.cli.trust_keys import read_public

if TYPE_CHECKING:
    from fleet.release import Operation
    from fleet.trust import FleetTrust, Release
    from orchestrator.cli.session import Session

NAME = "log.name"
"""File beside the coordinator's keys with the name of its log."""


@click.command("restart-log")
@click.option(
    "--key", "public", type=FILE, metavar="PUBLIC-KEY", help="The new log's key, made where the coordinator is."
)
@click.option(
    "--backup",
    "backup_ms",
    type=TIME,
    required=True,
    metavar="TIME",
    help="When the backup was made; a little earlier does no harm, later does.",
)
@YES
@click.pass_obj
def restart_log(session: Session, public: Path | None, backup_ms: int, yes: bool) -> None:  # noqa: FBT001 - click passes options by value
    """Begin a new audit log after a loss.

    For a coordinator that came back from a backup: nodes and witnesses that saw more of its log refuse it, as they
    would refuse an attacker. The holders of the targets keys sign how far the old log goes on; whoever saw more goes
    over to the new log by that, and still refuses one that changed what came before the backup. Leaves that came after
    it are lost; `fleetctl audit verify` says how many.

    Look for a newer copy of the database first: nothing is lost then, and no new log is needed.
    """
    directory = TrustDirectory(session.trust_folder())
    keys = TrustDirectory(session.home / "coordinator" / "keys")
    if public is None and not (keys.path / "log.pem").exists():
        raise FleetError(
            Code.CONFIG_INVALID,
            "the coordinator is not on this machine",
            remedy="Make a key beside it (`fleetctl trust key log-2`), and name its public half with --key.",
        )
    made = None if public is not None else SigningKey.from_seed(secrets.token_bytes(KEY_BYTES))
    key = made.public if made is not None else read_public(public or Path()).public
    with session.connect() as client:
        log = from_coordinator(client)
        beginning, now = Beginning(backup_ms), claimed(log.note)
        for leaf in islice(log.leaves, now.size):
            beginning.add(leaf)
    if (beginning.whole.size, beginning.whole.root()) != (now.size, now.root):
        raise FleetError(Code.AUDIT_INVALID, "the leaves do not give the signed root", size=now.size)
    origins: list[str] = []

    def operations(release: Release) -> tuple[Operation, ...]:
        target = release.target(TRUST_PATH)
        trust = parse_fleet_trust(target.check(directory.document(TRUST_PATH)))
        open_checkpoint(log.note, trust.log_vkeys)
        closed = (*trust.closed_logs, ClosedLog(trust.log_vkeys, beginning.size, beginning.root))
        origins.append(next_origin(trust.fleet, closed))
        new: FleetTrust = replace(trust, log_vkeys=(format_vkey(origins[0], key),), closed_logs=closed)
        changed = AddDocument(TRUST_PATH, encode_fleet_trust(new), replaces=target.digest)
        return (changed, *named_logs(directory, release, new))

    published = perform(session, operations, "begin a new audit log", offline=False, yes=yes)
    _put_in_place(session, keys, made, origins[0], published=published)


def _put_in_place(
    session: Session, keys: TrustDirectory, key: SigningKey | None, origin: str, *, published: bool
) -> None:
    """Give the embedded coordinator the new log's key and name, or say what belongs where."""
    note = session.output.note
    if key is not None and published:
        keys.write(NAME, f"{origin}\n".encode())
        keys.write("log.pem", key.to_pem(), 0o600)
        (keys.path / "log.old.pem").unlink(missing_ok=True)
        note(
            f"The coordinator has the key of {origin}: start it again, and nodes and witnesses go over to the new log."
        )
        return
    if key is not None:
        keys.write("log.next.pem", key.to_pem(), 0o600)
        note(f"The new key is {keys.path / 'log.next.pem'}.")
    note("Once it is published, in keys/ of the stopped coordinator: the new key becomes log.pem, log.old.pem goes if")
    note(f"there is one, and the file {NAME} gets one line: {origin}")

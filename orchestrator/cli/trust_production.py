"""Command trust promote-to-production: from one set of keys on one machine to keys of many people.

Owns: which keys and thresholds a fleet in production has, and the key folders that are carried to their holders.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.release import (
    ONLINE_ROLES,
    ROOT_ROLE,
    SNAPSHOT_ROLE,
    TIMESTAMP_ROLE,
    AddDocument,
    ChangeKeys,
    EnterProduction,
    Renew,
    completed,
    publish,
    sign_staged,
    stage,
)
from fleet.targets import POLICY_ROLE, TARGETS_ROLE, TRUST_PATH
from fleet.trust import Profile, encode_fleet_trust, open_release, parse_fleet_trust
from orchestrator import pki
from orchestrator.cli import trust as repository
from orchestrator.cli.trust import TrustDirectory, conclude, context_of, publisher_keys, synchronise
from orchestrator.cli.trust_change import YES, confirm, show_change, tell_change
from orchestrator.cli.trust_holders import PUBLISHER, holders_of, make_keys, read_holders
from orchestrator.files import read_named
from orchestrator.principals import Role
from orchestrator.publisher.settings import format_settings
from orchestrator.signers import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleet.release import NamedKey, Operation, StagedChange
    from fleet.trust import Release
    from orchestrator.cli.session import Session

PUBLISHER_LIFETIME = timedelta(days=365)
"""Of its certificate at the coordinator; the role approver may publish there, and deploy nothing."""

MAX_CERTIFICATE = 64 * 1024


def operations_of(release: Release, document: bytes, made: dict[str, tuple[NamedKey, ...]]) -> tuple[Operation, ...]:
    """Return what makes a development release one for production, every key replaced."""
    trust = replace(parse_fleet_trust(document), profile=Profile.PRODUCTION)
    changes = [
        ChangeKeys(
            role,
            add=made[role],
            remove=tuple(sorted(release.role_keys.get(role, ()), key=lambda key: key.hex)),
            threshold=1 if role in ONLINE_ROLES else holders_of(role).threshold,
        )
        for role in made
    ]
    replaced = AddDocument(TRUST_PATH, encode_fleet_trust(trust), replaces=release.target(TRUST_PATH).digest)
    renewed = [Renew(role) for role in release.role_keys if role not in {ROOT_ROLE, *ONLINE_ROLES}]
    return (EnterProduction(), *changes, replaced, *renewed)


def sign_with_everything(directory: TrustDirectory, staged: StagedChange, folder: Path) -> StagedChange:
    """Sign with the old keys of this machine, and with all that were made in the folder."""
    staged = sign_staged(staged, directory.keys.signers())
    for holder in sorted(folder.iterdir()):
        staged = sign_staged(staged, KeyFolder(holder / "keys").signers())
    return staged


def sign_everything(directory: TrustDirectory, staged: StagedChange, folder: Path, now: datetime) -> dict[str, bytes]:
    """Sign with the old keys of this machine and all new ones, and publish in memory; verified as a node would.

    Raises:
        FleetError: SIGNATURES_MISSING when an old key that is needed is elsewhere; what `open_release` raises.
    """
    staged = sign_with_everything(directory, staged, folder)
    files = completed(staged, staged.base)
    keys = publisher_keys(TrustDirectory(folder / PUBLISHER), files)
    if keys is None:
        raise FleetError(Code.INTERNAL, "the publisher's keys were just made and are not there")
    files = publish(files, keys, now)
    open_release(files, root=directory.root, now=now, previous=directory.files(), allow_dev=False)
    return files


@click.command("promote-to-production")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder to make: one key folder per person below it. Use an encrypted medium.",
)
@click.option(
    "--key",
    "given",
    multiple=True,
    metavar="ROLE=PUBLIC-KEY",
    help="A key that its holder made (`fleetctl trust key`); may be repeated. Roles without any get keys made here.",
)
@click.option("--finish", is_flag=True, help="Once the staged change is published: pin its root, put old keys aside.")
@YES
@click.pass_obj
def promote(session: Session, folder: Path | None, given: tuple[str, ...], finish: bool, yes: bool) -> None:  # noqa: FBT001
    """Replace development keys by production keys.

    Root takes 2 of 3 keys, targets and policy 2 of 2, grants 2 of 3 per team, code 1; snapshot and timestamp are for a
    publisher of its own. Nodes follow by themselves; nodes of the production profile accept the fleet from then on.
    There is no way back.

    With --key, this machine never sees the private keys: the change is staged, its holders sign it, and --finish ends
    the ceremony here.
    """
    directory = TrustDirectory(session.trust_folder())
    if finish:
        _finish(session, directory)
        return
    if folder is None:
        raise click.UsageError("--to says where key folders and the publisher's settings go")
    if folder.exists() and any(folder.iterdir()):
        raise FleetError(Code.ALREADY_EXISTS, "there is something already", place=str(folder))
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        if release.profile is Profile.PRODUCTION:
            raise FleetError(Code.ALREADY_EXISTS, "the fleet has the production profile already")
        roles = list(
            dict.fromkeys([ROOT_ROLE, TARGETS_ROLE, SNAPSHOT_ROLE, TIMESTAMP_ROLE, POLICY_ROLE, *release.role_keys])
        )
        held = read_holders(given, roles)
        absent = [role for role in roles if role not in held]
        confirm(session, f"Make {len(absent)} roles' keys in {folder}, and withdraw those of this machine?", yes=yes)
        (folder / PUBLISHER).mkdir(parents=True, mode=0o700)
        keys = {**make_keys(folder, absent), **held}
        context = context_of(directory, client, release, ())
        document = repository.fetch_document(directory, client, release, TRUST_PATH)
        context[TRUST_PATH] = document
        operations = operations_of(release, document, {role: keys[role] for role in roles})
        staged = stage(release, operations, "promote to production", session.now(), context)
        if not session.output.machine:
            show_change(session, staged)
        if held:
            staged = sign_with_everything(directory, staged, folder)
            _hand_out(directory, folder, release.files)
            _connect_publisher(session, folder)
            file = conclude(directory, None, staged, release, session.now())
            tell_change(session, staged, file)
            return
        files = sign_everything(directory, staged, folder, session.now())
        repository.publish(directory, client, files, staged.documents, session.now())
    _hand_out(directory, folder, files)
    _connect_publisher(session, folder)
    _put_aside(directory)
    if session.output.machine:
        session.output.value({"folders": sorted(holder.name for holder in folder.iterdir())})
        return
    session.output.note("Published. Every development key is withdrawn; they lie in keys.development and open nothing.")
    session.output.note(
        f"Carry each folder of {folder} to its holder, and start the publisher with {folder / PUBLISHER}."
    )
    session.output.note("New nodes are given the root.json of today.")


def _finish(session: Session, directory: TrustDirectory) -> None:
    """Pin the root that is published by now, and put the development keys aside.

    Raises:
        FleetError: SIGNATURES_MISSING while the published release is one for development.
    """
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
    if release.profile is not Profile.PRODUCTION:
        raise FleetError(
            Code.SIGNATURES_MISSING,
            "the published release is one for development still",
            remedy="Have the staged change signed by its holders, and publish it; see `fleetctl trust status`.",
        )
    directory.write("root.json", release.files[newest_root(release.files)])
    _put_aside(directory)
    if session.output.machine:
        session.output.value({"root": release.versions[ROOT_ROLE]})
    else:
        session.output.note("Pinned the root of today; the development keys lie in keys.development and open nothing.")


def _put_aside(directory: TrustDirectory) -> None:
    keys = directory.path / "keys"
    if keys.exists():
        keys.rename(directory.path / "keys.development")


def newest_root(files: Mapping[str, bytes]) -> str:
    """Return the file name of the newest root."""
    roots = (name for name in files if name.endswith(f".{ROOT_ROLE}.json"))
    return max(roots, key=lambda name: int(name.partition(".")[0]))


def _hand_out(directory: TrustDirectory, folder: Path, files: Mapping[str, bytes]) -> None:
    """Make every key folder a trust directory that works alone, and pin the newest root here and there."""
    newest = newest_root(files)
    documents = {path: directory.document(path) for path in _documents(directory)}
    for holder in (directory, *(TrustDirectory(path) for path in sorted(folder.iterdir()))):
        holder.write("root.json", files[newest])
        holder.save(files)
        for path, data in documents.items():
            holder.write(f"documents/{path}", data)


def _connect_publisher(session: Session, folder: Path) -> None:
    """Give the publisher its settings, and a certificate where the operators' offline authority is at hand."""
    context, publisher = session.context(), TrustDirectory(folder / PUBLISHER)
    publisher.write("publisher.toml", format_settings(context.address).encode())
    publisher.write("node-ca.crt", read_named(context.ca, MAX_CERTIFICATE))
    authority = session.home / "operator"
    if not (authority / "operator-ca.pem").exists():
        session.output.note(f"Put a certificate for the publisher, role approver, into {publisher.path}.")
        return
    fleet = publisher.fleet_trust(session.now()).fleet
    pair = pki.KeyPair(*(read_named(authority / f"operator-ca.{part}", MAX_CERTIFICATE) for part in ("pem", "crt")))
    made = pki.issue_operator(pair, fleet, PUBLISHER, [Role.APPROVER], session.now(), PUBLISHER_LIFETIME)
    publisher.write("publisher.pem", made.key, 0o600)
    publisher.write("publisher.crt", made.certificate)


def _documents(directory: TrustDirectory) -> list[str]:
    base = directory.path / "documents"
    return sorted(str(file.relative_to(base)) for file in base.rglob("*") if file.is_file())

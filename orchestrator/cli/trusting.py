"""Commands of the release repository for every day: trust status, refresh, renew, sign, publish, rebase.

The commands that change keys, roles and media are in modules of their own and join the group at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.release import (
    BEFORE_EXPIRY,
    ONLINE_ROLES,
    Renew,
    completed,
    encode_staged,
    merge,
    rebase,
    role_states,
    sign_staged,
    stage,
)
from fleet.release import publish as sign_release
from orchestrator.cli import (
    trust_authority,
    trust_keys,
    trust_log,
    trust_media,
    trust_production,
    trust_revoke,
    trust_teams,
)
from orchestrator.cli.render import Column, Row
from orchestrator.cli.trust import TrustDirectory, publish, publisher_keys, read_staged, synchronise
from orchestrator.cli.trust_change import (
    FILE,
    OFFLINE,
    YES,
    confirm,
    confirmed,
    describe_change,
    local_release,
    perform,
    show_change,
    show_key,
    tell_change,
    tell_staged,
)
from orchestrator.policies import check_staged

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from fleet.trust import Release
    from orchestrator.cli.session import Session

COLUMNS = (
    Column("ROLE", "role"),
    Column("VERSION", "version", right=True),
    Column("TAKES", "takes"),
    Column("KEYS", "keys", fold=True),
    Column("KEY HERE", "key_here"),
    Column("EXPIRES", "expires"),
    Column("SIGN AGAIN", "due", wide=True),
)


def signed_again(directory: TrustDirectory, now: datetime) -> tuple[dict[str, bytes], list[str]]:
    """Return the repository with every role signed anew for which enough keys are here, and the names of these roles.

    Raises:
        FleetError: TRUST_INVALID when the repository does not verify; CONFIG_INVALID without a publisher's keys.
    """
    release = local_release(directory)
    signers = directory.keys.signers()
    here = {signer.public for signer in signers}
    offline = [state for state in role_states(release) if state.role not in ONLINE_ROLES]
    able = [s.role for s in offline if sum(key.public in here for key in s.keys) >= s.threshold]
    staged = sign_staged(stage(release, tuple(Renew(role) for role in able), "refresh", now, {}), signers)
    files = completed(staged, release)
    keys = publisher_keys(directory, files)
    if keys is None:
        raise FleetError(
            Code.CONFIG_INVALID,
            "the keys of snapshot and timestamp are not here",
            remedy="Do this where the publisher's keys are, or stage it: `fleetctl trust renew ROLE`.",
        )
    return sign_release(files, keys, now), sorted([*able, *ONLINE_ROLES])


@click.group()
def trust() -> None:
    """Look after the release repository that every node trusts."""


@trust.command()
@click.pass_obj
def status(session: Session) -> None:
    """Show roles, keys, expiry and staged changes."""
    directory = TrustDirectory(session.trust_folder())
    release = local_release(directory)
    here = {signer.public for signer in directory.keys.signers()}
    now = session.now()
    rows, due = [], []
    for state in role_states(release):
        key_here = any(key.public in here for key in state.keys)
        if state.due <= now:
            due.append(state.role)
        record = {
            "role": state.role,
            "version": state.version,
            "threshold": state.threshold,
            "keys": [key.key_id for key in state.keys],
            "names": [key.name for key in state.keys],
            "key_here": key_here,
            "expires": state.expires.isoformat(),
            "due": state.due <= now,
        }
        shown = {
            "takes": f"{state.threshold} of {len(state.keys)}",
            "keys": ", ".join(map(show_key, state.keys)),
            "expires": f"{state.expires:%Y-%m-%d}",
            "due": f"{state.due:%Y-%m-%d}",
        }
        rows.append(Row(record, shown))
    session.output.rows(COLUMNS, rows, "The repository has no roles.")
    left = release.expires - now
    state_text = f"for another {left.days} days" if left.days >= 0 else f"no more: it expired {-left.days} days ago"
    session.output.note(
        f"Profile {release.profile}; nodes adopt this release {state_text} ({release.expires:%Y-%m-%d})."
    )
    if due:
        session.output.note(f"Due to be signed again: {', '.join(due)}.")
    for file in directory.staged():
        session.output.note(f"Staged: {file} {_fate_of(directory, file, release)}.")


def _fate_of(directory: TrustDirectory, file: Path, release: Release) -> str:
    """What a staged change waits for, in words; also of a file that is none, or is of no use any more."""
    try:
        staged = read_staged(directory, file)
    except FleetError as error:
        return f"cannot be used here ({error.code}: {error.private}): remove it, or stage the change again"
    missing = sum(requirement.missing for requirement in staged.requirements)
    waits = f"lacks {missing} signatures" if missing else "is complete, not published"
    if any(release.versions.get(role, 0) != staged.base.versions.get(role, 0) for role in staged.roles):
        waits = "is published, or overtaken: remove it, or `fleetctl trust rebase` it"
    return f"({staged.title}) {waits}"


@trust.command()
@click.pass_obj
def refresh(session: Session) -> None:
    """Sign the release again, with a new expiry.

    Every role for which enough keys are on this machine; nothing else changes.
    """
    directory = TrustDirectory(session.trust_folder())
    with session.connect() as client:
        synchronise(directory, client, BEFORE_EXPIRY)
        files, roles = signed_again(directory, session.now())
        publish(directory, client, files, {}, session.now())
    session.output.note(f"Signed again: {', '.join(roles)}. Nodes adopt it within the hour.")


@trust.command()
@click.argument("role")
@OFFLINE
@YES
@click.pass_obj
def renew(session: Session, role: str, offline: bool, yes: bool) -> None:  # noqa: FBT001 - click's own convention
    """Sign one role again, with a new expiry.

    Where the role takes more signatures than there are keys here, the change is staged.
    """
    perform(session, lambda _: (Renew(role),), f"renew {role}", offline=offline, yes=yes)


@trust.command()
@click.argument("file", type=FILE, metavar="STAGED")
@click.option("--merge", "other", type=FILE, help="Also take the signatures of this copy of the same change.")
@YES
@click.pass_obj
def sign(session: Session, file: Path, other: Path | None, yes: bool) -> None:  # noqa: FBT001 - click's own convention
    """Show a staged change, and sign it.

    Signs exactly what is shown, with the keys on this machine, unless a guardrail refuses a grant of it. Needs no
    network, and of the trust directory only root.json and keys/. The file is written in its place.
    """
    directory = TrustDirectory(session.trust_folder())
    staged = read_staged(directory, file)
    if other is not None:
        staged = merge(staged, read_staged(directory, other))
    if not session.output.machine:
        show_change(session, staged)
    wanted = {key.public for requirement in staged.requirements for key in requirement.unsigned}
    signers = directory.keys.signers(wanted)
    if not signers and other is None:
        raise FleetError(
            Code.NOT_FOUND,
            "no key on this machine may still sign this",
            place=str(directory.path / "keys"),
            remedy="Carry the file to somebody who is named above.",
        )
    if signers:
        check_staged(staged, [signer.public.key_id for signer in signers])
        confirm(session, "Sign exactly this?", yes=yes)
        staged = sign_staged(staged, signers)
    _replace(file, encode_staged(staged))
    if session.output.machine:
        session.output.value(describe_change(staged, file))
    else:
        tell_staged(session, file, staged)


@trust.command("publish")
@click.argument("file", type=FILE, metavar="STAGED")
@click.pass_obj
def publish_staged(session: Session, file: Path) -> None:
    """Publish a completely signed change.

    Takes the keys of snapshot and timestamp; where a publisher has them, put the file into its inbox instead.
    """
    directory = TrustDirectory(session.trust_folder())
    with session.connect() as client:
        release = synchronise(directory, client, BEFORE_EXPIRY)
        staged = read_staged(directory, file)
        files = completed(staged, release)
        keys = publisher_keys(directory, files)
        if keys is None:
            raise FleetError(
                Code.NOT_FOUND,
                "the keys of snapshot and timestamp are not here",
                place=str(directory.path / "keys"),
                remedy="Put the file into the inbox of the publisher.",
            )
        publish(directory, client, sign_release(files, keys, session.now()), staged.documents, session.now())
    if file.parent == directory.path / "staged":
        file.unlink()
    tell_change(session, staged, None)


@trust.command("rebase")
@click.argument("file", type=FILE, metavar="STAGED")
@OFFLINE
@YES
@click.pass_obj
def rebase_staged(session: Session, file: Path, offline: bool, yes: bool) -> None:  # noqa: FBT001
    """Make a staged change on the newest release.

    Whoever signed it before has to sign it again: the bytes are others.
    """
    directory = TrustDirectory(session.trust_folder())
    staged = read_staged(directory, file)
    if offline:
        release = local_release(directory)
    else:
        with session.connect() as client:
            release = synchronise(directory, client, BEFORE_EXPIRY)
    again = confirmed(session, directory, rebase(staged, release, session.now()), yes=yes)
    _replace(file, encode_staged(again))
    if session.output.machine:
        session.output.value(describe_change(again, file))
    else:
        tell_staged(session, file, again)


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(file)


for command in (
    trust_keys.key,
    trust_keys.rotate,
    trust_authority.node_ca,
    trust_keys.add_approver,
    trust_keys.remove_key,
    trust_keys.add_team,
    trust_teams.remove_team,
    trust_revoke.revoke,
    trust_log.restart_log,
    trust_production.promote,
    trust_media.export_media,
    trust_media.import_media,
):
    trust.add_command(command)

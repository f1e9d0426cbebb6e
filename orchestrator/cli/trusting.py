"""Commands for the release repository itself: trust status, trust refresh."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet.errors import FleetError
from fleet.release import RoleKeys, renew, rotate_root
from fleet.release import publish as sign_release
from fleet.trust import open_release
from orchestrator.cli.render import Column, Row, short_digest
from orchestrator.cli.trust import TrustDirectory, publish

if TYPE_CHECKING:
    from fleet.trust import Release
    from orchestrator.cli.session import Session

COLUMNS = (
    Column("ROLE", "role"),
    Column("VERSION", "version", right=True),
    Column("KEYS", "keys", fold=True),
    Column("KEY HERE", "key_here"),
)

BEFORE_EXPIRY = datetime(2000, 1, 1, tzinfo=UTC)
"""A time at which nothing has expired: refreshing checks every signature, not the expiry that it is about to mend."""


def _keys_at_hand(directory: TrustDirectory, release: Release) -> RoleKeys:
    found = {}
    for role in release.role_keys:
        try:
            found[role] = (directory.role_key(role),)
        except FleetError:  # another machine plays this role
            continue
    return RoleKeys(found)


def signed_again(directory: TrustDirectory, now: datetime) -> tuple[dict[str, bytes], list[str]]:
    """Return the repository with every role whose key is here signed anew, and the names of these roles.

    Raises:
        FleetError: TRUST_INVALID when the repository does not verify; CONFIG_INVALID without a publisher's keys.
    """
    release = open_release(directory.files(), root=directory.root, now=BEFORE_EXPIRY, allow_dev=True)
    keys = _keys_at_hand(directory, release)
    files = dict(release.files)
    if "root" in keys.keys:
        files = rotate_root(files, keys, keys, now)
    for role in sorted(keys.keys.keys() - {"root", "snapshot", "timestamp"}):
        files = renew(files, keys, role, now)
    return sign_release(files, keys, now), sorted(keys.keys)


@click.group()
def trust() -> None:
    """Look after the release repository that every node trusts."""


@trust.command()
@click.pass_obj
def status(session: Session) -> None:
    """Show roles, keys and expiry of the release."""
    directory = TrustDirectory(session.context().trust)
    release = open_release(directory.files(), root=directory.root, now=BEFORE_EXPIRY, allow_dev=True)
    here = _keys_at_hand(directory, release).keys
    rows = [
        Row(
            {"role": role, "version": release.versions.get(role), "keys": ids, "key_here": role in here},
            {"keys": ", ".join(short_digest(key) for key in ids)},
        )
        for role, ids in ((role, sorted(key.key_id for key in keys)) for role, keys in release.role_keys.items())
    ]
    session.output.rows(COLUMNS, rows, "The repository has no roles.")
    left = release.expires - session.now()
    state = f"for another {left.days} days" if left.days >= 0 else f"no more: it expired {-left.days} days ago"
    session.output.note(f"Profile {release.profile}; nodes adopt this release {state} ({release.expires:%Y-%m-%d}).")


@trust.command()
@click.pass_obj
def refresh(session: Session) -> None:
    """Sign the release again, with a new expiry.

    Every role whose key is on this machine; nothing else changes.
    """
    directory = TrustDirectory(session.context().trust)
    files, roles = signed_again(directory, session.now())
    with session.connect() as client:
        publish(directory, client, files, {}, session.now())
    session.output.note(f"Signed again: {', '.join(roles)}. Nodes adopt it within the hour.")

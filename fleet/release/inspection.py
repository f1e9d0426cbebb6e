"""What a release says about its roles: keys with names, thresholds and expiry, for people who look after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuf.api.metadata import Role, Root, Snapshot, Targets, Timestamp

from fleet.release.keys import LIFETIMES, ONLINE_ROLES, ROOT_ROLE, SNAPSHOT_ROLE, TIMESTAMP_ROLE, TOP_LEVEL_ROLES
from fleet.release.metadata_files import TIMESTAMP_FILE, latest, load, named_keys
from fleet.targets import TARGETS_ROLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleet.release.keys import NamedKey
    from fleet.signing import PublicKey
    from fleet.trust import Release


@dataclass(frozen=True, slots=True)
class RoleState:
    """One role of a verified release.

    Attributes:
        role: its name.
        version: of its newest metadata.
        expires: when that can no longer be adopted.
        threshold: signatures that it takes.
        keys: who may sign it, sorted by key id.
        due: when it should be signed again: a third of its lifetime before it expires.
    """

    role: str
    version: int
    expires: datetime
    threshold: int
    keys: tuple[NamedKey, ...]
    due: datetime


def role_states(release: Release) -> tuple[RoleState, ...]:
    """Return every role, those that the root names first."""
    root = latest(release.files, Root, ROOT_ROLE).signed
    targets = latest(release.files, Targets, TARGETS_ROLE).signed
    delegated = targets.delegations.roles or {} if targets.delegations is not None else {}
    expiry = {
        ROOT_ROLE: root.expires,
        TARGETS_ROLE: targets.expires,
        SNAPSHOT_ROLE: latest(release.files, Snapshot, SNAPSHOT_ROLE).signed.expires,
        TIMESTAMP_ROLE: load(release.files[TIMESTAMP_FILE], Timestamp).signed.expires,
        **{role: latest(release.files, Targets, role).signed.expires for role in delegated},
    }
    lifetimes = LIFETIMES[release.profile]
    parents: list[tuple[str, Root | Targets, Role]] = [(role, root, root.roles[role]) for role in TOP_LEVEL_ROLES]
    parents += [(role, targets, described) for role, described in delegated.items()]
    return tuple(
        RoleState(
            name,
            release.versions[name],
            expiry[name],
            described.threshold,
            named_keys(parent, described.keyids),
            expiry[name] - lifetimes.of(name) / 3,
        )
        for name, parent, described in parents
    )


def online_keys(files: Mapping[str, bytes]) -> dict[str, tuple[tuple[PublicKey, ...], int]]:
    """Return the keys of snapshot and timestamp that the newest root names, and how many of them have to sign."""
    root = latest(files, Root, ROOT_ROLE).signed
    return {
        role: (tuple(key.public for key in named_keys(root, root.roles[role].keyids)), root.roles[role].threshold)
        for role in ONLINE_ROLES
    }

"""Changes of a release as operations, and the metadata that they make, unsigned.

Owns: what one operation does to which role. `draft` is deterministic: the same release, operations and time give the
same bytes on every machine, so people who sign on machines without a network sign the same thing. Never signs, and
never decides who may: that is in the metadata itself, and `fleet.release.staging` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, Role, Root, Snapshot, Targets

from fleet.errors import Code, FleetError
from fleet.release.keys import LIFETIMES, MAX_ROLE_KEYS, ROOT_ROLE, TOP_LEVEL_ROLES
from fleet.release.metadata_files import Files, latest, tuf_key, whole_seconds, write
from fleet.release.publishing import delegate, responsible, target_file
from fleet.targets import POLICY_ROLE, TARGETS_ROLE, paths_of
from fleet.trust import PROFILE_FIELD, profile_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fleet.release.keys import NamedKey
    from fleet.signing import PublicKey


@dataclass(frozen=True, slots=True)
class AddDocument:
    """List a document.

    Attributes:
        path: target path; names the role.
        data: the document.
        custom: what the signer notes beside it.
        replaces: digest of the document that the path names now; empty for a new path. A release where that is no
            longer so is not changed: somebody else changed the document meanwhile.
    """

    path: str
    data: bytes
    custom: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class RemoveDocument:
    """Withdraw a document."""

    path: str


@dataclass(frozen=True, slots=True)
class ChangeKeys:
    """Change who signs a role; a delegated role of a fleet that does not exist yet is made.

    Attributes:
        role: the role.
        add: keys that may sign from now on.
        remove: keys that may not any more.
        threshold: signatures that it takes; None leaves it.
    """

    role: str
    add: tuple[NamedKey, ...] = ()
    remove: tuple[PublicKey, ...] = ()
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Renew:
    """Sign a role again with a new expiry."""

    role: str


@dataclass(frozen=True, slots=True)
class RemoveRole:
    """Withdraw a role of a team, with everything that it lists; the policy role stays."""

    role: str


@dataclass(frozen=True, slots=True)
class EnterProduction:
    """Take the development mark off the root; there is no way back."""


Operation = AddDocument | RemoveDocument | ChangeKeys | Renew | RemoveRole | EnterProduction


def draft(files: Mapping[str, bytes], operations: Sequence[Operation], now: datetime) -> Files:
    """Return the new versions of the roles that the operations change, unsigned: file name to bytes.

    A role is also drafted when the keys that signed its present version no longer suffice. Snapshot and timestamp never
    are: the publisher makes them.

    Raises:
        FleetError: NOT_FOUND for a document or key that is not there; ALREADY_EXISTS for one that is;
            GENERATION_CONFLICT when `replaces` is outdated; CONFIG_INVALID for a threshold that the keys cannot meet;
            TRUST_INVALID for a role that the release lacks.
    """
    made = _Draft(files)
    for operation in operations:
        match operation:
            case AddDocument():
                made.add(operation)
            case RemoveDocument(path):
                if made.targets(responsible(path)).targets.pop(path, None) is None:
                    raise FleetError(Code.NOT_FOUND, "the role does not list it", place=path)
            case ChangeKeys():
                made.change_keys(operation)
            case Renew(role):
                made.touch(role)
            case RemoveRole(role):
                made.remove_role(role)
            case _:  # EnterProduction: nothing else is left
                if made.root().unrecognized_fields.pop(PROFILE_FIELD, None) is None:
                    raise FleetError(Code.ALREADY_EXISTS, "the release has the production profile already")
    return made.finish(now)


class _Draft:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._root: Metadata[Root] | None = None
        self._targets: dict[str, Metadata[Targets]] = {}

    def root(self) -> Root:
        if self._root is None:
            self._root = latest(self._files, Root, ROOT_ROLE)
            self._root.signed.version += 1
            self._root.signatures.clear()
        return self._root.signed

    def targets(self, role: str) -> Targets:
        if role not in self._targets:
            metadata = latest(self._files, Targets, role)
            metadata.signed.version += 1
            metadata.signatures.clear()
            self._targets[role] = metadata
        return self._targets[role].signed

    def touch(self, role: str) -> None:
        if role == ROOT_ROLE:
            self.root()
        else:
            self.targets(role)

    def add(self, operation: AddDocument) -> None:
        listed = self.targets(responsible(operation.path)).targets
        present = listed.get(operation.path)
        digest = "" if present is None else f"sha256:{present.hashes.get('sha256', '')}"
        if digest and not operation.replaces:
            raise FleetError(Code.ALREADY_EXISTS, "the release lists another document here", place=operation.path)
        if digest != operation.replaces:
            raise FleetError(Code.GENERATION_CONFLICT, "somebody changed this document meanwhile", place=operation.path)
        listed[operation.path] = target_file(operation.path, operation.data, operation.custom)

    def change_keys(self, change: ChangeKeys) -> None:
        parent: Root | Targets
        if change.role in TOP_LEVEL_ROLES:
            parent = self.root()
            role = parent.roles[change.role]
        else:
            parent = self.targets(TARGETS_ROLE)
            role = self._delegation(parent, change)
        for public in change.remove:
            if public.key_id not in role.keyids:
                raise FleetError(Code.NOT_FOUND, f"{change.role} has no such key", key=public.key_id)
            parent.revoke_key(public.key_id, change.role)
        for key in change.add:
            if key.key_id in role.keyids:
                raise FleetError(Code.ALREADY_EXISTS, f"{change.role} has this key already", key=key.key_id)
            parent.add_key(tuf_key(key), change.role)
        if change.threshold is not None:
            role.threshold = change.threshold
        if not 1 <= role.threshold <= len(role.keyids) <= MAX_ROLE_KEYS:
            raise FleetError(
                Code.CONFIG_INVALID,
                f"{change.role} cannot take {role.threshold} signatures of {len(role.keyids)} keys",
                role=change.role,
                remedy="Name a threshold between 1 and the number of its keys.",
            )

    def _delegation(self, parent: Targets, change: ChangeKeys) -> Role:
        delegations = parent.delegations
        if paths_of(change.role) is None or delegations is None or delegations.roles is None:
            raise FleetError(Code.TRUST_INVALID, f"{change.role} is not a role of a fleet", role=change.role)
        if change.role not in delegations.roles:
            delegate(parent, change.role, change.threshold or 1)
            # A role of this name that was withdrawn counts on: nodes refuse a version that is older (TUF 5.5.5).
            earlier = latest(self._files, Snapshot, Snapshot.type).signed.meta.get(f"{change.role}.json")
            self._targets[change.role] = Metadata(Targets(version=1 if earlier is None else earlier.version + 1))
        return delegations.roles[change.role]

    def remove_role(self, role: str) -> None:
        delegations = self.targets(TARGETS_ROLE).delegations
        roles = {} if delegations is None else delegations.roles or {}
        if role == POLICY_ROLE or role not in roles:
            raise FleetError(Code.NOT_FOUND, f"{role} is not a role of a team", role=role)
        for key_id in list(roles[role].keyids):
            self.targets(TARGETS_ROLE).revoke_key(key_id, role)
        del roles[role]
        self._targets.pop(role, None)

    def finish(self, now: datetime) -> Files:
        root = self._root.signed if self._root is not None else latest(self._files, Root, ROOT_ROLE).signed
        if not self._signed_by(root, TARGETS_ROLE):
            self.touch(TARGETS_ROLE)
        if TARGETS_ROLE in self._targets:
            targets = self._targets[TARGETS_ROLE].signed
            roles = targets.delegations.roles or {} if targets.delegations is not None else {}
            for role in roles:
                if role not in self._targets and not self._signed_by(targets, role):
                    self.touch(role)
        lifetimes = LIFETIMES[profile_of(root)]
        result: Files = {}
        if self._root is not None:
            root.expires = whole_seconds(now + lifetimes.root)
            write(result, self._root)
        for role, metadata in sorted(self._targets.items()):
            metadata.signed.expires = whole_seconds(now + lifetimes.of(role))
            write(result, metadata, role)
        return result

    def _signed_by(self, parent: Root | Targets, role: str) -> bool:
        metadata = latest(self._files, Targets, role)
        return bool(parent.get_verification_result(role, metadata.signed_bytes, metadata.signatures))

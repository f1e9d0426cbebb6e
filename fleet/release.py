"""The publisher's side of the release repository: signed metadata files, made and changed.

Owns: how files of a release come into being. Every function takes a mapping of file names to bytes and returns a new
one; nothing is written in place, so a failed change leaves nothing behind. Runs where the role keys are (fleetctl on
the machine of a publisher), never in the coordinator. Verification is `fleet.trust`; publishers run it over what they
made before they pass it on.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from fleet.errors import Code, FleetError
from fleet.targets import TARGETS_ROLE, paths_of, role_of
from fleet.times import to_ms
from fleet.trust import PROFILE_FIELD, SIGNED_AT_FIELD, Profile, profile_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fleet.signing import PublicKey, SigningKey

Files = dict[str, bytes]
"""File name to bytes, as TUF names them with consistent snapshots."""

TOP_LEVEL_ROLES = (Root.type, TARGETS_ROLE, Snapshot.type, Timestamp.type)
"""Roles whose keys the root names."""

_COMPACT = JSONSerializer(compact=True)
_VERSIONED = re.compile(r"([1-9][0-9]*)\.([a-z0-9-]+)\.json")

SignedRole = TypeVar("SignedRole", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a signature is good for adopting something new. `targets` holds for delegated roles too."""

    root: timedelta
    targets: timedelta
    snapshot: timedelta
    timestamp: timedelta


_YEAR = timedelta(days=365)

LIFETIMES: Mapping[Profile, Lifetimes] = MappingProxyType(
    {
        # A demonstration on a laptop shall not die because nobody published for two weeks.
        Profile.DEV: Lifetimes(_YEAR, _YEAR, _YEAR, _YEAR),
        Profile.PRODUCTION: Lifetimes(_YEAR, timedelta(days=90), timedelta(days=14), timedelta(days=7)),
    }
)
"""Lifetimes used unless `RoleKeys` names others."""


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who signs.

    Attributes:
        keys: role name to the private keys at hand; `new_release` needs every role, a change only the roles it signs.
        thresholds: role name to the number of signatures it takes; 1 where absent. Read by `new_release` and
            `rotate_root`.
        lifetimes: None for those of the repository's profile.
    """

    keys: Mapping[str, tuple[SigningKey, ...]]
    thresholds: Mapping[str, int] = field(default_factory=dict)
    lifetimes: Lifetimes | None = None

    def of(self, role: str) -> tuple[SigningKey, ...]:
        """Return the keys of a role.

        Raises:
            FleetError: CONFIG_INVALID if there is none.
        """
        keys = self.keys.get(role, ())
        if not keys:
            raise FleetError(Code.CONFIG_INVALID, f"there is no key of role {role} here", role=role)
        return keys

    def threshold(self, role: str) -> int:
        """Signatures that the role takes."""
        return self.thresholds.get(role, 1)


def new_release(keys: RoleKeys, *, profile: Profile, now: datetime, documents: Mapping[str, bytes]) -> Files:
    """Make a repository, published and complete.

    Args:
        keys: keys of root, targets, snapshot, timestamp and of each delegated role (`code-TEAM`, `grants-TEAM`,
            `policy`) that shall exist.
        profile: marked in the root; decides the lifetimes.
        now: moment of signing.
        documents: target path to bytes, for example `trust/fleet.json`.
    """
    lifetimes = keys.lifetimes or LIFETIMES[profile]
    files: Files = {}
    root = Root(expires=_whole_seconds(now + lifetimes.root), consistent_snapshot=True)
    if profile is Profile.DEV:
        root.unrecognized_fields[PROFILE_FIELD] = str(profile)
    _name_root_keys(root, keys)
    _put(files, Metadata(root), keys.of(Root.type))
    targets = Targets(expires=_whole_seconds(now + lifetimes.targets), delegations=Delegations({}, {}))
    delegated = [role for role in keys.keys if role not in TOP_LEVEL_ROLES]
    for role in delegated:
        _delegate(targets, role, keys)
        empty = Targets(expires=_whole_seconds(now + lifetimes.targets))
        _put(files, Metadata(empty), keys.of(role), role)
    _put(files, Metadata(targets), keys.of(TARGETS_ROLE))
    for path, data in documents.items():
        files = add_target(files, keys, path, data, {}, now)
    return publish(files, keys, now)


def add_target(
    files: Mapping[str, bytes], keys: RoleKeys, path: str, data: bytes, custom: Mapping[str, object], now: datetime
) -> Files:
    """List a document in the role that its path names, and sign that role. Takes effect with `publish`.

    Raises:
        FleetError: CONFIG_INVALID without a key of the role; TRUST_INVALID if the repository has no such role.
    """
    role = _responsible(path)
    target = TargetFile.from_data(path, data, ["sha256"])
    if custom:
        target.unrecognized_fields["custom"] = dict(custom)
    metadata = _latest(files, Targets, role)
    metadata.signed.targets[path] = target
    return _signed_again(files, metadata, keys, role, now)


def remove_target(files: Mapping[str, bytes], keys: RoleKeys, path: str, now: datetime) -> Files:
    """Withdraw a document: no node adopts it any more once this is published.

    Raises:
        FleetError: NOT_FOUND if it is not listed; else as `add_target`.
    """
    role = _responsible(path)
    metadata = _latest(files, Targets, role)
    if metadata.signed.targets.pop(path, None) is None:
        raise FleetError(Code.NOT_FOUND, "the role does not list it", place=path)
    return _signed_again(files, metadata, keys, role, now)


def renew(files: Mapping[str, bytes], keys: RoleKeys, role: str, now: datetime) -> Files:
    """Sign a targets role again with a new expiry, unchanged otherwise."""
    return _signed_again(files, _latest(files, Targets, role), keys, role, now)


def countersign(files: Mapping[str, bytes], keys: RoleKeys, role: str) -> Files:
    """Add the signatures of further keys to the newest version of a targets role, for thresholds above one."""
    metadata = _latest(files, Targets, role)
    result = dict(files)
    _put(result, metadata, keys.of(role), role)
    return result


def rotate_root(files: Mapping[str, bytes], old: RoleKeys, new: RoleKeys, now: datetime) -> Files:
    """Make the next root version, with the top-level keys of `new`, signed by the roots of `old` and `new`.

    With `old` equal to `new` this renews the root's expiry. Top-level roles whose keys changed must be signed again
    (`renew`, `publish`) before nodes accept the result.
    """
    metadata = _latest(files, Root, Root.type)
    root = metadata.signed
    for role in TOP_LEVEL_ROLES:
        for key_id in list(root.roles[role].keyids):
            root.revoke_key(key_id, role)
    _name_root_keys(root, new)
    lifetimes = new.lifetimes or LIFETIMES[profile_of(root)]
    root.version += 1
    root.expires = _whole_seconds(now + lifetimes.root)
    metadata.signatures.clear()
    result = dict(files)
    _put(result, metadata, (*old.of(Root.type), *new.of(Root.type)))
    return result


def publish(files: Mapping[str, bytes], keys: RoleKeys, now: datetime) -> Files:
    """Sign a new snapshot and timestamp over the newest version of every role, and drop superseded files.

    Needs the keys of snapshot and timestamp only; this is also how their expiry is refreshed.
    """
    root = _latest(files, Root, Root.type).signed
    lifetimes = keys.lifetimes or LIFETIMES[profile_of(root)]
    result = {name: data for name, data in files.items() if name.endswith(f".{Root.type}.json")}
    snapshot = Snapshot(
        version=_next_version(files, Snapshot.type), expires=_whole_seconds(now + lifetimes.snapshot), meta={}
    )
    for role in _target_roles(files):
        metadata = _latest(files, Targets, role)
        name = f"{metadata.signed.version}.{role}.json"
        result[name] = files[name]
        snapshot.meta[f"{role}.json"] = _meta_file(metadata.signed.version, files[name])
    _put(result, Metadata(snapshot), keys.of(Snapshot.type))
    timestamp = Timestamp(
        version=_load(files["timestamp.json"], Timestamp).signed.version + 1 if "timestamp.json" in files else 1,
        expires=_whole_seconds(now + lifetimes.timestamp),
        snapshot_meta=_meta_file(snapshot.version, result[f"{snapshot.version}.snapshot.json"]),
    )
    # Nodes whose clocks are wrong learn from it what time it is no earlier than (`fleet.time_floor`).
    timestamp.unrecognized_fields[SIGNED_AT_FIELD] = to_ms(_whole_seconds(now))
    _put(result, Metadata(timestamp), keys.of(Timestamp.type))
    return result


def _responsible(path: str) -> str:
    role = role_of(path)
    if role is None:
        raise ValueError(f"no role may sign {path!r}")
    return role


def _name_root_keys(root: Root, keys: RoleKeys) -> None:
    for role in TOP_LEVEL_ROLES:
        root.roles[role].threshold = keys.threshold(role)
        for key in keys.of(role):
            root.add_key(_tuf_key(key.public), role)


def _delegate(targets: Targets, role: str, keys: RoleKeys) -> None:
    paths = paths_of(role)
    if paths is None or targets.delegations is None or targets.delegations.roles is None:
        raise ValueError(f"{role} is not a role of a fleet")
    targets.delegations.roles[role] = DelegatedRole(role, [], keys.threshold(role), terminating=True, paths=[*paths])
    for key in keys.of(role):
        targets.add_key(_tuf_key(key.public), role)


def _signed_again(
    files: Mapping[str, bytes], metadata: Metadata[Targets], keys: RoleKeys, role: str, now: datetime
) -> Files:
    lifetimes = keys.lifetimes or LIFETIMES[profile_of(_latest(files, Root, Root.type).signed)]
    metadata.signed.version += 1
    metadata.signed.expires = _whole_seconds(now + lifetimes.targets)
    metadata.signatures.clear()
    result = dict(files)
    _put(result, metadata, keys.of(role), role)
    return result


def _put(files: Files, metadata: Metadata[SignedRole], keys: tuple[SigningKey, ...], role: str | None = None) -> None:
    for key in keys:
        metadata.sign(CryptoSigner(key.private, _tuf_key(key.public)), append=True)
    signed = metadata.signed
    versioned = f"{signed.version}.{role or signed.type}.json"
    files["timestamp.json" if isinstance(signed, Timestamp) else versioned] = metadata.to_bytes(_COMPACT)


def _tuf_key(key: PublicKey) -> SSlibKey:
    return SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.hex})


def _versions(files: Mapping[str, bytes], role: str) -> list[int]:
    matches = (_VERSIONED.fullmatch(name) for name in files)
    return [int(match[1]) for match in matches if match is not None and match[2] == role]


def _next_version(files: Mapping[str, bytes], role: str) -> int:
    return max(_versions(files, role), default=0) + 1


def _target_roles(files: Mapping[str, bytes]) -> list[str]:
    matches = (_VERSIONED.fullmatch(name) for name in files)
    return sorted({match[2] for match in matches if match is not None} - {Root.type, Snapshot.type})


def _latest(files: Mapping[str, bytes], kind: type[SignedRole], role: str) -> Metadata[SignedRole]:
    versions = _versions(files, role)
    if not versions:
        raise FleetError(Code.TRUST_INVALID, f"the repository has no role {role}", role=role)
    return _load(files[f"{max(versions)}.{role}.json"], kind)


def _load(data: bytes, kind: type[SignedRole]) -> Metadata[SignedRole]:
    try:
        metadata = Metadata[SignedRole].from_bytes(data)
    except RepositoryError as error:
        raise FleetError(Code.TRUST_INVALID, f"the {kind.type} metadata cannot be read") from error
    if not isinstance(metadata.signed, kind):
        raise FleetError(Code.TRUST_INVALID, f"the file is not {kind.type} metadata")
    return metadata


def _meta_file(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _whole_seconds(at: datetime) -> datetime:
    """TUF writes expiry in whole seconds."""
    return at.replace(microsecond=0)

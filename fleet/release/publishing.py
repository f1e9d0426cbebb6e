"""A whole release, made and changed where all keys that it takes are at hand.

Every function takes a mapping of file names to bytes and returns a new one; nothing is written in place, so a failed
change leaves nothing behind. Changes that several people sign one after the other are `fleet.release.staging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from fleet.errors import Code, FleetError
from fleet.release.keys import LIFETIMES, ROOT_ROLE, TOP_LEVEL_ROLES, NamedKey
from fleet.release.metadata_files import (
    TIMESTAMP_FILE,
    Files,
    latest,
    load,
    meta_file,
    sign,
    target_roles,
    tuf_key,
    verifies,
    versions,
    whole_seconds,
    write,
)
from fleet.targets import TARGETS_ROLE, paths_of, role_of
from fleet.times import to_ms
from fleet.trust import PROFILE_FIELD, SIGNED_AT_FIELD, Profile, profile_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tuf.api.metadata import MetaFile

    from fleet.release.keys import RoleKeys
    from fleet.release.metadata_files import AnyMetadata


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
    root = Root(expires=whole_seconds(now + lifetimes.root), consistent_snapshot=True)
    if profile is Profile.DEV:
        root.unrecognized_fields[PROFILE_FIELD] = str(profile)
    _name_root_keys(root, keys)
    _put(files, Metadata(root), keys, ROOT_ROLE)
    targets = Targets(expires=whole_seconds(now + lifetimes.targets), delegations=Delegations({}, {}))
    delegated = [role for role in keys.keys if role not in TOP_LEVEL_ROLES]
    for role in delegated:
        delegate(targets, role, keys.threshold(role))
        for key in keys.of(role):
            targets.add_key(tuf_key(NamedKey(key.public, "")), role)
        empty = Targets(expires=whole_seconds(now + lifetimes.delegated))
        _put(files, Metadata(empty), keys, role)
    _put(files, Metadata(targets), keys, TARGETS_ROLE)
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
    role = responsible(path)
    metadata = latest(files, Targets, role)
    metadata.signed.targets[path] = target_file(path, data, custom)
    return _signed_again(files, metadata, keys, role, now)


def remove_target(files: Mapping[str, bytes], keys: RoleKeys, path: str, now: datetime) -> Files:
    """Withdraw a document: no node adopts it any more once this is published.

    Raises:
        FleetError: NOT_FOUND if it is not listed; else as `add_target`.
    """
    role = responsible(path)
    metadata = latest(files, Targets, role)
    if metadata.signed.targets.pop(path, None) is None:
        raise FleetError(Code.NOT_FOUND, "the role does not list it", place=path)
    return _signed_again(files, metadata, keys, role, now)


def renew(files: Mapping[str, bytes], keys: RoleKeys, role: str, now: datetime) -> Files:
    """Sign a targets role again with a new expiry, unchanged otherwise."""
    return _signed_again(files, latest(files, Targets, role), keys, role, now)


def countersign(files: Mapping[str, bytes], keys: RoleKeys, role: str) -> Files:
    """Add the signatures of further keys to the newest version of a targets role, for thresholds above one."""
    metadata = latest(files, Targets, role)
    result = dict(files)
    _put(result, metadata, keys, role)
    return result


def rotate_root(files: Mapping[str, bytes], old: RoleKeys, new: RoleKeys, now: datetime) -> Files:
    """Make the next root version, with the top-level keys of `new`, signed by the roots of `old` and `new`.

    With `old` equal to `new` this renews the root's expiry. Top-level roles whose keys changed must be signed again
    (`renew`, `publish`) before nodes accept the result.
    """
    metadata = latest(files, Root, ROOT_ROLE)
    root = metadata.signed
    for role in TOP_LEVEL_ROLES:
        for key_id in list(root.roles[role].keyids):
            root.revoke_key(key_id, role)
    _name_root_keys(root, new)
    lifetimes = new.lifetimes or LIFETIMES[profile_of(root)]
    root.version += 1
    root.expires = whole_seconds(now + lifetimes.root)
    metadata.signatures.clear()
    sign(metadata, old.of(ROOT_ROLE))
    result = dict(files)
    _put(result, metadata, new, ROOT_ROLE)
    return result


def publish(files: Mapping[str, bytes], keys: RoleKeys, now: datetime) -> Files:
    """Sign a new snapshot and timestamp over the newest version of every role, and drop superseded files.

    Needs the keys of snapshot and timestamp only; this is also how their expiry is refreshed. Their versions begin
    again at 1 when the root has withdrawn the keys that signed the present ones: no client compares with those any more
    (TUF 5.3.11), and so nobody who raised a version to the end of the numbers blocks the fleet for ever.
    """
    root = latest(files, Root, ROOT_ROLE).signed
    lifetimes = keys.lifetimes or LIFETIMES[profile_of(root)]
    result = {name: data for name, data in files.items() if name.endswith(f".{ROOT_ROLE}.json")}
    snapshot = Snapshot(version=_next_snapshot(files, root), expires=whole_seconds(now + lifetimes.snapshot), meta={})
    for role in _listed_roles(files):
        version = max(versions(files, role))
        name = f"{version}.{role}.json"
        load(files[name], Targets)
        result[name] = files[name]
        snapshot.meta[f"{role}.json"] = meta_file(version, files[name])
    for name, meta in _withdrawn(files, root).items():
        snapshot.meta.setdefault(name, meta)
    _put(result, Metadata(snapshot), keys, Snapshot.type)
    counts = verifies(files, TIMESTAMP_FILE, Timestamp, root)
    timestamp = Timestamp(
        version=load(files[TIMESTAMP_FILE], Timestamp).signed.version + 1 if counts else 1,
        expires=whole_seconds(now + lifetimes.timestamp),
        snapshot_meta=meta_file(snapshot.version, result[f"{snapshot.version}.snapshot.json"]),
    )
    # Nodes whose clocks are wrong learn from it what time it is no earlier than (`fleet.time_floor`).
    timestamp.unrecognized_fields[SIGNED_AT_FIELD] = to_ms(whole_seconds(now))
    _put(result, Metadata(timestamp), keys, Timestamp.type)
    return result


def target_file(path: str, data: bytes, custom: Mapping[str, object]) -> TargetFile:
    """Describe a document for the role that lists it."""
    target = TargetFile.from_data(path, data, ["sha256"])
    if custom:
        target.unrecognized_fields["custom"] = dict(custom)
    return target


def delegate(targets: Targets, role: str, threshold: int) -> None:
    """Delegate a role's own paths to it, terminating; its keys are added afterwards."""
    paths = paths_of(role)
    if paths is None or targets.delegations is None or targets.delegations.roles is None:
        raise ValueError(f"{role} is not a role of a fleet")
    targets.delegations.roles[role] = DelegatedRole(role, [], threshold, terminating=True, paths=[*paths])


def responsible(path: str) -> str:
    """Role that signs a path; any other path is a programmer's mistake."""
    role = role_of(path)
    if role is None:
        raise ValueError(f"no role may sign {path!r}")
    return role


def _next_snapshot(files: Mapping[str, bytes], root: Root) -> int:
    """Version after the present one. The timestamp names the snapshot's version, so either key keeps it counting."""
    present = max(versions(files, Snapshot.type), default=0)
    counts = verifies(files, TIMESTAMP_FILE, Timestamp, root) or verifies(
        files, f"{present}.{Snapshot.type}.json", Snapshot, root
    )
    return present + 1 if counts else 1


def _listed_roles(files: Mapping[str, bytes]) -> list[str]:
    """Targets roles of the release; files of a role that was withdrawn are dropped."""
    delegations = latest(files, Targets, TARGETS_ROLE).signed.delegations
    known = {TARGETS_ROLE, *(() if delegations is None else delegations.roles or ())}
    return [role for role in target_roles(files) if role in known]


def _withdrawn(files: Mapping[str, bytes], root: Root) -> Mapping[str, MetaFile]:
    """What the present snapshot says of all roles: one that names fewer is refused (TUF 5.5.5) while its key counts."""
    present = f"{max(versions(files, Snapshot.type), default=0)}.{Snapshot.type}.json"
    return load(files[present], Snapshot).signed.meta if verifies(files, present, Snapshot, root) else {}


def _name_root_keys(root: Root, keys: RoleKeys) -> None:
    for role in TOP_LEVEL_ROLES:
        root.roles[role].threshold = keys.threshold(role)
        for key in keys.of(role):
            root.add_key(tuf_key(NamedKey(key.public, "")), role)


def _signed_again(
    files: Mapping[str, bytes], metadata: Metadata[Targets], keys: RoleKeys, role: str, now: datetime
) -> Files:
    lifetimes = keys.lifetimes or LIFETIMES[profile_of(latest(files, Root, ROOT_ROLE).signed)]
    metadata.signed.version += 1
    metadata.signed.expires = whole_seconds(now + lifetimes.of(role))
    metadata.signatures.clear()
    result = dict(files)
    _put(result, metadata, keys, role)
    return result


def _put(files: Files, metadata: AnyMetadata, keys: RoleKeys, role: str) -> None:
    sign(metadata, keys.of(role))
    write(files, metadata, role)

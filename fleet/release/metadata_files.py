"""One metadata file at a time: read, find the newest, sign, and see who signed. python-tuf behind one door.

Owns: how the publisher's side uses python-tuf; the node's side is `fleet.metadata`. Signatures are made by whoever
holds the key (`RoleSigner`), over exactly the bytes that python-tuf verifies (canonical JSON, TUF 4.2.1).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, TypeVar

from securesystemslib.signer import Signature, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from fleet.errors import Code, FleetError
from fleet.release.keys import NamedKey
from fleet.signing import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from fleet.release.keys import RoleSigner

Files = dict[str, bytes]
"""File name to bytes, as TUF names them with consistent snapshots."""

NAME_FIELD = "x-fleet-name"
"""Field of a key in root and targets metadata: the name that its holder goes by."""

TIMESTAMP_FILE = "timestamp.json"

_COMPACT = JSONSerializer(compact=True)
_VERSIONED = re.compile(r"([1-9][0-9]*)\.([a-z0-9-]+)\.json")

SignedRole = TypeVar("SignedRole", Root, Targets, Snapshot, Timestamp)

AnyMetadata = Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]
"""Metadata of whatever role."""


def role_of_file(name: str) -> str:
    """Role of a metadata file, by its name: `7.code-default.json` is `code-default`."""
    match = _VERSIONED.fullmatch(name)
    return match[2] if match is not None else Timestamp.type


def file_order(name: str) -> tuple[int, str]:
    """Sort key for files of roles: root, then targets, then the delegated ones by name."""
    role = role_of_file(name)
    return ({Root.type: 0, Targets.type: 1}.get(role, 2), role)


def versions(files: Mapping[str, bytes], role: str) -> list[int]:
    """Versions of a role among the files."""
    matches = (_VERSIONED.fullmatch(name) for name in files)
    return [int(match[1]) for match in matches if match is not None and match[2] == role]


def target_roles(files: Mapping[str, bytes]) -> list[str]:
    """Return the roles that list documents: targets and everything delegated."""
    return sorted({role_of_file(name) for name in files} - {Root.type, Snapshot.type, Timestamp.type})


def latest(files: Mapping[str, bytes], kind: type[SignedRole], role: str) -> Metadata[SignedRole]:
    """Return the newest version of a role.

    Raises:
        FleetError: TRUST_INVALID if there is none, or it cannot be read.
    """
    present = versions(files, role)
    if not present:
        raise FleetError(Code.TRUST_INVALID, f"the repository has no role {role}", role=role)
    return load(files[f"{max(present)}.{role}.json"], kind)


def load(data: bytes, kind: type[SignedRole]) -> Metadata[SignedRole]:
    """Read one file.

    Raises:
        FleetError: TRUST_INVALID.
    """
    try:
        metadata = Metadata[SignedRole].from_bytes(data)
    except RepositoryError as error:
        raise FleetError(Code.TRUST_INVALID, f"the {kind.type} metadata cannot be read") from error
    if not isinstance(metadata.signed, kind):
        raise FleetError(Code.TRUST_INVALID, f"the file is not {kind.type} metadata")
    return metadata


def write(files: Files, metadata: AnyMetadata, role: str | None = None) -> None:
    """Put a role's metadata among the files under its name; `role` where the type does not say it."""
    signed = metadata.signed
    versioned = f"{signed.version}.{role or signed.type}.json"
    files[TIMESTAMP_FILE if isinstance(signed, Timestamp) else versioned] = metadata.to_bytes(_COMPACT)


def sign(metadata: AnyMetadata, signers: Iterable[RoleSigner]) -> None:
    """Add signatures."""
    message = metadata.signed_bytes
    for signer in signers:
        add_signature(metadata, signer.public.key_id, signer.sign(message))


def add_signature(metadata: AnyMetadata, key_id: str, signature: bytes) -> None:
    """Add one signature that was made elsewhere, unchecked; their order does not tell who signed first."""
    signatures = {**metadata.signatures, key_id: Signature(key_id, signature.hex())}
    metadata.signatures = dict(sorted(signatures.items()))


def tuf_key(key: NamedKey) -> SSlibKey:
    """Write a key for root or targets metadata."""
    fields = {NAME_FIELD: key.name} if key.name else {}
    return SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.public.hex}, fields)


def named_keys(parent: Root | Targets, key_ids: Iterable[str]) -> tuple[NamedKey, ...]:
    """Read the keys of a role of a verified release, sorted by name and id."""
    keys = (parent.get_key(key_id) for key_id in key_ids)
    named = (
        NamedKey(PublicKey.from_hex(key.keyval["public"]), str(key.unrecognized_fields.get(NAME_FIELD, "")))
        for key in keys
    )
    return tuple(sorted(named, key=lambda key: (key.name, key.key_id)))


def verifies(files: Mapping[str, bytes], name: str, kind: type[SignedRole], root: Root) -> bool:
    """Whether a file is there and signed by the role's keys in a root."""
    if name not in files:
        return False
    metadata = load(files[name], kind)
    return bool(root.get_verification_result(kind.type, metadata.signed_bytes, metadata.signatures))


def meta_file(version: int, data: bytes) -> MetaFile:
    """Describe a file for the snapshot or the timestamp."""
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def whole_seconds(at: datetime) -> datetime:
    """TUF writes expiry in whole seconds."""
    return at.replace(microsecond=0)

"""The operator's side of trust: the pinned root, the release repository, and the role keys that never leave here.

Owns: the trust directory. Its layout::

    root.json          the pinned root; copied to nodes
    keys/ROLE.pem      Ed25519 private keys, mode 0600; a machine has only the roles it plays
    repository/        TUF metadata files
    documents/PATH     the documents that the metadata lists
    log.checkpoint     the newest checkpoint of the audit log that was verified here

Signing happens here and nowhere else; the coordinator receives finished metadata (`publish`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.release import RoleKeys, add_target
from fleet.release import publish as sign_release
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH, role_of
from fleet.trust import open_fleet_trust, open_release
from fleet.v1 import control_pb2 as pb
from fleet.v1 import model_pb2
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from fleet.trust import FleetTrust, Release
    from orchestrator.cli.client import Client

MAX_FILE = 4 * 1024 * 1024
"""Bytes of one file read from the trust directory."""


@dataclass(frozen=True, slots=True)
class TrustDirectory:
    """The files below one trust directory."""

    path: Path

    def _read(self, name: str, remedy: str) -> bytes:
        file = self.path / name
        try:
            return read_bounded(file, MAX_FILE)
        except FileNotFoundError as error:
            raise FleetError(Code.NOT_FOUND, "no such file", place=str(file), remedy=remedy) from error

    def write(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Write one file atomically; secret files get their mode before their content."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.touch(mode=mode)
        temporary.chmod(mode)
        temporary.write_bytes(data)
        temporary.replace(file)

    @property
    def root(self) -> bytes:
        """The pinned root metadata."""
        return self._read("root.json", "Run `fleetctl init`, or copy root.json from the fleet's security officer.")

    def role_key(self, role: str) -> SigningKey:
        """Private key of a role.

        Raises:
            FleetError: NOT_FOUND when this machine does not play the role.
        """
        data = self._read(f"keys/{role}.pem", f"Do this on the machine that holds the key of the role {role}.")
        return SigningKey.from_pem(data)

    def files(self) -> dict[str, bytes]:
        """Metadata files of the local repository."""
        folder = self.path / "repository"
        return {file.name: self._read(f"repository/{file.name}", "") for file in sorted(folder.glob("*.json"))}

    def save(self, files: Mapping[str, bytes]) -> None:
        """Replace the local repository's metadata: new files first, then the ones that no release needs."""
        for name, data in files.items():
            self.write(f"repository/{name}", data)
        for file in (self.path / "repository").glob("*.json"):
            if file.name not in files:
                file.unlink()

    def document(self, path: str) -> bytes:
        """The operator's copy of a target."""
        return self._read(f"documents/{path}", "Fetch it again with `fleetctl grant list` while connected.")

    def release(self, now: datetime) -> Release:
        """Verify the local repository.

        Raises:
            FleetError: as `fleet.trust.open_release`.
        """
        return open_release(self.files(), root=self.root, now=now, allow_dev=True)

    def fleet_trust(self, now: datetime) -> FleetTrust:
        """Verify and read the fleet's own keys."""
        return open_fleet_trust(self.release(now), self.document(TRUST_PATH))


def synchronise(directory: TrustDirectory, client: Client, now: datetime) -> Release:
    """Take over the coordinator's metadata when it is newer, verified against the pin and against rollback.

    Several people publish to one fleet: each change is made on top of the newest release.

    Raises:
        FleetError: as `fleet.trust.open_release`.
    """
    offered = dict(client.call(client.stub.GetTrust, pb.GetTrustRequest()).files)
    local = directory.files()
    if not offered:
        return directory.release(now)
    release = open_release(offered, root=directory.root, now=now, previous=local, allow_dev=True)
    if dict(release.files) != local:
        directory.save(release.files)
    return release


def publish(
    directory: TrustDirectory, client: Client, files: Mapping[str, bytes], documents: Mapping[str, bytes], now: datetime
) -> pb.PublishReply:
    """Send new metadata to the coordinator with the documents it lacks, and keep both once it has accepted them.

    Args:
        directory: where the operator keeps the repository.
        client: connection to the coordinator.
        files: all metadata files of the new release.
        documents: target path to bytes, for the targets that are new.
        now: time of verification; what does not verify here is not sent.

    Raises:
        FleetError: whatever `fleet.trust.open_release` or the coordinator refuses; nothing is kept then.
    """
    release = open_release(files, root=directory.root, now=now, previous=directory.files(), allow_dev=True)
    paths = {target.digest: target.path for target in release.targets("")}
    missing = client.call(client.stub.HasBlobs, pb.HasBlobsRequest(digests=sorted(paths))).missing
    request = pb.PublishRequest(files=dict(release.files))
    for digest in missing:
        path = paths[digest]
        content = documents[path] if path in documents else directory.document(path)
        request.documents.append(model_pb2.Blob(digest=digest, content=content))
    reply = client.call(client.stub.Publish, request)
    directory.save(release.files)
    for path, data in documents.items():
        directory.write(f"documents/{path}", data)
    return reply


def sign_document(
    directory: TrustDirectory, client: Client, release: Release, path: str, data: bytes, now: datetime
) -> None:
    """Sign a new document with the key of the role that its path names, and publish it on top of `release`.

    Raises:
        FleetError: NOT_FOUND when this machine does not play the role; else as `publish`.
    """
    keys = RoleKeys({r: (directory.role_key(r),) for r in (str(role_of(path)), "snapshot", "timestamp")})
    files = add_target(release.files, keys, path, data, {}, now)
    publish(directory, client, sign_release(files, keys, now), {path: data}, now)

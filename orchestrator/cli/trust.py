"""The operator's side of trust: the pinned root, the release repository, and the role keys that never leave here.

Owns: the trust directory. Its layout::

    root.json          the pinned root; copied to nodes
    keys/              private keys (`orchestrator.signers`); a machine has only those of the roles it plays
    repository/        TUF metadata files
    documents/PATH     the documents that the metadata lists
    staged/NAME.json   changes that lack signatures, or somebody who publishes them
    log.checkpoint     the newest checkpoint of the audit log that was verified here

Signing happens here and nowhere else; the coordinator receives finished metadata (`publish`). Every change is staged
first (`fleet.release`). Where the keys at hand are enough, it is published at once, and nobody sees more of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.release import (
    MAX_STAGED,
    AddDocument,
    RoleKeys,
    completed,
    encode_staged,
    online_keys,
    parse_staged,
    sign_staged,
    stage,
)
from fleet.release import publish as sign_release
from fleet.targets import BREAK_GLASS_PATH, GUARDRAILS_PATH, TRUST_PATH
from fleet.trust import MAX_TARGET, open_fleet_trust, open_release
from fleet.v1 import control_pb2 as pb
from fleet.v1 import model_pb2
from orchestrator.files import read_bounded, read_named
from orchestrator.signers import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from fleet.release import Operation, StagedChange
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

    @property
    def keys(self) -> KeyFolder:
        """The private keys on this machine; a person is asked for the passphrase of an encrypted one."""
        return KeyFolder(self.path / "keys", ask_passphrase)

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

    def staged(self) -> tuple[Path, ...]:
        """Files of staged changes, sorted."""
        return tuple(sorted((self.path / "staged").glob("*.json")))

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

    Several people publish to one fleet: each change is made on top of the newest release. Of the documents, those that
    whole commands read are taken over too (`trust/fleet.json` and the policies); others are fetched where needed.

    Raises:
        FleetError: as `fleet.trust.open_release`; DIGEST_MISMATCH, or what the coordinator answers, for a document.
    """
    offered = dict(client.call(client.stub.GetTrust, pb.GetTrustRequest()).files)
    local = directory.files()
    if not offered:
        return directory.release(now)
    release = open_release(offered, root=directory.root, now=now, previous=local, allow_dev=True)
    for target in (*release.targets(TRUST_PATH), *release.targets("policy/")):
        directory.write(f"documents/{target.path}", fetch_document(directory, client, release, target.path))
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


def context_of(
    directory: TrustDirectory, client: Client | None, release: Release, operations: tuple[Operation, ...]
) -> dict[str, bytes]:
    """Return the documents that people need who sign: what is replaced, a grant's last revision, the policies."""
    context: dict[str, bytes] = {}
    for operation in operations:
        if not isinstance(operation, AddDocument):
            continue
        folder = operation.path.rpartition("/")[0]
        before = [operation.path] if operation.path in release.documents else []
        if operation.path.startswith("grants/") and not before:
            older = [t.path for t in release.targets(f"{folder}/") if t.path != operation.path]
            before = sorted(older, key=lambda path: (len(path), path))[-1:]
        if operation.path.startswith("grants/"):
            before += [path for path in (GUARDRAILS_PATH, BREAK_GLASS_PATH) if path in release.documents]
        for path in before:
            context[path] = fetch_document(directory, client, release, path)
    return context


def fetch_document(directory: TrustDirectory, client: Client | None, release: Release, path: str) -> bytes:
    """Return a listed document from this machine, or from the coordinator.

    Raises:
        FleetError: NOT_FOUND when neither has it; DIGEST_MISMATCH.
    """
    target = release.target(path)
    try:
        return target.check(directory.document(path))
    except FleetError:
        if client is None:
            raise
    return target.check(client.get_blob(target.digest, MAX_TARGET))


def conclude(
    directory: TrustDirectory, client: Client | None, staged: StagedChange, release: Release, now: datetime
) -> Path | None:
    """Publish a change that is complete where this machine may; else keep it as a file for the next person.

    Returns:
        The file, or None when it is published.

    Raises:
        FleetError: as `publish` and `fleet.release.completed`.
    """
    if client is not None and staged.complete:
        files = completed(staged, release)
        keys = publisher_keys(directory, files)
        if keys is not None:
            publish(directory, client, sign_release(files, keys, now), staged.documents, now)
            return None
    file = _free_file(directory, "+".join(sorted(file.removesuffix(".json") for file in staged.files)))
    directory.write(f"staged/{file.name}", encode_staged(staged))
    return file


def _free_file(directory: TrustDirectory, name: str) -> Path:
    """Return a file for a staged change that no other one has; what somebody signed is not written over."""
    folder = directory.path / "staged"
    file, number = folder / f"{name}.json", 2
    while file.exists():
        file, number = folder / f"{name}-{number}.json", number + 1
    return file


def publisher_keys(directory: TrustDirectory, files: Mapping[str, bytes]) -> RoleKeys | None:
    """Return the keys of snapshot and timestamp that metadata names; None unless enough of both are here."""
    here = {signer.public: signer for signer in directory.keys.signers()}
    named = online_keys(files)
    keys = {role: tuple(here[key] for key in wanted if key in here) for role, (wanted, _) in named.items()}
    return RoleKeys(keys) if all(len(keys[role]) >= named[role][1] for role in named) else None


def sign_document(
    directory: TrustDirectory, client: Client | None, release: Release, document: AddDocument, now: datetime
) -> Path | None:
    """Sign a new document with the keys at hand of the role that its path names, on top of `release`.

    Returns:
        None when it is published; else the file of the staged change, which others have to sign or publish.

    Raises:
        FleetError: as `conclude` and `fleet.release.stage`.
    """
    operations = (document,)
    context = context_of(directory, client, release, operations)
    staged = sign_staged(stage(release, operations, document.path, now, context), directory.keys.signers())
    return conclude(directory, client, staged, release, now)


def read_staged(directory: TrustDirectory, file: Path) -> StagedChange:
    """Read and verify a staged change.

    Raises:
        FleetError: CONFIG_INVALID when it cannot be read; else as `fleet.release.parse_staged`.
    """
    return parse_staged(read_named(file, MAX_STAGED), directory.root, str(file))


def ask_passphrase(name: str) -> str:
    """Ask the person at the terminal."""
    answer: str = click.prompt(f"Passphrase of the key {name}", hide_input=True, err=True)
    return answer

"""Changes that several people sign, one after the other, on machines that need no network.

Owns: the staged change, a file that carries the release it starts from, the operations, and the signatures so far. What
is signed is never read from the file: each machine makes it again from the verified release (`fleet.release.changes`),
so the difference that a person is shown is that of the bytes that are signed. A staged change that lacks a signature
changes nothing anywhere: only `completed` turns one into metadata, and it counts signatures as a node does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from tuf.api.metadata import Root, Targets

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.release.changes import AddDocument, draft
from fleet.release.keys import ROOT_ROLE, NamedKey
from fleet.release.metadata_files import Files, add_signature, file_order, latest, load, named_keys, role_of_file, write
from fleet.release.operations import MAX_OPERATIONS, encode_operation, parse_operation
from fleet.signing import decode_base64, encode_base64
from fleet.targets import TARGETS_ROLE
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.trust import open_release

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tuf.api.metadata import Metadata

    from fleet.release.changes import Operation
    from fleet.release.keys import RoleSigner
    from fleet.trust import Release

SCHEMA = "fleet.staged/v1"
MAX_STAGED = 16 * 1024 * 1024
"""Bytes of one staged change: a whole release and the documents, in base64."""

MAX_FILES = 512
MAX_TITLE = 200

OTHER_RELEASE = (
    "If another release of fleetctl made the file, stage the change again with a release that everybody who signs has."
)
"""What to do about a file that reads otherwise here: what is signed is computed again, so releases must agree on it."""

BEFORE_EXPIRY = datetime(2000, 1, 1, tzinfo=UTC)
"""A time at which nothing has expired: a change is prepared and signed on a release that may have; publishing it is
gated by expiry as ever."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Signatures that one file takes, as one authority asks for them.

    The root has two: the version before it and itself (TUF 5.3.4).

    Attributes:
        file: name of the metadata file.
        role: its role.
        authority: who names the keys, for people: `root 1`.
        threshold: signatures that it takes.
        signed: keys that signed.
        unsigned: keys that may sign and did not.
    """

    file: str
    role: str
    authority: str
    threshold: int
    signed: tuple[NamedKey, ...]
    unsigned: tuple[NamedKey, ...]

    @property
    def missing(self) -> int:
        """Signatures that are still to come."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True, slots=True)
class StagedChange:
    """A change on top of a verified release; made by `stage` and `parse_staged` only.

    Attributes:
        title: what it is for, in the words of whoever staged it.
        created: when; expiry counts from here.
        base: the release it starts from.
        operations: what it does.
        context: documents of the base that the difference is shown against, by target path.
        files: the new metadata with the signatures so far.
    """

    title: str
    created: datetime
    base: Release
    operations: tuple[Operation, ...]
    context: Mapping[str, bytes]
    files: Mapping[str, bytes]

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """What has to be signed, and by whom, as the base release has it."""
        return requirements(self.base.files, self.files)

    @property
    def roles(self) -> frozenset[str]:
        """The roles that it makes new versions of."""
        return frozenset(map(role_of_file, self.files))

    @property
    def complete(self) -> bool:
        """Whether every file has the signatures that it takes."""
        return not any(requirement.missing for requirement in self.requirements)

    @property
    def documents(self) -> dict[str, bytes]:
        """The documents that it adds, by target path."""
        return {operation.path: operation.data for operation in self.operations if isinstance(operation, AddDocument)}


def stage(
    base: Release, operations: tuple[Operation, ...], title: str, now: datetime, context: Mapping[str, bytes]
) -> StagedChange:
    """Prepare a change, unsigned.

    Args:
        base: the newest release.
        operations: what to do.
        title: what it is for.
        now: moment from which expiry counts.
        context: documents of the base to show the difference against; others than the base lists are refused.

    Raises:
        FleetError: as `fleet.release.changes.draft`; DIGEST_MISMATCH, TARGET_UNSIGNED for the context.
    """
    for path, data in context.items():
        base.target(path).check(data)
    created = from_ms(to_ms(now))  # the file has milliseconds: every machine computes the same expiry
    files = draft(base.files, operations, created)
    return StagedChange(title[:MAX_TITLE], created, base, operations, MappingProxyType(dict(context)), files)


def sign_staged(staged: StagedChange, signers: Iterable[RoleSigner]) -> StagedChange:
    """Sign with every key that some file of the change takes, and that has not signed it yet."""
    files = dict(staged.files)
    for signer in signers:
        for requirement in requirements(staged.base.files, files):
            if signer.public in {key.public for key in requirement.unsigned}:
                metadata = _load(files[requirement.file], requirement.role)
                add_signature(metadata, signer.public.key_id, signer.sign(metadata.signed_bytes))
                write(files, metadata, requirement.role)
    return replace(staged, files=MappingProxyType(files))


def requirements(base: Mapping[str, bytes], files: Mapping[str, bytes]) -> tuple[Requirement, ...]:
    """Return the signatures that new files take on top of a release, in the order root, targets, others."""
    merged = {**base, **files}
    root, targets = latest(merged, Root, ROOT_ROLE).signed, latest(merged, Targets, TARGETS_ROLE).signed
    found: list[Requirement] = []
    for name in sorted(files, key=file_order):
        role = role_of_file(name)
        parents: tuple[Root | Targets, ...] = (root,) if role == TARGETS_ROLE else (targets,)
        if role == ROOT_ROLE:
            parents = (latest(base, Root, ROOT_ROLE).signed, root)
        metadata = _load(files[name], role)
        for parent in parents:
            result = parent.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            found.append(
                Requirement(
                    name,
                    role,
                    f"{parent.type} {parent.version}",
                    result.threshold,
                    named_keys(parent, result.signed),
                    named_keys(parent, result.unsigned),
                )
            )
    return tuple(found)


def completed(staged: StagedChange, current: Release) -> Files:
    """Return the release with the change in it, for the publisher to sign snapshot and timestamp over.

    Checks, in this order:
        1. No role that it changes has changed since: the new version follows the present one.
        2. Every file has its signatures, counted by the keys that `current` names.

    Raises:
        FleetError: GENERATION_CONFLICT with the command that makes the change anew; SIGNATURES_MISSING.
    """
    for name in staged.files:  # 1
        role = role_of_file(name)
        if current.versions.get(role, 0) != staged.base.versions.get(role, 0):
            raise FleetError(
                Code.GENERATION_CONFLICT,
                f"{role} changed since this was staged: version {current.versions.get(role, 0)} is published",
                role=role,
                remedy="Make it anew on top of the newest release: `fleetctl trust rebase FILE`.",
            )
    for requirement in requirements(current.files, staged.files):  # 2
        if requirement.missing:
            raise FleetError(
                Code.SIGNATURES_MISSING,
                f"{requirement.file} lacks {requirement.missing} of {requirement.threshold} signatures",
                role=requirement.role,
                may_sign=", ".join(key.name or key.key_id[:12] for key in requirement.unsigned),
            )
    return {**current.files, **staged.files}


def rebase(staged: StagedChange, current: Release, now: datetime) -> StagedChange:
    """Make the same change on top of another release; nobody has signed the result yet.

    Raises:
        FleetError: as `stage`: what it adds may be there by now, and what it removes gone.
    """
    context = {path: data for path, data in staged.context.items() if path in current.documents}
    return stage(current, staged.operations, staged.title, now, context)


def encode_staged(staged: StagedChange) -> bytes:
    """Write a staged change for the next person."""
    signatures = {
        name: {key_id: signature.signature for key_id, signature in _load(data, role_of_file(name)).signatures.items()}
        for name, data in staged.files.items()
    }
    return dump_json(
        {
            "schema": SCHEMA,
            "title": staged.title,
            "created_ms": to_ms(staged.created),
            "base": _encode(staged.base.files),
            "context": _encode(staged.context),
            "operations": [encode_operation(operation) for operation in staged.operations],
            "signatures": signatures,
        }
    )


def parse_staged(data: bytes, root: bytes, place: str) -> StagedChange:
    """Read and verify a staged change.

    Checks, in this order:
        1. Strict JSON of the schema, within the caps.
        2. The base verifies from the pinned root (`open_release`). Expired metadata is no hindrance to signing.
        3. The documents to compare with are the ones that the base lists.
        4. The operations apply to the base. The files to sign are made from them here.
        5. Every signature is by a key that counts for its file, and verifies.

    Args:
        data: the file.
        root: the pinned root of whoever reads it.
        place: its name, for errors.

    Raises:
        FleetError: STAGED_INVALID; LIMIT_EXCEEDED; what `open_release` and `draft` raise; SIGNATURE_INVALID.
    """
    with Reader(load_json(data, Code.STAGED_INVALID, place, MAX_STAGED), Code.STAGED_INVALID, place) as top:  # 1
        schema = top.text("schema")
        if schema != SCHEMA:
            raise FleetError(
                Code.STAGED_INVALID,
                f"expected {SCHEMA!r}, not {schema!r}",
                place=top.at("schema"),
                remedy=OTHER_RELEASE,
            )
        title = top.text("title")
        if len(title) > MAX_TITLE:
            top.fail("title", f"more than {MAX_TITLE} characters")
        created = from_ms(top.integer("created_ms", 0, MAX_MS))
        files, context = _files(top, "base"), _files(top, "context")
        operations = tuple(parse_operation(item, where) for item, where in top.items("operations", MAX_OPERATIONS))
        signatures = top.section("signatures", _signatures)
    base = open_release(files, root=root, now=BEFORE_EXPIRY, allow_dev=True)  # 2
    staged = stage(base, operations, title, created, context)  # 3, 4
    signed = dict(staged.files)
    for name, by_key in signatures.items():  # 5
        if name not in signed:
            raise FleetError(Code.STAGED_INVALID, f"a signature on {name}, which is not changed", place=place)
        role = role_of_file(name)
        metadata = _load(signed[name], role)
        for key_id, signature in by_key.items():
            add_signature(metadata, key_id, signature)
        write(signed, metadata, role)
        counted = {key.key_id for r in requirements(base.files, signed) if r.file == name for key in r.signed}
        if counted != by_key.keys():
            raise FleetError(
                Code.SIGNATURE_INVALID,
                "a signature does not verify",
                place=f"{place}: signatures.{name}",
                remedy=OTHER_RELEASE,
            )
    return replace(staged, files=MappingProxyType(signed))


def merge(one: StagedChange, other: StagedChange) -> StagedChange:
    """Return one change with the signatures of both copies of it.

    Raises:
        FleetError: STAGED_INVALID when they are different changes.
    """
    if (one.created, one.operations, one.base.files) != (other.created, other.operations, other.base.files):
        raise FleetError(Code.STAGED_INVALID, "these are two different changes")
    files: Files = {}
    for name, data in one.files.items():
        role = role_of_file(name)
        metadata = _load(data, role)
        metadata.signatures.update(_load(other.files[name], role).signatures)
        write(files, metadata, role)
    return replace(one, files=MappingProxyType(files))


def _load(data: bytes, role: str) -> Metadata[Root] | Metadata[Targets]:
    return load(data, Root) if role == ROOT_ROLE else load(data, Targets)


def _encode(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: encode_base64(data) for name, data in files.items()}


def _files(top: Reader, key: str) -> Files:
    encoded = top.mapping(key, MAX_FILES)
    try:
        return {name: decode_base64(text) for name, text in encoded.items()}
    except ValueError as error:
        raise FleetError(Code.STAGED_INVALID, str(error), place=top.at(key)) from error


def _signatures(reader: Reader) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for name in reader.names():
        try:
            found[name] = {key: bytes.fromhex(text) for key, text in reader.mapping(name, MAX_FILES).items()}
        except ValueError as error:
            raise FleetError(Code.STAGED_INVALID, "a signature is not hexadecimal", place=reader.at(name)) from error
    return found

"""The TUF client workflow over bytes: python-tuf behind one door.

Owns: which metadata file is read next, caps, comparison with the adopted metadata, and the translation of python-tuf's
errors. Adds no rule of its own: those are in `fleet.trust`, the only caller. `TrustedMetadataSet` is internal to
python-tuf and its clock is an attribute; both are used here and nowhere else, pinned by tests, because the public
`Updater` wants a directory and the wall clock.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

__all__ = ["MAX_FILES", "MAX_METADATA", "MAX_RELEASE", "Root", "Targets", "Timestamp", "Workflow", "check_caps"]

MAX_FILES = 512
"""Files offered for one release."""

MAX_METADATA = 1024 * 1024
"""Bytes of one metadata file; a role with 2,000 targets has about 360 KB."""

MAX_RELEASE = 4 * 1024 * 1024
"""Bytes of all files offered for one release."""

MAX_ROOT_ROTATIONS = 64
"""Root versions that one call climbs beyond the adopted ones."""


class Workflow:
    """One pass of the client workflow; the methods are called once each, in the order in which they stand here.

    Attributes:
        trusted: python-tuf's set of verified roles.
        used: file name to bytes of everything verified so far.
        roles: the verified roles, in order.
        listings: targets role to its verified contents.
        approvers: targets role to the key ids whose signatures on it verify, sorted.

    Every method raises FleetError: TRUST_INVALID, TRUST_EXPIRED or TRUST_ROLLBACK with the file as place.
    """

    def __init__(self, available: Mapping[str, bytes], root: bytes, now: datetime) -> None:
        self._available = available
        with _translated("root.json"):
            self.trusted = TrustedMetadataSet(root, EnvelopeType.METADATA)
        self.trusted.reference_time = now
        self.used: dict[str, bytes] = {f"{self.trusted.root.version}.root.json": root}
        self.roles: list[str] = [Root.type]
        self.listings: dict[str, Targets] = {}
        self.approvers: dict[str, tuple[str, ...]] = {}

    def climb_roots(self, adopted: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
        """Go from the pinned root to the newest one, adopted roots first; LIMIT_EXCEEDED after `MAX_ROOT_ROTATIONS`."""
        climbed = 0
        while True:
            name = f"{self.trusted.root.version + 1}.root.json"
            if name in adopted:
                with suppress(exceptions.RepositoryError):  # a damaged local copy gives way to a verifiable one
                    self.trusted.update_root(adopted[name])
                    self.used[name] = adopted[name]
                    continue
            if name not in files:
                return
            if climbed == MAX_ROOT_ROTATIONS:
                raise FleetError(Code.LIMIT_EXCEEDED, f"more than {climbed} root rotations at once")
            with _translated(name):
                self.trusted.update_root(files[name])
            self.used[name] = files[name]
            climbed += 1

    def load_timestamp(self, adopted: Mapping[str, bytes]) -> None:
        """Load the timestamp and refuse one older than the adopted one."""
        name = "timestamp.json"
        if name in adopted:
            # Loaded for comparison only: it may have expired, or its key may have been revoked by a newer root.
            with suppress(exceptions.RepositoryError):
                self.trusted.update_timestamp(adopted[name])
        data = self._read(name)
        with _translated(name, rollback=True):
            try:
                self.trusted.update_timestamp(data)
            except exceptions.EqualVersionNumberError:
                data = adopted[name]  # it is loaded already and stays in force; its expiry is checked with the snapshot
        self.used[name] = data
        self.roles.append(Timestamp.type)

    def load_snapshot(self, adopted: Mapping[str, bytes]) -> None:
        """Load the snapshot that the timestamp names and refuse one with an older or missing role."""
        for old_name in adopted:
            if old_name.endswith(".snapshot.json"):
                with suppress(exceptions.RepositoryError):  # for comparison only, as above
                    self.trusted.update_snapshot(adopted[old_name], trusted=True)
        name = f"{self.trusted.timestamp.snapshot_meta.version}.snapshot.json"
        data = self._read(name)
        with _translated(name, rollback=True):
            self.trusted.update_snapshot(data)
        self.used[name] = data
        self.roles.append(Snapshot.type)

    def load_role(self, role: str, delegator: str) -> Targets:
        """Load a targets role in the version that the snapshot names, and note who signed it."""
        meta = self.trusted.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise _invalid(f"the snapshot does not name {role}")
        name = f"{meta.version}.{role}.json"
        data = self._read(name)
        with _translated(name):
            signed = self.trusted.update_delegated_targets(data, role, delegator)
            envelope = Metadata[Targets].from_bytes(data)
            parent = self.trusted.root if delegator == Root.type else self.listings[delegator]
            result = parent.get_verification_result(role, envelope.signed_bytes, envelope.signatures)
        self.used[name] = data
        self.roles.append(role)
        self.listings[role] = signed
        self.approvers[role] = tuple(sorted(result.signed))
        return signed

    def _read(self, name: str) -> bytes:
        if name not in self._available:
            raise _invalid(f"{name} is missing")
        return self._available[name]


def check_caps(files: Mapping[str, bytes]) -> None:
    """Refuse more files or bytes than a release may have.

    Raises:
        FleetError: LIMIT_EXCEEDED.
    """
    if len(files) > MAX_FILES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(files)} metadata files, the limit is {MAX_FILES}")
    for name, data in files.items():
        if len(data) > MAX_METADATA:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(data)} bytes, the limit is {MAX_METADATA}", place=name)
    total = sum(map(len, files.values()))
    if total > MAX_RELEASE:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{total} bytes of metadata, the limit is {MAX_RELEASE}")


@contextmanager
def _translated(name: str, *, rollback: bool = False) -> Iterator[None]:
    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise FleetError(Code.TRUST_EXPIRED, "expired", place=name) from error
    except exceptions.BadVersionNumberError as error:
        code = Code.TRUST_ROLLBACK if rollback else Code.TRUST_INVALID
        raise FleetError(code, "not the expected version", place=name) from error
    except exceptions.RepositoryError as error:
        raise FleetError(Code.TRUST_INVALID, "does not verify", place=name) from error


def _invalid(message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message)

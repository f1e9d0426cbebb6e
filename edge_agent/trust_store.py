"""The node's root of trust: the pinned root and the newest release metadata that it adopted.

Owns `trust/root.json`, which an operator places and nothing here ever writes, and `trust/metadata.json`, one file that
changes atomically: the TUF files (TUF specification 1.0.33, section 5), the documents of the fleet that every node
obeys, the floors of releases, and the moment they were adopted. Adopting is gated by expiry and refuses rollback;
continuing is not: what was adopted once is opened as of that moment for ever, so that a node without a network runs on.
The time is `time_store`'s: a clock that was set back cannot make expired metadata valid again. Never fetches: it is
given files and documents.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from edge_agent.kept_files import decode_files, encode_files
from edge_agent.root_store import RootStore
from edge_agent.time_store import TimeStore
from fleet.checkpoint import parse_vkey
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.floors import Floors, encode_floors, parse_floors, replaced
from fleet.grants import parse_break_glass, parse_ceilings
from fleet.revocations import Kind, Revocations, parse_revocations
from fleet.targets import (
    BREAK_GLASS_PATH,
    CEILINGS_PATH,
    POLICY_ROLE,
    REVOCATIONS_PATH,
    TRUST_PATH,
    WITNESS_POLICY_PATH,
)
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.trust import open_fleet_trust, open_release
from fleet.witnesses import NO_WITNESSES, parse_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from edge_agent.disk import Disk
    from fleet.grants import BreakGlass, Ceilings
    from fleet.trust import FleetTrust, Release, Target
    from fleet.witnesses import WitnessPolicy

SCHEMA = "fleet.adopted/v2"
FIRST_SCHEMA = "fleet.adopted/v1"
"""Before there were policies: `fleet` has the one document, and no floor is kept."""

MAX_ROOT = 64 * 1024
MAX_FILE = 16 * 1024 * 1024
"""Bytes of the adopted metadata in one file."""

MAX_FILES = 1_024
"""Metadata files of one release."""

MAX_DOCUMENTS = 16
"""Documents of a release that every node keeps."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A verified release and what every node obeys of it.

    Attributes:
        release: the metadata.
        fleet: keys of director and log; without those that are revoked, unless all of the log's are.
        adopted_at: when it was adopted.
        revocations: what may not run any more.
        floors: smallest releases that may still run, of this release and all before it.
        ceilings: the most that agents may have, by node labels; None when the fleet publishes none.
        witnesses: who must have cosigned the log that proves an order; nobody when the fleet publishes no policy.
        break_glass: bounds of emergency grants; None when the fleet publishes none, and then there are no such grants.
        documents: target path to bytes of `trust/fleet.json` and of everything below `policy/`.
    """

    release: Release
    fleet: FleetTrust
    adopted_at: datetime
    revocations: Revocations = field(default_factory=Revocations)
    floors: Floors = field(default_factory=Floors)
    documents: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    ceilings: Ceilings | None = None
    witnesses: WitnessPolicy = NO_WITNESSES
    break_glass: BreakGlass | None = None

    def check_log(self) -> None:
        """Refuse everything that is proven by a log whose last key is revoked.

        Raises:
            FleetError: REVOKED.
        """
        self.revocations.check(Kind.LOG_KEY, parse_vkey(self.fleet.log_vkeys[0]).public.hex)


def documents_of(release: Release) -> tuple[Target, ...]:
    """Return the documents that a node keeps beside the metadata: `trust/fleet.json`, and all policies.

    Raises:
        FleetError: TARGET_UNSIGNED without `trust/fleet.json`; LIMIT_EXCEEDED above `MAX_DOCUMENTS`.
    """
    found = (release.target(TRUST_PATH), *release.targets("policy/"))
    if len(found) > MAX_DOCUMENTS:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(found)} documents for every node, the limit is {MAX_DOCUMENTS}")
    return found


class TrustStore:
    """The adopted release. Call `load` once before anything else.

    Args:
        disk: the file operations.
        folder: `trust/` of the data directory, with `root.json` in it.
        allow_dev_profile: whether a release of the development profile is accepted.
    """

    def __init__(self, disk: Disk, folder: Path, *, allow_dev_profile: bool) -> None:
        self._disk = disk
        self._root_path = folder / "root.json"
        self._path = folder / "metadata.json"
        self._allow_dev = allow_dev_profile
        self._time = TimeStore(disk, folder)
        self._roots = RootStore(disk, folder)
        self._adopted: Adopted | None = None

    @property
    def adopted(self) -> Adopted | None:
        """What is adopted; None before the first."""
        return self._adopted

    def load(self) -> Adopted | None:
        """Open what was adopted before, as of then; None when nothing was.

        Raises:
            FleetError: TRUST_INVALID when there is no pinned root or the file does not verify, and DEV_PROFILE_REFUSED:
                nothing is adopted then. TRUST_INVALID for the file of the time, or of the roots, alone: the release is
                adopted.
        """
        root = self._root()
        if self._disk.size(self._path) is None:
            self._roots.load()
            return None
        kept = _decode(self._disk.read(self._path, 0, MAX_FILE + 1))
        release = open_release(kept.files, root=root, now=kept.adopted_at, allow_dev=self._allow_dev)
        self._adopted = _open(release, kept.documents, kept.adopted_at, kept.floors)
        self._time.load(kept.adopted_at)
        self._roots.load()
        return self._adopted

    def check(self, files: Mapping[str, bytes], now: datetime) -> Release:
        """Verify offered metadata against the pin and what is adopted, without adopting it.

        A root that verifies counts from now on, even if nothing else does: what it takes away stays away.

        Raises:
            FleetError: TRUST_INVALID, TRUST_EXPIRED, TRUST_ROLLBACK, DEV_PROFILE_REFUSED; STORAGE_FULL.
        """
        if len(files) > MAX_FILES:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(files)} metadata files, the limit is {MAX_FILES}")
        root, adopted = self._root(), self._adopted.release.files if self._adopted is not None else {}
        previous = {**adopted, **self._roots.known}
        try:
            return open_release(files, root=root, now=self.floor(now), previous=previous, allow_dev=self._allow_dev)
        except FleetError:
            self._roots.keep(files, root, adopted)
            raise

    def adopt(self, files: Mapping[str, bytes], documents: Mapping[str, bytes], now: datetime) -> Adopted:
        """Verify offered metadata and documents and make them the adopted release, durably.

        Checks, in this order:
            1. The metadata: whatever `fleet.trust.open_release` checks, and that it is no older than what is adopted.
            2. Each of `documents_of` is at hand and is what its role signed.
            3. `trust/fleet.json` (`fleet.trust.open_fleet_trust`), `policy/revocations.json`, `policy/ceilings.yaml`,
               `policy/break-glass.yaml` and `policy/witness.policy` are valid: what cannot be read is never taken for
               none.
            4. The list of revocations has every entry that it ever had, or a list whose role has not one of its old
               keys any more takes its place.
            5. The counters of bundles can be read; the floors are the highest that were ever seen.

        Args:
            files: TUF file name -> bytes.
            documents: target path -> bytes, at least of `documents_of` the release.
            now: the clock; never taken as earlier than the floor.

        Raises:
            FleetError: 1 whatever `check` raises; 2 BLOB_MISSING, DIGEST_MISMATCH, TARGET_UNSIGNED; 3 TRUST_INVALID,
                GRANT_INVALID; 4 TRUST_ROLLBACK; 5 TRUST_INVALID; LIMIT_EXCEEDED, STORAGE_FULL.
        """
        release = self.check(files, now)  # 1
        before, at = self._adopted, self.floor(now)
        adopted = _open(release, documents, at, Floors() if before is None else before.floors)  # 2, 3
        if before is not None and not replaced(POLICY_ROLE, release, before.release):  # 4
            adopted.revocations.check_kept(before.revocations)
        floors = adopted.floors.raised(release, None if before is None else before.release)  # 5
        adopted = replace(adopted, floors=floors)
        data = _encode(adopted)
        if len(data) > MAX_FILE:
            raise FleetError(Code.LIMIT_EXCEEDED, f"the metadata takes {len(data)} bytes, the limit is {MAX_FILE}")
        replace_file(self._disk, self._path, data)
        self._adopted = adopted
        self._time.adopted(at, release.signed_at)
        return adopted

    def floor(self, now: datetime) -> datetime:
        """Return `now`, or the earliest time that it can be when the clock says something earlier."""
        return self._time.believed(now)

    def behind(self, now: datetime) -> timedelta:
        """How far the clock is behind the earliest time that it can be; zero when it is not."""
        return self._time.behind(now)

    def ordered(self, issued: datetime) -> None:
        """Take in the date of a verified assignment (see `fleet.time_floor`).

        Raises:
            FleetError: STORAGE_FULL.
        """
        self._time.ordered(issued)

    def passed(self, clock: datetime, elapsed: timedelta) -> None:
        """Take in that time has passed (see `fleet.time_floor`).

        Raises:
            FleetError: STORAGE_FULL.
        """
        self._time.passed(clock, elapsed)

    def _root(self) -> bytes:
        size = self._disk.size(self._root_path)
        if size is None or size > MAX_ROOT:
            raise FleetError(Code.TRUST_INVALID, "there is no usable pinned root", place=str(self._root_path))
        return self._disk.read(self._root_path, 0, MAX_ROOT)


def _open(release: Release, documents: Mapping[str, bytes], at: datetime, floors: Floors) -> Adopted:
    """Verify the documents of a release."""
    kept: dict[str, bytes] = {}
    for target in documents_of(release):
        if target.path not in documents:
            raise FleetError(Code.BLOB_MISSING, "a document that every node needs is not there", place=target.path)
        kept[target.path] = target.check(documents[target.path])
    fleet = open_fleet_trust(release, kept[TRUST_PATH])
    listed = kept.get(REVOCATIONS_PATH)
    revocations = Revocations() if listed is None else parse_revocations(listed)
    bounds = kept.get(CEILINGS_PATH)
    ceilings = None if bounds is None else parse_ceilings(bounds, CEILINGS_PATH)
    policy = kept.get(WITNESS_POLICY_PATH)
    witnesses = NO_WITNESSES if policy is None else parse_policy(policy)
    glass = kept.get(BREAK_GLASS_PATH)
    break_glass = None if glass is None else parse_break_glass(glass)
    directors = tuple(key for key in fleet.director_keys if not revocations.covers(Kind.DIRECTOR_KEY, key.hex))
    logs = tuple(vkey for vkey in fleet.log_vkeys if not revocations.covers(Kind.LOG_KEY, parse_vkey(vkey).public.hex))
    fleet = replace(fleet, director_keys=directors, log_vkeys=logs or fleet.log_vkeys)
    documents = MappingProxyType(kept)
    return Adopted(release, fleet, at, revocations, floors, documents, ceilings, witnesses, break_glass)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the file holds, not verified."""

    files: Mapping[str, bytes]
    documents: Mapping[str, bytes]
    adopted_at: datetime
    floors: Floors


def _encode(adopted: Adopted) -> bytes:
    return dump_json(
        {
            "schema": SCHEMA,
            "adopted_at_ms": to_ms(adopted.adopted_at),
            "documents": encode_files(adopted.documents),
            "floors": encode_floors(adopted.floors),
            "files": encode_files(adopted.release.files),
        }
    )


def _decode(data: bytes) -> _Kept:
    place = "metadata.json"
    with Reader(load_json(data, Code.TRUST_INVALID, place, MAX_FILE), Code.TRUST_INVALID, place) as top:
        schema = top.text("schema")
        if schema not in (SCHEMA, FIRST_SCHEMA):
            top.fail("schema", f"expected {SCHEMA}")
        adopted_at = from_ms(top.integer("adopted_at_ms", 0, MAX_MS))
        files = decode_files(top.mapping("files", MAX_FILES), place)
        if schema == FIRST_SCHEMA:
            return _Kept(files, decode_files({TRUST_PATH: top.text("fleet")}, place), adopted_at, Floors())
        documents = decode_files(top.mapping("documents", MAX_DOCUMENTS), place)
        return _Kept(files, documents, adopted_at, parse_floors(top, "floors"))

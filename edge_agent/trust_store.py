"""The node's root of trust: the pinned root and the newest release metadata that it adopted.

Owns `trust/root.json`, which an operator places and nothing here ever writes, and `trust/metadata.json`, one file that
changes atomically: the TUF files (TUF specification 1.0.33, section 5) and the moment they were adopted. Adopting is
gated by expiry and refuses rollback; continuing is not: what was adopted once is opened as of that moment for ever, so
that a node without a network runs on. That moment is also a floor under the clock: a clock that was set back cannot
make expired metadata valid again. Never fetches: it is given files and the fleet's trust document.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.times import MAX_MS, from_ms, to_ms
from fleet.trust import open_fleet_trust, open_release

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from edge_agent.disk import Disk
    from fleet.trust import FleetTrust, Release

SCHEMA = "fleet.adopted/v1"
MAX_ROOT = 64 * 1024
MAX_FILE = 16 * 1024 * 1024
"""Bytes of the adopted metadata in one file."""

MAX_FILES = 1_024
"""Metadata files of one release."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A verified release, the director's and log's keys from it, and when it was adopted."""

    release: Release
    fleet: FleetTrust
    adopted_at: datetime


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
        self._adopted: Adopted | None = None

    @property
    def adopted(self) -> Adopted | None:
        """What is adopted; None before the first."""
        return self._adopted

    def load(self) -> Adopted | None:
        """Open what was adopted before, as of then; None when nothing was.

        Raises:
            FleetError: TRUST_INVALID when there is no pinned root or the file does not verify.
        """
        root = self._root()
        if self._disk.size(self._path) is None:
            return None
        files, document, adopted_at = _decode(self._disk.read(self._path, 0, MAX_FILE + 1))
        self._adopted = self._open(files, root, document, adopted_at)
        return self._adopted

    def check(self, files: Mapping[str, bytes], now: datetime) -> Release:
        """Verify offered metadata against the pin and what is adopted, without adopting it.

        Raises:
            FleetError: TRUST_INVALID, TRUST_EXPIRED, TRUST_ROLLBACK, DEV_PROFILE_REFUSED.
        """
        if len(files) > MAX_FILES:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(files)} metadata files, the limit is {MAX_FILES}")
        previous = self._adopted.release.files if self._adopted is not None else None
        return open_release(files, root=self._root(), now=self.floor(now), previous=previous, allow_dev=self._allow_dev)

    def adopt(self, files: Mapping[str, bytes], fleet_document: bytes, now: datetime) -> Adopted:
        """Verify offered metadata and make it the adopted release, durably.

        Args:
            files: TUF file name -> bytes.
            fleet_document: the bytes of the target `trust/fleet.json` of that release.
            now: the clock; never taken as earlier than the last adoption.

        Raises:
            FleetError: whatever `check` raises; DIGEST_MISMATCH, TARGET_UNSIGNED for the document; STORAGE_FULL.
        """
        release = self.check(files, now)
        adopted = Adopted(release, open_fleet_trust(release, fleet_document), self.floor(now))
        data = _encode(release.files, fleet_document, adopted.adopted_at)
        if len(data) > MAX_FILE:
            raise FleetError(Code.LIMIT_EXCEEDED, f"the metadata takes {len(data)} bytes, the limit is {MAX_FILE}")
        replace_file(self._disk, self._path, data)
        self._adopted = adopted
        return adopted

    def floor(self, now: datetime) -> datetime:
        """Return `now`, or the moment of the last adoption when the clock says something earlier."""
        return now if self._adopted is None else max(now, self._adopted.adopted_at)

    def _root(self) -> bytes:
        size = self._disk.size(self._root_path)
        if size is None or size > MAX_ROOT:
            raise FleetError(Code.TRUST_INVALID, "there is no usable pinned root", place=str(self._root_path))
        return self._disk.read(self._root_path, 0, MAX_ROOT)

    def _open(self, files: Mapping[str, bytes], root: bytes, document: bytes, at: datetime) -> Adopted:
        release = open_release(files, root=root, now=at, allow_dev=self._allow_dev)
        return Adopted(release, open_fleet_trust(release, document), at)


def _encode(files: Mapping[str, bytes], document: bytes, adopted_at: datetime) -> bytes:
    return dump_json(
        {
            "schema": SCHEMA,
            "adopted_at_ms": to_ms(adopted_at),
            "fleet": base64.b64encode(document).decode(),
            "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
        }
    )


def _decode(data: bytes) -> tuple[dict[str, bytes], bytes, datetime]:
    place = "metadata.json"
    with Reader(load_json(data, Code.TRUST_INVALID, place, MAX_FILE), Code.TRUST_INVALID, place) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        adopted_at = from_ms(top.integer("adopted_at_ms", 0, MAX_MS))
        encoded = {"": top.text("fleet"), **top.mapping("files", MAX_FILES)}
    try:
        files = {name: base64.b64decode(text, validate=True) for name, text in encoded.items()}
    except binascii.Error as error:
        raise FleetError(Code.TRUST_INVALID, "not base64", place=place) from error
    return files, files.pop(""), adopted_at

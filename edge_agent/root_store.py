"""Roots that count although the release that they came with was refused, on disk.

Owns `trust/roots.json`. The adopted release stays in force as it is, and opens from disk under the root that it came
with; whatever is offered next has to verify under the newest root that was ever seen (`fleet.roots`). Never fetches.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from edge_agent.kept_files import decode_files, encode_files
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.metadata import MAX_FILES, MAX_RELEASE
from fleet.roots import climb_roots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_agent.disk import Disk

SCHEMA = "fleet.roots/v1"
FILE = "roots.json"
MAX_FILE = 2 * MAX_RELEASE
"""Bytes of the file: roots in base64 take a third more."""


class RootStore:
    """The roots beside the adopted release. Call `load` once before anything else.

    Args:
        disk: the file operations.
        folder: `trust/` of the data directory.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._path = folder / FILE
        self._known: Mapping[str, bytes] = MappingProxyType({})

    @property
    def known(self) -> Mapping[str, bytes]:
        """File name to bytes; to be verified again by whoever uses them."""
        return self._known

    def load(self) -> None:
        """Read what was kept.

        Raises:
            FleetError: TRUST_INVALID when the file cannot be read; it is told once, and empty from then on.
        """
        if self._disk.size(self._path) is None:
            return
        try:
            self._known = _decode(self._disk.read(self._path, 0, MAX_FILE + 1))
        except FleetError:
            replace_file(self._disk, self._path, _encode({}))
            raise

    def keep(self, files: Mapping[str, bytes], root: bytes, adopted: Mapping[str, bytes]) -> None:
        """Keep what verifies of the roots of a release that was refused, durably; nothing when none is new.

        Args:
            files: the offered release.
            root: the pinned root metadata.
            adopted: the files of the adopted release.

        Raises:
            FleetError: LIMIT_EXCEEDED, TRUST_INVALID as `climb_roots`; STORAGE_FULL.
        """
        known = {**adopted, **self._known}
        climbed = climb_roots(files, root, known)
        if climbed.keys() <= known.keys():
            return
        replace_file(self._disk, self._path, _encode(climbed))
        self._known = climbed


def _encode(roots: Mapping[str, bytes]) -> bytes:
    return dump_json({"schema": SCHEMA, "roots": encode_files(roots)})


def _decode(data: bytes) -> Mapping[str, bytes]:
    with Reader(load_json(data, Code.TRUST_INVALID, FILE, MAX_FILE), Code.TRUST_INVALID, FILE) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        texts = top.mapping("roots", MAX_FILES)
    return MappingProxyType(decode_files(texts, FILE))

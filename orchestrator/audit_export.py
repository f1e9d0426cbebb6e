"""An audit log as files: one tar, or one folder, with everything that it takes to check the log without a coordinator.

Owns: the form of an export and its bounds. Nothing read from one is believed: `orchestrator.cli.audit_check` verifies
it against the trust directory. What is in it::

    export.json     schema, fleet, number of leaves, number of leaves of the rows
    checkpoint      the log's signed note about the leaves
    leaves          each as four bytes of length, big-endian, and that many bytes
    notes           checkpoints with the cosignatures on them, in the same form
    history         what the leaves of publications name by digest, in the same form: metadata and keys of their day
    rows            the coordinator's projections: fleet.v1.AuditRow messages, in the same form
    trust/FILE      metadata of the release repository
    policy          policy/witness.policy, if there is one
    fleet.json      trust/fleet.json

The same log gives the same bytes: names are in order, and nothing says when or by whom a file was made.
"""

from __future__ import annotations

import io
import re
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.leaves import MAX_LEAF
from fleet.names import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMA = "fleet.audit-export/v1"

HISTORY = "history"
"""Name of the file with what the log names by digest; absent from exports of earlier releases of this program."""

MAX_SMALL = 4 * 1024 * 1024
"""Bytes of any file but the long ones."""

MAX_FILES = 2_048
"""Files of an export: the metadata of one release, and a few."""

MAX_EXPORT = 1 << 40
"""Bytes of one of the long files."""

_MAX_LEAVES = 2**63 - 1
_LENGTH_BYTES = 4
_NAME = re.compile(r"[a-z]+(\.json)?|trust/[0-9A-Za-z][0-9A-Za-z._-]{0,120}\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class Header:
    """What an export says about itself."""

    fleet: str
    size: int
    rows_size: int


class Export:
    """An export that is open for reading.

    Args:
        files: name to an opener; each call starts at the beginning.
    """

    def __init__(self, folder: Path | None, tar: tarfile.TarFile | None) -> None:
        self._folder = folder
        self._tar = tar
        self._members = _members(folder, tar)

    def header(self) -> Header:
        """Read `export.json`.

        Raises:
            FleetError: AUDIT_INVALID.
        """
        code, name = Code.AUDIT_INVALID, "export.json"
        with Reader(load_json(self.small(name), code, name), code, name) as top:
            if top.text("schema") != SCHEMA:
                top.fail("schema", f"expected {SCHEMA}")
            fleet = top.text("fleet")
            if not is_name(fleet):
                top.fail("fleet", "not a name")
            return Header(fleet, top.integer("size", 0, _MAX_LEAVES), top.integer("rows_size", 0, _MAX_LEAVES))

    def small(self, name: str) -> bytes:
        """Return a short file whole.

        Raises:
            FleetError: AUDIT_INVALID when it is absent; LIMIT_EXCEEDED.
        """
        with self._open(name) as file:
            data = file.read(MAX_SMALL + 1)
        if len(data) > MAX_SMALL:
            raise FleetError(Code.LIMIT_EXCEEDED, f"more than {MAX_SMALL} bytes", place=name)
        return data

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._members

    def metadata(self) -> Mapping[str, bytes]:
        """Return the files of the release repository."""
        names = (name for name in sorted(self._members) if name.startswith("trust/"))
        return {name.removeprefix("trust/"): self.small(name) for name in names}

    def items(self, name: str) -> Iterator[bytes]:
        """Read a long file item by item.

        Raises:
            FleetError: AUDIT_INVALID when it is cut short; LIMIT_EXCEEDED for an item or a file that is too long.
        """
        total = 0
        with self._open(name) as file:
            while head := file.read(_LENGTH_BYTES):
                length = int.from_bytes(head, "big")
                if length > MAX_LEAF or (total := total + length) > MAX_EXPORT:
                    raise FleetError(Code.LIMIT_EXCEEDED, f"an item of {length} bytes", place=name, limit=MAX_LEAF)
                data = file.read(length)
                if len(head) != _LENGTH_BYTES or len(data) != length:
                    raise FleetError(Code.AUDIT_INVALID, "cut short", place=name)
                yield data

    def _open(self, name: str) -> IO[bytes]:
        if name not in self._members:
            raise FleetError(Code.AUDIT_INVALID, "not in the export", place=name)
        if self._folder is not None:
            return (self._folder / name).open("rb")
        found = None if self._tar is None else self._tar.extractfile(name)
        return io.BytesIO() if found is None else found


@contextmanager
def open_export(path: Path) -> Iterator[Export]:
    """Open a tar or a folder.

    Raises:
        FleetError: NOT_FOUND; AUDIT_INVALID for something else; LIMIT_EXCEEDED for too many files.
    """
    if path.is_dir():
        yield Export(path, None)
        return
    try:
        with tarfile.open(path, "r:") as tar:
            yield Export(None, tar)
    except FileNotFoundError as error:
        raise FleetError(Code.NOT_FOUND, "no such export", place=str(path)) from error
    except (tarfile.TarError, OSError) as error:
        raise FleetError(Code.AUDIT_INVALID, "not an export", place=str(path)) from error


class Writer:
    """Writes an export: a folder, or a tar when the name is one of a file."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._path = path
        self._scratch = scratch

    def long(self, name: str, items: Iterable[bytes]) -> int:
        """Write a long file item by item and return how many there were."""
        count = 0
        with (self._scratch / name).open("wb") as file:
            for item in items:
                file.write(len(item).to_bytes(_LENGTH_BYTES, "big") + item)
                count += 1
        return count

    def small(self, name: str, data: bytes) -> None:
        """Write a short file."""
        target = self._scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def header(self, header: Header) -> None:
        """Write `export.json`."""
        fields = {"schema": SCHEMA, "fleet": header.fleet, "size": header.size, "rows_size": header.rows_size}
        self.small("export.json", dump_json(fields))

    def finish(self, *, folder: bool) -> None:
        """Put everything in its place at once: nobody finds half an export.

        Raises:
            FleetError: ALREADY_EXISTS for a folder that is there.
        """
        if folder:
            if self._path.exists():
                raise FleetError(Code.ALREADY_EXISTS, "the folder exists", place=str(self._path))
            self._scratch.rename(self._path)
            return
        names = sorted(str(file.relative_to(self._scratch)) for file in self._scratch.rglob("*") if file.is_file())
        packed = self._scratch / ".tar"
        with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = (self._scratch / name).stat().st_size
                info.mode = 0o644
                with (self._scratch / name).open("rb") as file:
                    tar.addfile(info, file)
        packed.replace(self._path)


def _members(folder: Path | None, tar: tarfile.TarFile | None) -> frozenset[str]:
    if tar is not None:
        names: list[str] = []
        for member in tar:
            if len(names) >= MAX_FILES:
                raise FleetError(Code.LIMIT_EXCEEDED, "too many files", limit=MAX_FILES)
            if not member.isreg() or _NAME.fullmatch(member.name) is None:
                raise FleetError(Code.AUDIT_INVALID, "a file that is none of an export's", place=member.name[:200])
            names.append(member.name)
        if len(set(names)) != len(names):
            raise FleetError(Code.AUDIT_INVALID, "a file occurs twice")
        return frozenset(names)
    if folder is None:
        return frozenset()
    found = (*folder.glob("*"), *(folder / "trust").glob("*"))
    names = [str(file.relative_to(folder)) for file in found if file.is_file() and not file.is_symlink()]
    if len(names) > MAX_FILES:
        raise FleetError(Code.LIMIT_EXCEEDED, "too many files", limit=MAX_FILES)
    return frozenset(name for name in names if _NAME.fullmatch(name) is not None)

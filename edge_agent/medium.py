"""A folder that was carried to the node, as a source of bytes: what the network is otherwise.

Owns the layout, which `fleetctl trust export` writes::

    DIR/metadata/NAME            TUF metadata under its file names
    DIR/documents/PATH           documents of the release under their target paths
    DIR/blobs/sha256/HEX         what bundles consist of
    DIR/desired/NODE.json        an order for one node, may be absent

Believes nothing, like `edge_agent.link.remote`: bytes go the same way as those from the network, and are verified
there. Whoever prepared the folder may have been anybody, so every read has a limit, and nothing but plain files that
lie inside is opened: no link leads elsewhere, no pipe or device makes the node wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet.assignment import MAX_ENVELOPE
from fleet.documents import Reader, load_json
from fleet.errors import Code, FleetError
from fleet.metadata import MAX_FILES, MAX_METADATA, MAX_RELEASE
from fleet.model import DesiredState
from fleet.names import is_digest, is_name
from fleet.signing import decode_base64
from fleet.trust import MAX_TARGET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

DESIRED_SCHEMA = "fleet.desired/v1"

CHUNK = 256 * 1024
"""Bytes that are handed over at once."""

MAX_DOCUMENTS = 8_192
"""Files below `documents`."""

MAX_DEPTH = 6
"""Folders below `documents`, one in another: a grant lies in four."""

MAX_DESIRED = 2 * MAX_ENVELOPE
"""Bytes of an order with its proofs, in base64."""

MAX_HASHES = 64
"""Hashes of one consistency proof: a tree has at most so many levels."""

MAX_LEAVES = 2**53


class Medium:
    """Implements `edge_agent.adoption.Remote` over a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._documents: Mapping[str, Path] | None = None

    async def fetch_trust(self, known_root_version: int) -> Mapping[str, bytes]:
        """Return the metadata of the folder without roots that are known: file name -> bytes.

        Raises:
            FleetError: CONFIG_INVALID when there is none or a file cannot be read; LIMIT_EXCEEDED.
        """
        files = await asyncio.to_thread(self._metadata)
        return {
            name: data for name, data in files.items() if _root_version(name) not in range(1, known_root_version + 1)
        }

    async def fetch_blob(self, digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        """Yield (data, size of the whole blob) from an offset; a document is found by its digest too.

        Raises:
            FleetError: BLOB_MISSING when the folder has it not; CONFIG_INVALID when it cannot be read.
        """
        with _opened(self._folder, await asyncio.to_thread(self._find, digest)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            while data := await asyncio.to_thread(file.read, CHUNK):
                yield data, size

    def desired(self, node: str) -> DesiredState | None:
        """Return the order for a node, not verified; None when the folder has none.

        Raises:
            FleetError: ASSIGNMENT_INVALID with the place; CONFIG_INVALID, LIMIT_EXCEEDED.
        """
        if not is_name(node):
            raise ValueError(f"{node!r} is not a name")
        path = self._folder / "desired" / f"{node}.json"
        if not path.exists():
            return None
        return _decode_desired(_read(self._folder, path, MAX_DESIRED), path.name)

    def _metadata(self) -> Mapping[str, bytes]:
        names = _names(self._folder, self._folder / "metadata", MAX_FILES)
        files: dict[str, bytes] = {}
        left = MAX_RELEASE
        for name in names:
            if name.endswith(".json"):
                files[name] = _read(self._folder, self._folder / "metadata" / name, min(MAX_METADATA, left))
                left -= len(files[name])
        if not files:
            raise FleetError(
                Code.CONFIG_INVALID,
                "there is no metadata of a release in the folder",
                place=str(self._folder / "metadata"),
                remedy="Write the folder with `fleetctl trust export DIR`.",
            )
        return files

    def _find(self, digest: str) -> Path:
        if not is_digest(digest):
            raise FleetError(Code.MESSAGE_INVALID, "not a sha256 digest")
        path = self._folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
        if os.path.lexists(path):
            return path
        if self._documents is None:
            self._documents = dict(self._listed())
        if digest not in self._documents:
            raise FleetError(
                Code.BLOB_MISSING,
                f"the folder has no {digest}",
                digest=digest,
                remedy="Export it again with everything: `fleetctl trust export DIR`.",
            )
        return self._documents[digest]

    def _listed(self) -> Iterator[tuple[str, Path]]:
        """Yield the digest of every document."""
        pending = [(self._folder / "documents", 0)]
        seen = 0
        while pending:
            folder, depth = pending.pop()
            for name in _names(self._folder, folder, MAX_DOCUMENTS):
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    if depth < MAX_DEPTH:
                        pending.append((path, depth + 1))
                    continue
                seen += 1
                if seen > MAX_DOCUMENTS:
                    raise _too_much(f"more than {MAX_DOCUMENTS} documents", self._folder)
                yield f"sha256:{hashlib.sha256(_read(self._folder, path, MAX_TARGET)).hexdigest()}", path


def _root_version(name: str) -> int:
    """Version of a root's file; 0 for any other."""
    version, _, rest = name.partition(".")
    return int(version) if rest == "root.json" and version.isascii() and version.isdecimal() else 0


@contextmanager
def _opened(root: Path, path: Path) -> Iterator[BinaryIO]:
    """Open a plain file below a folder; without waiting for anybody, and through no link."""
    try:
        _check_inside(root, path.parent)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FleetError(Code.CONFIG_INVALID, "not a plain file", place=str(path))
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot be read: {error.strerror}", place=str(path)) from error
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _read(root: Path, path: Path, limit: int) -> bytes:
    with _opened(root, path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_much(f"more than {limit} bytes", path)
    return data


def _check_inside(root: Path, folder: Path) -> None:
    if not folder.resolve().is_relative_to(root.resolve()):
        raise FleetError(Code.CONFIG_INVALID, "a link leads out of the folder", place=str(folder))


def _names(root: Path, folder: Path, limit: int) -> list[str]:
    """Names in a folder, sorted; a missing one is empty."""
    names: list[str] = []
    try:
        _check_inside(root, folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(names) >= limit:
                    raise _too_much(f"more than {limit} files", folder)
                names.append(entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot be read: {error.strerror}", place=str(folder)) from error
    return sorted(names)


def _decode_desired(data: bytes, name: str) -> DesiredState:
    with Reader(load_json(data, Code.ASSIGNMENT_INVALID, name, MAX_DESIRED), Code.ASSIGNMENT_INVALID, name) as top:
        if top.text("schema") != DESIRED_SCHEMA:
            top.fail("schema", f"expected {DESIRED_SCHEMA!r}")
        texts = {
            "assignment": top.text("assignment"),
            "proof": top.text("proof"),
            **{f"consistency[{i}]": text for i, text in enumerate(top.texts("consistency", MAX_HASHES))},
        }
        base = top.integer("base", 0, MAX_LEAVES, 0)
        found: list[bytes] = []
        for key, text in texts.items():
            try:
                found.append(decode_base64(text))
            except ValueError:
                top.fail(key, "not base64")
    envelope, proof, *consistency = found
    return DesiredState(envelope, proof, base, tuple(consistency))


def _too_much(message: str, place: Path) -> FleetError:
    return FleetError(Code.LIMIT_EXCEEDED, message, place=str(place))

"""OCI image layouts on disk: how fleetctl keeps a built bundle (OCI image-spec 1.1, image-layout.md).

Owns: writing a layout, and reading it back with a cap on every file. What the documents mean is `fleet.bundle`'s.
"""

from __future__ import annotations

import hashlib
import shutil
from itertools import chain
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_digest
from fleet.oci import BUNDLE_TYPE, INDEX_TYPE, MAX_INDEX, digest_of
from orchestrator.cli.upload import Content
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MARKER = "oci-layout"
_PIECE = 1024 * 1024
_LAYOUT = dump_json({"imageLayoutVersion": "1.0.0"})

_MAX_ENTRIES = 64
"""Entries of `index.json`: a bundle, and what may lie beside it."""


def write_layout(folder: Path, index: bytes, blobs: Iterable[tuple[str, bytes]], version: str) -> None:
    """Write a bundle as an image layout; an existing layout is replaced once the new one is complete.

    Args:
        folder: where to.
        index: the bundle's index.
        blobs: digest and content of everything below it; asked for one at a time.
        version: its version, which other tools take for a tag (image-spec 1.1, annotations.md, `ref.name`).

    Raises:
        FleetError: ALREADY_EXISTS when something else than a layout is there; it stays. And what `blobs` raises.
    """
    if folder.exists() and not is_layout(folder):
        raise FleetError(
            Code.ALREADY_EXISTS,
            "this is there already, and no image layout",
            place=str(folder),
            remedy="Name another folder with --to.",
        )
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        files = staging / "blobs" / "sha256"
        files.mkdir(parents=True)
        for digest, data in chain([(digest_of(index), index)], blobs):
            (files / digest.removeprefix("sha256:")).write_bytes(data)
        (staging / _MARKER).write_bytes(_LAYOUT)
        descriptor = {
            "mediaType": INDEX_TYPE,
            "artifactType": BUNDLE_TYPE,
            "digest": digest_of(index),
            "size": len(index),
            "annotations": {"org.opencontainers.image.ref.name": version},
        }
        top = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor]}
        (staging / "index.json").write_bytes(dump_json(top))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Layout:
    """An image layout, of this project or of another tool."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def document(self) -> bytes:
        """Return the bytes of `index.json`.

        Raises:
            FleetError: BUNDLE_INVALID when there is none, LIMIT_EXCEEDED.
        """
        return self._bounded(self.folder / "index.json", MAX_INDEX)

    def index(self) -> bytes:
        """Return the bytes of the index of the one bundle in the layout.

        What else `index.json` lists lies beside the bundle, says nothing about it that is believed, and is passed over.

        Raises:
            FleetError: BUNDLE_INVALID when the layout is damaged or holds another number of bundles than one.
        """
        place = str(self.folder / "index.json")
        top = Reader(load_json(self.document(), Code.BUNDLE_INVALID, place), Code.BUNDLE_INVALID, place)
        top.integer("schemaVersion", 2, 2)
        entries = [Reader(item, Code.BUNDLE_INVALID, at) for item, at in top.items("manifests", _MAX_ENTRIES)]
        found = [entry for entry in entries if entry.text("mediaType") == INDEX_TYPE]
        if len(found) != 1:
            top.fail("manifests", f"expected one bundle, found {len(found)}")
        return self.read(found[0].text("digest"), found[0].integer("size", 1, MAX_INDEX))

    def read(self, digest: str, size: int) -> bytes:
        """Return one blob of a known size.

        Raises:
            FleetError: BUNDLE_INVALID when it is missing, DIGEST_MISMATCH when it is not what its name says.
        """
        file = self._file(digest)
        data = self._bounded(file, size)
        if len(data) != size or digest_of(data) != digest:
            raise FleetError(Code.DIGEST_MISMATCH, "the blob was changed", place=str(file))
        return data

    def content(self, digest: str, size: int) -> Content:
        """Return a blob that is read in pieces, once all of it was compared with its digest.

        Raises:
            FleetError: as `read`. A piece that is asked for later raises DIGEST_MISMATCH when the file became shorter;
                what else is changed meanwhile, whoever gets the pieces finds out.
        """
        file = self._file(digest)

        def piece(offset: int, length: int) -> bytes:
            try:
                with file.open("rb") as opened:
                    opened.seek(offset)
                    data = opened.read(length)
            except OSError as error:
                raise _incomplete(file, error) from error
            if len(data) != length:
                raise FleetError(Code.DIGEST_MISMATCH, "the blob was changed", place=str(file))
            return data

        whole = hashlib.sha256()
        for offset in range(0, size, _PIECE):
            whole.update(piece(offset, min(_PIECE, size - offset)))
        if f"sha256:{whole.hexdigest()}" != digest or file.stat().st_size != size:
            raise FleetError(Code.DIGEST_MISMATCH, "the blob was changed", place=str(file))
        return Content(digest, size, piece)

    def _file(self, digest: str) -> Path:
        if not is_digest(digest):
            raise FleetError(Code.BUNDLE_INVALID, "not a digest", place=str(self.folder))
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _bounded(self, file: Path, limit: int) -> bytes:
        try:
            return read_bounded(file, limit)
        except OSError as error:
            raise _incomplete(file, error) from error


def _incomplete(file: Path, error: OSError) -> FleetError:
    return FleetError(
        Code.BUNDLE_INVALID,
        f"not a complete image layout: {error.strerror}",
        place=str(file),
        remedy="Build it with `fleetctl bundle build`.",
    )


def is_layout(folder: Path) -> bool:
    """Whether a folder is an image layout."""
    return (folder / _MARKER).is_file()

"""OCI image layouts on disk: how fleetctl keeps a built bundle (OCI image-spec 1.1, image-layout.md).

Owns: writing a layout, and reading it back with a cap on every file. What the documents mean is `fleet.bundle`'s.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_digest
from fleet.oci import INDEX_TYPE, MAX_INDEX, MAX_MANIFEST, digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.bundle import BuiltBundle

_LAYOUT = dump_json({"imageLayoutVersion": "1.0.0"})


def write_layout(folder: Path, built: BuiltBundle, reference: str) -> None:
    """Write a bundle as an image layout; an existing layout of that name is replaced once the new one is complete."""
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    blobs = staging / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, data in {built.digest: built.index, **built.blobs}.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    (staging / "oci-layout").write_bytes(_LAYOUT)
    descriptor = {
        "mediaType": INDEX_TYPE,
        "digest": built.digest,
        "size": len(built.index),
        "annotations": {"org.opencontainers.image.ref.name": reference},
    }
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor]}
    (staging / "index.json").write_bytes(dump_json(index))
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def _bounded(file: Path, limit: int) -> bytes:
    try:
        if file.stat().st_size > limit:
            raise FleetError(Code.LIMIT_EXCEEDED, f"more than {limit} bytes", place=str(file))
        return file.read_bytes()
    except FileNotFoundError as error:
        raise FleetError(
            Code.BUNDLE_INVALID,
            "not a complete image layout",
            place=str(file),
            remedy="Build it with `fleetctl bundle build`.",
        ) from error


class Layout:
    """An image layout that holds one bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> bytes:
        """Return the bytes of the bundle's index.

        Raises:
            FleetError: BUNDLE_INVALID when the layout is damaged or holds another number of bundles than one.
        """
        place = str(self.folder / "index.json")
        data = _bounded(self.folder / "index.json", MAX_MANIFEST)
        with Reader(load_json(data, Code.BUNDLE_INVALID, place), Code.BUNDLE_INVALID, place) as top:
            top.integer("schemaVersion", 2, 2)
            top.text("mediaType", INDEX_TYPE)
            items = list(top.items("manifests", 2))
            if len(items) != 1:
                top.fail("manifests", f"expected one bundle, found {len(items)}")
            with Reader(items[0][0], Code.BUNDLE_INVALID, items[0][1]) as entry:
                entry.text("mediaType")
                digest = entry.text("digest")
                size = entry.integer("size", 1, MAX_INDEX)
                entry.mapping("annotations", 16)
        return self.read(digest, size)

    def read(self, digest: str, size: int) -> bytes:
        """Return one blob of a known size.

        Raises:
            FleetError: BUNDLE_INVALID when it is missing, DIGEST_MISMATCH when it is not what its name says.
        """
        if not is_digest(digest):
            raise FleetError(Code.BUNDLE_INVALID, "not a digest", place=str(self.folder))
        file = self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
        data = _bounded(file, size)
        if len(data) != size or digest_of(data) != digest:
            raise FleetError(Code.DIGEST_MISMATCH, "the blob was changed", place=str(file))
        return data

"""Content-addressed files: components, models, bundle indexes and grants by their SHA-256 digest.

Owns: the folder `sha256/`, atomic writes (temporary file, fsync, rename) and the check of every digest, when a blob is
written and when it is read whole. Never knows what a blob means or who may have it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fleet.errors import Code, FleetError
from fleet.names import is_digest
from fleet.oci import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BLOB = 2 * 1024**3
"""Bytes of one blob."""

CHUNK = 256 * 1024
"""Bytes of one chunk on the wire: the measured best for throughput per CPU time."""


class Blobs:
    """The blob store of one coordinator; safe for several threads and processes, since a blob never changes."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "sha256"
        self._folder.mkdir(parents=True, exist_ok=True)

    def has(self, digest: str) -> bool:
        """Whether a blob is stored."""
        return self._path(digest).is_file()

    def size(self, digest: str) -> int:
        """Bytes of a blob.

        Raises:
            FleetError: BLOB_MISSING.
        """
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError as error:
            raise FleetError(Code.BLOB_MISSING, f"no blob {digest}", digest=digest) from error

    def read(self, digest: str, size: int) -> bytes:
        """Read a whole blob and check its size and digest.

        Raises:
            FleetError: BLOB_MISSING; DIGEST_MISMATCH when the size is not `size`; BLOB_CORRUPT when the stored bytes
                changed, after the file is removed so that it can be stored again.
        """
        try:
            with self._path(digest).open("rb") as file:
                data = file.read(size + 1)  # once: what is hashed is what is returned
        except FileNotFoundError as error:
            raise FleetError(Code.BLOB_MISSING, f"no blob {digest}", digest=digest) from error
        if len(data) != size:
            raise FleetError(Code.DIGEST_MISMATCH, f"{digest} does not have {size} bytes", digest=digest)
        if digest_of(data) != digest:
            self._path(digest).unlink(missing_ok=True)
            raise FleetError(Code.BLOB_CORRUPT, f"the file of {digest} changed", digest=digest)
        return data

    def read_all(self, digest: str) -> bytes:
        """Read a whole small blob whose size is not known from a signed document; as `read`."""
        return self.read(digest, self.size(digest))

    def chunks(self, digest: str, offset: int) -> Iterator[bytes]:
        """Yield the bytes from `offset` on in pieces of `CHUNK`; the receiver checks the digest of the whole.

        Raises:
            FleetError: BLOB_MISSING; VALUE_INVALID for an offset beyond the end.
        """
        size = self.size(digest)
        if offset > size:
            raise FleetError(Code.VALUE_INVALID, f"offset {offset} of {size} bytes", place="offset")
        with self._path(digest).open("rb") as file:
            file.seek(offset)
            while piece := file.read(CHUNK):
                yield piece

    def put(self, data: bytes) -> str:
        """Store some bytes and return their digest."""
        digest = digest_of(data)
        with self.writer(digest, len(data)) as writer:
            writer.write(data)
        return digest

    def writer(self, digest: str, size: int) -> BlobWriter:
        """Begin to store a blob piece by piece.

        Raises:
            FleetError: VALUE_INVALID for a malformed digest; LIMIT_EXCEEDED above `MAX_BLOB`.
        """
        if size > MAX_BLOB:
            raise FleetError(Code.LIMIT_EXCEEDED, f"a blob of {size} bytes", limit=MAX_BLOB)
        return BlobWriter(self._path(digest), digest, size)

    def _path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise FleetError(Code.VALUE_INVALID, f"{digest!r} is not a digest", place="digest")
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name


class BlobWriter:
    """Receives one blob; leaving the block without an error publishes it, anything else leaves no file behind."""

    def __init__(self, path: Path, digest: str, size: int) -> None:
        self._path = path
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self._received = 0
        self._published = False
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
        self._file = os.fdopen(handle, "wb")
        self._temporary = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append some bytes.

        Raises:
            FleetError: DIGEST_MISMATCH beyond the announced size; STORAGE_FULL.
        """
        self._received += len(data)
        if self._received > self._size:
            raise FleetError(Code.DIGEST_MISMATCH, f"more than the announced {self._size} bytes", digest=self._digest)
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise FleetError(Code.STORAGE_FULL, f"cannot write: {error.strerror}") from error

    def publish(self) -> None:
        """Check the digest and make the blob visible; for callers that must not wait for the disk in `__exit__`.

        Raises:
            FleetError: DIGEST_MISMATCH; STORAGE_FULL.
        """
        if self._published:
            return
        if self._received != self._size or self._hash.hexdigest() != self._digest.removeprefix("sha256:"):
            raise FleetError(Code.DIGEST_MISMATCH, "the bytes are not those announced", digest=self._digest)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
        except OSError as error:
            raise FleetError(Code.STORAGE_FULL, f"cannot write: {error.strerror}") from error
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._published = True

"""The node's content-addressed files: bundle documents, components, models, grants.

Owns `blobs/sha256/HEX`, and `blobs/partial/HEX` for downloads that are not finished. A blob is visible under its
digest only when every byte of it was hashed and is durable, and it is hashed again whenever it is read for use; one
that does not match is removed, so that it is fetched again. Never knows where bytes come from: `store` is given them.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.names import is_digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    from edge_agent.disk import Disk

CHUNK = 256 * 1024
"""Bytes that are read and hashed at once."""

MAX_DOCUMENT = 1024 * 1024
"""Bytes of a blob that is read whole into memory as a document."""


class Blobs:
    """Content-addressed store with a size cap per blob.

    Args:
        disk: the file operations.
        folder: the folder that belongs to this store alone.
        max_blob_bytes: largest blob that is accepted.
    """

    def __init__(self, disk: Disk, folder: Path, max_blob_bytes: int) -> None:
        self._disk = disk
        self._complete = folder / "sha256"
        self._partial = folder / "partial"
        self._max = max_blob_bytes

    def has(self, digest: str) -> bool:
        """Whether a blob is stored; its bytes are checked when it is opened."""
        return self._disk.size(self._complete / _hex(digest)) is not None

    def path(self, digest: str) -> Path:
        """Return the file of a blob after checking every byte of it.

        Raises:
            FleetError: BLOB_MISSING; BLOB_CORRUPT (the file is removed).
        """
        path = self._complete / _hex(digest)
        if self._disk.size(path) is None:
            raise FleetError(Code.BLOB_MISSING, f"blob {digest} is not stored", digest=digest)
        if self._hash(path).hexdigest() != _hex(digest):
            self._disk.remove(path)
            raise FleetError(
                Code.BLOB_CORRUPT, f"blob {digest} did not match its digest and was removed", digest=digest
            )
        return path

    def read(self, digest: str, max_bytes: int = MAX_DOCUMENT) -> bytes:
        """Return the checked bytes of a blob.

        Raises:
            FleetError: BLOB_MISSING, BLOB_CORRUPT, LIMIT_EXCEEDED.
        """
        path = self._complete / _hex(digest)
        size = self._disk.size(path)
        if size is None:
            raise FleetError(Code.BLOB_MISSING, f"blob {digest} is not stored", digest=digest)
        if size > max_bytes:
            raise FleetError(Code.LIMIT_EXCEEDED, f"blob {digest} has {size} bytes, the limit is {max_bytes}")
        data = self._disk.read(path, 0, max_bytes)
        if hashlib.sha256(data).hexdigest() != _hex(digest):
            self._disk.remove(path)
            raise FleetError(
                Code.BLOB_CORRUPT, f"blob {digest} did not match its digest and was removed", digest=digest
            )
        return data

    def put(self, data: bytes) -> str:
        """Store bytes that are in memory and return their digest.

        Raises:
            FleetError: LIMIT_EXCEEDED, STORAGE_FULL.
        """
        name = hashlib.sha256(data).hexdigest()
        digest = f"sha256:{name}"
        if not self.has(digest):
            self._check_size(digest, len(data))
            self._disk.write(self._partial / name, data, 0)
            self._publish(name)
        return digest

    async def store(
        self, digest: str, fetch: Callable[[str, int], AsyncIterator[tuple[bytes, int]]], max_bytes: int | None = None
    ) -> None:
        """Fetch a blob unless it is stored, from where the last try ended.

        Args:
            digest: what to fetch.
            fetch: asks a source for a digest from an offset; yields (data, size of the whole blob).
            max_bytes: what was signed of its size, so that a source cannot fill the disk with what only turns out to
                be something else at its end; None: the cap of the store.

        Raises:
            FleetError: DIGEST_MISMATCH when the finished bytes are wrong (they are removed), BLOB_MISSING when the
                source ended early, LIMIT_EXCEEDED, STORAGE_FULL, and whatever `fetch` raises.
        """
        if self.has(digest):
            return
        name = _hex(digest)
        partial = self._partial / name
        offset = self._disk.size(partial) or 0
        hasher = await asyncio.to_thread(self._hash, partial) if offset else hashlib.sha256()
        if not offset or hasher.hexdigest() != name:
            source = fetch(digest, offset)
            try:
                await self._transfer(digest, offset, hasher, source, max_bytes)
            except FleetError as error:
                # Nothing more comes after these bytes, so they are not the beginning of this blob, as after a power
                # cut: it is fetched from its beginning. After a lost connection the next try goes on.
                if self._disk.size(partial) == offset and error.code is not Code.UNAVAILABLE:
                    self._disk.remove(partial)
                    if offset:
                        await self.store(digest, fetch, max_bytes)
                        return
                raise
        if hasher.hexdigest() != name:
            self._disk.remove(partial)
            if offset:  # the beginning may be what a power cut left of it
                await self.store(digest, fetch, max_bytes)
                return
            raise FleetError(Code.DIGEST_MISMATCH, f"what was fetched as {digest} is something else", digest=digest)
        await asyncio.to_thread(self._publish, name)

    async def _transfer(
        self,
        digest: str,
        offset: int,
        hasher: hashlib._Hash,
        source: AsyncIterator[tuple[bytes, int]],
        max_bytes: int | None,
    ) -> None:
        partial = self._partial / _hex(digest)
        total: int | None = None
        async for data, size in source:
            total = size if total is None else total
            self._check_size(digest, total, max_bytes)
            if size != total or offset + len(data) > total:
                raise FleetError(Code.LIMIT_EXCEEDED, f"the source of {digest} sends more than it announced")
            self._disk.write(partial, data, offset)
            hasher.update(data)
            offset += len(data)
        if total is None or offset < total:
            raise FleetError(Code.BLOB_MISSING, f"the source of {digest} ended after {offset} bytes", digest=digest)

    def collect(self, keep: Collection[str]) -> tuple[str, ...]:
        """Remove every blob and unfinished download that is not named; return the digests of what went."""
        kept = {_hex(digest) for digest in keep}
        gone: list[str] = []
        for folder in (self._complete, self._partial):
            for name in self._disk.names(folder):
                if name not in kept:
                    self._disk.remove(folder / name)
                    gone.append(f"sha256:{name}")
        return tuple(gone)

    def _publish(self, name: str) -> None:
        partial = self._partial / name
        self._disk.sync(partial)
        self._disk.rename(partial, self._complete / name)
        self._disk.sync(self._complete)

    def _check_size(self, digest: str, size: int, max_bytes: int | None = None) -> None:
        limit = self._max if max_bytes is None else min(self._max, max_bytes)
        if size > limit:
            raise FleetError(Code.LIMIT_EXCEEDED, f"blob {digest} has {size} bytes, the limit is {limit}")

    def _hash(self, path: Path) -> hashlib._Hash:
        hasher = hashlib.sha256()
        offset = 0
        while data := self._disk.read(path, offset, CHUNK):
            hasher.update(data)
            offset += len(data)
        return hasher


def _hex(digest: str) -> str:
    if not is_digest(digest):
        raise FleetError(Code.MESSAGE_INVALID, "not a sha256 digest")
    return digest.removeprefix("sha256:")

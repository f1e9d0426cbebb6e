"""Nothing is visible under a digest that does not have it: not after power cuts, broken transfers or rot."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from edge_agent.blobs import Blobs
from edge_agent.disk import LocalDisk
from fleet.errors import Code, FleetError
from tests.fakes.disk import MemoryDisk, PowerCutError
from tests.fakes.fleet import FleetWorld
from tests.fakes.refusals import code_of

FOLDER = Path("/node/blobs")
DATA = bytes(range(256)) * 20
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
ABSENT = "sha256:" + "0" * 64


def stored(disk: MemoryDisk | None = None, limit: int = 100_000) -> Blobs:
    return Blobs(disk or MemoryDisk(), FOLDER, limit)


@pytest.fixture
def world() -> FleetWorld:
    world = FleetWorld()
    world.put(DATA)
    return world


async def code_of_store(blobs: Blobs, world: FleetWorld, digest: str = DIGEST) -> Code | None:
    try:
        await blobs.store(digest, world.fetch_blob)
    except FleetError as error:
        return error.code
    return None


async def test_a_fetched_blob_is_there_and_not_fetched_again(world: FleetWorld) -> None:
    blobs = stored()
    assert await code_of_store(blobs, world) is None
    assert blobs.read(DIGEST) == DATA
    assert blobs.path(DIGEST) == FOLDER / "sha256" / DIGEST.removeprefix("sha256:")
    await blobs.store(DIGEST, world.fetch_blob)
    assert world.fetched == [DIGEST]


async def test_a_broken_transfer_goes_on_where_it_ended(world: FleetWorld) -> None:
    blobs, offsets = stored(), []

    async def fetch(digest: str, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        offsets.append(offset)
        async for part in world.fetch_blob(digest, offset):
            yield part

    world.cut_after[DIGEST] = 3_000
    with pytest.raises(FleetError):
        await blobs.store(DIGEST, fetch)
    assert not blobs.has(DIGEST)
    await blobs.store(DIGEST, fetch)
    assert offsets == [0, 3_000]
    assert blobs.read(DIGEST) == DATA


async def test_wrong_bytes_are_refused_and_leave_nothing(world: FleetWorld) -> None:
    disk = MemoryDisk()
    blobs = stored(disk)
    world.spoiled.add(DIGEST)
    assert await code_of_store(blobs, world) is Code.DIGEST_MISMATCH
    assert not blobs.has(DIGEST)
    assert disk.names_now == {}
    world.spoiled.clear()
    assert await code_of_store(blobs, world) is None


async def test_a_source_that_ends_early_or_sends_too_much_is_refused(world: FleetWorld) -> None:
    async def nothing(_digest: str, _offset: int) -> AsyncIterator[tuple[bytes, int]]:
        return
        yield b"", 0

    async def more(_digest: str, _offset: int) -> AsyncIterator[tuple[bytes, int]]:
        yield DATA + b"x", len(DATA)

    async def changing(_digest: str, _offset: int) -> AsyncIterator[tuple[bytes, int]]:
        yield DATA[:10], len(DATA)
        yield DATA[10:], len(DATA) + 1

    for source, code in ((nothing, Code.BLOB_MISSING), (more, Code.LIMIT_EXCEEDED), (changing, Code.LIMIT_EXCEEDED)):
        with pytest.raises(FleetError) as caught:
            await stored().store(DIGEST, source)
        assert caught.value.code is code


async def test_the_size_cap_holds_for_fetching_putting_and_reading(world: FleetWorld) -> None:
    assert await code_of_store(stored(limit=100), world) is Code.LIMIT_EXCEEDED
    assert code_of(stored(limit=100).put, DATA) is Code.LIMIT_EXCEEDED
    blobs = stored()
    blobs.put(DATA)
    assert code_of(blobs.read, DIGEST, 100) is Code.LIMIT_EXCEEDED


def test_a_name_that_is_no_digest_never_reaches_the_disk() -> None:
    for name in ("sha256:../../etc/passwd", "sha256:" + "A" * 64, "", "md5:0"):
        assert code_of(stored().has, name) is Code.MESSAGE_INVALID


def test_a_missing_blob_is_missing() -> None:
    assert code_of(stored().read, ABSENT) is Code.BLOB_MISSING
    assert code_of(stored().path, ABSENT) is Code.BLOB_MISSING


@pytest.mark.parametrize("use", ["read", "path"])
def test_rot_is_found_when_the_blob_is_used_and_the_blob_removed(tmp_path: Path, use: str) -> None:
    blobs = Blobs(LocalDisk(), tmp_path, 100_000)
    path = blobs.path(blobs.put(DATA))
    path.write_bytes(DATA[:-1] + b"?")
    assert code_of(getattr(blobs, use), DIGEST) is Code.BLOB_CORRUPT
    assert not blobs.has(DIGEST)
    assert blobs.path(blobs.put(DATA)).read_bytes() == DATA


def test_only_what_is_referenced_stays() -> None:
    disk = MemoryDisk()
    blobs = stored(disk)
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    disk.write(FOLDER / "partial" / ("e" * 64), b"half", 0)
    assert set(blobs.collect({kept})) == {gone, "sha256:" + "e" * 64}
    assert (blobs.has(kept), blobs.has(gone)) == (True, False)


@pytest.mark.parametrize("seed", range(10))
async def test_a_power_cut_at_any_write_leaves_no_false_blob(seed: int, world: FleetWorld) -> None:
    for cut_at in range(1, 15):
        disk = MemoryDisk(cut_at=cut_at)
        finished = True
        try:
            await stored(disk).store(DIGEST, world.fetch_blob)
        except PowerCutError:
            finished = False
        blobs = stored(disk.after_power_cut(Random(seed * 100 + cut_at)))
        assert blobs.has(DIGEST) or not finished
        if blobs.has(DIGEST):
            assert blobs.read(DIGEST) == DATA
        # What is left of the transfer may be garbage; it then costs one more transfer, never a false blob.
        if await code_of_store(blobs, world) in (Code.DIGEST_MISMATCH, Code.BLOB_MISSING):
            assert await code_of_store(blobs, world) is None
        assert blobs.read(DIGEST) == DATA

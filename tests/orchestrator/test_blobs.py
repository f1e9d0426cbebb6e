"""Blobs: nothing is stored that is not what it says, and a changed file is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from orchestrator import blobs as module
from orchestrator.blobs import CHUNK, Blobs

DATA = b"component"
DIGEST = digest_of(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def put(blobs: Blobs, digest: str, size: int, *pieces: bytes) -> Code | None:
    try:
        with blobs.writer(digest, size) as writer:
            for piece in pieces:
                writer.write(piece)
    except FleetError as error:
        return error.code
    return None


def test_a_blob_comes_back(blobs: Blobs) -> None:
    assert not blobs.has(DIGEST)
    assert put(blobs, DIGEST, len(DATA), DATA[:3], DATA[3:]) is None
    assert put(blobs, DIGEST, len(DATA), DATA) is None  # again is no fault
    assert blobs.read(DIGEST, len(DATA)) == DATA
    assert b"".join(blobs.chunks(DIGEST, 4)) == DATA[4:]


@pytest.mark.parametrize(
    ("digest", "size", "data", "code"),
    [
        (DIGEST, len(DATA), b"different", Code.DIGEST_MISMATCH),
        (DIGEST, len(DATA), DATA[:-1], Code.DIGEST_MISMATCH),
        (DIGEST, len(DATA), DATA + b"!", Code.DIGEST_MISMATCH),
        (DIGEST, module.MAX_BLOB + 1, b"", Code.LIMIT_EXCEEDED),
        ("sha256:../../etc/passwd", 1, b"x", Code.VALUE_INVALID),
    ],
)
def test_a_refused_blob_leaves_no_file(
    blobs: Blobs, tmp_path: Path, digest: str, size: int, data: bytes, code: Code
) -> None:
    assert put(blobs, digest, size, data) is code
    assert files(tmp_path) == []


def test_a_changed_file_is_noticed_and_removed(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(DATA)
    (file,) = files(tmp_path)
    file.write_bytes(b"x" * len(DATA))
    with pytest.raises(FleetError) as caught:
        blobs.read(DIGEST, len(DATA))
    assert caught.value.code is Code.BLOB_CORRUPT
    assert not blobs.has(DIGEST)


def test_what_is_not_there_is_missing(blobs: Blobs) -> None:
    for attempt in (blobs.size, blobs.read_all):
        with pytest.raises(FleetError) as caught:
            attempt(DIGEST)
        assert caught.value.code is Code.BLOB_MISSING


def test_chunks_are_bounded_and_resume(blobs: Blobs) -> None:
    data = bytes(CHUNK * 2 + 1)
    digest = blobs.put(data)
    assert [len(piece) for piece in blobs.chunks(digest, 0)] == [CHUNK, CHUNK, 1]
    assert list(blobs.chunks(digest, len(data))) == []
    with pytest.raises(FleetError) as caught:
        next(blobs.chunks(digest, len(data) + 1))
    assert caught.value.code is Code.VALUE_INVALID

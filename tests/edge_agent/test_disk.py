"""The local file system behind the seam: what is private, what is replaced, and what a full device says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.disk import LocalDisk, replace_file
from edge_agent.triggers import HostTelemetry
from fleet.errors import Code
from tests.fakes.disk import MemoryDisk
from tests.fakes.refusals import code_of


@pytest.fixture(params=["local", "memory"])
def disk(request: pytest.FixtureRequest) -> LocalDisk | MemoryDisk:
    return LocalDisk() if request.param == "local" else MemoryDisk()


def test_both_disks_do_the_same(disk: LocalDisk | MemoryDisk, tmp_path: Path) -> None:
    file, other = tmp_path / "folder" / "a", tmp_path / "folder" / "b"
    assert (disk.size(file), disk.names(file.parent)) == (None, ())
    with pytest.raises(FileNotFoundError):
        disk.read(file, 0, 1)
    disk.write(file, b"0123456789", 0)
    disk.write(file, b"abc", 4)
    assert (disk.read(file, 2, 4), disk.size(file)) == (b"23ab", 7)
    disk.sync(file)
    disk.write(other, b"", 0)
    disk.rename(file, other)
    disk.sync(other.parent)
    assert (disk.names(other.parent), disk.read(other, 0, 100)) == (("b",), b"0123abc")
    disk.remove(other)
    disk.remove(other)
    assert disk.names(other.parent) == ()


def test_replacing_leaves_no_other_file(disk: LocalDisk | MemoryDisk, tmp_path: Path) -> None:
    for data in (b"first and longer", b"second"):
        replace_file(disk, tmp_path / "folder" / "a", data)
    assert disk.names(tmp_path / "folder") == ("a",)
    assert disk.read(tmp_path / "folder" / "a", 0, 100) == b"second"


def test_what_is_written_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    replace_file(LocalDisk(), tmp_path / "folder" / "a", b"secret")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "folder" / "a").stat().st_mode & 0o777 == 0o600


def test_a_full_device_has_its_own_code() -> None:
    assert code_of(LocalDisk().write, Path("/dev/full"), b"x", 0) is Code.STORAGE_FULL


def test_other_faults_of_the_device_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        LocalDisk().write(tmp_path, b"x", 0)


def test_the_host_has_a_processor_and_memory_and_perhaps_a_thermometer() -> None:
    readings = {
        reading.source: reading.value for reading in HostTelemetry().read(("cpu", "memory", "temperature", "x"))
    }
    assert {"cpu", "memory"} <= readings.keys() <= {"cpu", "memory", "temperature"}
    assert all(0 <= readings[source] <= 100 for source in ("cpu", "memory"))

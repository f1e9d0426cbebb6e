"""wasi:filesystem over real directories: what a grant gives, and every function."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.capabilities import filesystem, filesystem_files, wasi_io
from edge_agent.capabilities.filesystem_paths import ErrorCode
from edge_agent.capabilities.filesystem_wit import TYPES_SIGNATURES
from edge_agent.runtime import VolumeFolder
from fleet.errors import Code, FleetError
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.file_guest import FOLLOW, KIB, NO_CHANGE, STAY, Guest, names_in, rule

pytestmark = pytest.mark.usefixtures("resolver")


# what a grant gives


def test_codes_are_those_of_the_interface() -> None:
    assert set(ErrorCode) <= set(TYPES_SIGNATURES["[method]descriptor.sync"].result.err.cases)


def test_without_a_grant_there_is_no_directory(node: Node) -> None:
    guest = Guest(node, maps=VolumeFolder(node.state_dir, writable=True))
    assert guest.directories() == []
    assert not node.state_dir.exists()


def test_a_volume_shows_under_its_name(node: Node, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    guest = Guest(
        node,
        rule("scratch/b", "scratch/a"),
        rule("node/*", write=False),
        maps=VolumeFolder(tmp_path / "maps"),
        name="app/one",
    )
    assert list(guest.roots) == ["/node/maps", "/scratch/a", "/scratch/b"]
    assert guest.get_flags(guest.roots["/node/maps"]) == Ok({"read"})
    assert guest.get_flags(guest.roots["/scratch/a"]) == Ok({"read", "mutate-directory"})
    assert guest.get_type(guest.roots["/scratch/a"]) == Ok("directory")
    assert names_in(node.state_dir / "files") == ["a", "b"]
    assert (node.state_dir / "files" / "a").stat().st_mode & 0o777 == 0o700


def test_a_prefix_of_scratch_volumes_makes_none(node: Node) -> None:
    assert Guest(node, rule("*", "scratch/*")).roots == {}


def test_writing_alone_shows_nothing(node: Node) -> None:
    assert Guest(node, {"volumes": ["scratch/a"], "mode": ["write"], "max_bytes": "1MiB"}).roots == {}


def test_a_volume_that_is_not_there_ends_the_agent(node: Node, tmp_path: Path) -> None:
    for volumes in ({}, {"maps": VolumeFolder(tmp_path / "gone")}):
        with pytest.raises(FleetError) as refused:
            Guest(node, rule("node/maps"), **volumes)
        assert refused.value.code is Code.VOLUME_UNAVAILABLE
        assert "gone" not in str(refused.value)


def test_too_many_volumes_end_the_agent(node: Node) -> None:
    with pytest.raises(FleetError) as refused:
        Guest(node, rule(*(f"scratch/v{number}" for number in range(17))))
    assert refused.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(("granted", "declared"), [(False, True), (True, False)])
def test_a_volume_for_reading_is_read_only_throughout(
    node: Node, tmp_path: Path, granted: bool, declared: bool
) -> None:
    maps = tmp_path / "maps"
    (maps / "below").mkdir(parents=True)
    (maps / "a").write_text("text")
    (maps / "link").symlink_to("a")
    guest = Guest(node, rule("node/maps", write=granted), maps=VolumeFolder(maps, writable=declared))
    root, read_only = guest.root, Err("read-only")
    assert guest.text("a") == guest.text("link") == b"text"
    assert guest.readlink_at(root, "link") == Ok("a")
    below = guest.opened("below", "directory", "read")
    for how in ("create", "create exclusive", "truncate", "create truncate"):
        assert guest.open("a", how, "read") == guest.open("new", how, "read") == read_only
    for flags in ("write", "read write", "read mutate-directory"):
        assert guest.open("a", flags=flags) == read_only
    handle = guest.opened("a", flags="read")
    now = Variant("now")
    for refused in (
        guest.write(handle, b"x", 0),
        guest.set_size(handle, 0),
        guest.write_via_stream(handle, 0),
        guest.append_via_stream(handle),
        guest.set_times(handle, now, now),
        guest.set_times_at(root, STAY, "a", now, now),
        guest.create_directory_at(root, "new"),
        guest.create_directory_at(below, "new"),
        guest.remove_directory_at(root, "below"),
        guest.unlink_file_at(root, "a"),
        guest.rename_at(root, "a", root, "b"),
        guest.link_at(root, STAY, "a", root, "b"),
        guest.symlink_at(root, "a", "b"),
    ):
        assert refused == read_only
    assert names_in(maps) == ["a", "below", "link"]
    assert (maps / "a").read_text() == "text"


# what the functions do


def test_what_is_written_is_read(guest: Guest, folder: Path) -> None:
    handle = guest.opened("a", "create")
    assert guest.get_flags(handle) == Ok({"read", "write"})
    assert guest.get_type(handle) == Ok("regular-file")
    assert guest.write(handle, b"hello world", 0) == Ok(11)
    assert guest.write(handle, b"W", 6) == Ok(1)
    assert guest.write(handle, b"", 2**64 - 1) == Ok(0)
    assert guest.read(handle, 5, 6) == Ok((b"World", False))
    assert guest.read(handle, 100, 6) == Ok((b"World", True))
    assert guest.read(handle, 0, 0) == Ok((b"", False))
    assert guest.read(handle, 1, 2**64 - 1) == Ok((b"", True))
    assert guest.set_size(handle, 5) == guest.sync(handle) == guest.sync_data(handle) == Ok(None)
    for advice in ("normal", "sequential", "random", "will-need", "dont-need", "no-reuse"):
        assert guest.advise(handle, 0, 5, advice) == Ok(None)
    assert guest.advise(handle, 2**63, 0, "normal") == Err("invalid")
    assert guest.advise(guest.root, 0, 0, "normal") == Err("bad-descriptor")
    assert guest.sync(guest.root) == Ok(None)
    assert (folder / "a").read_text() == "hello"
    assert (folder / "a").stat().st_mode & 0o777 == 0o600


def test_a_read_is_capped(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (filesystem, filesystem_files):
        monkeypatch.setattr(module, "MAX_READ", 4)
    guest.put("a", b"123456")
    handle = guest.opened("a")
    assert guest.read(handle, 2**64 - 1, 0) == Ok((b"1234", False))
    assert guest.read(handle, 2**64 - 1, 4) == Ok((b"56", True))


@pytest.mark.parametrize(
    ("flags", "reads", "writes"), [("read", True, False), ("write", False, True), ("", True, False)]
)
def test_a_descriptor_does_what_it_was_opened_for(guest: Guest, flags: str, reads: bool, writes: bool) -> None:
    guest.put("a", b"text")
    handle = guest.opened("a", flags=flags)
    assert isinstance(guest.read(handle, 1, 0), Ok) is isinstance(guest.read_via_stream(handle, 0), Ok) is reads
    assert isinstance(guest.write(handle, b"t", 0), Ok) is isinstance(guest.append_via_stream(handle), Ok) is writes
    if not writes:
        assert guest.set_size(handle, 0) == Err("bad-descriptor")


@pytest.mark.parametrize(
    ("path", "how", "flags", "error"),
    [
        ("none", "", "read", "no-entry"),
        ("none/a", "create", "read write", "no-entry"),
        ("a", "create exclusive", "read write", "exist"),
        ("a", "directory", "read", "not-directory"),
        ("a/", "", "read", "not-directory"),
        ("a/b", "create", "read write", "not-directory"),
        ("new/", "create", "read write", "is-directory"),
        ("below", "", "read write", "is-directory"),
        ("below", "truncate", "read", "is-directory"),
        ("below", "directory create", "read", "invalid"),
        ("a", "", "read file-integrity-sync", "unsupported"),
    ],
)
def test_what_cannot_be_opened(guest: Guest, path: str, how: str, flags: str, error: str) -> None:
    guest.put("a", b"")
    assert guest.create_directory_at(guest.root, "below") == Ok(None)
    assert guest.open(path, how, flags) == Err(error)
    assert guest.names(guest.root) == {"a": "regular-file", "below": "directory"}


def test_files_of_folders_and_folders_of_files(guest: Guest) -> None:
    guest.put("a", b"")
    handle = guest.opened("a")
    for answer in (
        guest.open("x", base=handle),
        guest.read_directory(handle),
        guest.create_directory_at(handle, "x"),
        guest.stat_at(handle, STAY, "x"),
        guest.readlink_at(handle, "x"),
        guest.unlink_file_at(handle, "x"),
    ):
        assert answer == Err("not-directory")
    for answer in (
        guest.read(guest.root, 1, 0),
        guest.write(guest.root, b"x", 0),
        guest.set_size(guest.root, 0),
        guest.read_via_stream(guest.root, 0),
    ):
        assert answer == Err("is-directory")


def test_truncation_does_not_need_the_flag_to_write(guest: Guest) -> None:
    guest.put("a", b"text")
    handle = guest.opened("a", "truncate", "read")
    assert guest.read(handle, 9, 0) == Ok((b"", True))
    assert guest.write(handle, b"x", 0) == Err("bad-descriptor")


def test_folders_come_and_go(guest: Guest) -> None:
    root = guest.root
    assert guest.create_directory_at(root, "a") == guest.create_directory_at(root, "a/b/") == Ok(None)
    assert guest.create_directory_at(root, "a") == Err("exist")
    guest.put("a/b/file", b"x")
    assert guest.remove_directory_at(root, "a/b") == Err("not-empty")
    assert guest.remove_directory_at(root, "a/b/file") == Err("not-directory")
    assert guest.unlink_file_at(root, "a/b") == Err("is-directory")
    assert guest.unlink_file_at(root, "a/b/file/") == Err("not-directory")
    assert guest.unlink_file_at(root, "a/b/file") == Ok(None)
    assert guest.unlink_file_at(root, "a/b/file") == Err("no-entry")
    assert guest.remove_directory_at(root, "a/b") == guest.remove_directory_at(root, "a/") == Ok(None)
    assert guest.names(root) == {}


def test_renaming(guest: Guest) -> None:
    root = guest.root
    guest.put("a", b"a")
    guest.put("b", b"b")
    assert guest.create_directory_at(root, "d") == Ok(None)
    below = guest.opened("d", "directory", "read")
    assert guest.rename_at(root, "a", root, "b") == Ok(None)
    assert guest.rename_at(root, "b", below, "c") == Ok(None)
    assert guest.rename_at(root, "d", root, "e/") == Ok(None)
    assert guest.text("e/c") == b"a"
    assert guest.rename_at(below, "c", root, "x/") == Err("not-directory")
    assert guest.rename_at(root, "e", below, "f") == Err("invalid")
    assert guest.rename_at(root, "none", root, "f") == Err("no-entry")
    assert guest.names(root) == {"e": "directory"}


def test_nothing_moves_between_volumes(node: Node) -> None:
    guest = Guest(node, rule("scratch/a", "scratch/b"))
    one, other = guest.roots.values()
    guest.opened("x", "create", base=one)
    assert guest.rename_at(one, "x", other, "x") == Err("cross-device")
    assert guest.link_at(one, STAY, "x", other, "x") == Err("not-permitted")


def test_status(guest: Guest, folder: Path) -> None:
    guest.put("a", b"text")
    handle = guest.opened("a")
    assert guest.set_times(handle, Variant("timestamp", {"seconds": 5, "nanoseconds": 7}), NO_CHANGE) == Ok(None)
    before = guest.stat(handle).value
    assert before == guest.stat_at(guest.root, STAY, "a").value
    assert (before["type"], before["link-count"], before["size"]) == ("regular-file", 1, 4)
    assert before["data-access-timestamp"] == {"seconds": 5, "nanoseconds": 7}
    assert guest.set_times_at(guest.root, FOLLOW, "a", NO_CHANGE, Variant("now")) == Ok(None)
    after = guest.stat(handle).value
    assert after["data-access-timestamp"] == {"seconds": 5, "nanoseconds": 7}
    assert after["data-modification-timestamp"] == {"seconds": 1_800_000_000, "nanoseconds": 0}
    for moment in ({"seconds": 2**64 - 1, "nanoseconds": 0}, {"seconds": 1, "nanoseconds": 10**9}):
        assert guest.set_times(handle, NO_CHANGE, Variant("timestamp", moment)) == Err("invalid")
    os.utime(folder / "a", (-5, -5))
    assert guest.stat(handle).value["data-modification-timestamp"] is None


def test_hashes_and_identity(guest: Guest) -> None:
    guest.put("a", b"text")
    guest.put("b", b"text")
    a, again, b = (guest.opened(name) for name in ("a", "a", "b"))
    assert guest.is_same_object(a, again) is True
    assert guest.is_same_object(a, b) is False
    assert guest.metadata_hash(a) == guest.metadata_hash(again) == guest.metadata_hash_at(guest.root, STAY, "a")
    assert guest.metadata_hash(a) != guest.metadata_hash(b)
    before = guest.metadata_hash(a)
    assert guest.write(a, b"longer", 0) == Ok(6)
    assert guest.metadata_hash(a) != before


def test_listings_do_not_disturb_each_other(guest: Guest, folder: Path) -> None:
    for name in ("a", "b", "ü", "line\nbreak"):
        guest.put(name, b"")
    (folder / os.fsdecode(b"\xff")).touch()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("a")
    expected = dict.fromkeys(("a", "b", "ü", "line\nbreak"), "regular-file")
    expected |= {"pipe": "fifo", "link": "symbolic-link"}
    one = guest.read_directory(guest.root).value
    step = guest.types["[method]directory-entry-stream.read-directory-entry"]
    first = step(one).value["name"]
    assert guest.names(guest.root) == expected
    rest = set()
    while (entry := step(one).value) is not None:
        rest.add(entry["name"])
    assert {first, *rest} == set(expected)
    assert step(one) == Ok(None)


def test_streams(guest: Guest) -> None:
    handle = guest.opened("a", "create")
    write, check = (guest.streams[f"[method]output-stream.{name}"] for name in ("write", "check-write"))
    read = guest.streams["[method]input-stream.read"]
    output = guest.write_via_stream(handle, 2).value
    assert write(output, b"cd") == write(output, b"ef") == Ok(None)
    assert write(guest.append_via_stream(handle).value, b"gh") == Ok(None)
    source = guest.read_via_stream(handle, 3).value
    guest.drop(handle)  # streams outlive the descriptor
    assert read(source, 2) == Ok(b"de")
    assert read(source, 0) == Ok(b"")
    assert read(source, 100) == Ok(b"fgh")
    assert read(source, 1) == Err(Variant("closed"))
    assert check(output).value == 64 * KIB
    assert guest.text("a") == b"\0\0cdefgh"


def test_a_failed_stream_tells_its_code_and_is_closed(node: Node) -> None:
    guest = Guest(node, rule("scratch/a", max_bytes="8KiB"))
    output = guest.write_via_stream(guest.opened("a", "create"), 0).value
    write = guest.streams["[method]output-stream.write"]
    assert write(output, bytes(4096)) == Ok(None)
    failed = write(output, b"x").value
    assert failed.case == "last-operation-failed"
    assert guest.types["filesystem-error-code"](failed.payload) == "quota"
    assert write(output, b"x") == Err(Variant("closed"))
    other = guest.context.shared(wasi_io.IoHandles).errors.insert(wasi_io.StreamFailedError("other", "quota"))
    assert guest.types["filesystem-error-code"](other) is None

"""wasi:filesystem: what a guest tries to get out of its directories, and to fill them."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from edge_agent.capabilities import filesystem, filesystem_paths, filesystem_quota
from edge_agent.capabilities.filesystem_paths import MAX_COMPONENTS
from edge_agent.capabilities.filesystem_quota import ENTRY_BYTES
from edge_agent.runtime import VolumeFolder
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node
from tests.fakes.file_guest import FOLLOW, KIB, NO_CHANGE, STAY, Guest, names_in, rule

pytestmark = pytest.mark.usefixtures("resolver")


# getting out


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", "no-entry"),
        ("/etc/passwd", "not-permitted"),
        ("//", "not-permitted"),
        ("..", "not-permitted"),
        ("../outside/secret", "not-permitted"),
        ("below/../../x", "not-permitted"),
        ("absolute", "not-permitted"),
        ("absolute/secret", "not-permitted"),
        ("up", "not-permitted"),
        ("up/outside/secret", "not-permitted"),
        ("proc/secret", "not-permitted"),
        ("loop", "loop"),
        ("a\0b", "invalid"),
        ("n" * 256, "name-too-long"),
        ("n/" * 4000, "name-too-long"),
        ("./" * (MAX_COMPONENTS + 1), "name-too-long"),
    ],
)
def test_no_path_leads_out(guest: Guest, folder: Path, outside: Path, path: str, error: str) -> None:
    (folder / "below").mkdir()
    (folder / "absolute").symlink_to(outside)
    (folder / "up").symlink_to("../..")
    (folder / "proc").symlink_to(f"/proc/self/fd/{os.open(outside, os.O_RDONLY)}")
    (folder / "loop").symlink_to("loop")
    root, refused = guest.root, Err(error)
    assert guest.open(path, flags="read") == refused
    assert guest.stat_at(root, FOLLOW, path) == refused
    assert guest.metadata_hash_at(root, FOLLOW, path) == refused
    assert guest.set_times_at(root, FOLLOW, path, NO_CHANGE, NO_CHANGE) == refused
    for answer in (
        guest.open(path, "create", "write"),
        guest.open(f"{path}/x", "create", "write"),
        guest.create_directory_at(root, path),
        guest.create_directory_at(root, f"{path}/x"),
        guest.remove_directory_at(root, path),
        guest.unlink_file_at(root, f"{path}/secret"),
        guest.rename_at(root, "below", root, f"{path}/x"),
        guest.rename_at(root, f"{path}/secret", root, "mine"),
        guest.readlink_at(root, f"{path}/x"),
    ):
        assert isinstance(answer, Err), answer
    assert names_in(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_links_that_stay_are_followed_and_none_are_made(guest: Guest, folder: Path) -> None:
    guest.put("a", b"text")
    (folder / "below").mkdir()
    (folder / "below" / "link").symlink_to("../a")
    (folder / "way").symlink_to("below")
    (folder / "nowhere").symlink_to("none")
    assert guest.text("way/link") == b"text"
    assert guest.text("way/../a") == b"text"
    assert guest.readlink_at(guest.root, "way/link") == Ok("../a")
    assert guest.open_at(guest.root, STAY, "way/link", frozenset(), frozenset({"read"})) == Err("loop")
    assert guest.stat_at(guest.root, STAY, "way").value["type"] == "symbolic-link"
    assert guest.stat_at(guest.root, STAY, "way/").value["type"] == "directory"
    assert guest.open("nowhere", "create") == Err("exist")
    for target in ("a", "../x", "/etc"):
        assert guest.symlink_at(guest.root, target, "new") == Err("not-permitted")
    (folder / "absolute").symlink_to("/etc/passwd")
    assert guest.readlink_at(guest.root, "absolute") == Err("not-permitted")
    (folder / "odd").symlink_to(os.fsdecode(b"\xff"))
    assert guest.readlink_at(guest.root, "odd") == Err("illegal-byte-sequence")
    assert guest.unlink_file_at(guest.root, "way") == Ok(None)
    assert (folder / "below" / "link").is_symlink()


def test_a_folder_is_the_root_of_what_is_opened_from_it(guest: Guest, folder: Path) -> None:
    guest.put("a", b"text")
    (folder / "below").mkdir()
    (folder / "below" / "link").symlink_to("../a")
    below = guest.opened("below", "directory", "read")
    for path in ("../a", "link", "..", "./.."):
        assert guest.open(path, flags="read", base=below) == Err("not-permitted")


def test_a_second_name_shares_nothing(guest: Guest, folder: Path, outside: Path) -> None:
    os.link(outside / "secret", folder / "twin")
    assert guest.text("twin") == b"secret"
    now = Variant("now")
    for answer in (
        guest.open("twin"),
        guest.open("twin", "truncate", "read"),
        guest.set_times_at(guest.root, STAY, "twin", now, now),
        guest.link_at(guest.root, STAY, "twin", guest.root, "third"),
    ):
        assert answer == Err("not-permitted")
    assert guest.unlink_file_at(guest.root, "twin") == Ok(None)
    assert (outside / "secret").read_text() == "secret"


def test_only_files_and_folders_are_opened(guest: Guest, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
    for name in ("pipe", "s"):
        for flags in ("read", "write", "read write"):
            assert guest.open(name, flags=flags) == Err("not-permitted")
        assert guest.open(name, "truncate", "write") == Err("not-permitted")
        assert guest.set_times_at(guest.root, STAY, name, NO_CHANGE, NO_CHANGE) == Err("not-permitted")
    if os.geteuid() == 0:
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
        assert guest.open("null") == Err("not-permitted")


def test_a_race_never_leads_out(guest: Guest, folder: Path, outside: Path) -> None:
    """Somebody exchanges a folder for a link that leads out, as fast as possible."""
    (folder / "real").mkdir()
    (folder / "real" / "secret").write_text("inside")
    (folder / "link").symlink_to(outside)
    (folder / "way").mkdir()
    done = threading.Event()

    def exchange() -> None:
        while not done.is_set():
            (folder / "real").rename(folder / "x")
            (folder / "link").rename(folder / "real")
            (folder / "real").rename(folder / "link")
            (folder / "x").rename(folder / "real")

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        found = set()
        for _ in range(2000):
            answer = guest.open("real/secret", flags="read")
            if isinstance(answer, Ok):
                found.add(guest.read(answer.value, 99, 0).value[0])
                guest.drop(answer.value)
            else:
                assert answer.value in ("no-entry", "not-permitted", "would-block")
            made = guest.open("real/new", "create", "write")
            if isinstance(made, Ok):
                guest.drop(made.value)
            guest.create_directory_at(guest.root, "real/folder")
            guest.rename_at(guest.root, "real/new", guest.root, "real/newer")
            guest.unlink_file_at(guest.root, "real/secret/x")
    finally:
        done.set()
        thread.join()
    assert found <= {b"inside"}
    assert names_in(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"


# bounds


def used(guest: Guest) -> int:
    """What the volume counts for, measured from the disk."""
    volume = guest.volume()
    found = filesystem_quota.measure(volume.folder)
    assert found is not None
    assert not volume.usage.measured or found == (volume.usage.used_bytes, volume.usage.entries)
    return found[0]


def test_a_quota_bounds_every_way_to_grow(node: Node, guest: Guest) -> None:
    guest = Guest(node, rule("scratch/small", max_bytes="20KiB"))
    quota = Err("quota")
    handle = guest.opened("a", "create")
    assert guest.write(handle, bytes(16 * KIB), 0) == Ok(16 * KIB)
    assert guest.write(handle, b"x", 16 * KIB) == quota
    assert guest.write(handle, b"x", 2**62) == quota
    assert guest.write(handle, b"x", 2**64 - 1) == Err("file-too-large")
    assert guest.set_size(handle, 16 * KIB + 1) == quota
    assert guest.set_size(handle, 2**64 - 1) == quota
    assert guest.open("b", "create") == guest.create_directory_at(guest.root, "b") == quota
    assert guest.write(handle, bytes(KIB), KIB) == Ok(KIB)  # grows nothing
    assert used(guest) == 20 * KIB
    assert guest.set_size(handle, 12 * KIB) == Ok(None)
    assert guest.create_directory_at(guest.root, "b") == Ok(None)
    assert used(guest) == 20 * KIB
    assert guest.remove_directory_at(guest.root, "b") == Ok(None)
    assert guest.set_size(handle, 16 * KIB) == Ok(None)  # a hole counts
    assert used(guest) == 20 * KIB


def test_tiny_files_are_bounded_too(node: Node) -> None:
    guest = Guest(node, rule("scratch/a", max_bytes="40KiB"), name="app/one")
    made = sum(isinstance(guest.create_directory_at(guest.root, f"d{number}"), Ok) for number in range(50))
    assert made == 40 * KIB // ENTRY_BYTES
    few = Guest(node, rule("scratch/b", max_files=3), name="app/two")
    assert [isinstance(few.create_directory_at(few.root, f"d{n}"), Ok) for n in range(5)] == [True] * 3 + [False] * 2


def test_a_removed_file_counts_until_it_is_closed(node: Node) -> None:
    guest = Guest(node, rule("scratch/a", max_bytes="20KiB"))
    handle = guest.opened("a", "create")
    assert guest.write(handle, bytes(12 * KIB), 0) == Ok(12 * KIB)
    assert guest.unlink_file_at(guest.root, "a") == Ok(None)
    assert guest.write(handle, bytes(8 * KIB), 12 * KIB) == Ok(8 * KIB)
    assert guest.open("b", "create") == Err("quota")
    guest.drop(handle)
    guest.put("b", bytes(16 * KIB))
    assert used(guest) == 20 * KIB
    other = guest.opened("b")
    guest.put("b", b"")
    assert guest.rename_at(guest.root, "b", guest.root, "c") == Ok(None)
    guest.drop(other)
    assert used(guest) == ENTRY_BYTES


def test_a_file_that_is_replaced_is_given_back(node: Node) -> None:
    guest = Guest(node, rule("scratch/a", max_bytes="20KiB"))
    guest.put("old", bytes(8 * KIB))
    guest.put("new", b"")
    assert guest.rename_at(guest.root, "new", guest.root, "old") == Ok(None)
    assert guest.rename_at(guest.root, "old", guest.root, "old") == Ok(None)
    assert used(guest) == ENTRY_BYTES


def test_usage_is_measured_after_a_restart(node: Node) -> None:
    first = Guest(node, rule("scratch/a", max_bytes="64KiB"))
    first.create_directory_at(first.root, "below")
    first.put("below/file", bytes(10 * KIB))
    node.close()
    second = Guest(node, rule("scratch/a", max_bytes="20KiB"))
    assert second.text("below/file") == bytes(10 * KIB)
    handle = second.opened("below/file")
    assert second.write(handle, bytes(3 * KIB), 10 * KIB) == Err("quota")
    assert second.write(handle, bytes(2 * KIB), 10 * KIB) == Ok(2 * KIB)
    assert used(second) == 20 * KIB


def test_agents_of_an_application_share_a_volume_and_its_count(node: Node) -> None:
    one = Guest(node, rule("scratch/a", max_bytes="20KiB"), name="app/one")
    other = Guest(node, rule("scratch/a", max_bytes="12KiB"), name="app/other")
    one.put("x", bytes(8 * KIB))
    assert other.text("x") == bytes(8 * KIB)
    assert other.open("y", "create") == Err("quota")
    one.put("y", bytes(4 * KIB))
    assert used(one) == used(other) == 20 * KIB
    assert one.unlink_file_at(one.root, "x") == Ok(None)
    one.context.close()
    other.put("z", b"")
    assert used(other) == 12 * KIB


def test_one_process_at_a_time_changes_a_volume(node: Node, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a").write_text("text")
    guest = Guest(node, rule("node/shared"), shared=VolumeFolder(shared, writable=True))
    child, mine = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        folder = os.open(shared, os.O_RDONLY)
        with filesystem_quota.VolumeUsage(folder).changing():
            os.write(child[1], b"x")
            os.read(mine[0], 1)
        os._exit(0)
    os.read(child[0], 1)
    assert guest.open("new", "create") == Err("busy")
    assert guest.text("a") == b"text"
    os.write(mine[1], b"x")
    os.waitpid(pid, 0)
    guest.put("new", b"x")


def test_a_volume_with_too_many_names_can_only_shrink(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Guest(node, rule("scratch/a"))
    for number in range(5):
        first.put(f"f{number}", b"x")
    node.close()
    monkeypatch.setattr(filesystem_quota.measure, "__defaults__", (4,))
    guest = Guest(node, rule("scratch/a"))
    handle = guest.opened("f0")
    assert guest.write(handle, b"xx", 0) == guest.open("new", "create") == Err("quota")
    assert guest.write(handle, b"y", 0) == Ok(1)
    assert guest.unlink_file_at(guest.root, "f1") == Ok(None)


def test_deep_folders_are_measured(guest: Guest, node: Node) -> None:
    here = guest.opened(".", "directory", "read")
    for _ in range(200):
        assert guest.create_directory_at(here, "d") == Ok(None)
        below = guest.opened("d", "directory", "read", base=here)
        guest.drop(here)
        here = below
    guest.put("file", b"x" * 100)
    assert used(guest) == 201 * ENTRY_BYTES + 100


def test_handles_are_bounded_and_given_back(guest: Guest) -> None:
    guest.put("a", b"")
    before = len(names_in(Path("/proc/self/fd")))
    handles = []
    while isinstance(answer := guest.open("a"), Ok):
        handles.append(answer.value)
    assert answer == Err("insufficient-memory")
    assert len(handles) == filesystem.MAX_DESCRIPTORS - 1
    streams = [guest.append_via_stream(handles[0]) for _ in range(70)]
    assert streams[-1] == Err("insufficient-memory")
    listings = [guest.read_directory(guest.root) for _ in range(20)]
    assert listings.count(Err("insufficient-memory")) == 20 - filesystem.MAX_LISTINGS
    for handle in handles:
        guest.drop(handle)
    guest.opened("a")
    guest.context.close()
    assert len(names_in(Path("/proc/self/fd"))) <= before


def test_measuring_notices_folders_that_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    plain = filesystem_quota.open_folder

    def moving(name: str, folder: int) -> int:
        if name == "..":
            (tmp_path / "a" / "b").rename(tmp_path / "c" / "b")
        return plain(name, folder)

    monkeypatch.setattr(filesystem_quota, "open_folder", moving)
    with pytest.raises(filesystem_paths.FileError, match="busy"):
        filesystem_quota.measure(os.open(tmp_path / "a", os.O_RDONLY))


def test_a_full_disk_is_said_so(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = guest.opened("a", "create")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    assert guest.write(handle, b"x", 0) == Err("insufficient-space")
    assert used(guest) == ENTRY_BYTES


def test_kernels_without_the_call_are_served_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSYS, "none")

    monkeypatch.undo()
    monkeypatch.setattr(filesystem_paths, "_openat2", refuse)
    filesystem_paths._resolver.cache_clear()
    assert filesystem_paths._resolver() is filesystem_paths.resolve_by_steps
    filesystem_paths._resolver.cache_clear()

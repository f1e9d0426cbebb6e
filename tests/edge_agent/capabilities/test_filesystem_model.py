"""wasi:filesystem against a model: whatever a guest does, it sees what a tree of dictionaries would show."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from edge_agent.capabilities import filesystem_paths, filesystem_quota
from edge_agent.capabilities.filesystem_quota import ENTRY_BYTES
from fleet.wit_types import Err, Ok
from tests.fakes import file_guest
from tests.fakes.agents import Node
from tests.fakes.file_guest import STAY, Guest

QUOTA = 8 * ENTRY_BYTES
NAMES = ("a", "b", "c")
paths = st.sampled_from(NAMES) | st.lists(
    st.sampled_from((*NAMES, *NAMES, "..", ".", "/", "")), min_size=1, max_size=4
).map("/".join)
sizes = st.sampled_from((0, 1, 100, ENTRY_BYTES, 3 * ENTRY_BYTES, 2**40, 2**64 - 1))

Tree = dict[str, "Tree | bytearray"]


class OutsideError(Exception):
    """A path that leads out of the tree, or is not one."""


class FileMachine(RuleBasedStateMachine):
    """One guest and one volume; descriptors stay open over renames and removals."""

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp())
        self.sentinel = self.home / "state" / "files" / "sentinel"
        self.node = Node(self.home / "state")
        self.start()
        self.sentinel.write_text("untouched")
        self.tree: Tree = {}

    def start(self) -> None:
        self.guest = Guest(self.node, file_guest.rule("scratch/data", max_bytes=f"{QUOTA}B"))
        self.open: list[tuple[int, bytearray]] = []

    @rule()
    def restart(self) -> None:
        self.node.close()
        self.start()

    @rule(path=paths, how=st.sampled_from(("", "create", "create exclusive", "create truncate", "truncate")))
    def open_file(self, path: str, how: str) -> None:
        answer = self.guest.open(path, how)
        if not isinstance(answer, Ok):
            return
        folder, name = self.place(path)
        found = folder.setdefault(name, bytearray()) if "create" in how else folder[name]
        assert isinstance(found, bytearray)
        if "truncate" in how:
            found.clear()
        self.open.append((answer.value, found))
        if len(self.open) > 5:
            self.guest.drop(self.open.pop(0)[0])

    @rule(path=paths, size=st.sampled_from((1, 100, ENTRY_BYTES)))
    def put(self, path: str, size: int) -> None:
        answer = self.guest.open(path, "create truncate")
        if isinstance(answer, Ok):
            folder, name = self.place(path)
            found = folder.setdefault(name, bytearray())
            assert isinstance(found, bytearray)
            found[:] = b"x" * size if self.guest.write(answer.value, b"x" * size, 0) == Ok(size) else b""
            self.guest.drop(answer.value)

    @rule(which=st.integers(0, 4))
    def close(self, which: int) -> None:
        if which < len(self.open):
            self.guest.drop(self.open.pop(which)[0])

    @rule(which=st.integers(0, 4), offset=sizes, size=sizes)
    def write(self, which: int, offset: int, size: int) -> None:
        if which < len(self.open) and size <= QUOTA:
            handle, contents = self.open[which]
            if self.guest.write(handle, b"x" * size, offset) == Ok(size) and size:
                contents.extend(bytes(max(0, offset + size - len(contents))))
                contents[offset : offset + size] = b"x" * size

    @rule(which=st.integers(0, 4), size=sizes)
    def resize(self, which: int, size: int) -> None:
        if which < len(self.open):
            handle, contents = self.open[which]
            if self.guest.set_size(handle, size) == Ok(None):
                contents[:] = contents[:size].ljust(size, b"\0")

    @rule(path=paths)
    def make(self, path: str) -> None:
        if self.guest.create_directory_at(self.guest.root, path) == Ok(None):
            folder, name = self.place(path)
            assert name not in folder
            folder[name] = {}

    @rule(path=paths)
    def remove(self, path: str) -> None:
        if self.guest.unlink_file_at(self.guest.root, path) == Ok(None):
            folder, name = self.place(path)
            assert isinstance(folder.pop(name), bytearray)

    @rule(path=paths)
    def remove_folder(self, path: str) -> None:
        if self.guest.remove_directory_at(self.guest.root, path) == Ok(None):
            folder, name = self.place(path)
            assert folder.pop(name) == {}

    @rule(path=paths, new=paths)
    def rename(self, path: str, new: str) -> None:
        if self.guest.rename_at(self.guest.root, path, self.guest.root, new) == Ok(None):
            folder, name = self.place(path)
            target, new_name = self.place(new)  # before anything moves: the way there may lead through it
            moved = folder.pop(name)
            assert target.get(new_name) in (None, {}) or isinstance(target[new_name], bytearray)
            target[new_name] = moved

    @rule(path=paths, other=paths)
    def link(self, path: str, other: str) -> None:
        assert isinstance(self.guest.symlink_at(self.guest.root, other, path), Err)
        assert isinstance(self.guest.link_at(self.guest.root, STAY, path, self.guest.root, other), Err)

    def place(self, path: str) -> tuple[Tree, str]:
        """The folder and the name that a path ends in."""
        if path.startswith("/"):
            raise OutsideError
        way: list[Tree] = [self.tree]
        *above, last = [name for name in path.split("/") if name not in ("", ".")]
        for name in above:
            if name == "..":
                way.pop()
                if not way:
                    raise OutsideError
            else:
                below = way[-1][name]
                assert isinstance(below, dict)
                way.append(below)
        assert last != ".."
        return way[-1], last

    @invariant()
    def the_disk_is_as_the_model(self) -> None:
        if hasattr(self, "tree"):
            assert self.shown(self.home / "state" / "files" / "data") == self.tree
            assert self.sentinel.read_text() == "untouched"
            assert {entry.name for entry in self.sentinel.parent.iterdir()} == {"data", "sentinel"}

    @invariant()
    def the_quota_holds_and_the_count_is_right(self) -> None:
        if not hasattr(self, "tree"):
            return
        usage = self.guest.volume().usage
        found = filesystem_quota.measure(self.guest.volume().folder)
        assert found is not None
        assert found[0] <= QUOTA
        if usage.measured:
            inside = {id(contents) for contents in self.files(self.tree)}
            nameless = {id(contents): len(contents) for _, contents in self.open if id(contents) not in inside}
            assert (usage.used_bytes, usage.entries) == (found[0] + sum(nameless.values()), found[1])
            assert usage.used_bytes <= QUOTA

    def files(self, tree: Tree) -> list[bytearray]:
        found: list[bytearray] = []
        for entry in tree.values():
            found += self.files(entry) if isinstance(entry, dict) else [entry]
        return found

    def shown(self, folder: Path) -> Tree:
        return {
            entry.name: self.shown(entry) if entry.is_dir() else bytearray(entry.read_bytes())
            for entry in folder.iterdir()
        }

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.node.close()
            shutil.rmtree(self.home)


@pytest.mark.parametrize("resolve", [filesystem_paths.resolve_by_kernel, filesystem_paths.resolve_by_steps])
def test_a_guest_sees_what_the_model_shows(resolve: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem_paths, "_resolver", lambda: resolve)
    run_state_machine_as_test(
        FileMachine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

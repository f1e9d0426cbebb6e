"""A guest of wasi:filesystem, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_agent.capabilities import filesystem, wasi_io
from edge_agent.capabilities.filesystem_files import Volume
from edge_agent.capabilities.filesystem_wit import PREOPENS, TYPES
from edge_agent.runtime import VolumeFolder
from fleet.wit_types import Ok, Variant
from tests.fakes.agents import Node, functions

INTERFACE = "wasi:filesystem/preopens"
KIB = 1024
FOLLOW = frozenset({"symlink-follow"})
STAY: frozenset[str] = frozenset()
NO_CHANGE = Variant("no-change")


def rule(*volumes: str, write: bool = True, max_bytes: str = "1MiB", **more: object) -> dict[str, object]:
    writing = {"mode": ["read", "write"], "max_bytes": max_bytes} if write else {"mode": ["read"]}
    return {"volumes": list(volumes), **writing, **more}


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class Guest:
    """An agent's view of its directories: methods by their names, with underscores."""

    def __init__(self, node: Node, *rules: dict[str, object], name: str = "app/agent", **volumes: VolumeFolder) -> None:
        context = node.agent({INTERFACE: list(rules)} if rules else {}, name=name)
        self.context = replace(context, volumes=volumes)
        node.contexts[-1] = self.context
        offered = filesystem.interfaces(self.context)
        self.types = functions(offered, TYPES)
        self.directories: Callable = functions(offered, PREOPENS)["get-directories"]
        self.resources = next(interface for interface in offered if interface.name == TYPES).resources
        self.streams = functions(wasi_io.interfaces(self.context), wasi_io.STREAMS)
        self.roots = {path: handle for handle, path in self.directories()} if rules else {}

    def __getattr__(self, name: str) -> Callable:
        return self.types[f"[method]descriptor.{name.replace('_', '-')}"]

    def volume(self) -> Volume:
        """The volume behind the guest's one directory."""
        (volume,) = self.context.shared(filesystem._Files)._volumes.all()
        return volume

    @property
    def root(self) -> int:
        (root,) = self.roots.values()
        return root

    def open(self, path: str, how: str = "", flags: str = "read write", *, base: int | None = None) -> object:
        return self.open_at(
            self.root if base is None else base, FOLLOW, path, frozenset(how.split()), frozenset(flags.split())
        )

    def opened(self, path: str, how: str = "", flags: str = "read write", *, base: int | None = None) -> int:
        answer = self.open(path, how, flags, base=base)
        assert isinstance(answer, Ok), (path, answer)
        return answer.value

    def put(self, path: str, data: bytes) -> None:
        handle = self.opened(path, "create truncate")
        assert self.write(handle, data, 0) == Ok(len(data))
        self.drop(handle)

    def text(self, path: str) -> bytes:
        handle = self.opened(path, flags="read")
        data, at_end = self.read(handle, 1 << 20, 0).value
        assert at_end
        self.drop(handle)
        return data

    def drop(self, handle: int) -> None:
        self.resources["descriptor"](handle)

    def names(self, handle: int) -> dict[str, str]:
        listing = self.read_directory(handle).value
        found = {}
        while (entry := self.types["[method]directory-entry-stream.read-directory-entry"](listing)) != Ok(None):
            found[entry.value["name"]] = entry.value["type"]
        self.resources["directory-entry-stream"](listing)
        return found

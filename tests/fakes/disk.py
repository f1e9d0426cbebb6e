"""A disk that loses its power: what was not synced may be there, half there or gone.

Implements `edge_agent.disk.Disk` in memory. `cut_at` makes the n-th changing operation the last one; a write that is
cut leaves a part of its bytes. `after_power_cut` gives one of the disks that POSIX allows afterwards: the content of a
file is safe only since its last sync, a name only since the last sync of its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


class PowerCutError(Exception):
    """The power went."""


@dataclass
class _File:
    content: bytes = b""
    durable: bytes | None = None


@dataclass
class MemoryDisk:
    """The disk.

    Attributes:
        cut_at: number of the operation at which the power goes; None: never.
        operations: how many changing operations there were.
        on_cut: told when the power goes.
    """

    cut_at: int | None = None
    operations: int = 0
    on_cut: Callable[[], None] | None = None
    names_now: dict[Path, _File] = field(default_factory=dict)
    names_durable: dict[Path, _File] = field(default_factory=dict)

    def read(self, path: Path, offset: int, length: int) -> bytes:
        if path not in self.names_now:
            raise FileNotFoundError(path)
        return self.names_now[path].content[offset : offset + length]

    def size(self, path: Path) -> int | None:
        return len(self.names_now[path].content) if path in self.names_now else None

    def names(self, folder: Path) -> tuple[str, ...]:
        return tuple(sorted(path.name for path in self.names_now if path.parent == folder))

    def write(self, path: Path, data: bytes, offset: int) -> None:
        file = self.names_now.setdefault(path, _File())
        if self._cut():
            file.content = file.content[:offset] + data[: len(data) // 2]
            raise PowerCutError
        file.content = file.content[:offset] + data

    def sync(self, path: Path) -> None:
        if self._cut():
            raise PowerCutError
        if path in self.names_now:
            self.names_now[path].durable = self.names_now[path].content
            return
        for name in [name for name in self.names_durable if name.parent == path]:
            del self.names_durable[name]
        self.names_durable.update({name: file for name, file in self.names_now.items() if name.parent == path})

    def rename(self, source: Path, target: Path) -> None:
        if self._cut():
            raise PowerCutError
        self.names_now[target] = self.names_now.pop(source)

    def remove(self, path: Path) -> None:
        if self._cut():
            raise PowerCutError
        self.names_now.pop(path, None)

    def after_power_cut(self, random: Random) -> MemoryDisk:
        """One of the disks that may be found afterwards."""
        disk = MemoryDisk()
        for path in sorted(self.names_now.keys() | self.names_durable.keys()):
            names = random.choice((self.names_now, self.names_durable))
            if path not in names:
                continue
            file = names[path]
            content = random.choice(_possible(file, random)) if file.content != file.durable else file.content
            disk.names_now[path] = disk.names_durable[path] = _File(content, content)
        return disk

    def copy(self) -> MemoryDisk:
        """The disk as the next process of a machine that did not lose its power finds it."""
        files = {id(file): file for file in (*self.names_now.values(), *self.names_durable.values())}
        copies = {number: _File(file.content, file.durable) for number, file in files.items()}
        return MemoryDisk(
            names_now={path: copies[id(file)] for path, file in self.names_now.items()},
            names_durable={path: copies[id(file)] for path, file in self.names_durable.items()},
        )

    def durable(self, path: Path) -> bytes | None:
        """What a file will hold whenever the power goes; None when it may be gone."""
        file = self.names_durable.get(path)
        return None if file is None or self.names_now.get(path) is not file else file.durable

    def _cut(self) -> bool:
        self.operations += 1
        if self.cut_at is None or self.operations < self.cut_at:
            return False
        if self.on_cut is not None and self.operations == self.cut_at:
            self.on_cut()
        return True


def _possible(file: _File, random: Random) -> tuple[bytes, ...]:
    torn = file.content[: random.randrange(len(file.content) + 1)]
    return (file.durable or b"", file.content, torn, bytes(len(file.content)))

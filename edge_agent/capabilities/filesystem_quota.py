"""How much of a volume is used, and who may let it grow.

Owns: `VolumeUsage`, one for each volume that agents of this process have open, and the measuring of a folder. Never
opens a guest's path.

A volume is measured when an agent first changes it, and tracked from then on: what a crash left half done is counted
as it is found. A name counts for `ENTRY_BYTES` and a file for its length beside that, whether its bytes are on disk or
are holes, so that a quota also bounds tiny files. A file without a name counts until nobody has it open.

One process at a time changes a volume: it holds a lock (flock(2)) on the volume's folder from its first change until
its last agent with the volume ends. Another one's changes are `busy` meanwhile; it reads all the same. What others
than agents write into a volume is counted when it is next measured.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.filesystem_paths import ErrorCode, FileError, open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_BYTES = 4096
"""What a name counts for: its place in the folder, its inode, and the rest of the file's last block."""

MAX_ENTRIES = 100_000
"""Names in a volume that is written to; one with more can only shrink, since measuring it would take too long."""

Identity = tuple[int, int]
"""Device and inode: what a file is, whatever it is called."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How far one agent may let a volume grow, whoever filled it; what does not grow may stay above.

    Attributes:
        max_bytes: in the sense of this module; None for no bound.
        max_files: names of files and folders.
    """

    max_bytes: int | None
    max_files: int


def identity(status: os.stat_result) -> Identity:
    """What a file is, by its status."""
    return status.st_dev, status.st_ino


class VolumeUsage:
    """Usage of one volume, shared by the threads of this process: see `share_usage`.

    Args:
        folder: descriptor of the volume's folder; its own copy is kept.
    """

    def __init__(self, folder: int) -> None:
        self._folder = os.dup(folder)
        self._lock = threading.RLock()  # a file may be closed for good, by the interpreter, amid a change
        self._measured = False
        self._complete = False
        self._bytes = 0
        self._entries = 0
        self._open: dict[Identity, int] = {}
        self._nameless: set[Identity] = set()
        self.users = 0

    @property
    def measured(self) -> bool:
        """Whether an agent of this process has changed the volume, so that the numbers mean something."""
        return self._measured

    @property
    def used_bytes(self) -> int:
        """What the volume counts for; meaningless before the first change."""
        return self._bytes

    @property
    def entries(self) -> int:
        """Names in the volume; meaningless before the first change."""
        return self._entries

    def close(self) -> None:
        """Let other processes change the volume."""
        os.close(self._folder)

    @contextmanager
    def changing(self) -> Iterator[VolumeUsage]:
        """Keep every other change out for a while.

        Raises:
            FileError: BUSY while another process changes the volume, or somebody moves folders while it is measured.
            OSError: the volume cannot be read.
        """
        with self._lock:
            if not self._measured:
                self._begin()
            yield self

    def check(self, quota: Quota, more_bytes: int, more_entries: int = 0) -> None:
        """Check that the volume may grow by so much.

        Raises:
            FileError: QUOTA.
        """
        if more_bytes <= 0 and more_entries <= 0:
            return
        most = quota.max_bytes
        if (
            not self._complete
            or self._entries + more_entries > min(quota.max_files, MAX_ENTRIES)
            or (most is not None and self._bytes + more_bytes + more_entries * ENTRY_BYTES > most)
        ):
            raise FileError(ErrorCode.QUOTA)

    def grew(self, more_bytes: int, more_entries: int = 0) -> None:
        """Count what was added, or with negative numbers removed."""
        self._bytes = max(0, self._bytes + more_bytes + more_entries * ENTRY_BYTES)
        self._entries = max(0, self._entries + more_entries)

    def removed(self, status: os.stat_result) -> None:
        """Count a name that was removed; `status` is of what had it, from before."""
        self.grew(0, -1)
        if not stat.S_ISREG(status.st_mode):
            return
        if identity(status) in self._open:
            self._nameless.add(identity(status))
        else:
            self.grew(-status.st_size)

    def opened(self, what: Identity) -> None:
        """Remember that a file is open."""
        with self._lock:
            self._open[what] = self._open.get(what, 0) + 1

    def closing(self, what: Identity, number: int) -> None:
        """Close a descriptor; with the last one a file without a name gives back its bytes."""
        with self._lock:
            size = os.fstat(number).st_size
            os.close(number)
            left = self._open.pop(what) - 1
            if left:
                self._open[what] = left
            elif what in self._nameless:
                self._nameless.discard(what)
                self.grew(-size)

    def _begin(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(ErrorCode.BUSY) from error
        found = measure(self._folder)
        self._complete = found is not None
        self._bytes, self._entries = found or (0, 0)
        self._measured = True


_sharing = threading.Lock()
_shared: dict[Identity, VolumeUsage] = {}
"""Volumes that agents of this process have open: two of them may have the same."""


def share_usage(folder: int) -> VolumeUsage:
    """Return the one usage of a volume in this process; give it back by `release_usage`."""
    with _sharing:
        what = identity(os.fstat(folder))
        usage = _shared.get(what)
        if usage is None:
            usage = _shared[what] = VolumeUsage(folder)
        usage.users += 1
        return usage


def release_usage(usage: VolumeUsage) -> None:
    """Give back what `share_usage` returned."""
    with _sharing:
        usage.users -= 1
        if usage.users == 0:
            for what in [what for what, other in _shared.items() if other is usage]:
                del _shared[what]
            usage.close()


def measure(folder: int, most: int = MAX_ENTRIES) -> tuple[int, int] | None:
    """Return bytes and names below a folder, None when there are more than `most` names.

    Symbolic links and other file systems are not entered. It holds two descriptors however deep the folders are:
    after each it goes back by `..`, and looks whether that is where it came from.

    Raises:
        FileError: BUSY when folders were moved meanwhile.
        OSError: the folder cannot be read.
    """
    here = open_folder(".", folder)
    try:
        device = os.fstat(here).st_dev
        size, entries, inside = _list(here, device, most)
        waiting = [inside]
        way = [identity(os.fstat(here))]
        while waiting and entries <= most:
            if waiting[-1]:
                try:
                    here = _move(here, waiting[-1].pop())
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    continue  # gone, exchanged, or closed to the node's user, who then cannot write there either
                more_size, more_entries, inside = _list(here, device, most - entries)
                size, entries = size + more_size, entries + more_entries
                waiting.append(inside)
                way.append(identity(os.fstat(here)))
                continue
            waiting.pop()
            way.pop()
            if waiting:
                here = _move(here, "..")
                if identity(os.fstat(here)) != way[-1]:
                    raise FileError(ErrorCode.BUSY)
        return (size, entries) if entries <= most else None
    finally:
        os.close(here)


def _move(here: int, name: str) -> int:
    there = open_folder(name, here)
    os.close(here)
    return there


def _list(folder: int, device: int, most: int) -> tuple[int, int, list[str]]:
    """Bytes, number of names and folders in one folder; stops after more than `most` names."""
    size, entries, inside = 0, 0, []
    with os.scandir(folder) as listing:
        for entry in listing:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            entries += 1
            size += ENTRY_BYTES
            if stat.S_ISREG(status.st_mode):
                size += status.st_size
            elif stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                inside.append(entry.name)
            if entries > most:
                break
    return size, entries, inside

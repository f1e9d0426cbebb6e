"""`wasi:filesystem` 0.2: the volumes that a grant names, as directories that the guest starts with.

Owns: which volumes an agent sees, and what each function of `types` and `preopens` means. Paths are resolved by
`filesystem_paths` and names changed by `filesystem_names`; what is open is `filesystem_files`, and how far a volume may
grow `filesystem_quota`.

- Without a grant there is no directory, and so no descriptor: nothing here can be reached.
- A volume shows under the name that the grant gives it: `scratch/data` is `/scratch/data`. `scratch/NAME` is a folder
  of the application's own state, made when first needed and kept until the operator removes it; `node/NAME` is a
  folder that the node's operator has declared. A prefix in a rule stands for the declared ones that it covers.
- Reading needs the mode `read`; a volume without the mode `write`, or declared without it, is `read-only` throughout.
- Only regular files and directories can be opened. Symbolic links are followed as long as they stay in the directory
  that the path starts in. None can be made (`not-permitted`): programs of the node that also work in the volume might
  follow it. Neither can second names (`link-at`), and a file that has some is not opened for writing.
- What is synced is on disk; anything else may be lost with the power, as on any file system.
- Times of files are those of the node, whether the agent is granted the wall clock or not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from edge_agent.capabilities.base import HostInterface, Table, bind
from edge_agent.capabilities.filesystem_files import (
    MAX_OFFSET,
    MAX_READ,
    FileInput,
    FileOutput,
    Listing,
    OpenFile,
    OpenFiles,
)
from edge_agent.capabilities.filesystem_names import (
    changeable,
    find_or_make_file,
    make_folder,
    read_link,
    remove_folder,
    rename,
    unlink,
)
from edge_agent.capabilities.filesystem_paths import ErrorCode, FileError, Found, code_of, find
from edge_agent.capabilities.filesystem_status import described, hashed, timestamp
from edge_agent.capabilities.filesystem_volumes import Volumes
from edge_agent.capabilities.filesystem_wit import (
    ERROR_CODE,
    METHOD,
    NEXT_ENTRY,
    PREOPENS,
    PREOPENS_SIGNATURES,
    TYPES,
    TYPES_SIGNATURES,
)
from edge_agent.capabilities.wasi_io import ERROR, STREAMS, IoHandles
from fleet.wit_types import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edge_agent.capabilities.base import AgentContext
    from fleet.wit_types import Variant, WitValue

P = ParamSpec("P")
T = TypeVar("T")

MAX_DESCRIPTORS = 64
"""Descriptors of one agent, and files that it has open by them and by streams: the agents of an application share the
descriptors of one process."""

MAX_LISTINGS = 16
"""Listings of one agent at a time."""

_ADVICE = {
    "normal": os.POSIX_FADV_NORMAL,
    "sequential": os.POSIX_FADV_SEQUENTIAL,
    "random": os.POSIX_FADV_RANDOM,
    "will-need": os.POSIX_FADV_WILLNEED,
    "dont-need": os.POSIX_FADV_DONTNEED,
    "no-reuse": os.POSIX_FADV_NOREUSE,
}
_SYNC_FLAGS = frozenset({"file-integrity-sync", "data-integrity-sync", "requested-write-sync"})

PathFlags = frozenset[str]


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """Both interfaces for one agent. Nothing of the node is touched before the guest asks for its directories."""
    files = context.shared(_Files)
    return (
        HostInterface(
            TYPES,
            bind(TYPES_SIGNATURES, files.calls()),
            resources={"descriptor": files.descriptors.drop, "directory-entry-stream": files.listings.drop},
            uses={"input-stream": STREAMS, "output-stream": STREAMS, "error": ERROR},
        ),
        HostInterface(
            PREOPENS,
            bind(PREOPENS_SIGNATURES, {"get-directories": files.directories}),
            uses={"descriptor": TYPES},
        ),
    )


def _answering(call: Callable[P, T]) -> Callable[P, Ok[T] | Err[str]]:
    def answer(*arguments: P.args, **named: P.kwargs) -> Ok[T] | Err[str]:
        try:
            return Ok(call(*arguments, **named))
        except FileError as error:
            return Err(error.code.value)
        except OSError as error:
            return Err(code_of(error).value)

    return answer


class _Files:
    """What one agent's guest has open, and every function on it."""

    def __init__(self, context: AgentContext) -> None:
        self._now = context.clock.time_ns
        self._io = context.shared(IoHandles)
        self._open = OpenFiles(MAX_DESCRIPTORS, MAX_LISTINGS)
        self.descriptors: Table[OpenFile] = Table("descriptors", MAX_DESCRIPTORS)
        self.listings: Table[Listing] = Table("listings", MAX_LISTINGS)
        self._volumes = Volumes(context)
        context.releases.callback(self._volumes.close)
        context.releases.callback(self._open.close)

    def calls(self) -> dict[str, Callable[..., WitValue]]:
        """Every function of `types`."""
        methods: dict[str, Callable[..., WitValue]] = {
            "read-via-stream": self._read_via_stream,
            "write-via-stream": self._write_via_stream,
            "append-via-stream": lambda handle: self._write_via_stream(handle, None),
            "advise": self._advise,
            "sync-data": self._sync_data,
            "get-flags": self._get_flags,
            "get-type": self._get_type,
            "set-size": lambda handle, size: self._file(handle).resize(size),
            "set-times": self._set_times,
            "read": self._read,
            "write": lambda handle, data, offset: self._file(handle).write(data, offset),
            "read-directory": self._read_directory,
            "sync": lambda handle: os.fsync(self._file(handle).number),
            "create-directory-at": lambda handle, path: make_folder(self._file(handle), path),
            "stat": lambda handle: described(os.fstat(self._file(handle).number)),
            "stat-at": self._stat_at,
            "set-times-at": self._set_times_at,
            "link-at": self._refuse_links,
            "open-at": self._open_at,
            "readlink-at": lambda handle, path: read_link(self._file(handle), path),
            "remove-directory-at": lambda handle, path: remove_folder(self._file(handle), path),
            "rename-at": self._rename,
            "symlink-at": self._refuse_links,
            "unlink-file-at": lambda handle, path: unlink(self._file(handle), path),
            "metadata-hash": lambda handle: hashed(os.fstat(self._file(handle).number)),
            "metadata-hash-at": self._metadata_hash_at,
        }
        return {
            **{f"{METHOD}{name}": _answering(call) for name, call in methods.items()},
            f"{METHOD}is-same-object": lambda one, other: self._file(one).identity == self._file(other).identity,
            NEXT_ENTRY: _answering(self._next_entry),
            ERROR_CODE: self._error_code,
        }

    # preopens

    def directories(self) -> list[tuple[int, str]]:
        """A descriptor for each volume, with its path."""
        found = []
        for volume in self._volumes.all():
            with find(volume.folder, ".", follow=False) as root:
                file = self._open.open(volume, root, readable=True, writable=False)
            found.append((self.descriptors.insert(file), f"/{volume.name}"))
        return found

    # descriptors

    def _file(self, handle: int) -> OpenFile:
        return self.descriptors.get(handle)

    def _open_at(
        self, handle: int, path_flags: PathFlags, path: str, open_flags: Collection[str], flags: Collection[str]
    ) -> int:
        base = self._file(handle)
        folder = base.folder()
        if _SYNC_FLAGS & set(flags):
            raise FileError(ErrorCode.UNSUPPORTED)
        making = {"create", "exclusive", "truncate"} & set(open_flags)
        if making and "directory" in open_flags:
            raise FileError(ErrorCode.INVALID)
        if making or {"write", "mutate-directory"} & set(flags):
            base.volume.growth()
        self._open.check_room()
        follow = _follows(path_flags)
        with (
            find_or_make_file(base, path, follow=follow, exclusive="exclusive" in open_flags)
            if "create" in open_flags
            else find(folder, path, follow=follow)
        ) as found:
            if "directory" in open_flags and not found.is_folder:
                raise FileError(ErrorCode.NOT_DIRECTORY)
            if "truncate" in open_flags:
                self._truncate(base, found)
            file = self._open.open(base.volume, found, readable="read" in flags, writable="write" in flags)
        return self.descriptors.insert(file)

    def _truncate(self, base: OpenFile, found: Found) -> None:
        """Cut a file that is about to be opened, whether or not the guest is going to write to it."""
        writer = self._open.open(base.volume, found, readable=False, writable=True)
        writer.resize(0)

    def _get_flags(self, handle: int) -> frozenset[str]:
        file = self._file(handle)
        if file.is_folder:
            return frozenset({"read", "mutate-directory"} if file.volume.quota is not None else {"read"})
        return frozenset({name for name, has in (("read", file.readable), ("write", file.writable)) if has})

    def _get_type(self, handle: int) -> str:
        return "directory" if self._file(handle).is_folder else "regular-file"

    # bytes

    def _read(self, handle: int, length: int, offset: int) -> tuple[bytes, bool]:
        data = self._file(handle).read(length, offset)
        return data, len(data) < min(length, MAX_READ)

    def _read_via_stream(self, handle: int, offset: int) -> int:
        file = self._file(handle)
        file.check_readable()
        return _registered(self._io.inputs, FileInput(file, offset))

    def _write_via_stream(self, handle: int, offset: int | None) -> int:
        file = self._file(handle)
        file.check_writable()
        return _registered(self._io.outputs, FileOutput(file, offset))

    def _advise(self, handle: int, offset: int, length: int, advice: str) -> None:
        file = self._file(handle)
        if file.is_folder:
            raise FileError(ErrorCode.BAD_DESCRIPTOR)
        if max(offset, length) > MAX_OFFSET:
            raise FileError(ErrorCode.INVALID)
        os.posix_fadvise(file.number, offset, length, _ADVICE[advice])

    def _sync_data(self, handle: int) -> None:
        os.fdatasync(self._file(handle).number)

    def _error_code(self, handle: int) -> str | None:
        kind = self._io.errors.get(handle).kind
        return kind.value if isinstance(kind, ErrorCode) else None

    # names

    def _rename(self, handle: int, path: str, new_handle: int, new_path: str) -> None:
        rename(self._file(handle), path, self._file(new_handle), new_path)

    def _refuse_links(self, handle: int, *_: WitValue) -> None:
        changeable(self._file(handle))
        raise FileError(ErrorCode.NOT_PERMITTED)

    # listings

    def _read_directory(self, handle: int) -> int:
        return self.listings.insert(self._open.begin_listing(self._file(handle).folder()))

    def _next_entry(self, handle: int) -> dict[str, WitValue] | None:
        entry = self.listings.get(handle).next()
        return None if entry is None else {"type": entry[0], "name": entry[1]}

    # status

    def _stat_at(self, handle: int, path_flags: PathFlags, path: str) -> dict[str, WitValue]:
        with find(self._file(handle).folder(), path, follow=_follows(path_flags)) as found:
            return described(found.status)

    def _metadata_hash_at(self, handle: int, path_flags: PathFlags, path: str) -> dict[str, WitValue]:
        with find(self._file(handle).folder(), path, follow=_follows(path_flags)) as found:
            return hashed(found.status)

    def _set_times(self, handle: int, accessed: Variant[dict[str, int]], modified: Variant[dict[str, int]]) -> None:
        file = self._file(handle)
        file.volume.growth()
        self._set(file, os.fstat(file.number), accessed, modified)

    def _set_times_at(
        self,
        handle: int,
        path_flags: PathFlags,
        path: str,
        accessed: Variant[dict[str, int]],
        modified: Variant[dict[str, int]],
    ) -> None:
        base = changeable(self._file(handle))
        with find(base.number, path, follow=_follows(path_flags)) as found:
            file = self._open.open(base.volume, found, readable=True, writable=False)
        try:
            self._set(file, found.status, accessed, modified)
        finally:
            file.close()

    def _set(
        self,
        file: OpenFile,
        present: os.stat_result,
        accessed: Variant[dict[str, int]],
        modified: Variant[dict[str, int]],
    ) -> None:
        if not file.is_folder and present.st_nlink > 1:
            raise FileError(ErrorCode.NOT_PERMITTED)
        now = self._now()
        times = timestamp(accessed, present.st_atime_ns, now), timestamp(modified, present.st_mtime_ns, now)
        os.utime(file.number, ns=times)


def _registered(table: Table[T], stream: T) -> int:
    if not table.has_room():
        raise FileError(ErrorCode.INSUFFICIENT_MEMORY)
    return table.insert(stream)


def _follows(path_flags: PathFlags) -> bool:
    return "symlink-follow" in path_flags

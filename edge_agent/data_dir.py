"""A node's data directory: its folders, what an operator places there, and that one process alone uses it."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.disk import PRIVATE_FOLDER, LocalDisk
from fleet.errors import Code, FleetError
from fleet.grants import parse_ceiling, tell_ceiling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.disk import Disk
    from fleet.grants import Authority, OwnCeiling

FOLDERS = (
    "keys",
    "trust",
    "ledger",
    "witness",
    "blobs",
    "state",
    "cache",
    "cache/compiled",
    "crashes",
    "secrets",
    "run",
)
"""What a data directory consists of, beside `node.json`, `agent.toml`, `ceiling.yaml` and `sensors.yaml`."""

MAX_DOCUMENT = 256 * 1024
"""Bytes of `ceiling.yaml` and of `sensors.yaml`."""


def prepare_data_dir(data_dir: Path) -> None:
    """Make the folders of a data directory, durably and readable by their owner only."""
    for folder in (data_dir, *(data_dir / name for name in FOLDERS)):
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        LocalDisk().sync(folder.parent)


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process; two supervisors over one ledger would each undo the other.

    Raises:
        FleetError: ALREADY_EXISTS when another process holds it.
    """
    with (data_dir / "run" / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FleetError(
                Code.ALREADY_EXISTS, f"another edge-agent runs on {data_dir}", place=str(data_dir)
            ) from error
        yield


def read_ceiling(disk: Disk, path: Path) -> tuple[Authority | None, OwnCeiling]:
    """Return the node's own ceiling, None when its operator placed none, and what it says of it.

    Raises:
        FleetError: CONFIG_INVALID, GRANT_INVALID, LIMIT_EXCEEDED; the node does not start then.
    """
    document = read_placed(disk, path)
    return None if document is None else parse_ceiling(document, path.name), tell_ceiling(document)


def read_placed(disk: Disk, path: Path) -> bytes | None:
    """Return a document that the operator placed; None only when nothing at all is there.

    Raises:
        FleetError: CONFIG_INVALID for what cannot be read, so that a ceiling is never taken for none; LIMIT_EXCEEDED.
    """
    try:
        document = disk.read(path, 0, MAX_DOCUMENT + 1)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise FleetError(Code.CONFIG_INVALID, "the link leads nowhere", place=str(path)) from error
        return None
    except OSError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot be read: {error.strerror}", place=str(path)) from error
    if len(document) > MAX_DOCUMENT:
        raise FleetError(Code.LIMIT_EXCEEDED, f"more than {MAX_DOCUMENT} bytes", place=str(path))
    return document

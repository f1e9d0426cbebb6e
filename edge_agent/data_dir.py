"""A node's data directory: its folders, and that one process alone uses it."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.disk import PRIVATE_FOLDER, LocalDisk
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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

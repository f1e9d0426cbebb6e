"""Databases of coordinators that are migrated already: the tests make hundreds, and every migration runs in each.

That the migrations lead to the tables is a test of its own (tests/orchestrator/test_store.py).
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from orchestrator.store.database import Store


@cache
def _empty() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        Store.open(Path(folder)).close()
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def put_empty(folder: Path) -> None:
    """Put the databases of a new coordinator into their folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in _empty().items():
        (folder / name).write_bytes(data)


def open_empty(folder: Path) -> Store:
    """A new coordinator's store, in files."""
    put_empty(folder)
    return Store.open(folder)

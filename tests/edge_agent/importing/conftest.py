"""A node, and a folder with a release that is good for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.carried import write_out
from tests.fakes.fleet import FleetWorld
from tests.fakes.whole_node import WholeNode


@pytest.fixture
def world() -> FleetWorld:
    return FleetWorld()


@pytest.fixture
def folder(world: FleetWorld, tmp_path: Path) -> Path:
    return write_out(world, tmp_path / "usb", world.assign(world.agent()))


@pytest.fixture
def node(world: FleetWorld) -> Iterator[WholeNode]:
    node = WholeNode(world)
    yield node
    node.close()

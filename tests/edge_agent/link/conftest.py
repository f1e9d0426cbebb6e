"""A coordinator in this process, and a node that has joined it and runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.fakes.coordinator import FakeCoordinator
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import Publisher
from tests.fakes.running_node import RunningNode


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator(FleetWorld(publisher=Publisher(now=datetime.now(UTC))))
    await coordinator.open()
    yield coordinator
    await coordinator.close()


@pytest.fixture
async def node(coordinator: FakeCoordinator, tmp_path: Path) -> AsyncIterator[RunningNode]:
    node = RunningNode(tmp_path / "node", coordinator)
    await node.join()
    node.on()
    yield node
    await node.off()

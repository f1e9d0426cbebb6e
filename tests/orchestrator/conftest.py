"""Fixtures: a fleet's files, a served coordinator, an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import FleetFixture, Operator, ShiftedClock, serving


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    return FleetFixture(tmp_path)


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
async def coordinator(fleet: FleetFixture, clock: ShiftedClock) -> AsyncIterator[Coordinator]:
    async with serving(fleet, clock) as running:
        yield running


@pytest.fixture
async def operator(fleet: FleetFixture, coordinator: Coordinator) -> AsyncIterator[Operator]:
    client = Operator(fleet, coordinator)
    async with client.channel:
        yield client

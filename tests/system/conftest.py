"""Fixtures of the system tests: fleets of real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.harness import RealFleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder as a system test."""
    for item in items:
        if "tests/system/" in str(item.path):
            item.add_marker(pytest.mark.system)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    """Return a fleet that is set up, its coordinator running, without nodes."""
    fleet = RealFleet(tmp_path / "fleet")
    fleet.init()
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.close()

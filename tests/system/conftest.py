"""Fixtures of the system tests: fleets of real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.harness import RealFleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


DEFAULT = {"test_coordinator_program.py", "test_fleet.py", "test_power_cut.py"}
"""Modules of the default run; the others belong to `make system`."""


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder as a system test, and the long ones as slow."""
    for item in items:
        if item.path.parent.name == "system":
            item.add_marker(pytest.mark.system)
            if item.path.name not in DEFAULT:
                item.add_marker(pytest.mark.slow)


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

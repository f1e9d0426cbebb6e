"""A fleet of real processes for benchmarks: coordinator, supervisors, zygotes and runners, over loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.main import main
from tests.system.harness import RealFleet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _InProcess(RealFleet):
    """The same fleet, its fleetctl run in this process: a hundred processes would take longer than the measurement."""

    def ctl(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """Run fleetctl and check its exit code; what it prints goes to stderr."""
        os.environ["FLEET_HOME"] = str(self.home)
        with redirect_stdout(sys.stderr):
            code = main(arguments)
        if code != expect:
            raise SystemExit(f"fleetctl {' '.join(arguments)}: {code}")
        return subprocess.CompletedProcess(arguments, code, "", "")


@contextmanager
def real_fleet(nodes: int, components: Iterable[str]) -> Iterator[RealFleet]:
    """Run a fleet with these components published; ended and removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = RealFleet(Path(folder) / "fleet")
        fleet.init()
        try:
            fleet.up()
            fleet.join(*(f"n{number}" for number in range(1, nodes + 1)))
            fleet.publish(*components)
            yield fleet
        finally:
            fleet.close()


def approve_all(fleet: RealFleet, agents: Iterable[str], component: str) -> None:
    """Approve a grant with everything that the component needs for each agent (`application/agent`)."""
    quick = _InProcess(fleet.home)
    for agent in agents:
        quick.approve(agent, f"{component}@0.1.0")

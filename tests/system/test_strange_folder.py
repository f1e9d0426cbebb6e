"""fleetctl is started wherever an operator happens to be: what lies there is never taken for a part of the programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.harness import RealFleet


def test_the_programs_load_nothing_from_where_they_are_started(fleet: RealFleet, tmp_path: Path) -> None:
    """`python -m` looks into the working directory first, unless it is told not to (-P)."""
    strange = tmp_path / "strange"
    for package in ("fleet", "orchestrator", "edge_agent", "grpc"):
        (strange / package).mkdir(parents=True)
        (strange / package / "__init__.py").write_text("raise SystemExit('code from the working directory')\n")
    (strange / "fleet" / "__init__.py").unlink()  # a folder without it shadows a package, too
    fleet.down()
    script = Path(sys.executable).with_name("fleetctl")
    for command in (("coordinator", "up"), ("node", "join", "n1")):
        done = subprocess.run(
            [script, *command],
            env=os.environ | {"FLEET_HOME": str(fleet.home)},
            cwd=strange,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    fleet.nodes.append("n1")
    fleet.wait_online("n1")

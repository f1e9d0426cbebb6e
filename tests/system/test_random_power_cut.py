"""Power cuts at random moments of a deploy: whatever is on disk afterwards is one whole state, old or new."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import ROOT, RealFleet, wait_for

CUTS = 3
"""Power cuts in the default run; FLEET_TEST_CUTS asks for more."""

TICK = [
    {"timer": {"every": "100ms", "function": "handle-data", "arguments": '{source: "t", value: 20.0, timestamp: 0}'}}
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path_factory.mktemp("cuts") / "fleet")
    fleet.init()
    try:
        fleet.up()
        fleet.join("n1")
        fleet.publish("context-agent")
        fleet.approve("climate/context", "context-agent@0.1.0")
        fleet.ctl("deploy", str(manifest(fleet, 0)))
        yield fleet
    finally:
        fleet.close()


def manifest(fleet: RealFleet, number: int) -> Path:
    agent = {"name": "context", "bundle": "context-agent@0.1.0", "triggers": TICK, "config": {"try": str(number)}}
    return fleet.manifest("climate", agent)


def counted(fleet: RealFleet) -> int:
    """Calls that the agent has answered, as far as the coordinator heard."""
    return sum(int(agent["calls"]) for agent in fleet.agents("climate") if agent["phase"] == "running")


def accepted(fleet: RealFleet) -> int:
    return int(json.loads((fleet.directory("n1") / "ledger" / "desired.json").read_bytes())["generation"])


def test_a_cut_at_any_moment_leaves_a_whole_state(fleet: RealFleet) -> None:
    seed = int(os.environ.get("FLEET_TEST_SEED", "1"))  # `make hunt` takes another one each time
    chance = random.Random(seed)
    identity = [(agent["bundle_digest"], agent["grant_digest"]) for agent in fleet.agents("climate")]
    for number in range(1, int(os.environ.get("FLEET_TEST_CUTS", str(CUTS))) + 1):
        before = accepted(fleet)
        deploy = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli.main", "deploy", str(manifest(fleet, number))],
            env=os.environ | {"FLEET_HOME": str(fleet.home)},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # A deploy of one node takes about a second and a half from here on; the moment is the test.
            time.sleep(chance.uniform(0.2, 1.6))
            fleet.cut_power("n1")
            found = accepted(fleet)
            assert before <= found <= before + 2, (seed, number)  # old, new, or rolled back already
            fleet.ctl("node", "up", "n1")
            fleet.wait_online("n1")
            deploy.wait(300)
        finally:
            deploy.kill()
            deploy.wait()
        wait_for(f"it runs after cut {number} of seed {seed}", lambda: counted(fleet) > 0)
        assert [(agent["bundle_digest"], agent["grant_digest"]) for agent in fleet.agents("climate")] == identity
        (node,) = fleet.ask("nodes")
        assert (node["state"], accepted(fleet)) == ("online", node["desired_generation"])
        assert accepted(fleet) >= found
        assert not (fleet.directory("n1") / "ledger" / "desired.corrupt").exists(), seed
    # The last word: no coordinator, no network, one more cut.
    found = accepted(fleet)
    fleet.down()
    fleet.cut_power("n1")
    fleet.ctl("node", "up", "n1")
    state = fleet.directory("n1") / "state" / "climate"
    written = newest(state)
    wait_for(f"it writes its state offline (seed {seed})", lambda: newest(state) > written)
    assert accepted(fleet) == found


def newest(folder: Path) -> int:
    return max((file.stat().st_mtime_ns for file in folder.iterdir()), default=0)

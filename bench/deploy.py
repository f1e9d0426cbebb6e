"""How long a deploy takes from the command to healthy on every node, on a fleet of real processes.

    python -m bench.deploy [--nodes 1 3] [--rounds 5]

The time is that of `fleetctl deploy`, process start included: it returns when every agent runs on every node. The
reference is `fleetctl plan` of the same manifest just before, which is everything but the rollout; the difference is
the rollout. The rollout has one wave and asks for no time in health (`healthy_for: 0s`), which would only add itself.

A first deploy sends a component to nodes that never had it: they fetch, verify and compile. A new configuration
restarts an agent whose component they have. Nodes share this machine's cores. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from bench.fleet import approve_all, real_fleet
from bench.measure import emit, median

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.harness import RealFleet

COMPONENTS = ("context-agent", "crasher-agent", "hungry-agent", "spinner-agent")


def timed(fleet: RealFleet, command: str, manifest: Path) -> float:
    """Seconds that one command of fleetctl takes."""
    begin = time.perf_counter()
    fleet.ctl(command, str(manifest))
    return time.perf_counter() - begin


def deploy(fleet: RealFleet, component: str, **config: str) -> tuple[float, float]:
    """Deploy one agent on every node; return the seconds of the deploy and of the plan before it."""
    agent: dict[str, object] = {"name": "main", "bundle": f"{component}@0.1.0", "config": config}
    manifest = fleet.manifest(component, agent, healthy_for="0s")
    planned = timed(fleet, "plan", manifest)
    taken = timed(fleet, "deploy", manifest)
    running = {a["node"] for a in fleet.agents(component) if a["phase"] == "running"}
    if running != set(fleet.nodes):
        raise SystemExit(f"{component} runs on {sorted(running)} only")
    return taken, planned


def measure(nodes: int, rounds: int) -> None:
    """Deploy on a new fleet of so many nodes."""
    size = f"{nodes} node{'s' * (nodes > 1)}"
    with real_fleet(nodes, COMPONENTS) as fleet:
        for component in COMPONENTS:
            approve_all(fleet, [f"{component}/main"], component)
        first = [deploy(fleet, component) for component in COMPONENTS]
        emit(median(f"{size}, first deploy of a component", "s", *zip(*first, strict=True)))
        again = [deploy(fleet, COMPONENTS[0], round=str(number)) for number in range(rounds)]
        emit(median(f"{size}, new configuration", "s", *zip(*again, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for number in options.nodes:
        measure(number, options.rounds)

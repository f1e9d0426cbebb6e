"""How much memory a node takes, idle, by the number of its agents: proportional set size of its processes.

    python -m bench.density [--agents 0 10 100]

A real node that joined a fleet runs so many context-agents of one application, so in one runner. Proportional set size
(`Pss` of smaps_rollup, proc(5)) shares a page out among the processes that map it, so the sum over a node's processes
counts nothing twice. Pages of libraries are shared with the coordinator as well, which runs on this machine too: a node
alone has a few MiB more. Every figure is one reading.

"One application more" is the difference that further applications of one agent make, each in a runner of its own.
Agents are idle: started, never called, their model not loaded. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import time

import psutil

from bench.fleet import approve_all, real_fleet
from bench.measure import Row, emit

COMPONENT = "context-agent"
FURTHER = 3
"""Applications beside the first, for the cost of one."""

SETTLE_S = 2.0
"""From the end of a deploy to the measurement: compile workers end, the session goes quiet."""


def sizes(supervisor_pid: int, applications: int) -> dict[str, float]:
    """MiB of the supervisor, its zygote, and all runners together, of which there is one per application."""
    supervisor = psutil.Process(supervisor_pid)
    zygotes = supervisor.children()
    runners = [runner for zygote in zygotes for runner in zygote.children()]
    if len(runners) != applications:
        raise SystemExit(f"{len(runners)} processes below the zygote for {applications} applications")
    groups = {"supervisor": [supervisor], "zygote": zygotes, "runners": runners}
    return {name: sum(p.memory_full_info().pss for p in group) / (1 << 20) for name, group in groups.items()}


def measure(numbers: list[int]) -> None:
    """Measure a node with each of these numbers of agents, smallest first."""
    with real_fleet(1, [COMPONENT]) as fleet:
        (node,) = fleet.nodes
        approve_all(fleet, [f"dense/a{number}" for number in range(max(numbers))], COMPONENT)
        approve_all(fleet, [f"more{number}/a0" for number in range(FURTHER)], COMPONENT)

        def deploy(application: str, agents: int) -> None:
            bundle = f"{COMPONENT}@0.1.0"
            chosen: list[dict[str, object]] = [{"name": f"a{number}", "bundle": bundle} for number in range(agents)]
            fleet.ctl("deploy", str(fleet.manifest(application, *chosen, healthy_for="0s")))

        sums: list[float] = []
        for number in numbers:
            if number:
                deploy("dense", number)
            time.sleep(SETTLE_S)
            parts = sizes(fleet.pid(node), applications=int(number > 0))
            for name, size in parts.items():
                emit(Row(f"{number} agents: {name}", "MiB", size))
            sums.append(sum(parts.values()))
            emit(Row(f"{number} agents: sum", "MiB", sums[-1]))
        if len(numbers) > 1:
            emit(Row("one agent more", "MiB", (sums[-1] - sums[-2]) / (numbers[-1] - numbers[-2])))
        for number in range(FURTHER):
            deploy(f"more{number}", 1)
        time.sleep(SETTLE_S)
        emit(
            Row("one application more", "MiB", (sum(sizes(fleet.pid(node), 1 + FURTHER).values()) - sums[-1]) / FURTHER)
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[0, 10, 100])
    measure(sorted(parser.parse_args().agents))

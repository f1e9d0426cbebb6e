"""200 agents die at random for a long time, runners are killed now and then, and nothing grows.

    make soak SOAK_SECONDS=3600

A real coordinator and a real node run ten applications of twenty restless agents (`components/restless-agent`). Each
is called every second by its timer; about one call in twelve ends the agent: panic, abort, access outside its memory,
stack overflow, memory used up, endless loop. Every quarter of a minute a whole runner is killed. What the processes of
node and coordinator hold is read every few seconds; the last quarter of the run is compared with the second one.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from bench.fleet import approve_all
from tests.endurance.publishing import publish
from tests.system.harness import RealFleet, alive, descendants, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "180"))
SEED = int(os.environ.get("SEED", "1"))
APPLICATIONS, AGENTS = 10, 20
COMPONENT = "restless-agent"
KILL_EVERY_S = 15.0
SAMPLE_EVERY_S = 3.0

TOLERANCE = 0.08
"""By how much a median may differ from the earlier one: agents that wait for their restart hold nothing."""
SLACK = {"memory MiB": 8.0, "threads": 12, "descriptors": 12, "processes": 1}
"""What a difference must exceed as well, so that a small number cannot fail by one."""

TRIGGER = {"timer": {"every": "1s", "function": "handle-data", "arguments": '{source: "t", value: 1, timestamp: 0}'}}
RESTART = {"initial": "200ms", "cap": "2s", "stable": "20s"}


@dataclass(frozen=True)
class Sample:
    """What a tree of processes holds at one moment."""

    parts: dict[str, float]

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Read the process and everything below it; one that ends meanwhile counts for nothing."""
        memory, threads, descriptors, processes = 0.0, 0, 0, 0
        for number in (pid, *descendants(pid)):
            try:
                process = psutil.Process(number)
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                memory += process.memory_full_info().pss / (1 << 20)
                threads += process.num_threads()
                descriptors += process.num_fds()
                processes += 1
            except psutil.NoSuchProcess:
                continue
        return cls({"memory MiB": memory, "threads": threads, "descriptors": descriptors, "processes": processes})


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path / "fleet")
    fleet.init()
    try:
        fleet.up()
        fleet.join("n1")
        fleet.publish(COMPONENT)
        yield fleet
    finally:
        fleet.close()


def deploy(fleet: RealFleet) -> None:
    """Start all agents."""
    names = {f"restless{number}": [f"a{agent}" for agent in range(AGENTS)] for number in range(APPLICATIONS)}
    approve_all(
        fleet, [f"{application}/{agent}" for application, agents in names.items() for agent in agents], COMPONENT
    )
    for application, agents in names.items():
        chosen: list[dict[str, object]] = [
            {"name": agent, "bundle": f"{COMPONENT}@0.1.0", "triggers": [TRIGGER], "restart": RESTART}
            for agent in agents
        ]
        fleet.ctl("deploy", str(fleet.manifest(application, *chosen, healthy_for="0s")))


def medians(samples: list[Sample], part: str) -> tuple[float, float]:
    """Medians of the second and the last quarter."""
    values = [sample.parts[part] for sample in samples]
    quarter = len(values) // 4
    return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])


def runners(supervisor: int) -> list[psutil.Process]:
    """The runner processes of a node: children of its zygote."""
    return [runner for zygote in psutil.Process(supervisor).children() for runner in zygote.children()]


def test_nothing_grows_while_agents_die(fleet: RealFleet) -> None:
    deploy(fleet)
    chance = random.Random(SEED)
    trees = {"node": fleet.pid("n1"), "coordinator": fleet.coordinator_pid()}
    samples: dict[str, list[Sample]] = {name: [] for name in trees}
    killed = 0
    began = time.monotonic()
    next_kill, next_sample = began + KILL_EVERY_S, began
    while (now := time.monotonic()) < began + SOAK_SECONDS:
        if now >= next_kill:
            victims = runners(trees["node"])
            if victims:
                chance.choice(victims).send_signal(signal.SIGKILL)
                killed += 1
            next_kill += KILL_EVERY_S
        if now >= next_sample:
            for name, pid in trees.items():
                samples[name].append(Sample.of(pid))
            next_sample = max(next_sample + SAMPLE_EVERY_S, now)
        time.sleep(0.2)
    rows = fleet.agents()
    assert len(rows) == APPLICATIONS * AGENTS
    restarts = sum(row["restarts"] for row in rows)
    results: dict[str, object] = {
        "seconds": int(SOAK_SECONDS),
        "agents": len(rows),
        "calls": sum(row["calls"] for row in rows),
        "agents restarted": restarts,
        "runners killed": killed,
        "agents that run or wait for their restart at the end": sum(
            row["phase"] in ("running", "backoff", "admitting", "starting") for row in rows
        ),
    }
    grown = []
    for name, taken in samples.items():
        for part, slack in SLACK.items():
            early, late = medians(taken, part)
            results[f"{name}: {part}, second and last quarter"] = f"{early:.1f}, {late:.1f}"
            if late - early > max(slack, early * TOLERANCE):
                grown.append(f"{name}: {part} grew from {early:.1f} to {late:.1f}")
    publish("soak", "Endurance: 200 agents that die at random", f"make soak SOAK_SECONDS={SOAK_SECONDS:.0f}", results)
    assert not grown, grown
    assert restarts > SOAK_SECONDS, "too few agents died to show anything"
    assert results["agents that run or wait for their restart at the end"] == len(rows)
    goes_on(fleet)
    node = [trees["node"], *descendants(trees["node"])]
    fleet.ctl("node", "down", "n1")
    fleet.nodes.clear()
    wait_for("no process of the node is left", lambda: not any(map(alive, node)), 30)


def goes_on(fleet: RealFleet) -> None:
    """Every application still counts."""
    before = {f"restless{number}": counts(fleet, f"restless{number}") for number in range(APPLICATIONS)}
    wait_for("all go on", lambda: all(counts(fleet, name) > count for name, count in before.items()))


def counts(fleet: RealFleet, application: str) -> int:
    """How far the agents of an application have counted, by their last answers."""
    return max(int(row["last_output"].strip('"') or 0) for row in fleet.agents(application))

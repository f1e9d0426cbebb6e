"""Pull the power and the network out of a node: every agent comes back from local disk."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

from tests.system.harness import descendants, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.harness import RealFleet

READING = '{{source: "roof", value: {value}, timestamp: {timestamp}}}'
CONTEXT = {
    "name": "context",
    "bundle": "context-agent@0.1.0",
    "triggers": [
        {"event": {"topic": "sensors", "function": "handle-data"}},
        {
            "timer": {
                "every": "200ms",
                "function": "handle-data",
                "arguments": '{source: "timer", value: 20.0, timestamp: 0}',
            }
        },
    ],
}


def _summary(directory: Path, source: str) -> dict[str, Any]:
    """Read the agent's own summary from the node's disk, as nobody else could ask for it without a coordinator."""
    (database,) = (directory / "state" / "climate").glob("keyvalue.db")
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = {column[1] for column in connection.execute(f"PRAGMA table_info({table})")}
            if {"key", "value"} <= columns:
                row = connection.execute(f"SELECT value FROM {table} WHERE key = ?", (f"summary/{source}",)).fetchone()
                if row is not None:
                    return dict(json.loads(row[0]))
    finally:
        connection.close()
    return {}


def _deployed(fleet: RealFleet) -> dict[str, Any]:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("climate", CONTEXT)))
    (agent,) = fleet.agents("climate")
    return agent


def test_every_agent_comes_back_without_coordinator_or_network(fleet: RealFleet) -> None:
    before = _deployed(fleet)
    for number in range(3):
        fleet.ctl("send", "sensors", READING.format(value=20.0 + number, timestamp=number))
    directory = fleet.directory("n1")
    wait_for("the agent keeps a summary of the events", lambda: _summary(directory, "roof").get("count") == 3)
    fleet.down()
    kept = _summary(directory, "roof")
    fleet.cut_power("n1")
    counted = _summary(directory, "timer")["count"]
    fleet.ctl("node", "up", "n1")
    wait_for("the agent runs again on its own", lambda: _summary(directory, "timer")["count"] > counted + 3)
    assert _summary(directory, "roof") == kept
    fleet.up()
    fleet.wait_online("n1")
    wait_for("it is reported as running", lambda: fleet.agents("climate")[0]["phase"] == "running")
    (after,) = fleet.agents("climate")
    assert (after["bundle_digest"], after["grant_digest"]) == (before["bundle_digest"], before["grant_digest"])
    (node,) = fleet.ask("nodes")
    assert node["observed_generation"] == 1


def test_a_runner_that_is_killed_comes_back_with_its_state(fleet: RealFleet) -> None:
    _deployed(fleet)
    directory = fleet.directory("n1")
    wait_for("the agent counts", lambda: _summary(directory, "timer").get("count", 0) > 3)
    _zygote, *runners = descendants(fleet.pid("n1"))
    assert runners
    os.kill(runners[-1], signal.SIGKILL)
    counted = _summary(directory, "timer")["count"]
    wait_for("it counts on", lambda: _summary(directory, "timer")["count"] > counted + 3)
    wait_for("the restart is reported", lambda: fleet.agents("climate")[0]["restarts"] == 1)
    (agent,) = fleet.agents("climate")
    assert agent["last_exit"]["cause"] in {"killed", "engine-crash"}

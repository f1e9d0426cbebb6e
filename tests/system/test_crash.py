"""Ends of agents on real nodes: listed, shown, and repeated on the operator's machine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.harness import ROOT, descendants, wait_for

if TYPE_CHECKING:
    from tests.system.harness import RealFleet

READING = '{source: "roof", value: 20.5, timestamp: 1}'


def crashed(fleet: RealFleet) -> dict[str, Any]:
    """Let an agent trap on one node, and return the line about it."""
    fleet.join("n1")
    fleet.publish("crasher-agent")
    fleet.approve("zoo/crasher", "crasher-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("zoo", {"name": "crasher", "bundle": "crasher-agent@0.1.0"})))
    fleet.ctl("call", "zoo/crasher", f"handle-data({READING})", expect=1)
    wait_for("the report is kept", lambda: bool(fleet.ask("crash", "list")))
    row: dict[str, Any]
    (row,) = fleet.ask("crash", "list", "--agent", "zoo/crasher", "--node", "n1")
    return row


def test_an_agent_that_traps_is_listed_shown_and_traps_again_here(fleet: RealFleet) -> None:
    row = crashed(fleet)
    assert (row["node"], row["agent"], row["cause"], row["replay"]) == ("n1", "zoo/crasher", "unreachable", "exact")

    def recorded() -> list[dict[str, str]]:
        return [event["detail"] for event in fleet.ask("events") if event["kind"] == "agent:crash:recorded"]

    wait_for("the event comes", lambda: recorded() == [{"id": row["id"]}])

    report = fleet.ask("crash", "show", row["id"])
    (call,) = report["recording"]["calls"]
    assert call["arguments"] == [READING]
    assert call["host_calls"][0]["function"] == "wasi:logging/logging@0.1.0-draft#log"
    assert report["log"][-1]["message"] == "crashing on a reading of roof"
    shown = fleet.ctl("crash", "show", row["id"]).stdout
    assert "crashing on a reading of roof" in shown
    assert "Backtrace, innermost first" in shown

    done = fleet.ctl("crash", "replay", row["id"])
    assert done.stdout.startswith("trapped at the same place: unreachable in ")


@pytest.mark.slow
def test_reports_of_every_kind_survive_and_none_is_taken_that_was_changed(fleet: RealFleet) -> None:
    row = crashed(fleet)
    report = fleet.ask("crash", "show", row["id"])
    outcome = fleet.ask("crash", "replay", row["id"])
    assert (outcome["same"], outcome["exact"], outcome["calls"], outcome["differences"]) == (True, True, 1, [])
    saved = fleet.home / "report.json"
    saved.write_text(json.dumps(report))
    component = ROOT / "components/crasher-agent/crasher_agent.wasm"
    fleet.ctl("crash", "replay", str(saved), "--component", str(component))
    saved.write_text(json.dumps(report | {"message": "another"}))
    assert "DIGEST_MISMATCH" in fleet.ctl("crash", "replay", str(saved), expect=7).stderr
    other = ROOT / "components/spinner-agent/spinner_agent.wasm"
    assert "DIGEST_MISMATCH" in fleet.ctl("crash", "replay", row["id"], "--component", str(other), expect=7).stderr
    assert "NOT_FOUND" in fleet.ctl("crash", "show", "0123456789abcdef", expect=1).stderr

    runner = next(pid for pid in descendants(fleet.pid("n1")) if is_runner(pid))
    wait_for("the agent runs again", lambda: fleet.agents()[0]["phase"] == "running")
    os.kill(runner, signal.SIGKILL)
    wait_for("the death is kept", lambda: len(fleet.ask("crash", "list")) == 2)
    killed = fleet.ask("crash", "list")[0]
    assert (killed["cause"], killed["replay"]) == ("killed", "none")
    assert "CRASH_INVALID" in fleet.ctl("crash", "replay", killed["id"], expect=1).stderr

    fleet.cut_power("n1")
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    assert {crash["id"] for crash in fleet.ask("crash", "list")} == {row["id"], killed["id"]}
    fleet.ctl("node", "down", "n1")
    wait_for("the node is offline", lambda: "n1" in fleet.ctl("crash", "list").stderr)
    assert "NODE_OFFLINE" in fleet.ctl("crash", "list", "--node", "n1", expect=1).stderr


def is_runner(pid: int) -> bool:
    """Whether a process hosts the agents of the application zoo."""
    return Path(f"/proc/{pid}/comm").read_text("ascii").strip().endswith("zoo")

"""The audit log of a fleet of processes: quorums, an export that is checked elsewhere, and a log that goes back."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleet.errors import Code
from tests.system.harness import RealFleet, run, wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def deploy(fleet: RealFleet, every_s: int, *how: str, expect: int = 0) -> None:
    """Deploy the agent with another telemetry interval, which is a new order."""
    triggers = [{"telemetry": {"every": f"{every_s}s", "sources": ["cpu"], "function": "handle-data"}}]
    agent = {"name": "context", "bundle": "context-agent@0.1.0", "triggers": triggers}
    fleet.ctl("deploy", str(fleet.manifest("climate", agent, deadline="60s")), *how, expect=expect)


def witness(fleet: RealFleet, node: str, *how: str) -> subprocess.CompletedProcess[str]:
    """What a node itself says of the log."""
    return run("edge_agent.agent", "witness", "--data-dir", str(fleet.directory(node)), *how)


def kinds(fleet: RealFleet, node: str) -> set[str]:
    return {event["kind"] for event in fleet.ask("events", "--node", node, "--limit", "200")}


def test_witnesses_a_quorum_an_export_and_a_log_that_lost_its_end(fleet: RealFleet, tmp_path: Path) -> None:
    fleet.join("n1", "n2")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    wait_for("both cosign", lambda: len(fleet.ask("audit", "witnesses")["witnesses"]) == 2)
    vkeys = {item["node"]: item["vkey"] for item in fleet.ask("audit", "witnesses")["witnesses"]}
    security = fleet.ask("audit", "witness", "--new", "security.example/w1")["vkey"]

    # The quorum: one of the nodes, and the security team's machine.
    policy = tmp_path / "witness.policy"
    keys = "".join(f"witness {name} {vkey}\n" for name, vkey in {**vkeys, "security": security}.items())
    policy.write_text(f"{keys}group nodes any n1 n2\ngroup all-sides all nodes security\nquorum all-sides\n")
    fleet.ctl("audit", "policy", "--yes", str(policy))
    fleet.ctl("node", "down", "n2")  # a witness that is away holds up nothing while others are there
    deploy(fleet, 1, "--no-wait")
    wait_for("n1's order waits", lambda: fleet.ask("audit", "witnesses")["waiting"] == ["n1"])
    assert fleet.agents("climate")[0]["phase"] != "running"
    fleet.ctl("audit", "witness")
    wait_for("n1 runs it", lambda: "running" in {a["phase"] for a in fleet.agents("climate") if a["node"] == "n1"})
    fleet.ctl("audit", "policy", "--yes", str(write(tmp_path / "none", f"{keys}quorum none\n")))
    fleet.ctl("node", "up", "n2")
    fleet.wait_online("n2")
    wait_for("both run it", lambda: [a["phase"] for a in fleet.agents("climate")] == ["running", "running"])
    wait_for("both have confirmed", lambda: all(a["enforced"] for a in fleet.ask("audit", "who")))
    assert fleet.ask("audit", "drift") == []

    # An export, checked where there is no coordinator, and what an edit of it comes to.
    fleet.ctl("audit", "export", str(tmp_path / "log.tar"))
    fleet.ctl("audit", "export", "--folder", str(tmp_path / "log"))
    trust = str(fleet.home / "trust")
    found = json.loads(
        fleet.ctl("-o", "json", "--trust", trust, "audit", "verify", "--offline", str(tmp_path / "log")).stdout
    )
    assert found["verified"]
    assert {"test/node/n1", "test/node/n2", "security.example/w1"} <= found["held_by"].keys()
    for question in (("who",), ("drift",), ("approvers",), ("history", "climate/context")):
        there = fleet.ask("audit", *question, "--offline", str(tmp_path / "log.tar"))
        assert there == fleet.ask("audit", *question), question
    leaves = bytearray((tmp_path / "log" / "leaves").read_bytes())
    leaves[len(leaves) // 2] ^= 1
    (tmp_path / "log" / "leaves").write_bytes(leaves)
    fleet.ctl("audit", "verify", "--offline", str(tmp_path / "log"), expect=7)

    # The coordinator comes back from a copy of an hour ago: what the nodes saw since is not in its log.
    fleet.down()
    shutil.copytree(fleet.home / "coordinator", tmp_path / "copy")
    made = datetime.now(UTC)
    fleet.up()
    deploy(fleet, 2)
    held = write(tmp_path / "held", witness(fleet, "n1").stdout)
    fleet.ctl("audit", "verify", "--held", str(held))
    fleet.down()
    shutil.rmtree(fleet.home / "coordinator")
    shutil.copytree(tmp_path / "copy", fleet.home / "coordinator")
    fleet.up()
    wait_for("n1 has told", lambda: "audit:log:forked" in kinds(fleet, "n1"))
    evidence = json.loads(witness(fleet, "n1", "--evidence").stdout)
    assert evidence["seen"] != evidence["shown"]
    assert Code.LOG_FORKED in fleet.ctl("audit", "verify", "--held", str(held), expect=7).stderr
    deploy(fleet, 3, "--no-wait")
    wait_for("n1 refuses new orders", lambda: "assignment:desired:refused" in kinds(fleet, "n1"))
    assert {a["phase"] for a in fleet.agents("climate")} == {"running"}  # and what runs goes on

    # The holders of the targets keys sign how far that log goes on; nobody has to go to any node.
    fleet.ctl("trust", "restart-log", "--backup", made.isoformat(), "--yes")
    fleet.down()
    fleet.up()
    fleet.wait_online("n1", "n2")
    for node in ("n1", "n2"):
        wait_for(f"{node} goes over", lambda node=node: witness(fleet, node).stdout.startswith("test/audit/2\n"))
    wait_for("what was refused is taken in", lambda: fleet.ask("audit", "drift") == [])
    assert not (fleet.directory("n1") / "witness" / "evidence.json").exists()
    assert json.loads((fleet.directory("n1") / "witness" / "evidence.closed.json").read_bytes())["shown"]
    fleet.ctl("audit", "witness")
    report = fleet.ask("audit", "verify", "--held", str(held))
    assert {(one["kind"], one["holder"]) for one in report["findings"]} >= {("lost", str(held))}
    assert report["held_by"]["security.example/w1"] > 0


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path

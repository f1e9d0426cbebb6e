"""What an operator meets at the command line of a real fleet: descriptions, refusals, and every exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fleet.errors import ExitCode
from tests.system.harness import wait_for

if TYPE_CHECKING:
    from tests.system.harness import RealFleet

LISTENER: dict[str, object] = {
    "name": "context",
    "bundle": "context-agent@0.1.0",
    "triggers": [{"event": {"topic": "readings", "function": "handle-data"}}],
}
READING = '{source: "roof", value: 4.5, timestamp: 0}'


def test_an_agent_and_its_node_can_be_described_called_and_fed(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    manifest = str(fleet.manifest("climate", LISTENER))
    fleet.ctl("plan", manifest, "--exit-code", expect=ExitCode.CHANGES_PENDING)
    assert fleet.ask("deploy", manifest)["state"] == "succeeded"
    fleet.ctl("plan", manifest, "--exit-code")

    node = fleet.ask("nodes", "n1")
    assert [agent["agent"] for agent in node["running"]] == ["climate/context"]
    described = fleet.ask("agents", "climate/context")
    assert described["grant"]["digest"] == described["nodes"][0]["grant_digest"]
    assert "wasi:keyvalue/store" in described["grant"]["capabilities"]
    fleet.ctl("agents", "climate/nobody", expect=ExitCode.ERROR)

    call = ("call", "climate/context", f"handle-data({READING})")
    shown = json.loads(fleet.ctl(*call).stdout)  # the agent answers with a string of JSON: no quotes around it
    assert (shown["source"], shown["count"]) == ("roof", 1)
    assert fleet.ask(*call)["output"].startswith('"{')
    refused = fleet.ctl("call", "climate/context", "handle-data(5)", expect=ExitCode.USAGE).stderr
    assert "at      character" in refused
    assert "reason  expected" in refused

    by_json = ("call", "climate/context", "handle-data", "--json")
    verdict = fleet.ask(*by_json, '[{"source": "lab", "value": 4.5, "timestamp": 3}]')["result"]
    assert json.loads(verdict)["source"] == "lab"
    refused = fleet.ctl(*by_json, '[{"source": "lab", "value": 4.5}]', expect=ExitCode.ERROR).stderr
    assert "call.data.timestamp" in refused

    rows = fleet.home / "readings.csv"
    rows.write_text("source,value,timestamp\n" + "".join(f"roof,{n},{n}\n" for n in range(120)))
    sent = fleet.ask("send", "readings", "--csv", str(rows))
    assert sent == {"sent": 120, "nodes": 1, "delivered": 120}
    assert "'nowhere'" in fleet.ctl("send", "nowhere", READING, expect=ExitCode.ERROR).stderr


def test_a_release_that_is_signed_again_changes_nothing_that_runs(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    started = fleet.ask("deploy", "--no-wait", str(fleet.manifest("climate", LISTENER)))
    assert fleet.ask("watch", started["id"])["state"] == "succeeded"
    assert "root" in fleet.ctl("trust", "refresh").stderr
    assert {row["role"]: row["version"] for row in fleet.ask("trust", "status")}["root"] == 2
    fleet.ctl("node", "down", "n1")  # a node that starts adopts the newest release at once
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    wait_for("the agent runs again", lambda: [row["phase"] for row in fleet.agents("climate")] == ["running"])
    assert fleet.ctl("call", "climate/context", f"handle-data({READING})").stdout


def test_every_refusal_has_its_exit_code_and_remedy(fleet: RealFleet) -> None:
    fleet.join("n1")
    elsewhere = str(fleet.manifest("far", {**LISTENER, "placement": {"labels": {"name": "mars"}}}))
    manifest = str(fleet.manifest("climate", LISTENER))
    unsigned = fleet.ctl("deploy", manifest, expect=ExitCode.VERIFICATION_FAILED)
    assert "fleetctl bundle push" in unsigned.stderr
    fleet.publish("context-agent")
    ungranted = fleet.ctl("deploy", manifest, expect=ExitCode.REFUSED)
    assert "fleetctl grant propose climate/context" in ungranted.stderr
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.approve("far/context", "context-agent@0.1.0")
    assert "fleetctl nodes" in fleet.ctl("deploy", elsewhere, expect=ExitCode.NO_NODES).stderr
    again = fleet.ctl("grant", "approve", "--yes", str(fleet.home / "climate-context.yaml"), expect=ExitCode.ERROR)
    assert "Write revision: 2" in again.stderr
    late = fleet.ctl("deploy", "--timeout", "0.01", manifest, expect=ExitCode.TIMED_OUT)
    assert "fleetctl cancel" in late.stderr

    bundle = fleet.home / "bundles" / "context-agent"
    fleet.ctl("bundle", "verify", str(bundle))
    largest = max((bundle / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1] + b"x")
    for command in ("verify", "push"):
        changed = fleet.ctl("bundle", command, str(bundle), expect=ExitCode.VERIFICATION_FAILED)
        assert str(largest) in changed.stderr

    fleet.down()
    gone = fleet.ctl("status", expect=ExitCode.ERROR)
    assert "fleetctl coordinator up" in gone.stderr

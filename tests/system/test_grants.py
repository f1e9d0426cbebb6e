"""A grant's life in a real fleet: drafted, judged, approved, bounded, narrowed, explained, compared and revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import ExitCode
from tests.system.harness import RealFleet, wait_for

if TYPE_CHECKING:
    from pathlib import Path

AGENT, BUNDLE = "app/context", "context-agent@0.1.0"
READING = 'handle-data({source: "a", value: 1.0, timestamp: 1})'
STORE = "wasi:keyvalue/store"

CEILINGS = """\
schema: fleet.ceilings/v1
ceilings:
  - name: every-node
    caps:
      wasi:keyvalue/store: [{buckets: ["*"], ops: [get, set]}]
      wasi:logging/logging: []
      wasi:nn/graph: [{models: ["*"], devices: [cpu]}]
      wasi:nn/inference: []
      wasi:nn/tensor: []
"""

OWN_CEILING = """\
schema: fleet.ceiling/v1
caps:
  wasi:keyvalue/store: [{buckets: ["*"], ops: [exists]}]
  wasi:logging/logging: []
  wasi:nn/graph: [{models: ["*"], devices: [cpu]}]
  wasi:nn/inference: []
  wasi:nn/tensor: []
"""

BREAK_GLASS = """\
schema: fleet.break-glass/v1
max_validity: 4h
caps:
  wasi:keyvalue/store: [{buckets: [context], ops: [get, set]}]
  wasi:logging/logging: []
  wasi:nn/graph: [{models: ["*"], devices: [cpu]}]
  wasi:nn/inference: []
  wasi:nn/tensor: []
"""


def change(file: Path, *pairs: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def explained(fleet: RealFleet, operation: str) -> tuple[int, str]:
    asked = fleet.ctl(
        "grant", "explain", AGENT, STORE, "bucket=context", f"op={operation}", "--node", "n1", expect=None
    )
    return asked.returncode, asked.stdout


def test_a_grant_from_its_draft_to_its_end(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    draft = fleet.home / "grant.yaml"
    fleet.ctl("grant", "propose", AGENT, "--bundle", BUNDLE, "--file", str(draft))
    change(draft, ("  memory: 64MiB", "  memory: 32MiB"))
    assert "proposed_by: admin" in draft.read_text()

    # A guardrail refuses before anything is signed, by its name; then nothing does.
    change(draft, ("risk: standard", "risk: standard\nbreak_glass: false"))
    assert fleet.ctl("grant", "check", str(draft)).stdout == ""
    own = fleet.home / "own.cedar"
    own.write_text(
        fleet.ctl("grant", "guardrails").stdout
        + '@id("no-deletes") @reason("nothing is deleted here") @remedy("Strike delete.")\n'
        + 'forbid (principal, action, resource) when { resource.interfaces.contains("wasi:keyvalue/store") };\n'
    )
    fleet.ctl("grant", "guardrails", str(own), "--yes")
    refused = fleet.ctl("grant", "approve", "--yes", str(draft), expect=ExitCode.REFUSED)
    assert "GUARDRAIL_REFUSED" in refused.stderr
    assert "Strike delete." in refused.stderr
    judged = fleet.ctl("-o", "json", "grant", "check", str(draft), expect=ExitCode.REFUSED)
    assert '"no-deletes"' in judged.stdout
    own.write_text(own.read_text().replace('"wasi:keyvalue/store"', '"wasi:random/random"'))
    fleet.ctl("grant", "guardrails", str(own), "--yes")
    fleet.ctl("grant", "approve", "--yes", str(draft))

    # Ceilings bound it on the node, a narrowing in fleet.yaml bounds it further; each is named when it denies.
    bounds = fleet.home / "ceilings.yaml"
    bounds.write_text(CEILINGS)
    fleet.ctl("grant", "ceilings", str(bounds), "--yes")
    rules = {STORE: [{"buckets": ["*"], "ops": ["get"]}]}
    agent = {"name": "context", "bundle": BUNDLE, "narrow": {"caps": rules}}
    fleet.ctl("deploy", str(fleet.manifest("app", agent)))
    code, text = explained(fleet, "get")
    assert (code, text.splitlines()[0][:10]) == (ExitCode.OK, "allowed by")
    code, text = explained(fleet, "delete")
    assert code == ExitCode.REFUSED
    assert "denied by policy/ceilings.yaml: every-node:" in text
    code, text = explained(fleet, "set")
    assert code == ExitCode.REFUSED
    assert "denied by order of n1" in text
    denied = fleet.ctl("call", AGENT, READING, expect=None).stdout
    assert "access-denied" in denied or "denied" in denied.lower()

    # A grant that gives less than the one in force narrows; nodes say in receipts what nobody ever used.
    second = fleet.home / "second.yaml"
    second.write_text(draft.read_text())
    change(second, ("revision: 1", "revision: 2"), ("ops: [delete, exists, get, list-keys, set]", "ops: [get, set]"))
    compared = fleet.ask("grant", "diff", str(second))
    assert compared["widened"] == []
    assert [line.partition(":")[0] for line in compared["narrowed"]] == ["wasi"]
    unused = {row["interface"] for row in fleet.ask("grant", "unused")}
    assert "wasi:nn/graph" in unused
    (ending,) = fleet.ask("grant", "expiring", "--within", "400d")
    assert (ending["agent"], ending["nodes"]) == (AGENT, ["n1"])
    assert fleet.ask("grant", "expiring") == []

    # A ceiling that is lowered ends what runs above it; raised again, the agent is back.
    lower = fleet.home / "lower.yaml"
    lower.write_text(CEILINGS.replace('      wasi:nn/graph: [{models: ["*"], devices: [cpu]}]\n', ""))
    fleet.ctl("grant", "ceilings", str(lower), "--yes")
    wait_for("the agent is refused", lambda: fleet.agents()[0]["phase"] != "running")
    fleet.ctl("grant", "ceilings", str(bounds), "--yes")
    wait_for("the agent is back", lambda: fleet.agents()[0]["phase"] == "running")

    # The node's own ceiling is told by the node, and named when it is what denies.
    fleet.ctl("node", "down", "n1")
    (fleet.directory("n1") / "ceiling.yaml").write_text(OWN_CEILING)
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    code, text = explained(fleet, "get")
    assert code == ExitCode.REFUSED
    assert "denied by ceiling.yaml of n1:3: no rule allows op=get" in text
    fleet.ctl("node", "down", "n1")
    (fleet.directory("n1") / "ceiling.yaml").unlink()
    fleet.ctl("node", "up", "n1")
    wait_for("the agent is back", lambda: fleet.agents()[0]["phase"] == "running")

    # Revoked, it is gone from the release for good, and the agent stops.
    fleet.ctl("grant", "revoke", AGENT, "--reason", "it misbehaves", "--yes")
    assert fleet.ask("grant", "list", AGENT) == []
    wait_for("the agent has stopped", lambda: fleet.agents()[0]["phase"] != "running")


def test_somebody_breaks_the_glass(fleet: RealFleet) -> None:
    """From the policy to the last trace: allowed, drafted within it, used, seen by everybody, withdrawn."""
    fleet.join("n1")
    fleet.publish("context-agent")
    draft, policy = fleet.home / "emergency.yaml", fleet.home / "break-glass.yaml"
    propose = ("grant", "propose", AGENT, "--bundle", BUNDLE, "--break-glass", "pump 3 floods", "--file", str(draft))
    assert "it needs policy/break-glass.yaml" in fleet.ctl(*propose, expect=ExitCode.REFUSED).stderr

    policy.write_text(BREAK_GLASS)
    fleet.ctl("trust", "key", "emergency")
    public = fleet.home / "trust" / "keys" / "emergency.pub"
    fleet.ctl("grant", "break-glass", str(policy), "--key", str(public), "--yes")
    assert fleet.ctl("grant", "break-glass").stdout.strip() == BREAK_GLASS.strip()
    fleet.ctl(*propose)
    change(draft, ("ops: [get, set]", "ops: [delete, get, set]"))
    for command in ("check", "approve"):
        refused = fleet.ctl("grant", command, str(draft), expect=ExitCode.REFUSED)
        assert "it gives more than policy/break-glass.yaml allows: wasi:keyvalue/store" in refused.stderr
    change(draft, ("ops: [delete, get, set]", "ops: [get, set]"))
    fleet.ctl("grant", "check", str(draft))
    assert "Write `break_glass: 1`" in fleet.ctl("grant", "approve", str(draft), "--yes").stderr

    agent = {"name": "context", "bundle": BUNDLE}
    ordinary = fleet.ctl("plan", str(fleet.manifest("app", agent)), expect=ExitCode.REFUSED)
    assert "GRANT_MISSING" in ordinary.stderr
    deployed = fleet.ctl("deploy", str(fleet.manifest("app", {**agent, "break_glass": 1})))
    assert "r1 BREAK-GLASS" in deployed.stdout
    assert "warning: BREAK-GLASS: emergency grant r1 of app/context until" in deployed.stderr

    # Whoever looks sees it: status, lists, events of coordinator and node, audit, explain.
    assert "BREAK-GLASS: app/context under emergency grant r1" in fleet.ctl("status").stdout
    assert [(row["break_glass"], row["team"]) for row in fleet.ask("grant", "list")] == [(True, None)]
    assert [row["break_glass"] for row in fleet.agents()] == [True]
    kinds = ("release:grant:break-glass", "rollout:grant:break-glass", "agent:grant:break-glass")

    def told() -> bool:
        return set(kinds) <= {event["kind"] for event in fleet.ask("events")}

    wait_for("every use is told", told)
    assert {row["break_glass"] for row in fleet.ask("audit", "who", "--agent", AGENT)} == {True}
    (approval,) = fleet.ask("audit", "approvers")
    assert (approval["break_glass"], approval["reason"]) == (True, "pump 3 floods")
    code, text = explained(fleet, "delete")
    assert code == ExitCode.REFUSED
    assert text.startswith("BREAK-GLASS: an emergency grant, until ")
    assert "break-glass ceiling" in text

    # Without the policy nothing of it is left, whatever the grant says.
    fleet.ctl("grant", "break-glass", "--off", "--yes")

    def refused() -> bool:
        agent = fleet.agents()[0]
        return agent["phase"] != "running" and (agent["refusal"] or {}).get("code") == "GRANT_NOT_APPLICABLE"

    wait_for("the agent has stopped, and why", refused)
    fleet.ctl("grant", "revoke", AGENT, "--team", "breakglass", "--reason", "it is over", "--yes")
    assert fleet.ask("grant", "list") == []
    fleet.ctl("grant", "break-glass", str(policy), "--yes")
    again = fleet.ctl("grant", "approve", str(draft), "--yes", expect=ExitCode.REFUSED)
    assert "was revoked: it is over" in again.stderr

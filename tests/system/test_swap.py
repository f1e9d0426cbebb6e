"""Newer versions that take over from running agents of a real fleet, while it is called."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fleet.errors import ExitCode, FleetError
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.client import connect
from orchestrator.cli.context import Overrides, resolve
from tests.system.harness import ROOT, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.harness import RealFleet

AGENT = "climate/context"
READING = 'handle-data({source: "roof", value: 20.5, timestamp: 1})'
CALLERS = 3
FIRST_CALLS = 20
"""Answers to wait for before and after a change."""


class Callers:
    """Threads that call the agent without a pause; each answer tells how many readings the agent knows of."""

    def __init__(self, fleet: RealFleet) -> None:
        self._fleet = fleet
        self._over = threading.Event()
        self.counts: list[int] = []
        self.errors: list[FleetError] = []

    def _call(self) -> None:
        request = pb.CallAgentRequest(agent=AGENT, invocation=READING, deadline_ms=20_000)
        with connect(resolve(self._fleet.home, Overrides()), lambda: datetime.now(UTC)) as client:
            while not self._over.is_set():
                try:
                    output = client.call(client.stub.CallAgent, request).output
                except FleetError as error:
                    self.errors.append(error)
                else:
                    self.counts.append(json.loads(json.loads(output))["count"])

    def wait_for_more(self) -> None:
        wanted = len(self.counts) + FIRST_CALLS
        wait_for(f"{wanted} answers", lambda: len(self.counts) >= wanted)

    @contextmanager
    def calling(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            self.wait_for_more()
            yield
            self.wait_for_more()
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


def publish(fleet: RealFleet, version: str, component: str = "context-agent") -> None:
    """Publish a version of the bundle context-agent, with its own component or that of another sample."""
    folder = fleet.home / "sources" / version
    shutil.copytree(ROOT / "components" / "context-agent", folder, ignore=shutil.ignore_patterns("src", "target"))
    text = (folder / "bundle.yaml").read_text().replace("version: 0.1.0", f"version: {version}")
    (folder / "bundle.yaml").write_text(text)
    name = f"{component.replace('-', '_')}.wasm"
    shutil.copy(ROOT / "components" / component / name, folder / "context_agent.wasm")
    fleet.ctl("bundle", "push", str(folder))


def deploy(fleet: RealFleet, version: str, *, expect: int = 0, **more: object) -> str:
    agent = {"name": "context", "bundle": f"context-agent@{version}", **more}
    done = fleet.ctl("deploy", str(fleet.manifest("climate", agent)), expect=expect)
    return done.stdout + done.stderr


def set_up(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve(AGENT, "context-agent@0.1.0")
    deploy(fleet, "0.1.0")


def now(fleet: RealFleet) -> dict[str, Any]:
    (row,) = fleet.agents("climate")
    return row


def told(fleet: RealFleet, kind: str) -> list[str]:
    return [event["message"] for event in fleet.ask("events", "--agent", AGENT) if event["kind"] == kind]


def test_no_call_is_lost_or_counted_twice_while_versions_take_over(fleet: RealFleet) -> None:
    set_up(fleet)
    publish(fleet, "0.1.1")
    before = now(fleet)
    callers = Callers(fleet)
    with callers.calling():
        deploy(fleet, "0.1.1")
        callers.wait_for_more()
        deploy(fleet, "0.1.0", swap={"calls": 5, "within": "60s"})
        wait_for("both are confirmed", lambda: len(told(fleet, "agent:swap:confirmed")) == 2)
        deploy(fleet, "0.1.1", swap={"calls": 1_000_000, "within": "1s"})
    assert callers.errors == []
    assert sorted(callers.counts) == list(range(1, len(callers.counts) + 1))
    wait_for("all are confirmed", lambda: len(told(fleet, "agent:swap:confirmed")) == 3)
    after = now(fleet)
    assert (after["phase"], after["restarts"], after["errors"], after["last_exit"]) == ("running", 0, 0, None)
    assert after["bundle_digest"] != before["bundle_digest"]
    assert len(told(fleet, "agent:swap:taken-over")) == 3
    wait_for("the counter of both versions", lambda: now(fleet)["calls"] == len(callers.counts))


def test_a_version_that_traps_in_its_first_calls_gives_way_to_the_older_one(fleet: RealFleet) -> None:
    set_up(fleet)
    publish(fleet, "0.1.1", "crasher-agent")
    before = now(fleet)
    callers = Callers(fleet)
    with callers.calling():
        shown = deploy(fleet, "0.1.1", expect=ExitCode.ROLLOUT_FAILED)
    assert "AGENT_TRAPPED" in shown
    assert [str(error.code) for error in callers.errors] == ["AGENT_TRAPPED"], "only the call that it trapped in"
    assert sorted(callers.counts) == list(range(1, len(callers.counts) + 1))
    assert fleet.ask("deployments", "climate")[0]["state"] == "rolled-back"
    wait_for("the event comes", lambda: bool(told(fleet, "agent:swap:rolled-back")))
    (rolled_back,) = told(fleet, "agent:swap:rolled-back")
    assert rolled_back.startswith("unreachable: ")
    wait_for("nothing is refused", lambda: now(fleet)["refusal"] is None)
    after = now(fleet)
    same = ("phase", "bundle_digest", "running_since", "restarts")
    assert [after[field] for field in same] == [before[field] for field in same]
    assert after["last_exit"]["cause"] == "unreachable"


def narrow(fleet: RealFleet) -> None:
    """Approve a second grant that reaches less of the store."""
    file = fleet.home / "climate-context.yaml"
    grant = json.loads(file.read_text())
    grant["revision"] = 2
    grant["caps"]["wasi:keyvalue/store"] = [{"buckets": ["context"], "ops": ["get", "set"]}]
    file.write_text(json.dumps(grant))
    fleet.ctl("grant", "approve", "--yes", str(file))


def test_what_may_do_less_stops_before_it_starts_again(fleet: RealFleet) -> None:
    set_up(fleet)
    before = now(fleet)
    narrow(fleet)
    deploy(fleet, "0.1.0")
    (hindered,) = told(fleet, "agent:swap:hindered")
    assert hindered.startswith("stopped first: its authority narrows: ")
    assert told(fleet, "agent:swap:taken-over") == []
    restarted = now(fleet)
    assert restarted["grant_digest"] != before["grant_digest"]
    assert restarted["running_since"] > before["running_since"]

    publish(fleet, "0.1.1")
    deploy(fleet, "0.1.1", swap="restart")
    assert told(fleet, "agent:swap:taken-over") == []
    assert now(fleet)["bundle_digest"] != restarted["bundle_digest"]


def test_a_crash_loop_is_told_and_keeps_to_its_own_policy(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("crasher-agent")
    policies = {
        "hasty": {"initial": "100ms", "cap": "200ms", "stable": "1h"},
        "patient": {"initial": "1h", "cap": "1h", "stable": "1h"},
    }
    agents: list[dict[str, object]] = []
    for name, restart in policies.items():
        fleet.approve(f"zoo/{name}", "crasher-agent@0.1.0")
        agents.append({"name": name, "bundle": "crasher-agent@0.1.0", "restart": restart})
    fleet.ctl("deploy", str(fleet.manifest("zoo", *agents)))

    def loop() -> dict[str, dict[str, Any]]:
        return {row["agent"].partition("/")[2]: row for row in fleet.agents("zoo")}

    def crash(name: str) -> int:
        """Call it where it runs, and return how often it has started again."""
        fleet.ctl("call", f"zoo/{name}", READING, expect=None)
        restarts: int = loop()[name]["restarts"]
        return restarts

    wait_for("several ends", lambda: crash("hasty") >= 4)
    assert crash("patient") == 0
    wait_for("the long wait", lambda: loop()["patient"]["next_attempt"] is not None)
    patient = loop()["patient"]
    assert (patient["phase"], patient["restarts"], patient["last_exit"]["cause"]) == ("backoff", 0, "unreachable")
    ended, again = (datetime.fromisoformat(text) for text in (patient["last_exit"]["at"], patient["next_attempt"]))
    assert 0 < (again - ended).total_seconds() <= 3600, "any part of its hour"
    for command in (("agents", "zoo"), ("status",)):
        (line,) = (line for line in fleet.ctl(*command).stdout.splitlines() if "zoo/patient" in line)
        assert all(words in line for words in ("backoff", "unreachable, ", "in "))
    shown = {row["agent"]: row for row in fleet.ask("status")["agents"]}
    assert shown["zoo/patient"]["next_attempt"] == patient["next_attempt"], "it still waits"
    assert shown["zoo/hasty"]["restarts"] >= 4

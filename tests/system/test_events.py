"""Stories of agents that tell each other something, and of a node that measures: `make sensors`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.fakes.mosquitto import Mosquitto
from tests.system.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.harness import RealFleet

BUNDLE = "events-agent@0.1.0"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def _agent(name: str, *triggers: dict[str, object]) -> dict[str, object]:
    return {"name": name, "bundle": BUNDLE, "triggers": list(triggers)}


def _received(fleet: RealFleet, agent: str, text: str) -> None:
    """Wait until an agent tells that it received something; what it tells, it forgets."""
    heard: list[str] = []

    def told() -> bool:
        heard.append(fleet.ctl("call", agent, "received()").stdout)
        return any(text in answer for answer in heard)

    wait_for(f"{agent} received {text!r}", told)


def test_agents_of_two_applications_talk_over_the_bus(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("events-agent")
    fleet.approve("north/sender", BUNDLE)
    fleet.approve("south/hearer", BUNDLE)
    fleet.ctl("deploy", str(fleet.manifest("north", _agent("sender"))))
    fleet.ctl("deploy", str(fleet.manifest("south", _agent("hearer", {"message": {"topic": "site/*"}}))))
    assert "ok" in fleet.ctl("call", "north/sender", 'publish("site/alerts", "hot")').stdout
    _received(fleet, "south/hearer", "message site/alerts [text/plain sender=events-agent] hot")
    assert "who!" in fleet.ctl("call", "north/sender", 'ask("site/question", "who?", 5000, 1)').stdout
    assert "permission-denied" in fleet.ctl("call", "north/sender", 'publish("secret/plans", "x")').stdout
    fleet.ctl("send", "site/operator", "{n: 1}")
    _received(fleet, "south/hearer", "message site/operator [text/wave] {n: 1}")
    fleet.ctl("call", "north/sender", 'publish("site/alerts", "trap")')
    wait_for("the hearer is back", lambda: any(a["restarts"] for a in fleet.agents("south")))


def test_a_trigger_without_a_grant_is_refused_with_the_way_out(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("events-agent")
    fleet.approve("south/hearer", BUNDLE)
    manifest = fleet.manifest("south", _agent("hearer", {"message": {"topic": "other/alerts"}}))
    refused = fleet.ctl("deploy", str(manifest), expect=6)
    assert "IMPORT_NOT_GRANTED" in refused.stderr
    assert "Add topic other/alerts to wasi:messaging/incoming-handler" in refused.stderr
    shown = fleet.ctl("grant", "propose", "south/other", "--bundle", BUNDLE).stdout
    for interface in ("wasi:messaging/incoming-handler", "wasi:keyvalue/watcher", "fleet:sensors/handler"):
        assert f"  {interface}:" in shown


def test_a_node_measures_for_its_agents(fleet: RealFleet, broker: Mosquitto, tmp_path: Path) -> None:
    level = tmp_path / "level"
    level.write_text("7.5\n")
    fleet.join("n1")
    fleet.ctl("node", "down", "n1")
    (fleet.directory("n1") / "sensors.yaml").write_text(
        "schema: fleet.sensors/v1\n"
        "sources:\n"
        f"  - {{name: level, file: {{path: {level}, every: 200ms}}, unit: metres}}\n"
        "  - {name: secret, host: {measure: load}}\n"
        "  - name: roof\n"
        f"    mqtt: {{host: 127.0.0.1, port: {broker.port}, topic: site/roof}}\n"
        "    pointer: /celsius\n"
        "    unit: celsius\n"
        "    high: 60\n"
    )
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    fleet.publish("events-agent")
    fleet.approve("north/gauge", BUNDLE)
    push = {"sensor": {"source": "roof", "function": "fleet:sensors/handler#handle"}}
    fleet.ctl("deploy", str(fleet.manifest("north", _agent("gauge", push))))
    assert "level 7.500 metres good" in fleet.ctl("call", "north/gauge", 'read("level")').stdout
    assert "not-granted" in fleet.ctl("call", "north/gauge", 'read("secret")').stdout
    listed = fleet.ctl("call", "north/gauge", "sources()").stdout
    assert "mqtt roof" in listed
    assert "secret" not in listed

    def publish(text: str) -> None:
        client = [sys.executable, "-c", PUBLISH, str(broker.port), text]
        subprocess.run(client, check=True, capture_output=True, timeout=120)

    publish('{"celsius": 21.5}')
    _received(fleet, "north/gauge", "reading roof 21.500 celsius good")
    broker.stop()
    wait_for("the loss is told", lambda: "node:sensor:unavailable" in fleet.ctl("events").stdout)
    assert "unavailable" in fleet.ctl("call", "north/gauge", 'read("roof")').stdout
    broker.start()
    publish('{"celsius": 99}')
    _received(fleet, "north/gauge", "reading roof 99.000 celsius out-of-range")
    assert "node:sensor:recovered" in fleet.ctl("events").stdout


PUBLISH = """
import sys, paho.mqtt.publish as publish
publish.single("site/roof", sys.argv[2], hostname="127.0.0.1", port=int(sys.argv[1]), retain=True, qos=1)
"""

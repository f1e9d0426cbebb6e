"""Agents that say how they do, as an operator of a real fleet meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.system.harness import wait_for

if TYPE_CHECKING:
    from tests.system.harness import RealFleet

HEALTH = {"every": "1s", "deadline": "2s", "failures": 3}
RESTART = {"initial": "100ms", "cap": "300ms"}


def tell(fleet: RealFleet, state: str) -> None:
    fleet.ctl("call", "shop/sickly", f'handle-data({{source: "{state}", value: 0, timestamp: 0}})')


def now(fleet: RealFleet) -> dict[str, Any]:
    return fleet.agents("shop")[0]


def test_an_agent_that_is_not_well_starts_again_until_it_is_and_its_counters_are_told(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("sickly-agent")
    fleet.approve("shop/sickly", "sickly-agent@0.1.0")
    agent = {"name": "sickly", "bundle": "sickly-agent@0.1.0", "health": HEALTH, "restart": RESTART}
    fleet.ctl("deploy", str(fleet.manifest("shop", agent)))
    wait_for("a good answer", lambda: now(fleet)["ready"] is True and now(fleet)["healthy"] is True)

    tell(fleet, "sick")
    wait_for("its end", lambda: (now(fleet)["last_exit"] or {}).get("cause") == "unhealthy")
    message = now(fleet)["last_exit"]["message"]
    assert message == 'health answered with an error 3 times in a row: "a reading made it sick"'
    wait_for(
        "the event comes", lambda: any(event["message"] == f"unhealthy: {message}" for event in fleet.ask("events"))
    )
    wait_for("a bad answer", lambda: (now(fleet)["ready"], now(fleet)["reason"]) == (False, "a reading made it sick"))

    def well() -> bool:
        """Tell it between two ends of it."""
        done = fleet.ctl("call", "shop/sickly", 'handle-data({source: "well", value: 0, timestamp: 0})', expect=None)
        return done.returncode == 0

    wait_for("room for a call", well)
    wait_for("a good answer", lambda: now(fleet)["ready"] is True)
    told = now(fleet)
    assert told["calls"] >= 2
    assert told["host_calls"]["wasi:keyvalue/store@0.2.0-draft2"] > 0
    assert 0 < told["p50_us"] <= told["p99_us"]
    assert told["memory_peak_bytes"] >= told["memory_bytes"] > 0
    described = fleet.ask("agents", "shop/sickly")["nodes"][0]
    assert described["host_calls"].keys() == told["host_calls"].keys()
    shown = fleet.ctl("-o", "wide", "agents", "shop").stdout
    assert all(title in shown for title in ("READY", "CALLS", "ERRORS", "P50", "P99", "MEMORY", "PEAK", "QUEUE"))


def test_a_deployment_whose_agent_is_never_ready_is_rolled_back(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("sickly-agent")
    fleet.approve("shop/sickly", "sickly-agent@0.1.0")
    agent: dict[str, object] = {
        "name": "sickly",
        "bundle": "sickly-agent@0.1.0",
        "health": {**HEALTH, "failures": 1000},
    }
    fleet.ctl("deploy", str(fleet.manifest("shop", agent)))
    tell(fleet, "sick")
    changed = fleet.manifest("shop", {**agent, "config": {"version": "2"}}, deadline="3s", healthy_for="0s")
    fleet.ctl("deploy", str(changed), expect=None)
    wait_for("the end of the deployment", lambda: fleet.ask("deployments")[0]["state"] == "rolled-back")
    assert "shop/sickly is not ready: a reading made it sick" in fleet.ask("deployments")[0]["reason"]

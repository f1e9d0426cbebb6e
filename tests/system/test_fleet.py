"""Stories of a whole fleet of real processes."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.signing import SigningKey
from tests.system.harness import alive, descendants, fleetctl, wait_for

if TYPE_CHECKING:
    from tests.system.harness import RealFleet

HANDLER = [{"event": {"topic": "readings", "function": "handle-data"}}]
READING = '{source: "roof", value: 20.5, timestamp: 1}'


def _agent(name: str, bundle: str, **more: object) -> dict[str, object]:
    return {"name": name, "bundle": f"{bundle}@0.1.0", "triggers": HANDLER, **more}


@pytest.mark.slow
def test_a_coordinator_that_restarts_redeploys_nothing(fleet: RealFleet) -> None:
    fleet.join("n1", "n2")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("climate", _agent("context", "context-agent"))))
    before = {(a["node"], a["restarts"], a["bundle_digest"], a["grant_digest"]) for a in fleet.agents()}
    generations = {n["node"]: n["desired_generation"] for n in fleet.ask("nodes")}
    os.kill(fleet.coordinator_pid(), signal.SIGKILL)
    fleet.up()
    fleet.wait_online("n1", "n2")

    def reported() -> bool:
        return {(a["node"], a["restarts"], a["bundle_digest"], a["grant_digest"]) for a in fleet.agents()} == before

    wait_for("both tell what ran all the time", reported)
    assert {n["node"]: n["desired_generation"] for n in fleet.ask("nodes")} == generations
    assert fleet.ctl("call", "climate/context", f"handle-data({READING})").stdout


@pytest.mark.slow
def test_a_bad_deploy_is_rolled_back_by_itself(fleet: RealFleet) -> None:
    fleet.join("n1", "n2")
    fleet.publish("context-agent", "crasher-agent")
    fleet.approve("shop/main", "context-agent@0.1.0")
    good = fleet.manifest("shop", _agent("main", "context-agent"))
    fleet.ctl("deploy", str(good))
    fleet.approve("shop/other", "crasher-agent@0.1.0")
    tick = [{"timer": {"every": "100ms", "function": "handle-data", "arguments": READING}}]
    bad = fleet.manifest(
        "shop",
        _agent("main", "context-agent"),
        {"name": "other", "bundle": "crasher-agent@0.1.0", "triggers": tick},
        waves=[1, "100%"],
        healthy_for="2s",
        deadline="10s",
    )
    done = fleet.ctl("deploy", str(bad), expect=4)
    assert "ROLLOUT_FAILED" in done.stderr
    wait_for("the crasher is gone", lambda: {a["agent"] for a in fleet.agents("shop")} == {"shop/main"})
    newest = fleet.ask("deployments", "shop")[0]
    assert newest["state"] == "rolled-back"
    assert {a["phase"] for a in fleet.agents("shop")} == {"running"}
    other = [e for e in fleet.ask("events", "--agent", "shop/other") if e["node"]]
    assert len({e["node"] for e in other}) == 1  # the second wave never saw it


@pytest.mark.slow
def test_an_application_is_removed_and_leaves_the_others_alone(fleet: RealFleet) -> None:
    fleet.join("n1", "n2")
    fleet.publish("context-agent")
    for name in ("climate", "shop"):
        fleet.approve(f"{name}/context", "context-agent@0.1.0")
        fleet.ctl("deploy", str(fleet.manifest(name, _agent("context", "context-agent"))))
    assert "NOT_FOUND" in fleet.ctl("undeploy", "--yes", "nothing", expect=1).stderr
    shown = fleet.ctl("undeploy", "--yes", "climate").stdout
    assert [line.split()[3] for line in shown.splitlines() if "climate/context" in line] == ["stop", "stop"]
    assert {(a["node"], a["agent"], a["phase"]) for a in fleet.agents()} == {
        ("n1", "shop/context", "running"),
        ("n2", "shop/context", "running"),
    }
    newest = fleet.ask("deployments", "climate")[0]
    assert (newest["state"], len(newest["waves"])) == ("succeeded", 2)
    assert fleet.ask("audit", "verify")["verified"]


def test_two_deploys_at_once_one_wins_and_the_other_may_retry(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    texts = []
    for number in range(2):
        agent = _agent("context", "context-agent", config={"try": str(number)})
        texts.append(fleet.manifest("climate", agent).rename(fleet.home / f"climate-{number}.yaml"))
    outcomes: dict[int, tuple[int, str]] = {}

    def deploy(number: int) -> None:
        done = fleetctl(fleet.home, "deploy", str(texts[number]))
        outcomes[number] = (done.returncode, done.stderr)

    threads = [threading.Thread(target=deploy, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(code for code, _ in outcomes.values())
    assert codes in ([0, 1], [0, 0]), outcomes  # both may win when they did not overlap after all
    for code, stderr in outcomes.values():
        if code:
            assert "GENERATION_CONFLICT" in stderr or "ROLLOUT_RUNNING" in stderr
    (agent,) = fleet.agents("climate")
    assert agent["phase"] == "running"


def test_the_coordinator_never_holds_a_code_or_grants_key(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("climate", _agent("context", "context-agent"))))
    secrets = _private_key_lines(fleet.home / "trust" / "keys") | _private_key_lines(fleet.home / "operator")
    assert len(secrets) >= 8
    for file in (fleet.home / "coordinator").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [s for s in secrets if s in data], file
    own = SigningKey.from_pem((fleet.home / "coordinator" / "keys" / "director.pem").read_bytes())
    assert _in_memory(fleet.coordinator_pid(), {own.private.private_bytes_raw()})  # the search finds what is there
    assert not _in_memory(fleet.coordinator_pid(), _raw_seeds(fleet.home / "trust" / "keys"))


def _private_key_lines(folder: Path) -> set[bytes]:
    return {
        line
        for file in folder.glob("*.pem")
        for line in file.read_bytes().splitlines()
        if line and not line.startswith(b"-----")
    }


def _raw_seeds(folder: Path) -> set[bytes]:
    return {SigningKey.from_pem(file.read_bytes()).private.private_bytes_raw() for file in folder.glob("*.pem")}


def _in_memory(pid: int, needles: set[bytes]) -> list[str]:
    """Regions of a process's writable memory that hold one of the needles (proc(5), /proc/PID/mem)."""
    found = []
    process = Path("/proc") / str(pid)
    with (process / "maps").open() as maps, (process / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            if not mode.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except (OSError, ValueError, OverflowError):
                continue
            found += [line.strip() for needle in needles if needle in data]
    return found


def test_an_agent_beyond_its_grant_is_refused_and_nothing_is_half_applied(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("nosy-agent")
    done = fleet.ctl("deploy", str(fleet.manifest("nosy", _agent("reader", "nosy-agent"))), expect=6)
    assert "GRANT_MISSING" in done.stderr
    fleet.approve("nosy/reader", "nosy-agent@0.1.0", "wasi:logging/logging")
    done = fleet.ctl("deploy", str(fleet.manifest("nosy", _agent("reader", "nosy-agent"))), expect=6)
    assert "fleetctl grant propose nosy/reader --bundle nosy-agent@0.1.0 --add wasi:config/store" in done.stderr
    assert fleet.agents() == []
    assert fleet.ask("nodes")[0]["desired_generation"] == 0


def test_a_spinner_and_a_crasher_harm_nobody_else(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent", "spinner-agent", "crasher-agent", "hungry-agent")
    names = ("context", "spinner", "crasher", "hungry")
    for name in names:
        fleet.approve(f"zoo/{name}", f"{name}-agent@0.1.0", deadline="500ms", memory="8MiB")
    fleet.ctl("deploy", str(fleet.manifest("zoo", *(_agent(name, f"{name}-agent") for name in names))))
    fleet.ctl("send", "readings", READING)

    def exits() -> dict[str, str]:
        return {a["agent"]: (a["last_exit"] or {}).get("cause", "") for a in fleet.agents("zoo")}

    expected = {"zoo/context": "", "zoo/spinner": "deadline", "zoo/crasher": "unreachable", "zoo/hungry": "quota"}
    wait_for("each ended in its own way", lambda: exits() == expected)
    wait_for("all run again", lambda: {a["phase"] for a in fleet.agents("zoo")} == {"running"})
    assert {a["agent"]: a["restarts"] for a in fleet.agents("zoo")} == {
        "zoo/context": 0,
        "zoo/spinner": 1,
        "zoo/crasher": 1,
        "zoo/hungry": 1,
    }


def test_the_audit_answers_who_and_its_log_is_whole(fleet: RealFleet) -> None:
    fleet.join("n1", "n2")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    placed = _agent("context", "context-agent", placement={"labels": {"name": "n2"}})
    fleet.ctl("deploy", str(fleet.manifest("climate", placed)))
    wait_for("the node has confirmed", lambda: all(a["enforced"] for a in fleet.ask("audit", "who")))
    answers = fleet.ask("audit", "who", "--capability", "wasi:keyvalue/store")
    assert [(a["node"], a["agent"]) for a in answers] == [("n2", "climate/context")]
    assert fleet.ask("audit", "who", "--at", "2020-01-01T00:00:00Z") == []
    first = fleet.ask("audit", "verify")
    assert first["verified"]
    fleet.ctl("node", "token", "n9")
    assert fleet.ask("audit", "verify")["size"] >= first["size"]


def test_no_process_is_left_after_a_node_goes_down(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("climate", _agent("context", "context-agent"))))
    processes = [fleet.pid("n1"), *descendants(fleet.pid("n1"))]
    assert len(processes) >= 3
    fleet.ctl("node", "down", "n1")
    wait_for("all of them ended", lambda: not any(alive(pid) for pid in processes), 20)

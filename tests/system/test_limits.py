"""Limits of a grant and the ends of agents, as an operator of a real fleet meets them."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.system.harness import descendants, fleetctl, wait_for

if TYPE_CHECKING:
    from tests.system.harness import RealFleet


def do(how: str, value: float = 0.0) -> str:
    return f'handle-data({{source: "{how}", value: {value}, timestamp: 0}})'


def run_ends(fleet: RealFleet, limits: dict[str, Any], **agent: str) -> None:
    """Deploy the ends-agent as `shop/ends` on one node."""
    fleet.join("n1")
    fleet.publish("ends-agent")
    fleet.approve("shop/ends", "ends-agent@0.1.0", **limits)
    fleet.ctl("deploy", str(fleet.manifest("shop", {"name": "ends", "bundle": "ends-agent@0.1.0", **agent})))


def running(fleet: RealFleet) -> dict[str, Any]:
    """Wait until the agent runs, and describe it."""
    wait_for("the agent runs", lambda: fleet.agents("shop")[0]["phase"] == "running")
    return fleet.agents("shop")[0]


def exit_of(fleet: RealFleet) -> dict[str, Any]:
    """Wait until the agent runs again after an end that the coordinator has heard of, and describe that end."""
    wait_for("the end is told", lambda: fleet.agents("shop")[0]["last_exit"] is not None)
    found: dict[str, Any] = running(fleet)["last_exit"]
    return found


@pytest.mark.parametrize(
    ("policy", "served"),
    [("reject", 2), ("drop-oldest", 2), ("block", 5)],  # beside the call that runs, one may wait
)
def test_what_a_full_queue_does_to_callers(fleet: RealFleet, policy: str, served: int) -> None:
    run_ends(fleet, {"queue": 1, "host_calls_per_second": 10, "deadline": "20s"}, on_full_queue=policy)
    # Sixty calls to the host at ten per second take the agent five seconds: all callers come within the first.
    call = ("call", "--timeout", "60", "shop/ends", do("calls", 60.0))
    with ThreadPoolExecutor(5) as callers:
        done = list(callers.map(lambda _: fleetctl(fleet.home, *call), range(5)))
    ended = [(one.stdout, one.stderr, one.returncode) for one in done]
    assert sum(code == 0 for _, _, code in ended) == served, ended
    assert all(code == 0 or "AGENT_BUSY" in stderr for _, stderr, code in ended), ended


def test_a_panic_is_told_in_the_guests_own_words(fleet: RealFleet) -> None:
    run_ends(fleet, {})
    assert "AGENT_TRAPPED" in fleet.ctl("call", "shop/ends", do("panic"), expect=1).stderr
    exited = exit_of(fleet)
    assert exited["cause"] == "unreachable"
    assert 'the guest said: "' in exited["message"]
    assert "the valve is stuck" in exited["message"]


def test_a_runner_past_deadline_and_grace_is_killed_and_its_agent_runs_again(fleet: RealFleet) -> None:
    run_ends(fleet, {"deadline": "500ms"})
    (runner,) = [pid for pid in descendants(fleet.pid("n1")) if not descendants(pid)]
    os.kill(runner, signal.SIGSTOP)
    fleet.ctl("call", "shop/ends", do("calls", 1.0), expect=1)
    wait_for("another runner", lambda: not psutil.pid_exists(runner))
    exited = exit_of(fleet)
    assert exited["cause"] == "killed"
    assert "stuck in a call past its deadline" in exited["message"]

    def losses() -> list[str]:
        return [event["detail"]["cause"] for event in fleet.ask("events") if event["kind"] == "runner:process:lost"]

    wait_for("the loss is told", lambda: losses() == ["killed"])
    assert fleet.ctl("call", "shop/ends", do("answer", 3.0)).stdout.strip() == "xxx"


def test_a_result_above_the_limit_names_it(fleet: RealFleet) -> None:
    run_ends(fleet, {"output": "100B"})
    assert "LIMIT_EXCEEDED" in fleet.ctl("call", "shop/ends", do("answer", 99.0), expect=1).stderr
    assert fleet.ctl("call", "shop/ends", do("answer", 98.0)).stdout.strip() == 98 * "x"
    assert running(fleet)["restarts"] == 0

"""Models in real runners: an inference that does not end, and a model that is swapped under a running agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.guests import NN
from edge_agent.runner.host import RunnerHost
from edge_agent.runtime import AgentConfirmed, AgentLogged, AgentStart, ModelFile, Probation
from fleet.errors import FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.agents import authority
from tests.fakes.components import wasm
from tests.fakes.inference import GRANT, model_file
from tests.fakes.onnx_models import loop

pytestmark = pytest.mark.system

SIDE = 16
ENDLESS = 1 << 40
CALL = f"infer({SIDE}, 1)"
RESULT = str(SIDE * SIDE * 4)

Start = Callable[..., AgentStart]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    agent = component(tmp_path / "nn.wasm", wasm(NN))

    def make(model: ModelFile, name: str = "app/a", **limits: int) -> AgentStart:
        capabilities = authority(GRANT).capabilities
        return agent.start(name, small(**limits), capabilities, models={"m": model})

    return make


async def next_event(host: RunnerHost, kind: type) -> object:
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), kind):
            pass
        return event


async def test_an_inference_that_does_not_end_ends_its_agent_and_no_other(
    host: RunnerHost, start: Start, tmp_path: Path
) -> None:
    await host.start(start(model_file(tmp_path, loop(SIDE, ENDLESS), "endless.onnx"), deadline_ms=400))
    await host.start(start(model_file(tmp_path, loop(SIDE, 3)), "app/b"))
    runner = host.runner_pid("app")
    assert (await host.call("app/b", CALL)).output == RESULT
    began = time.monotonic()
    with pytest.raises(FleetError) as ended:
        await host.call("app/a", CALL)
    assert ended.value.detail["cause"] == ExitCause.DEADLINE
    assert time.monotonic() - began < 60
    assert (await host.call("app/b", CALL)).output == RESULT
    assert host.runner_pid("app") == runner


async def test_a_stop_ends_an_inference(host: RunnerHost, start: Start, tmp_path: Path) -> None:
    await host.start(start(model_file(tmp_path, loop(SIDE, ENDLESS)), deadline_ms=60_000))
    call = asyncio.create_task(host.call("app/a", CALL))
    await next_event(host, AgentLogged)  # it has loaded its model
    async with asyncio.timeout(60):
        await host.stop("app/a", 0)
    with pytest.raises(FleetError) as ended:
        await call
    assert ended.value.detail["cause"] == ExitCause.STOPPED


async def test_the_log_says_where_a_model_runs(host: RunnerHost, start: Start, tmp_path: Path) -> None:
    await host.start(start(model_file(tmp_path, loop(SIDE, 1))))
    await host.call("app/a", CALL)
    line = (await next_event(host, AgentLogged)).line
    assert (line.context, line.message) == ("wasi:nn", "model m runs on cpu by CPUExecutionProvider")


async def test_a_model_is_swapped_under_a_running_agent(host: RunnerHost, start: Start, tmp_path: Path) -> None:
    """The call that runs ends with the model that it began with; those that wait have the new one."""
    slow = model_file(tmp_path, loop(SIDE, 300_000), "slow.onnx")
    await host.start(start(slow, deadline_ms=60_000))
    began = time.monotonic()
    calls = [asyncio.create_task(host.call("app/a", CALL)) for _ in range(3)]
    await next_event(host, AgentLogged)
    await host.replace(
        start(model_file(tmp_path, loop(SIDE, 1), "quick.onnx"), deadline_ms=60_000), Probation(1, 60_000)
    )
    assert [(await call).output for call in calls] == [RESULT] * 3
    took = time.monotonic() - began
    await next_event(host, AgentConfirmed)
    began = time.monotonic()
    assert (await host.call("app/a", CALL)).output == RESULT
    assert time.monotonic() - began < took / 2

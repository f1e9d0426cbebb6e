"""The sample agent end to end: real engine, wasi:keyvalue on disk, wasi:nn on ONNX Runtime, wasi:logging."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from edge_agent.runner import runner_client
from edge_agent.runtime import AgentExited, AgentLogged, ModelFile, RunnerLost
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import ExitCause
from fleet.oci import digest_of
from tests.edge_agent.runner.conftest import component

pytestmark = pytest.mark.system

COMPONENTS = Path(__file__).parents[3] / "components"
MODEL_PATH = COMPONENTS / "context-agent/model/context.onnx"
MODEL = ModelFile(MODEL_PATH, digest_of(MODEL_PATH.read_bytes()))
CAPABILITIES = {
    "wasi:logging/logging": [{}],
    "wasi:keyvalue/store": [{"buckets": ["context"], "ops": ["get", "set"]}],
    "wasi:nn/graph": [{"models": ["context"], "devices": ["cpu"]}],
    "wasi:nn/tensor": [{}],
    "wasi:nn/inference": [{}],
}
WARM_UP = 16


def authority(capabilities, **limits):
    document = {"schema": "fleet.authority/v1", "capabilities": capabilities, "limits": limits}
    return Authority.decode(json.dumps(document).encode())


@pytest.fixture
def context(tmp_path):
    agent = component(tmp_path / "context.wasm", (COMPONENTS / "context-agent/context_agent.wasm").read_bytes())

    def start(name="app/context", capabilities=CAPABILITIES, models=None, **limits):
        granted = authority(capabilities, **limits)
        return agent.start(name, granted.limits, granted.capabilities, models=models or {"context": MODEL})

    return start


async def read(host, value, at, agent="app/context"):
    result = await host.call(agent, f'handle-data({{source: "room", value: {value}, timestamp: {at}}})')
    return json.loads(json.loads(result.output))


async def next_event(host, kind):
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), kind):
            pass
        return event


async def test_it_infers_logs_and_remembers_over_a_crash(host, context):
    await host.start(context())
    for at in range(WARM_UP):
        await read(host, 20.0 + at % 3 / 10, at)
    usual = await read(host, 20.1, WARM_UP)
    odd = await read(host, 95.0, WARM_UP + 1)
    assert (usual["verdict"], odd["verdict"]) == ("normal", "anomaly")
    line = (await next_event(host, AgentLogged)).line
    while line.level != "warn":
        line = (await next_event(host, AgentLogged)).line
    assert (line.node, line.agent, line.context) == ("node-1", "app/context", "context-agent")
    assert json.loads(line.message)["verdict"] == "anomaly"

    os.kill(host.runner_pid("app"), signal.SIGKILL)
    await next_event(host, RunnerLost)
    await host.start(context())
    again = await read(host, 20.2, WARM_UP + 2)
    assert again["count"] == WARM_UP + 3, "what it knew is still there"
    assert again["verdict"] == "normal"


async def test_a_bucket_that_is_not_granted_is_an_answer_and_no_trap(host, context):
    other = {**CAPABILITIES, "wasi:keyvalue/store": [{"buckets": ["other"], "ops": ["get", "set"]}]}
    await host.start(context(capabilities=other))
    verdict = await read(host, 20.0, 0)
    assert verdict["verdict"] == "error"
    assert "context" in verdict["reason"]


async def test_a_model_that_changed_after_admission_is_an_answer_and_no_trap(host, context, tmp_path):
    model = ModelFile(tmp_path / "model.onnx", MODEL.digest)
    model.path.write_bytes(MODEL_PATH.read_bytes())
    await host.start(context(models={"context": model}))
    for at in range(WARM_UP):
        await read(host, 20.0, at)
    model.path.write_bytes(MODEL_PATH.read_bytes()[:-1] + b"!")
    verdict = await read(host, 20.0, WARM_UP)
    assert verdict["verdict"] == "error"
    assert "admitted" in verdict["reason"]


async def test_two_applications_share_nothing(host, context, tmp_path):
    await host.start(context())
    assert (await read(host, 20.0, 0))["count"] == 1
    one = context("other/context")
    await host.start(type(one)(**{**{name: getattr(one, name) for name in one.__slots__}, "state_dir": tmp_path / "2"}))
    assert (await read(host, 20.0, 0, "other/context"))["count"] == 1


async def test_a_host_call_that_never_returns_costs_the_runner(host, context, tmp_path, monkeypatch):
    """The model's file is a pipe without a writer: reading it blocks in the host, where no deadline reaches."""
    monkeypatch.setattr(runner_client, "WEDGE_GRACE_S", 0.3)
    pipe = tmp_path / "model.onnx"
    os.mkfifo(pipe)
    await host.start(context(models={"context": ModelFile(pipe, MODEL.digest)}, deadline="200ms"))
    for at in range(WARM_UP):
        await read(host, 20.0, at)
    with pytest.raises(FleetError) as caught:
        await read(host, 20.0, WARM_UP)
    assert caught.value.code is Code.RUNNER_LOST
    lost = await next_event(host, RunnerLost)
    assert lost.exit.cause is ExitCause.KILLED
    await host.start(context())
    assert (await read(host, 20.0, WARM_UP))["count"] == WARM_UP + 1


@pytest.mark.parametrize(
    ("name", "cause"),
    [("crasher", ExitCause.UNREACHABLE), ("hungry", ExitCause.QUOTA), ("spinner", ExitCause.DEADLINE)],
)
async def test_the_bad_sample_agents_end_as_they_say(host, tmp_path, name, cause):
    data = (COMPONENTS / f"{name}-agent/{name}_agent.wasm").read_bytes()
    agent = component(tmp_path / f"{name}.wasm", data)
    limits = authority({"wasi:logging/logging": [{}]}, deadline="300ms", memory="32MiB").limits
    await host.start(agent.start(f"app/{name}", limits, {"wasi:logging/logging": ()}))
    with pytest.raises(FleetError) as caught:
        await read(host, 1.0, 0, f"app/{name}")
    assert caught.value.detail["cause"] == cause
    assert (await next_event(host, AgentExited)).exit.cause is cause


async def test_the_nosy_sample_agent_does_not_start(host, tmp_path):
    nosy = component(tmp_path / "nosy.wasm", (COMPONENTS / "nosy-agent/nosy_agent.wasm").read_bytes())
    with pytest.raises(FleetError) as caught:
        await host.start(nosy.start("app/nosy", capabilities={"wasi:logging/logging": ()}))
    assert caught.value.code is Code.IMPORT_NOT_GRANTED

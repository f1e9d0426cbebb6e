"""Every way an agent can end, by the ends-agent in Rust and in C doing it in a real runner; and that limits hold."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from edge_agent.runtime import AgentExited, RunnerLost
from fleet.errors import Code, FleetError
from fleet.grants import Rule
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small

pytestmark = pytest.mark.system

ENDS = Path(__file__).parents[3] / "components" / "ends-agent"
ARTEFACTS = {"rust": ENDS / "ends_agent.wasm", "c": ENDS / "c" / "ends_agent_c.wasm"}
LOGGING = {"wasi:logging/logging": (Rule({}),)}
STUCK = 'the guest said: ".*the valve is stuck.*"$'

ENDINGS = {
    "panic": (ExitCause.UNREACHABLE, STUCK),
    "log-and-abort": (ExitCause.UNREACHABLE, STUCK),
    "abort": (ExitCause.UNREACHABLE, "wasm `unreachable` instruction executed$"),
    "memory": (ExitCause.QUOTA, "^out of memory: [0-9]+ of [0-9]+ bytes"),
    "loop": (ExitCause.DEADLINE, "deadline"),
    "sleep": (ExitCause.DEADLINE, "still waiting at its deadline"),
    "poll": (ExitCause.DEADLINE, "still waiting at its deadline"),
    "stack": (ExitCause.STACK_OVERFLOW, "call stack exhausted"),
    "out-of-bounds": (ExitCause.OUT_OF_BOUNDS, "out of bounds memory access"),
    "divide": (ExitCause.DIVIDE, "integer divide by zero"),
    "host-error": (ExitCause.HOST_ERROR, "512 pollables"),
    "exit": (ExitCause.GUEST_EXIT, "exited with status 0$"),
    "exit-with-code": (ExitCause.GUEST_EXIT, "exited with status 42$"),
}


@pytest.fixture(params=ARTEFACTS)
def ends(request, tmp_path):
    return component(tmp_path / "ends.wasm", ARTEFACTS[request.param].read_bytes())


def do(how, value=0.0):
    return f'handle-data({{source: "{how}", value: {value}, timestamp: 0}})'


async def event(host, kind=AgentExited):
    async with asyncio.timeout(60):
        while not isinstance(found := await host.next_event(), kind):
            pass
    return found


async def failure(awaitable):
    with pytest.raises(FleetError) as caught:
        async with asyncio.timeout(60):
            await awaitable
    return caught.value


async def test_every_end_has_its_cause_for_the_caller_and_for_the_record(host, ends):
    agent = ends.start("app/a", small(deadline_ms=200, memory_bytes=4 << 20), LOGGING)
    for how, (cause, message) in ENDINGS.items():
        await host.start(agent)
        told = await failure(host.call("app/a", do(how, 42.0)))
        ended = await event(host)
        assert (how, told.code, told.detail["cause"]) == (how, Code.AGENT_TRAPPED, cause)
        assert (how, ended.exit.cause, ended.exit.message) == (how, cause, told.private)
        assert re.search(message, told.private), (how, told.private)
    await host.start(agent)
    assert (await host.call("app/a", do("calls", 10.0))).output == '"alive"'


async def test_fuel(host, ends):
    await host.start(ends.start("app/a", small(fuel_per_call=1_000_000), LOGGING))
    assert (await host.call("app/a", do("calls", 10.0))).output == '"alive"'
    assert (await failure(host.call("app/a", do("loop")))).detail["cause"] == ExitCause.FUEL
    assert (await event(host)).exit.cause is ExitCause.FUEL


@pytest.mark.parametrize(("size", "depth"), [(64 << 10, 1_000), (512 << 10, 8_000), (2 << 20, 32_000)])
async def test_the_stack(host, tiny, size, depth):
    """A call of this guest takes some 32 bytes of it."""
    await host.start(tiny.start("app/a", small(stack_bytes=size)))
    await host.call("app/a", f"deep-to({depth})")
    error = await failure(host.call("app/a", f"deep-to({8 * depth})"))
    assert error.detail["cause"] == ExitCause.STACK_OVERFLOW


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGABRT, ExitCause.ENGINE_CRASH), (signal.SIGKILL, ExitCause.KILLED)]
)
async def test_the_end_of_a_whole_runner_while_its_guest_runs(host, ends, number, cause):
    agent = ends.start("app/a", small(deadline_ms=20_000), LOGGING)
    await host.start(agent)
    call = asyncio.create_task(host.call("app/a", do("sleep")))
    await asyncio.sleep(0)  # the call is on its way before the signal is
    os.kill(host.runner_pid("app"), number)
    assert (await failure(call)).code is Code.RUNNER_LOST
    lost = await event(host, RunnerLost)
    assert (lost.agents, lost.exit.cause) == (("app/a",), cause)
    assert number.name in lost.exit.message
    await host.start(agent)
    assert (await host.call("app/a", do("calls", 1.0))).output == '"alive"'


async def test_a_result_above_the_limit_is_an_error_and_the_agent_lives(host, ends):
    await host.start(ends.start("app/a", small(output_bytes=1002), LOGGING))
    assert len((await host.call("app/a", do("answer", 1000.0))).output) == 1002
    error = await failure(host.call("app/a", do("answer", 1001.0)))
    assert (error.code, error.detail["limit"], error.detail["place"]) == (Code.LIMIT_EXCEEDED, "1002", "limits.output")
    assert "1003 bytes" in error.private
    assert (await host.call("app/a", do("answer", 1.0))).output == '"x"'
    assert (host.stats("app/a").calls, host.stats("app/a").errors) == (3, 0)


async def test_host_calls_beyond_their_rate_wait_and_the_wait_ends_with_the_deadline(host, ends):
    await host.start(ends.start("app/a", small(host_calls_per_second=100, deadline_ms=2_000), LOGGING))
    clock = asyncio.get_running_loop()
    began = clock.time()
    await host.call("app/a", do("calls", 150.0))
    assert clock.time() - began >= 0.5
    error = await failure(host.call("app/a", do("calls", 10_000.0)))
    assert error.detail["cause"] == ExitCause.DEADLINE

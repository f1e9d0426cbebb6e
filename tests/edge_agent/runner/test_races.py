"""Many agents started, called, cancelled, stopped and killed in random order: nothing hangs, nothing is told twice."""

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress

import pytest

from edge_agent.runtime import AgentCrashed, AgentExited, RunnerLost
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

pytestmark = pytest.mark.system

STEPS = ("start", "start", "count", "count", "trap", "stop", "cancel")
EXPECTED = {Code.ALREADY_EXISTS, Code.AGENT_NOT_RUNNING, Code.AGENT_TRAPPED, Code.RUNNER_LOST}


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_order_of_orders_is_answered(host, tiny, seed):
    rng, answers, events = random.Random(seed), Counter(), Counter()

    async def listen():
        while True:
            event = await host.next_event()
            events[type(event), event.exit.cause] += 1

    async def cancelled_start(agent):
        start = asyncio.create_task(host.start(agent))
        await asyncio.sleep(rng.random() * 0.01)
        start.cancel()
        await asyncio.wait([start])

    async def step(name, agent):
        match name:
            case "start":
                await host.start(agent)
            case "stop":
                await host.stop(agent.name, rng.choice([0, 5, 50]))
            case "cancel":
                await cancelled_start(agent)
            case "kill" if (runner := host.runner_pid(agent.application)) is not None:
                with suppress(ProcessLookupError):  # another step may have just killed it
                    os.kill(runner, signal.SIGKILL)
            case "count" | "trap":
                await host.call(agent.name, f"{name}()")

    async def drive(number):
        agent = tiny.start(f"app-{number % 3}/agent-{number}")
        for _ in range(50):
            name = "kill" if rng.random() < 0.02 else rng.choice(STEPS)
            try:
                async with asyncio.timeout(60):
                    await step(name, agent)
            except FleetError as error:
                answers[error.code] += 1
            await asyncio.sleep(rng.random() * 0.002)

    listener = asyncio.create_task(listen())
    await asyncio.gather(*map(drive, range(9)))
    listener.cancel()

    assert answers.keys() <= EXPECTED
    causes = (ExitCause.UNREACHABLE, ExitCause.KILLED)
    assert events.keys() <= {
        (AgentExited, ExitCause.UNREACHABLE),
        (RunnerLost, ExitCause.KILLED),
        *((AgentCrashed, cause) for cause in causes),
    }
    assert answers[Code.AGENT_TRAPPED] > 0
    # A runner killed between a trap's answer and its event tells of the trap by its own loss.
    untold = answers[Code.AGENT_TRAPPED] - events[AgentExited, ExitCause.UNREACHABLE]
    assert 0 <= untold <= events[RunnerLost, ExitCause.KILLED]

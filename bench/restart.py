"""How long an agent is away after a trap, and an application after the loss of its runner.

Measures from the fault, as seen by the caller, to the first successful call, without the back-off that the supervisor
adds. Prints rows (`bench.measure`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import emit, median
from bench.runtime import open_host, tiny_agent
from edge_agent.runtime import AgentExited, RunnerLost
from fleet.errors import FleetError

if TYPE_CHECKING:
    from edge_agent.runner.host import RunnerHost
    from edge_agent.runtime import AgentStart


async def after_trap(host: RunnerHost, agent: AgentStart) -> float:
    """Milliseconds from the trap to the next answer."""
    began = time.perf_counter()
    with suppress(FleetError):
        await host.call(agent.name, "trap()")
    while not isinstance(await host.next_event(), AgentExited):
        pass
    await host.start(agent)
    await host.call(agent.name, "count()")
    return (time.perf_counter() - began) * 1000


async def after_kill(host: RunnerHost, agent: AgentStart) -> float:
    """Milliseconds from the SIGKILL of the runner to the next answer."""
    began = time.perf_counter()
    os.kill(host.runner_pid(agent.application) or 0, signal.SIGKILL)
    while not isinstance(await host.next_event(), RunnerLost):
        pass
    await host.start(agent)
    await host.call(agent.name, "count()")
    return (time.perf_counter() - began) * 1000


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = await open_host(Path(folder))
        try:
            agent = tiny_agent(Path(folder), "app/tiny")
            await host.start(agent)
            for name, once in (("restart after trap", after_trap), ("restart after runner kill", after_kill)):
                times = [await once(host, agent) for _ in range(rounds)]
                emit(median(name, "ms", times))
        finally:
            await host.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    asyncio.run(measure(parser.parse_args().rounds))

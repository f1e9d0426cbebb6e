"""What a full queue does, from the callers to a real guest and back."""

import asyncio

import psutil
import pytest

from fleet.errors import Code, FleetError
from fleet.model import ExitCause, QueuePolicy
from tests.edge_agent.runner.conftest import small
from tests.fakes.wait import until

pytestmark = pytest.mark.system


async def start(host, tiny, policy, **limits):
    await host.start(tiny.start("app/a", small(deadline_ms=400, **limits), on_full_queue=policy))


async def busy(host):
    """Occupy the agent until its deadline; returns the call once the guest runs."""
    process = psutil.Process(host.runner_pid("app"))
    before = process.cpu_times().user
    running = asyncio.create_task(host.call("app/a", "loop()"))
    await until(lambda: process.cpu_times().user > before + 0.02, "the loop")
    return running


async def outcomes(calls):
    async with asyncio.timeout(60):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, FleetError) for result in results), results
    return [(error.code, "newer" in error.private) for error in results]


async def test_reject_refuses_the_newest(host, tiny):
    await start(host, tiny, QueuePolicy.REJECT, queue=2)
    running = await busy(host)
    waiting = [asyncio.create_task(host.call("app/a", "count()")) for _ in range(4)]
    ended = (Code.AGENT_NOT_RUNNING, False)
    assert await outcomes(waiting) == [ended, ended, (Code.AGENT_BUSY, False), (Code.AGENT_BUSY, False)]
    assert await outcomes([running]) == [(Code.AGENT_TRAPPED, False)]
    stats = host.stats("app/a")
    assert (stats.calls, stats.errors, stats.memory_bytes, stats.dropped) == (1, 1, 0, 2)


async def test_drop_oldest_refuses_what_has_waited_longest_and_says_why(host, tiny):
    await start(host, tiny, QueuePolicy.DROP_OLDEST, queue=2)
    running = await busy(host)
    waiting = [asyncio.create_task(host.call("app/a", "count()")) for _ in range(4)]
    ended = (Code.AGENT_NOT_RUNNING, False)
    assert await outcomes(waiting) == [(Code.AGENT_BUSY, True), (Code.AGENT_BUSY, True), ended, ended]
    assert await outcomes([running]) == [(Code.AGENT_TRAPPED, False)]
    assert host.stats("app/a").dropped == 2


async def test_block_makes_callers_wait_and_drops_nothing(host, tiny):
    await start(host, tiny, QueuePolicy.BLOCK, queue=2)
    calls = [asyncio.create_task(host.call("app/a", "count()")) for _ in range(50)]
    async with asyncio.timeout(60):
        answers = [call.output for call in await asyncio.gather(*calls)]
    assert answers == [str(number) for number in range(1, 51)], "the first to wait is the first to be served"
    assert host.stats("app/a").dropped == 0


async def test_block_ends_with_the_callers_own_deadline(host, tiny):
    await start(host, tiny, QueuePolicy.BLOCK, queue=1)
    running = await busy(host)
    with pytest.raises(FleetError, match="no room within 50 ms") as caught:
        await host.call("app/a", "count()", 50)
    assert caught.value.code is Code.AGENT_BUSY
    assert await outcomes([running]) == [(Code.AGENT_TRAPPED, False)]


async def test_callers_that_block_hear_of_the_end_of_their_agent(host, tiny):
    await start(host, tiny, QueuePolicy.BLOCK, queue=1)
    running = await busy(host)
    waiting = [asyncio.create_task(host.call("app/a", "count()")) for _ in range(3)]
    assert await outcomes([running, *waiting]) == [
        (Code.AGENT_TRAPPED, False),
        *[(Code.AGENT_NOT_RUNNING, False)] * 3,
    ]
    assert (await host.next_event()).exit.cause is ExitCause.DEADLINE

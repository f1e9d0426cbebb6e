"""A guest as language runtimes make them, in a real runner: it waits, prints, exits, and finds nothing to reach."""

import asyncio
import time

import pytest

from edge_agent.capabilities import log
from edge_agent.runtime import AgentExited, AgentLogged
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.wasi_guest import wasi_guest

pytestmark = pytest.mark.system

AGENT = "app/agent"
SECOND_NS = 1_000_000_000
DEADLINE_MS = 300
LATE_S = 0.5
"""How long after its deadline a call may end on a loaded machine; the runner is killed a second after it."""


@pytest.fixture
def guest(tmp_path):
    agent = component(tmp_path / "wasi.wasm", wasi_guest())

    def start(**limits):
        return agent.start(AGENT, small(**limits), {"wasi:random/random": ()})

    return start


async def next_event(host, kind):
    async with asyncio.timeout(20):
        while not isinstance(event := await host.next_event(), kind):
            pass
        return event


async def ended(host, invocation):
    """Cause and message of the end that a call brings."""
    with pytest.raises(FleetError) as caught:
        await host.call(AGENT, invocation)
    event = await next_event(host, AgentExited)
    assert (caught.value.code, caught.value.detail["cause"]) == (Code.AGENT_TRAPPED, event.exit.cause)
    return event.exit


async def test_it_waits_as_long_as_it_asked(host, guest):
    await host.start(guest())
    before = time.monotonic()
    await host.call(AGENT, f"sleep({SECOND_NS // 20})")
    assert time.monotonic() - before >= 0.05
    assert (await host.call(AGENT, f"first({3600 * SECOND_NS}, 1000)")).output == "1"
    assert (await host.call(AGENT, f"first(0, {3600 * SECOND_NS})")).output == "0"


@pytest.mark.parametrize("invocation", [f"sleep({3600 * SECOND_NS})", f"sleep({2**64 - 1})"])
async def test_a_wait_ends_with_the_deadline(host, guest, invocation):
    await host.start(guest(deadline_ms=DEADLINE_MS))
    before = time.monotonic()
    end = await ended(host, invocation)
    took = time.monotonic() - before
    assert end.cause is ExitCause.DEADLINE
    assert DEADLINE_MS / 1000 <= took < DEADLINE_MS / 1000 + LATE_S
    await host.start(guest())
    await host.call(AGENT, "sleep(0)")


async def test_a_wait_ends_with_a_stop(host, guest):
    await host.start(guest())
    call = asyncio.create_task(host.call(AGENT, f"sleep({4 * SECOND_NS})"))
    assert (await next_event(host, AgentLogged)).line.message == "asleep"
    before = time.monotonic()
    await host.stop(AGENT, 50)
    assert time.monotonic() - before < LATE_S
    with pytest.raises(FleetError) as caught:
        await call
    assert (caught.value.code, caught.value.detail["cause"]) == (Code.AGENT_TRAPPED, ExitCause.STOPPED)


@pytest.mark.parametrize("code", [0, 3])
async def test_its_exit_is_told_as_such(host, guest, code):
    await host.start(guest())
    end = await ended(host, f"exit({code})")
    assert end.cause is ExitCause.GUEST_EXIT
    assert end.message == f"the guest exited with status {code}"


async def test_what_it_prints_becomes_log_lines(host, guest):
    await host.start(guest())
    await host.call(AGENT, 'print("one\\ntw")')
    await host.call(AGENT, 'print("o\\nthe rest")')
    await host.stop(AGENT, 1000)
    lines = [(await next_event(host, AgentLogged)).line for _ in range(3)]
    assert [(line.level, line.context, line.message) for line in lines] == [
        ("info", "stdout", "one"),
        ("info", "stdout", "two"),
        ("info", "stdout", "the rest"),
    ]


async def test_endless_output_is_bounded(host, guest):
    budget = 64 * 1024
    await host.start(guest(deadline_ms=DEADLINE_MS, log_bytes_per_minute=budget))
    with pytest.raises(FleetError) as caught:
        await host.call(AGENT, "flood()")
    assert caught.value.detail["cause"] == ExitCause.DEADLINE
    written = 0
    async with asyncio.timeout(20):
        while isinstance(event := await host.next_event(), AgentLogged):
            written += len(event.line.message.encode())
            last = event.line
    assert last.context == log.NOTICE_CONTEXT
    assert 0 < written < budget + 1024


async def test_it_has_no_input_no_files_and_no_sockets(host, guest):
    await host.start(guest())
    closed, access_denied = 1, 1
    assert (await host.call(AGENT, "read()")).output == str(closed)
    assert (await host.call(AGENT, "directories()")).output == "0"
    assert (await host.call(AGENT, "connect()")).output == str(100 + access_denied)


async def test_handles_are_bounded_where_nothing_is_behind_them(host, guest):
    await host.start(guest())
    end = await ended(host, "hoard()")
    assert end.cause is ExitCause.HOST_ERROR
    assert "networks" in end.message


async def test_random_numbers_need_a_rule(host, guest):
    await host.start(guest())
    assert "CALL_DENIED" in (await ended(host, "random()")).message

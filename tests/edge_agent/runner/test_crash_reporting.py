"""What a real runner tells of an end: recorded while it ran, while it started, and when the process died."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from edge_agent.runtime import AgentCrashed
from fleet.crash import decode_recording, read_frames
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component
from tests.fakes.components import wasm

pytestmark = pytest.mark.system


async def crashed(host) -> AgentCrashed:
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), AgentCrashed):
            pass
        return event


async def test_a_trap_comes_with_all_that_led_to_it(host, tiny) -> None:
    await host.start(tiny.start("app/a"))
    await host.call("app/a", "add(1, 2)")
    with pytest.raises(FleetError):
        await host.call("app/a", "trap()")
    event = await crashed(host)
    assert (event.agent, event.exit.cause) == ("app/a", ExitCause.UNREACHABLE)
    assert read_frames(event.backtrace)[0].module == "m"
    calls = decode_recording(event.recording.encode()).calls
    assert [(call.function, call.arguments) for call in calls] == [("add", ("1", "2")), ("trap", ())]


async def test_an_end_in_the_start_comes_with_its_record(host, tmp_path) -> None:
    text = "(component (core module $m (func $s unreachable) (start $s)) (core instance (instantiate $m)))"
    with pytest.raises(FleetError) as caught:
        await host.start(component(tmp_path / "start.wasm", wasm(text)).start("app/a"))
    assert caught.value.code is Code.AGENT_TRAPPED
    event = await crashed(host)
    assert (event.exit.cause, decode_recording(event.recording.encode()).calls) == (ExitCause.UNREACHABLE, ())
    assert event.backtrace


async def test_the_death_of_a_runner_comes_with_the_call_that_ran(host, tiny) -> None:
    await host.start(tiny.start("app/a"))
    call = asyncio.create_task(host.call("app/a", "loop()"))
    await asyncio.sleep(0)
    os.kill(host.runner_pid("app"), signal.SIGKILL)
    event = await crashed(host)
    assert (event.exit.cause, event.recording, event.invocation) == (ExitCause.KILLED, "", "loop()")
    with pytest.raises(FleetError):
        await call


async def test_an_ordered_stop_is_no_crash(host, tiny) -> None:
    await host.start(tiny.start("app/a"))
    call = asyncio.create_task(host.call("app/a", "loop()"))
    await asyncio.sleep(0)
    await host.stop("app/a", 1)
    with pytest.raises(FleetError):
        await call
    assert not host._events._events

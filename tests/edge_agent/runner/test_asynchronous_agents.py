"""Asynchronous agents in real runners: compiled, cached, called, ended and recorded as all others are."""

from __future__ import annotations

import asyncio
import time

import pytest

from edge_agent.fusion import Fusion, Part, Wire
from edge_agent.runtime import AgentCrashed, AgentExited
from fleet.crash import decode_recording
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.asynchronous import CLOCK, NUMBERS, PIPE, answerer, importer, receiver, sender, sleeper, waiter

pytestmark = pytest.mark.system

AGENT = "app/a"


async def crashed(host) -> AgentCrashed:
    async with asyncio.timeout(60):
        while not isinstance(event := await host.next_event(), AgentCrashed):
            pass
        return event


async def test_it_is_called_and_compiled_once(host, tmp_path) -> None:
    guest = component(tmp_path / "waiter.wasm", waiter())
    await host.start(guest.start(AGENT))
    assert (await host.call(AGENT, "double(21)")).output == "42"
    assert (await host.call(AGENT, "plain(21)")).output == "22"
    await host.stop(AGENT, 1000)
    await host.start(guest.start(AGENT))
    assert (await host.call(AGENT, "double(4)")).output == "8"
    await host.start(guest.start("app/counted", small(fuel_per_call=100_000)))
    assert (await host.call("app/counted", "double(5)")).output == "10"


@pytest.mark.parametrize("function", ["forever", "yielding"])
async def test_its_deadline_ends_it_and_is_recorded(host, tmp_path, function) -> None:
    guest = component(tmp_path / "waiter.wasm", waiter())
    await host.start(guest.start(AGENT, small(deadline_ms=300)))
    await host.call(AGENT, "double(1)")
    before = time.monotonic()
    with pytest.raises(FleetError) as caught:
        await host.call(AGENT, f"{function}(1)")
    assert caught.value.detail["cause"] == ExitCause.DEADLINE
    assert time.monotonic() - before < 60
    event = await crashed(host)
    calls = decode_recording(event.recording.encode()).calls
    assert [(call.function, call.arguments) for call in calls] == [("double", ("1",)), (function, ("1",))]


async def test_it_waits_no_longer_than_its_deadline(host, tmp_path) -> None:
    guest = component(tmp_path / "sleeper.wasm", sleeper())
    await host.start(guest.start(AGENT, small(deadline_ms=500)))
    assert int((await host.call(AGENT, "sleep(20000000)")).output) >= 20_000_000
    with pytest.raises(FleetError) as caught:
        await host.call(AGENT, "sleep(60000000000)")
    assert caught.value.detail["cause"] == ExitCause.DEADLINE
    recorded = decode_recording((await crashed(host)).recording.encode())
    assert [call.function for call in recorded.calls[0].host_calls] == [
        f"{CLOCK}#{name}" for name in ("now", "wait-for", "now")
    ]


async def ended(host) -> None:
    """Wait until the host has heard of the end: the answer to the call comes before."""
    async with asyncio.timeout(60):
        while not isinstance(await host.next_event(), AgentExited):
            pass


async def test_host_functions_have_a_stack_left_when_the_guest_has_used_its_own(host, tmp_path) -> None:
    """They run on the guest's stack in asynchronous functions; one that is full must not end the process."""
    guest = component(tmp_path / "sleeper.wasm", sleeper())
    await host.start(guest.start(AGENT, small(stack_bytes=2 << 20)))
    low, high = 0, 1 << 20
    runner = host.runner_pid("app")
    while high - low > 256:
        middle = (low + high) // 2
        (result,) = await asyncio.gather(host.call(AGENT, f"deep({middle})"), return_exceptions=True)
        if isinstance(result, FleetError):
            assert result.detail["cause"] == ExitCause.STACK_OVERFLOW
            high = middle
            await ended(host)
            await host.start(guest.start(AGENT, small(stack_bytes=2 << 20)))
        else:
            low = middle
    assert low > 10_000
    assert host.runner_pid("app") == runner


async def test_fused_agents_pass_streams(host, tmp_path) -> None:
    reader = component(tmp_path / "receiver.wasm", receiver())
    writer = component(tmp_path / "sender.wasm", sender())
    parts = (Part("app/a", reader.path, reader.digest), Part("app/b", writer.path, writer.digest))
    await host.start(reader.start(AGENT, fusion=Fusion(parts, (Wire(0, PIPE, 1),))))
    assert (await host.call(AGENT, "total(5000)")).output == "10000"


async def test_streams_to_the_node_are_refused_before_anything_runs(host, tmp_path) -> None:
    guest = component(tmp_path / "sender.wasm", sender())
    with pytest.raises(FleetError, match="a stream in what they import or export") as caught:
        await host.start(guest.start(AGENT))
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


async def test_another_agent_answers_asynchronous_imports(host, tmp_path) -> None:
    """Between two stores the import is a host function, so that it does not matter whether the export waits."""
    asking = component(tmp_path / "importer.wasm", importer())
    for name, answering in (("app/b", answerer()), ("app/c", answerer(asynchronous=False))):
        user = name.replace("/", "/of-")
        await host.start(component(tmp_path / "answerer.wasm", answering).start(name))
        await host.start(asking.start(user, links={NUMBERS: name}))
        assert (await host.call(user, "sum(4, 5)")).output == "20"
        assert (await host.call(user, 'named(["a"])')).output == "ok([])"


async def test_fused_agents_answer_asynchronous_imports(host, tmp_path) -> None:
    """Fused, both sides have to say whether they wait: nothing is between them that could."""
    asking = component(tmp_path / "importer.wasm", importer())
    for number, answering in enumerate((answerer(), answerer(asynchronous=False))):
        other = component(tmp_path / f"answerer-{number}.wasm", answering)
        parts = (Part(AGENT, asking.path, asking.digest), Part("app/b", other.path, other.digest))
        start = asking.start(AGENT, fusion=Fusion(parts, (Wire(0, NUMBERS, 1),)))
        if number == 0:
            await host.start(start)
            assert (await host.call(AGENT, "sum(4, 5)")).output == "20"
            await host.stop(AGENT, 1000)
        else:
            with pytest.raises(FleetError) as caught:
                await host.start(start)
            assert caught.value.code is Code.LINK_INVALID

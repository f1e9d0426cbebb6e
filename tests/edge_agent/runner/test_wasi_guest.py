"""A guest as language runtimes make them, in a real runner: it waits, prints, exits, and finds nothing to reach."""

import asyncio
import os
import socket
import threading
import time

import pytest

from edge_agent.capabilities import log
from edge_agent.runner import agent_thread, memory_file
from edge_agent.runner.connection import Connection
from edge_agent.runner.engine import Engine
from edge_agent.runner.messages import StartAgent, StartFailed
from edge_agent.runner.process import Runner
from edge_agent.runtime import AgentExited, AgentLogged
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import ExitCause
from tests.edge_agent.runner.conftest import component, small
from tests.fakes.components import wasm
from tests.fakes.wasi_guest import wasi_guest

pytestmark = pytest.mark.system

AGENT = "app/agent"
SECOND_NS = 1_000_000_000
DEADLINE_MS = 300
LATE_S = 60
"""How long after its deadline a call may end on a loaded machine; the runner is killed a second after it."""


@pytest.fixture
def guest(tmp_path):
    agent = component(tmp_path / "wasi.wasm", wasi_guest())

    def start(**limits):
        return agent.start(AGENT, small(**limits), {"wasi:random/random": ()})

    return start


async def next_event(host, kind):
    async with asyncio.timeout(60):
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
    call = asyncio.create_task(host.call(AGENT, f"sleep({3600 * SECOND_NS})"))
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
    async with asyncio.timeout(60):
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


SLEEPER = """(component
 (import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type $p (sub resource))) (export "[method]pollable.block" (func (param "self" (borrow $p))))))
 (alias export $poll "pollable" (type $pollable))
 (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
  (alias outer 1 $pollable (type $p)) (export "pollable" (type $pp (eq $p)))
  (export "subscribe-duration" (func (param "when" u64) (result (own $pp))))))
 (core func $subscribe (canon lower (func $clock "subscribe-duration")))
 (core func $block (canon lower (func $poll "[method]pollable.block")))
 (core module $m
  (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
  (import "h" "block" (func $block (param i32)))
  (func $s (call $block (call $subscribe (i64.const 3600000000000))))
  (start $s))
 (core instance (instantiate $m (with "h" (instance
  (export "subscribe" (func $subscribe)) (export "block" (func $block)))))))"""
"""A guest that waits for an hour before it has started."""


def test_a_wait_during_the_start_ends_with_the_time_of_a_start(monkeypatch, tmp_path):
    """The runner is in this process, where half a minute can be made short."""
    monkeypatch.setattr(agent_thread, "START_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    supervisor, runner = Connection(ours), Runner(Connection(theirs))
    serving = threading.Thread(target=runner.serve)
    serving.start()
    module = memory_file.create("sleeper")
    memory_file.write(module, Engine().compile(wasm(SLEEPER)))
    memory_file.seal(module)
    authority = Authority({}).encode().decode()
    before = time.monotonic()
    supervisor.send(StartAgent(AGENT, "sha256:0", authority, (), {}, (), str(tmp_path)), (module,))
    os.close(module)
    answer, _ = supervisor.receive()
    assert time.monotonic() - before < 0.2 + LATE_S
    assert isinstance(answer, StartFailed)
    assert answer.fault.detail["cause"] == ExitCause.DEADLINE
    ours.shutdown(socket.SHUT_RDWR)
    serving.join()
    runner.close()
    supervisor.close()
    theirs.close()

"""A runner in the hands of its guest: whatever it sends, the supervisor stays right and the runner dies."""

import asyncio
import signal
import socket

import pytest

from edge_agent.runner import channel, runner_client
from edge_agent.runner.connection import Connection
from edge_agent.runner.message_values import LogEntry, Measures
from edge_agent.runner.messages import (
    AgentEnded,
    AgentReplaced,
    AgentStarted,
    AgentStopped,
    CallDone,
    CallFailed,
    Compile,
    Counters,
    Fault,
    Hello,
    Logged,
    StartAgent,
    StartFailed,
    StopAgent,
)
from edge_agent.runner.protocol import encode
from edge_agent.runner.runner_client import RunnerClient
from edge_agent.runner.zygote_client import Child, Ended
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

NONE = Counters()
START = StartAgent("app/a", "sha256:0", "{}", (), {}, (), "/")


class PuppetZygote:
    """Forks nothing: the test holds the other end and plays the runner."""

    def __init__(self):
        ours, self.theirs = socket.socketpair()
        self.child = Child(1, 4711, ours)
        self.killed = asyncio.Event()

    async def fork(self, role, name, ended):
        self.ended = ended
        return self.child

    def kill(self, number):
        self.killed.set()
        self.theirs.close()
        asyncio.get_running_loop().call_soon(self.ended, Ended(0, signal.SIGKILL))


class Owner:
    def __init__(self):
        self.heard = []
        self.gone = asyncio.Event()

    def agent_changed(self, agent):
        self.heard.append(("changed", agent))

    def agent_gone(self, agent, counters, measures):
        self.heard.append(("gone", agent, counters.calls))

    def agent_ended(self, message):
        if isinstance(message, AgentEnded):
            self.heard.append(("ended", message.agent, message.cause))

    def agent_confirmed(self, agent):
        self.heard.append(("confirmed", agent))

    def agent_restored(self, message):
        self.heard.append(("restored", message.agent, message.cause))

    def agents_logged(self, batch):
        self.heard.append(("logged", len(batch.entries)))

    def runner_ended(self, runner, agents, cause, message):
        self.heard.append(("runner", agents, cause, message))
        self.gone.set()


@pytest.fixture
async def puppet():
    zygote, owner = PuppetZygote(), Owner()
    client = RunnerClient("app", owner)
    await client.open(zygote)
    runner = Connection(zygote.theirs)
    yield client, runner, owner, zygote
    zygote.kill(1)
    await client.close()


async def started(puppet):
    client, runner, *_ = puppet
    start = asyncio.create_task(client.start(START, 0))
    await asyncio.sleep(0)
    runner.receive()
    runner.send(AgentStarted("app/a", NONE))
    await start


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


HOSTILE = {
    "a message of another role": encode(Hello(1)),
    "a request": encode(Compile("sha256:0", 0)),
    "an unknown agent": encode(AgentStarted("app/other", NONE)),
    "an end of an unknown agent": encode(AgentEnded("app/other", ExitCause.QUOTA, "", "")),
    "a stop without an order": encode(AgentStopped("app/a")),
    "a failure to start what has started": encode(StartFailed("app/a", Fault(Code.INTERNAL, ""))),
    "a replacement that nobody asked for": encode(AgentReplaced("app/a", NONE)),
    "a log line of another application": encode(Logged((LogEntry("bank/a", 1, "info", "", ""),), 0)),
    "noise": b"\0\0\0\5hello",
    "a frame without end": b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
async def test_a_runner_that_says_what_it_must_not_is_killed(puppet, data):
    client, runner, owner, zygote = puppet
    await started(puppet)
    call = asyncio.create_task(client.call("app/a", "f()", 1000))
    await settle()
    runner.send_frame(data)
    with pytest.raises(FleetError) as caught:
        await call
    assert caught.value.code is Code.RUNNER_LOST
    await owner.gone.wait()
    assert zygote.killed.is_set()
    ((_, agents, cause, _),) = [heard for heard in owner.heard if heard[0] == "runner"]
    assert (agents, cause) == (("app/a",), ExitCause.ENGINE_CRASH)


async def test_answers_to_calls_that_nobody_made_change_nothing(puppet):
    client, runner, *_ = puppet
    await started(puppet)
    call = asyncio.create_task(client.call("app/a", "f()", 1000))
    await settle()
    lies = Counters(99, 99, 99)
    runner.send(CallDone(77, "app/a", "lie", 1, lies))
    runner.send(CallFailed(78, "app/gone", Fault(Code.INTERNAL, ""), lies))
    await settle()
    assert not call.done()
    assert client.numbers("app/a") == (NONE, Measures())
    runner.send(CallDone(1, "app/a", "7", 2500, Counters(1, 0, 5)))
    result = await call
    assert (result.output, result.duration_ms) == ("7", 2.5)
    assert client.numbers("app/a")[0] == Counters(1, 0, 5)


async def test_a_call_that_crosses_the_end_of_its_agent_is_told_so(puppet):
    client, runner, owner, zygote = puppet
    await started(puppet)
    call = asyncio.create_task(client.call("app/a", "f()", 1000))
    await settle()
    runner.send(AgentEnded("app/a", ExitCause.QUOTA, "out of memory", ""))
    runner.send(CallFailed(1, "app/a", Fault(Code.AGENT_NOT_RUNNING, ""), NONE))
    with pytest.raises(FleetError) as caught:
        await call
    assert caught.value.code is Code.AGENT_NOT_RUNNING
    await settle()
    assert ("ended", "app/a", ExitCause.QUOTA) in owner.heard
    assert not zygote.killed.is_set()


async def test_an_end_that_crosses_a_stop_is_the_stop(puppet):
    client, runner, owner, _ = puppet
    await started(puppet)
    stop = asyncio.create_task(client.stop("app/a", 100))
    await settle()
    runner.send(AgentEnded("app/a", ExitCause.QUOTA, "", ""))
    runner.send(AgentStopped("app/a"))
    await stop
    assert [heard[0] for heard in owner.heard] == ["gone"]


async def test_a_cancelled_start_is_stopped_before_the_name_is_free(puppet):
    client, runner, _, zygote = puppet
    start = asyncio.create_task(client.start(START, 0))
    await settle()
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    assert isinstance(runner.receive()[0], StartAgent)
    assert runner.receive()[0] == StopAgent("app/a", 0)
    with pytest.raises(FleetError) as caught:
        await client.start(START, 0)
    assert caught.value.code is Code.ALREADY_EXISTS
    runner.send(AgentStarted("app/a", NONE))
    runner.send(AgentStopped("app/a"))
    await settle()
    assert client.agents == ()
    assert not zygote.killed.is_set()


async def test_calls_wait_their_turn_without_losing_their_time(puppet, monkeypatch):
    """The second call's deadline runs from the end of the first: the agent takes one at a time."""
    monkeypatch.setattr(runner_client, "WEDGE_GRACE_S", 0.0)
    client, runner, owner, _ = puppet
    await started(puppet)
    first = asyncio.create_task(client.call("app/a", "f()", 60_000))
    second = asyncio.create_task(client.call("app/a", "f()", 50))
    await asyncio.sleep(0.1)
    assert not second.done()
    runner.send(CallDone(1, "app/a", "", 1, NONE))
    await first
    with pytest.raises(FleetError) as caught:
        await second
    assert caught.value.code is Code.RUNNER_LOST
    await owner.gone.wait()
    assert owner.heard[-1][2] is ExitCause.KILLED


async def test_a_runner_that_does_not_read_is_given_up(puppet, monkeypatch):
    monkeypatch.setattr(channel, "MAX_UNSENT", 1 << 20)
    client, _, owner, _ = puppet
    await started(puppet)
    calls = [asyncio.create_task(client.call("app/a", f'f("{"x" * 100_000}")', 1000)) for _ in range(20)]
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert {error.code for error in done} == {Code.RUNNER_LOST}
    await owner.gone.wait()

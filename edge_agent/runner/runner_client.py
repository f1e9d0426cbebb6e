"""The supervisor's view of one runner: its agents, the calls that wait, and the watch over each of them.

Owns: `RunnerClient`. A runner is not trusted: its messages must fit what it was asked, and an agent whose call has not
ended some time after its deadline means that the whole process is wedged and is killed. It ends when its process and
the last word of its control socket are both gone, so that nothing a runner said before its end is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from typing import TYPE_CHECKING

from edge_agent.runner.agent_record import AgentRecord, CallRecord, fail, resolve
from edge_agent.runner.channel import Channel
from edge_agent.runner.message_values import Measures, Role
from edge_agent.runner.messages import (
    AgentConfirmed,
    AgentEnded,
    AgentMeasured,
    AgentReplaced,
    AgentRestored,
    AgentStarted,
    AgentStopped,
    AskSensors,
    CallAgent,
    CallDone,
    CallFailed,
    Counters,
    DeliverMessage,
    Logged,
    Published,
    ReplaceAgent,
    ReplaceFailed,
    Replied,
    ReplyArrived,
    Requested,
    SensorsAnswered,
    StartAgent,
    StartFailed,
    StopAgent,
)
from edge_agent.runtime import CallResult
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.messages import Message
    from edge_agent.runner.owner import RunnerOwner
    from edge_agent.runner.zygote_client import Child, Ended, ZygoteClient
    from edge_agent.runtime import Answer, BusMessage, Probation

START_TIMEOUT_S = 60.0
"""How long an agent may take to be loaded, linked and instantiated; large guests need a few seconds."""

WEDGE_GRACE_S = 3.0
"""How long after its deadline a call may still end by itself before the runner counts as wedged."""

_log = logging.getLogger(__name__)


class RunnerClient:
    """One runner process.

    Args:
        application: whose agents it runs.
        owner: hears what happens.
    """

    def __init__(self, application: str, owner: RunnerOwner) -> None:
        self.application = application
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._agents: dict[str, AgentRecord] = {}
        self._numbers = itertools.count(1)
        self._zygote: ZygoteClient | None = None
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._ended: Ended | None = None
        self._verdict: tuple[ExitCause, str] | None = None
        self._gone = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id, once forked."""
        return self._child.pid if self._child is not None else None

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents it runs or starts."""
        return tuple(self._agents)

    async def open(self, zygote: ZygoteClient) -> None:
        """Fork the process.

        Raises:
            FleetError: RUNNER_LOST when there is no zygote or no room for a process.
        """
        self._zygote = zygote
        self._child = await zygote.fork(Role.RUNNER, self.application, self._process_ended)
        self._channel = Channel(self._child.control, self, self._loop)

    async def start(self, message: StartAgent, module: int) -> None:
        """Start an agent from the sealed memory file `module`, which the caller keeps.

        Raises:
            FleetError: what the runner answers; RUNNER_LOST.
        """
        if message.agent in self._agents:
            raise FleetError(Code.ALREADY_EXISTS, f"{message.agent} is running", agent=message.agent)
        channel = self._open_channel()
        agent = self._agents[message.agent] = AgentRecord(self._loop.create_future())
        agent.watch = self._loop.call_later(START_TIMEOUT_S, self._wedged, message.agent, "its start")
        try:
            channel.send(message, [module])
        except FleetError:
            self._forget(message.agent)
            raise
        try:
            await agent.started
        except asyncio.CancelledError:
            self._request_stop(message.agent, agent, 0)
            raise

    async def replace(self, start: StartAgent, probation: Probation, module: int) -> None:
        """Replace the instance of an agent, with the component in `module`, which the caller keeps.

        Raises:
            FleetError: AGENT_NOT_RUNNING, RUNNER_LOST, and what the runner answers.
        """
        name, agent = start.agent, self._agents.get(start.agent)
        if agent is None or not agent.started.done() or agent.stopped is not None or agent.replacing is not None:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{name} is not running", agent=name)
        self._open_channel().send(ReplaceAgent(start, probation.jobs, probation.ms), [module])
        agent.replacing = self._loop.create_future()
        watch = self._loop.call_later(START_TIMEOUT_S, self._wedged, name, "its replacement")
        try:
            # The order cannot be taken back: whoever stops waiting stops the agent next.
            await asyncio.shield(agent.replacing)
        finally:
            watch.cancel()

    async def call(self, name: str, invocation: str, deadline_ms: int) -> CallResult:
        """Call an agent's function.

        Raises:
            FleetError: AGENT_NOT_RUNNING, RUNNER_LOST, and what the runner answers.
        """
        return await self._submit(name, deadline_ms, lambda number: CallAgent(number, name, invocation, deadline_ms))

    async def deliver(self, name: str, message: BusMessage, deadline_ms: int) -> CallResult:
        """Call an agent's handler of messages.

        Raises:
            FleetError: as `call`.
        """
        return await self._submit(name, deadline_ms, lambda number: DeliverMessage(number, name, deadline_ms, message))

    def answer(self, name: str, request: int, answer: Answer) -> None:
        """Hand an agent what it waits for inside a call, if it still runs."""
        if name in self._agents and self._channel is not None and self._channel.open:
            if isinstance(answer, tuple):
                self._channel.send(SensorsAnswered(name, request, answer))
            else:
                self._channel.send(ReplyArrived(name, request, answer))

    async def _submit(self, name: str, deadline_ms: int, message: Callable[[int], Message]) -> CallResult:
        agent = self._agents.get(name)
        if agent is None or not agent.started.done() or agent.stopped is not None:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{name} is not running", agent=name)
        number = next(self._numbers)
        call = CallRecord(deadline_ms, self._loop.create_future())
        self._open_channel().send(message(number))
        agent.calls[number] = call
        self._watch(name, agent)
        return await call.result

    async def stop(self, name: str, grace_ms: int) -> None:
        """End an agent; returns when it is gone."""
        agent = self._agents.get(name)
        if agent is None:
            return
        await asyncio.shield(self._request_stop(name, agent, grace_ms))

    def numbers(self, name: str) -> tuple[Counters, Measures]:
        """Return what an agent has done, by the last report."""
        agent = self._agents.get(name)
        return (agent.counters, agent.measures) if agent is not None else (Counters(), Measures())

    def kill(self, cause: ExitCause, message: str) -> None:
        """End the process at once; `cause` and `message` are what its owner hears."""
        if self._verdict is None:
            self._verdict = cause, message
        if self._zygote is not None and self._child is not None and self._ended is None:
            self._zygote.kill(self._child.number)

    async def close(self) -> None:
        """End the process, by itself within `WEDGE_GRACE_S`, else at once; returns when it is gone."""
        if self._verdict is None:
            self._verdict = ExitCause.STOPPED, "stopped"
        if self._channel is not None and self._channel.open:
            self._channel.close()
            self._finish()
        try:
            async with asyncio.timeout(WEDGE_GRACE_S):
                await self._gone.wait()
        except TimeoutError:
            self.kill(ExitCause.STOPPED, "stopped")
            await self._gone.wait()

    # --- what the process says ---

    def received(self, message: Message, descriptors: tuple[int, ...]) -> None:
        """Take one message of the runner."""
        for number in descriptors:
            os.close(number)
        match message:
            case AgentStarted():
                agent = self._known(message.agent)
                agent.counters = message.counters
                if agent.stopped is None:
                    self._unwatch(agent)
                resolve(agent.started, None)
            case StartFailed():
                agent = self._known(message.agent)
                if agent.started.done():
                    raise FleetError(Code.MESSAGE_INVALID, f"{message.agent} has started already")
                fail(agent.started, message.fault.error())
                self._owner.agent_ended(message)
                if agent.stopped is None:
                    self._forget(message.agent)
            case AgentReplaced() | ReplaceFailed():
                self._replaced(message)
            case AgentConfirmed():
                if self._known(message.agent).stopped is None:
                    self._owner.agent_confirmed(message.agent)
            case AgentRestored():
                self._restored(message)
            case CallDone():
                call = self._answered(message)
                if call is not None:
                    resolve(call.result, CallResult(message.output, message.duration_us / 1000))
            case CallFailed():
                call = self._answered(message)
                if call is not None:
                    fail(call.result, message.fault.error())
            case AgentStopped():
                if self._known(message.agent).stopped is None:
                    raise FleetError(Code.MESSAGE_INVALID, f"{message.agent} stopped without an order")
                self._forget(message.agent)
            case AgentEnded():
                agent = self._known(message.agent)
                if agent.stopped is None:
                    self._forget(message.agent)
                    self._owner.agent_ended(message)
            case AgentMeasured():
                self._measured(message)
            case Logged():
                self._logged(message)
            case Published() | Requested() | Replied() | AskSensors():
                self._known(message.agent)
                self._owner.agent_spoke(message)
            case _:
                raise FleetError(Code.MESSAGE_INVALID, f"a runner does not send {type(message).__name__}")

    def closed(self, error: FleetError | None) -> None:
        """Hear that the control socket is closed."""
        if error is not None:
            _log.error("runner of %s: %s", self.application, error)
            self._verdict = self._verdict or (ExitCause.ENGINE_CRASH, error.private)
        # The socket closes after the process has taken its end, so this kills only one that closed it and lives on.
        if self._zygote is not None and self._child is not None and self._ended is None:
            self._zygote.kill(self._child.number)
        self._finish()

    def _process_ended(self, ended: Ended) -> None:
        self._ended = ended
        self._finish()

    def _finish(self) -> None:
        if self._ended is None or self._gone.is_set() or (self._channel is not None and self._channel.open):
            return
        self._gone.set()
        cause, message = self._verdict or self._ended.verdict
        agents = tuple(name for name, agent in self._agents.items() if agent.started.done() and agent.stopped is None)
        if cause is ExitCause.STOPPED:  # asked for by `close`: nobody needs to hear of it
            agents = ()
        lost = FleetError(Code.RUNNER_LOST, f"the runner of {self.application} ended: {message}", cause=cause)
        for name in tuple(self._agents):
            self._forget(name, lost)
        self._owner.runner_ended(self, agents, cause, message)

    # --- what it keeps about its agents ---

    def _open_channel(self) -> Channel:
        if self._channel is None or self._verdict is not None:
            raise FleetError(Code.RUNNER_LOST, f"the runner of {self.application} has ended")
        return self._channel

    def _request_stop(self, name: str, agent: AgentRecord, grace_ms: int) -> asyncio.Future[None]:
        if agent.stopped is None:
            agent.stopped = self._loop.create_future()
            if self._channel is not None and self._channel.open:
                self._channel.send(StopAgent(name, grace_ms))
            # An agent that still starts cannot be interrupted; its start has its own, longer limit.
            wedged_s = grace_ms / 1000 + WEDGE_GRACE_S if agent.started.done() else START_TIMEOUT_S
            self._unwatch(agent)
            agent.watch = self._loop.call_later(wedged_s, self._wedged, name, "stopping")
        return agent.stopped

    def _known(self, name: str) -> AgentRecord:
        agent = self._agents.get(name)
        if agent is None:
            raise FleetError(Code.MESSAGE_INVALID, f"the runner speaks of {name!r}, which it does not run")
        return agent

    def _replaced(self, message: AgentReplaced | ReplaceFailed) -> None:
        agent = self._known(message.agent)
        if agent.replacing is None:
            raise FleetError(Code.MESSAGE_INVALID, f"nobody asked to replace {message.agent}")
        replacing, agent.replacing = agent.replacing, None
        if isinstance(message, AgentReplaced):
            agent.counters = message.counters
            if agent.stopped is None:
                self._owner.agent_replaced(message.agent)
            resolve(replacing, None)
        else:
            fail(replacing, message.fault.error())

    def _restored(self, message: AgentRestored) -> None:
        agent = self._known(message.agent)
        agent.counters = message.counters
        if agent.stopped is None:
            self._owner.agent_restored(message.ended)

    def _logged(self, message: Logged) -> None:
        for entry in message.entries:
            if entry.agent.partition("/")[0] != self.application:
                raise FleetError(Code.MESSAGE_INVALID, f"the runner logs as {entry.agent!r}")
        self._owner.agents_logged(message)

    def _measured(self, message: AgentMeasured) -> None:
        agent = self._agents.get(message.agent)
        if agent is None:  # it has ended meanwhile
            return
        before, agent.counters, agent.measures = agent.measures, message.counters, message.measures
        if before.health is not message.measures.health and agent.stopped is None:
            self._owner.agent_changed(message.agent)

    def _answered(self, message: CallDone | CallFailed) -> CallRecord | None:
        """Return the call that a message answers; None for one whose agent ended while the call was on its way."""
        agent = self._agents.get(message.agent)
        if agent is None or message.call not in agent.calls:
            return None
        agent.counters = message.counters
        call = agent.calls.pop(message.call)
        if agent.stopped is None:
            self._watch(message.agent, agent)
        return call

    def _forget(self, name: str, reason: FleetError | None = None) -> None:
        agent = self._agents.pop(name, None)
        if agent is None:
            return
        self._unwatch(agent)
        self._owner.agent_gone(name, agent.counters, agent.measures)
        error = reason or FleetError(Code.AGENT_NOT_RUNNING, f"{name} has ended", agent=name)
        fail(agent.started, error)
        if agent.replacing is not None:
            fail(agent.replacing, error)
        for call in agent.calls.values():
            fail(call.result, error)
        if agent.stopped is not None:
            resolve(agent.stopped, None)

    def _watch(self, name: str, agent: AgentRecord) -> None:
        """Watch the oldest call: the agent takes one at a time, so its time runs from when it became the oldest."""
        oldest = next(iter(agent.calls), None)
        if oldest == agent.watched:
            return
        self._unwatch(agent)
        if oldest is not None:
            agent.watched = oldest
            seconds = agent.calls[oldest].deadline_ms / 1000 + WEDGE_GRACE_S
            agent.watch = self._loop.call_later(seconds, self._wedged, name, "a call")

    @staticmethod
    def _unwatch(agent: AgentRecord) -> None:
        agent.watched = None
        if agent.watch is not None:
            agent.watch.cancel()
            agent.watch = None

    def _wedged(self, name: str, what: str) -> None:
        _log.error("runner of %s: %s does not end %s; killed", self.application, name, what)
        self.kill(ExitCause.KILLED, f"{name} was stuck in {what} past its deadline")

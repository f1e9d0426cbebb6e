"""Runs agents in processes of their own: the real `Runtime` of the supervisor.

Owns: one zygote, one runner per application, compiling through workers, and the queue of events. It holds no engine
and loads no guest code. Everything that can go wrong in a runner ends here as an event or a `FleetError`.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from edge_agent.inference import Inference
from edge_agent.runner.compilation import Compilation
from edge_agent.runner.event_queue import EventQueue
from edge_agent.runner.known_agent import KnownAgent
from edge_agent.runner.message_values import Counters, Measures
from edge_agent.runner.messages import AgentEnded, StartFailed
from edge_agent.runner.order import order
from edge_agent.runner.queue_room import QueueRoom
from edge_agent.runner.runner_client import RunnerClient
from edge_agent.runner.zygote_client import ZygoteClient
from edge_agent.runtime import (
    AgentConfirmed,
    AgentCrashed,
    AgentExited,
    AgentHealthChanged,
    AgentReplaced,
    AgentRestored,
    AgentStats,
    CacheEntryRefused,
    RunnerLost,
)
from edge_agent.vault import load_key
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import Exit, ExitCause, LogLine, QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edge_agent.clock import Clock
    from edge_agent.fusion import Fusion
    from edge_agent.held_secret import HeldSecret
    from edge_agent.runner.messages import AskSensors, Logged, Published, Replied, Requested
    from edge_agent.runtime import AgentStart, Answer, BusMessage, CallResult, Probation, RuntimeEvent

IDLE_RUNNER_S = 60.0
"""How long a runner without agents is kept, so that a restarted agent finds one."""


def no_secrets(_: AgentStart) -> Mapping[str, HeldSecret]:
    """Unseal nothing: for runtimes whose node keeps no secrets."""
    return {}


@dataclass(frozen=True, slots=True)
class RunnerPaths:
    """Where the runtime keeps its files, all inside the node's data directory, and what it lets models have.

    Attributes:
        socket: the zygote's socket.
        cache: compiled components.
        cache_key: their authentication key.
        http_authorities: certificates of authorities that requests of agents trust beside the system's; None for none.
        inference: what the operator decided about models.
    """

    socket: Path
    cache: Path
    cache_key: Path
    http_authorities: Path | None = None
    inference: Inference = field(default_factory=Inference)


class RunnerHost:
    """The `Runtime` over real processes.

    Args:
        paths: sockets and cache.
        node: name of this node, for log lines.
        clock: wall clock for exits and losses.
        spawn_zygote: False where the zygote is a unit of its own.
        cache_key: gives the key of the compiled code, where it is kept elsewhere than in the file of `paths`.
    """

    def __init__(
        self,
        paths: RunnerPaths,
        *,
        node: str,
        clock: Clock,
        spawn_zygote: bool = True,
        cache_key: Callable[[], bytes] | None = None,
    ) -> None:
        self.unseal: Callable[[AgentStart], Mapping[str, HeldSecret]] = no_secrets
        """Gives the secrets of an agent in clear; asked right before they are sent to its runner."""
        self._node = node
        self._paths = paths
        self._clock = clock
        self._zygote = ZygoteClient(paths.socket, spawn=spawn_zygote)
        key = partial(load_key, paths.cache_key) if cache_key is None else cache_key
        self._compilation = Compilation(self._zygote, paths.cache, key, self.cache_entry_refused)
        self._runners: dict[str, RunnerClient] = {}
        self._forking = asyncio.Lock()
        self._idle: dict[str, asyncio.TimerHandle] = {}
        self._known: dict[str, KnownAgent] = {}
        self._modules: dict[tuple[str, bool], int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._events = EventQueue()
        self._calls: dict[str, list[str]] = {}
        """Invocations that have not returned, by agent, oldest first."""

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the zygote, for measurements."""
        return self._zygote.pid

    def runner_pid(self, application: str) -> int | None:
        """Process id of an application's runner, for measurements."""
        runner = self._runners.get(application)
        return runner.pid if runner is not None else None

    async def open(self) -> None:
        """Start the zygote: before the program has threads or opens a gRPC channel, which do not survive a fork.

        Raises:
            FleetError: RUNNER_LOST.
        """
        await self._zygote.open()

    async def prepare(self, component: Path, digest: str, fusion: Fusion | None = None) -> None:
        """Compile a component into the cache unless it is there (see `Runtime.prepare`)."""
        os.close(await self._compilation.module(component, digest, fusion=fusion))

    async def start(self, agent: AgentStart) -> None:
        """Start an agent (see `Runtime.start`)."""
        runner = self._runners.get(agent.application)
        if runner is not None and agent.name in runner.agents:
            raise FleetError(Code.ALREADY_EXISTS, f"{agent.name} is running", agent=agent.name)
        limits = Authority.decode(agent.authority).limits
        fuel = limits.fuel_per_call is not None
        module = await self._module(agent, fuel=fuel)
        module_key = agent.code_digest, fuel
        room = QueueRoom(limits.queue if agent.on_full_queue is QueuePolicy.BLOCK else None)
        before = self._known.get(agent.name) or KnownAgent(module_key, limits.deadline_ms)
        self._known[agent.name] = replace(
            before, module=module_key, deadline_ms=limits.deadline_ms, room=room, older=None
        )
        runner = await self._runner(agent.application)
        try:
            await runner.start(order(agent, self._paths, self.unseal(agent)), module)
        finally:
            self._schedule_idle(runner)

    async def replace(self, agent: AgentStart, probation: Probation) -> None:
        """Replace the instance of an agent (see `Runtime.replace`)."""
        limits = Authority.decode(agent.authority).limits
        fuel = limits.fuel_per_call is not None
        module = await self._module(agent, fuel=fuel)
        runner, known = self._runners.get(agent.application), self._known.get(agent.name)
        if runner is None or known is None:
            self._release_modules()
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent.name} is not running", agent=agent.name)
        older = replace(known, older=None)
        module_key = agent.code_digest, fuel
        self._known[agent.name] = replace(older, module=module_key, deadline_ms=limits.deadline_ms, older=older)
        try:
            await runner.replace(order(agent, self._paths, self.unseal(agent)), probation, module)
        except BaseException:
            self._fall_back(agent.name)
            raise

    async def call(self, agent: str, invocation: str, deadline_ms: int | None = None) -> CallResult:
        """Call an exported function (see `Runtime.call`)."""
        async with self._room(agent).place(agent, deadline_ms):
            runner, longest = self._running(agent)
            deadline = longest if deadline_ms is None else min(deadline_ms, longest)
            waiting = self._calls.setdefault(agent, [])
            waiting.append(invocation)
            try:
                return await runner.call(agent, invocation, deadline)
            finally:
                waiting.remove(invocation)

    async def deliver(self, agent: str, message: BusMessage) -> CallResult:
        """Call an agent's handler of messages (see `Runtime.deliver`)."""
        async with self._room(agent).place(agent, None):
            runner, deadline = self._running(agent)
            return await runner.deliver(agent, message, deadline)

    def answer(self, agent: str, request: int, answer: Answer) -> None:
        """Hand an agent what it waits for (see `Runtime.answer`)."""
        runner = self._runners.get(agent.partition("/")[0])
        if runner is not None:
            runner.answer(agent, request, answer)

    def _room(self, agent: str) -> QueueRoom:
        known = self._known.get(agent)
        return QueueRoom(None) if known is None else known.room

    def _running(self, agent: str) -> tuple[RunnerClient, int]:
        """Runner and deadline of an agent."""
        runner = self._runners.get(agent.partition("/")[0])
        known = self._known.get(agent)
        if runner is None or known is None:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent} is not running", agent=agent)
        # Whichever instance takes the call keeps to its own grant.
        longest = max(known.deadline_ms, known.older.deadline_ms if known.older is not None else 0)
        return runner, longest

    async def stop(self, agent: str, grace_ms: int) -> None:
        """End an agent (see `Runtime.stop`)."""
        application = agent.partition("/")[0]
        runner = self._runners.get(application)
        self._known.pop(agent, None)
        self._calls.pop(agent, None)
        if runner is not None:
            await runner.stop(agent, grace_ms)
            if not any(name.partition("/")[0] == application for name in self._known):
                await self._retire(runner)
        self._release_modules()

    def stats(self, agent: str) -> AgentStats:
        """Counters of an agent (see `Runtime.stats`)."""
        known = self._known.get(agent)
        if known is None:
            return AgentStats()
        runner = self._runners.get(agent.partition("/")[0])
        return known.stats(*(runner.numbers(agent) if runner is not None else (Counters(), Measures())))

    async def next_event(self) -> RuntimeEvent:
        """Next thing that happened (see `Runtime.next_event`)."""
        return await self._events.next()

    async def close(self) -> None:
        """End every process (see `Runtime.close`)."""
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        async with asyncio.TaskGroup() as group:
            for runner in tuple(self._runners.values()):
                group.create_task(runner.close())
        if self._closing:
            await asyncio.wait(self._closing)
        await self._zygote.close()
        self._known.clear()
        self._release_modules()

    # --- what runners tell, and the cache ---

    def cache_entry_refused(self, digest: str) -> None:
        """Queue the news that compiled code was not this node's."""
        self._events.put(CacheEntryRefused(digest))

    def agent_ended(self, message: AgentEnded | StartFailed) -> None:
        """Queue the end of an agent, and what is known of it."""
        ended = _exit_of(message, self._clock.now())
        if isinstance(message, AgentEnded):
            self._events.put(AgentExited(message.agent, ended))
            runner = self._runners.get(message.agent.partition("/")[0])
            if runner is not None:
                self._schedule_idle(runner)
        self._tell_crash(message, ended)

    def agent_replaced(self, agent: str) -> None:
        """Queue the news that a new instance has taken over."""
        self._events.put(AgentReplaced(agent))

    def agent_confirmed(self, agent: str) -> None:
        """Queue the end of a probation."""
        known = self._known.get(agent)
        if known is not None:
            self._known[agent] = replace(known, older=None)
        self._release_modules()
        self._events.put(AgentConfirmed(agent))

    def agent_restored(self, message: AgentEnded) -> None:
        """Queue the return of an older instance, and what is known of the end of the newer one."""
        self._fall_back(message.agent)
        ended = _exit_of(message, self._clock.now())
        self._tell_crash(message, ended)
        self._events.put(AgentRestored(message.agent, ended))

    def agent_changed(self, agent: str) -> None:
        """Queue the news that an agent does better or worse."""
        self._events.put(AgentHealthChanged(agent))

    def agent_gone(self, agent: str, counters: Counters, measures: Measures) -> None:
        """Keep the totals of an agent that may be started again."""
        known = self._known.get(agent)
        if known is not None:
            self._known[agent] = known.ended(counters, measures)

    def agents_logged(self, batch: Logged) -> None:
        """Queue log lines."""
        for entry in batch.entries:
            try:
                at = datetime.fromtimestamp(entry.at_ms / 1000, UTC)
            except (OverflowError, ValueError, OSError) as error:
                raise FleetError(Code.MESSAGE_INVALID, f"{entry.at_ms} ms is no time") from error
            self._events.log(LogLine(at, self._node, entry.agent, entry.level, entry.context, entry.message))
        self._events.lose_logs(batch.dropped)

    def agent_spoke(self, message: Published | Requested | Replied | AskSensors) -> None:
        """Queue what an agent has to say."""
        self._events.say(message)

    def runner_ended(self, runner: RunnerClient, agents: tuple[str, ...], cause: ExitCause, message: str) -> None:
        """Queue the loss of a runner that ran agents."""
        if self._runners.get(runner.application) is runner:
            del self._runners[runner.application]
        if agents:
            ended = Exit(cause, message, self._clock.now())
            self._events.put(RunnerLost(runner.application, agents, ended))
            for agent in agents:
                # Whoever called it hears of the loss after this, so the calls are still here.
                oldest = next(iter(self._calls.get(agent, ())), "")
                self._events.put(AgentCrashed(agent, ended, invocation=oldest))

    def _tell_crash(self, message: AgentEnded | StartFailed, ended: Exit) -> None:
        if message.recording and ended.cause is not ExitCause.STOPPED:
            self._events.put(AgentCrashed(message.agent, ended, message.backtrace, message.recording))

    def _fall_back(self, agent: str) -> None:
        known = self._known.get(agent)
        if known is not None and known.older is not None:
            older = known.older
            self._known[agent] = replace(known, module=older.module, deadline_ms=older.deadline_ms, older=None)
        self._release_modules()

    # --- runners and modules ---

    async def _runner(self, application: str) -> RunnerClient:
        async with self._forking:
            idle = self._idle.pop(application, None)
            if idle is not None:
                idle.cancel()
            runner = self._runners.get(application)
            if runner is None:
                runner = RunnerClient(application, self)
                await runner.open(self._zygote)
                self._runners[application] = runner
            return runner

    def _schedule_idle(self, runner: RunnerClient) -> None:
        if runner.agents or self._runners.get(runner.application) is not runner:
            return
        loop = asyncio.get_running_loop()
        earlier = self._idle.pop(runner.application, None)
        if earlier is not None:
            earlier.cancel()
        self._idle[runner.application] = loop.call_later(IDLE_RUNNER_S, self._retire_idle, runner)

    def _retire_idle(self, runner: RunnerClient) -> None:
        self._idle.pop(runner.application, None)
        if not runner.agents:
            task = asyncio.get_running_loop().create_task(self._retire(runner))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _retire(self, runner: RunnerClient) -> None:
        if runner.agents or self._runners.get(runner.application) is not runner:
            return
        del self._runners[runner.application]
        idle = self._idle.pop(runner.application, None)
        if idle is not None:
            idle.cancel()
        await runner.close()

    async def _module(self, agent: AgentStart, *, fuel: bool) -> int:
        """Return the machine code of an agent; the descriptor stays ours while an agent is known to use it."""
        key = agent.code_digest, fuel
        if key not in self._modules:
            module = await self._compilation.module(
                agent.component, agent.component_digest, fuel=fuel, fusion=agent.fusion
            )
            if key in self._modules:
                os.close(module)
            else:
                self._modules[key] = module
        return self._modules[key]

    def _release_modules(self) -> None:
        used = {one.module for known in self._known.values() for one in (known, known.older) if one is not None}
        for key in self._modules.keys() - used:
            os.close(self._modules.pop(key))


def _exit_of(message: AgentEnded | StartFailed, at: datetime) -> Exit:
    if isinstance(message, AgentEnded):
        return Exit(message.cause, message.message, at)
    cause = message.fault.detail.get("cause", "")
    return Exit(ExitCause(cause) if cause in set(ExitCause) else ExitCause.TRAP, message.fault.message, at)

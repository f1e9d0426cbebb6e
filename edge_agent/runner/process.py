"""A runner: the process that hosts the agents of one application, from its fork to its end.

Owns: `main`, the reader of the control socket and the table of agents. The reader never waits for an agent: each has a
thread and a queue. When the supervisor's end of the socket closes, the process ends.
"""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from edge_agent.held_secret import HeldSecret
from edge_agent.inference import Inference
from edge_agent.runner import memory_file
from edge_agent.runner.agent_links import Links
from edge_agent.runner.agent_plan import AgentPlan, RunnerServices
from edge_agent.runner.compiled_cache import MAX_MODULE_BYTES
from edge_agent.runner.deliveries import deliver
from edge_agent.runner.engine import Engine
from edge_agent.runner.engine.malloc import keep_large_blocks
from edge_agent.runner.hosted_agent import HostedAgent
from edge_agent.runner.invocation import evaluate, read
from edge_agent.runner.jobs import AnsweredJob
from edge_agent.runner.memory_meter import MemoryMeter
from edge_agent.runner.messages import (
    AgentStopped,
    CallAgent,
    CallFailed,
    Counters,
    DeliverMessage,
    Fault,
    ReplaceAgent,
    ReplaceFailed,
    ReplyArrived,
    SensorsAnswered,
    StartAgent,
    StartFailed,
    StopAgent,
)
from edge_agent.runner.outbox import Outbox
from edge_agent.runner.ticker import Ticker
from edge_agent.runtime import ModelFile, Probation, VolumeFolder
from fleet.errors import Code, FleetError
from fleet.grants import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.connection import Connection, Received
    from edge_agent.runner.engine import Component, Instance
    from edge_agent.runner.jobs import Reading

END_TIMEOUT_S = 0.5
"""How long the agents may take to close their files when the supervisor has gone or ends the runner."""

SHARED = 16
"""Authorities that are remembered, so that agents started with the same one share it."""

STACK_BYTES = 8 << 20
"""Stack of an agent's thread: guest, engine and host functions nest on it."""


def main(connection: Connection) -> None:
    """Serve the supervisor until it closes the connection.

    Raises:
        FleetError: MESSAGE_INVALID; the supervisor hears of the end of the process.
    """
    keep_large_blocks()
    threading.stack_size(STACK_BYTES)
    runner = Runner(connection)
    try:
        runner.serve()
    finally:
        runner.close()


class Runner:
    """Starts, calls and stops agents as the supervisor asks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._services = RunnerServices(Outbox(connection), Ticker(), MemoryMeter(), Links(self.agent))
        self._components = Components()
        self._agents: dict[str, HostedAgent] = {}
        self._changed = threading.Lock()

    def serve(self) -> None:
        """Take messages until the end of the stream."""
        while (received := self._connection.receive()) is not None:
            self._handle(received)

    def close(self) -> None:
        """Stop all agents, as far as they stop soon."""
        with self._changed:
            agents = tuple(self._agents.values())
        for agent in agents:
            agent.stop(0)
        until = time.monotonic() + END_TIMEOUT_S
        for agent in agents:
            agent.join(until)
        self._services.outbox.close()

    def agent(self, name: str) -> HostedAgent | None:
        """Return an agent that starts or runs here, for whoever links or delivers to it; for any thread."""
        return self._agents.get(name)

    def _handle(self, received: Received) -> None:
        message, descriptors = received
        match message:
            case ReplaceAgent():
                self._replace(message, descriptors[0])
            case StartAgent():
                self._start(message, descriptors[0])
            case CallAgent():
                reading = partial(read, invocation=message.invocation)
                self._submit(message, lambda _, instance, s: evaluate(instance, message.invocation, s), reading)
            case DeliverMessage():
                self._submit(message, lambda agent, instance, s: deliver(instance, agent.context(), message.message, s))
            case ReplyArrived():
                if (agent := self._agents.get(message.agent)) is not None:
                    agent.mailbox.put(message.request, message.message)
            case SensorsAnswered():
                if (agent := self._agents.get(message.agent)) is not None:
                    agent.mailbox.put(message.request, message.states)
            case StopAgent():
                agent = self.agent(message.agent)
                if agent is not None:
                    agent.stop(message.grace_ms)
                else:
                    self._services.outbox.post(AgentStopped(message.agent))
            case _:
                raise FleetError(Code.MESSAGE_INVALID, f"a runner does not take {type(message).__name__}")

    def _submit(
        self,
        message: CallAgent | DeliverMessage,
        work: Callable[[HostedAgent, Instance, float], str],
        reading: Reading | None = None,
    ) -> None:
        outbox, agent = self._services.outbox, self._agents.get(message.agent)
        if agent is None:
            fault = Fault(Code.AGENT_NOT_RUNNING, f"{message.agent} is not running")
            outbox.post(CallFailed(message.call, message.agent, fault, Counters()))
            return
        max_output = agent.authority.limits.output_bytes
        agent.submit(AnsweredJob(message, partial(work, agent), outbox, agent.counters, max_output, reading))

    def _start(self, message: StartAgent, module: int) -> None:
        try:
            plan, load = self._planned(message, module)
        except FleetError as error:
            self._services.outbox.post(StartFailed(message.agent, Fault.of(error)))
            return
        agent = HostedAgent(plan, load, self._services, self._forget)
        with self._changed:
            self._agents[plan.name] = agent
        agent.start()

    def _replace(self, message: ReplaceAgent, module: int) -> None:
        try:
            plan, load = self._planned(message.start, module)
        except FleetError as error:
            self._services.outbox.post(ReplaceFailed(message.start.agent, Fault.of(error)))
            return
        agent = self.agent(plan.name)
        probation = Probation(message.probation_jobs, message.probation_ms)
        if agent is None or not agent.replace(plan, load, probation):
            os.close(module)
            fault = Fault(Code.AGENT_NOT_RUNNING, f"{plan.name} does not run")
            self._services.outbox.post(ReplaceFailed(plan.name, fault))

    def _planned(self, message: StartAgent, module: int) -> tuple[AgentPlan, Callable[[], Component]]:
        """What an instance runs with, and how it comes by its component; closes `module` when that is refused."""
        try:
            authority = _authority(message.authority)
            inference = _inference(tuple(sorted(message.inference.items())))
        except FleetError:
            os.close(module)
            raise
        plan = AgentPlan(
            name=message.agent,
            authority=authority,
            deny_stubs=message.deny_stubs,
            config=dict(message.config),
            models={model.name: ModelFile(Path(model.path), model.digest) for model in message.models},
            state_dir=Path(message.state_dir),
            on_full_queue=message.on_full_queue,
            health=message.health,
            links=dict(message.links),
            http_authorities=Path(message.http_authorities) if message.http_authorities else None,
            volumes={
                name: VolumeFolder(Path(path), name in message.writable_volumes)
                for name, path in message.volumes.items()
            },
            inference=inference,
            secrets={entry.name: HeldSecret(entry.kind, bytearray(entry.data)) for entry in message.secrets},
        )
        kind = EngineKind(authority.limits.fuel_per_call is not None, authority.limits.stack_bytes)
        return plan, partial(self._components.load, message.component, module, kind)

    def _forget(self, ended: HostedAgent) -> None:
        with self._changed:
            if self._agents.get(ended.name) is ended:  # it may have been started again already
                del self._agents[ended.name]


@lru_cache(maxsize=SHARED)
def _authority(text: str) -> Authority:
    """Agents with the same authority share what it reads as, which nobody changes."""
    return Authority.decode(text.encode())


@lru_cache(maxsize=1)
def _inference(items: tuple[tuple[str, str], ...]) -> Inference:
    """What the node's operator decided is the same for all agents."""
    return Inference.decode(dict(items))


class EngineKind(NamedTuple):
    """What an engine is made with: agents whose limits differ in it have engines of their own."""

    fuel: bool
    stack_bytes: int


class Components:
    """Loaded components, shared by the agents that run them; one that nobody runs is freed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: dict[EngineKind, Engine] = {}
        self._loaded: WeakValueDictionary[tuple[str, EngineKind], Component] = WeakValueDictionary()

    def load(self, digest: str, module: int, kind: EngineKind) -> Component:
        """Return the component `digest`, from the memory file `module` if it is not loaded; closes the file.

        The supervisor has verified the machine code, and nobody can have changed it since (see `compiled_cache`). It
        is mapped, so that runners with the same component share its pages.

        Raises:
            FleetError: MESSAGE_INVALID, COMPONENT_INVALID, COMPONENT_UNSUPPORTED.
        """
        try:
            with self._lock:
                component = self._loaded.get((digest, kind))
                if component is None:
                    memory_file.check_sealed(module, MAX_MODULE_BYTES)
                    engine = self._engine(kind)
                    component = engine.load_file(f"/proc/self/fd/{module}")
                    self._loaded[digest, kind] = component
                return component
        finally:
            os.close(module)

    def _engine(self, kind: EngineKind) -> Engine:
        if kind not in self._engines:
            self._engines[kind] = Engine(fuel=kind.fuel, stack_bytes=kind.stack_bytes)
        return self._engines[kind]

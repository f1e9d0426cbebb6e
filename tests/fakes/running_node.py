"""A whole node over a scripted runtime, on the loop of the test, with real files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from edge_agent import agent
from edge_agent.clock import SystemClock
from edge_agent.config import Settings
from edge_agent.disk import LocalDisk
from edge_agent.identity import Identity, IdentityStore
from edge_agent.runtime import AgentStats, CallResult
from fleet.model import AssignedAgent, DesiredState, Phase
from tests.fakes.coordinator import FakeCoordinator, NodeSession
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until

HOUR_MS = 3_600_000
ALWAYS = "{not_before: 2020-01-01T00:00:00Z, not_after: 2100-01-01T00:00:00Z}"


@dataclass
class RunningNode:
    """A joined node that can be switched off and on."""

    folder: Path
    coordinator: FakeCoordinator
    runtime: ScriptedRuntime = field(default_factory=ScriptedRuntime)
    changes: dict[str, int] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    identity: Identity | None = None

    def released(self, name: str = "app/one") -> AssignedAgent:
        return self.coordinator.world.agent(name, validity=ALWAYS)

    def order(self, *agents: AssignedAgent, generation: int = 1) -> DesiredState:
        return self.coordinator.world.assign(*agents, generation=generation, now=datetime.now(UTC))

    async def join(self) -> None:
        root = self.folder.parent / "root.json"
        root.write_bytes(self.coordinator.world.publisher.root)
        address, token = self.coordinator.enrolment_address, self.coordinator.token()
        self.identity = await agent.join(Settings(self.folder), address, token, root, {"site": "oslo"})

    def on(self) -> None:
        settings = replace(
            Settings(
                self.folder,
                allow_dev_profile=True,
                coalesce_ms=10,
                reconnect_initial_ms=20,
                reconnect_cap_ms=50,
                fetch_timeout_ms=2_000,
            ),
            **self.changes,
        )
        identity = IdentityStore(LocalDisk(), self.folder).load()
        assert identity is not None
        self.node = agent.Node(settings, identity, self.runtime, SystemClock(), Random(3))
        self.task = asyncio.create_task(self.node.run())

    async def off(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait((self.task,))
            if not self.task.cancelled():
                self.task.result()
            self.task = None
        self.runtime.running.clear()

    async def session(self, number: int = 1) -> NodeSession:
        await until(lambda: len(self.coordinator.sessions) >= number, f"session {number}")
        return self.coordinator.sessions[number - 1]

    async def running(self, *agents: AssignedAgent, generation: int = 1) -> NodeSession:
        session = await self.session()
        session.push(self.order(*agents, generation=generation))
        await self.reported(lambda: self.phases() == {spec.name: Phase.RUNNING for spec in agents}, "running")
        return session

    def phases(self) -> dict[str, Phase]:
        return {found.name: found.phase for found in self.coordinator.observed[-1].agents}

    async def reported(self, condition: Callable[[], bool], what: str) -> None:
        await until(lambda: bool(self.coordinator.observed) and condition(), what)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.coordinator.events]


@dataclass
class FaultyRuntime(ScriptedRuntime):
    """A runtime with bugs: each of `faults` is raised once, by whoever asks for an agent's counters."""

    faults: list[BaseException] = field(default_factory=list)
    call_faults: list[BaseException] = field(default_factory=list)

    def stats(self, agent: str) -> AgentStats:
        if self.faults:
            raise self.faults.pop(0)
        return super().stats(agent)

    async def call(self, agent: str, invocation: str, deadline_ms: int | None = None) -> CallResult:
        if self.call_faults:
            raise self.call_faults.pop(0)
        return await super().call(agent, invocation, deadline_ms)

"""The supervisor over a scripted runtime and virtual time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from edge_agent.admission import AdmittedAgent
from edge_agent.journal import Journal
from edge_agent.runtime import AgentStart
from edge_agent.sensors import SensorTable
from edge_agent.succession import Admission
from edge_agent.supervision import Accepted, Parts
from edge_agent.supervisor import Supervisor
from edge_agent.traffic import Inputs
from edge_agent.triggers import Reading
from fleet.errors import FleetError
from fleet.grants import Authority
from fleet.model import (
    AssignedAgent,
    ObservedAgent,
    Phase,
    RestartPolicy,
    TargetRef,
    Trigger,
)
from tests.fakes.clock import START, VirtualClock
from tests.fakes.runtime import ScriptedRuntime

REF = TargetRef("p", "sha256:" + "0" * 64)


def spec(name: str, *triggers: Trigger, **config: str) -> AssignedAgent:
    return AssignedAgent(name, REF, REF, config=config, triggers=triggers, restart=RestartPolicy(1_000, 8_000, 60_000))


class OneReading:
    def read(self, sources: Iterable[str]) -> tuple[Reading, ...]:
        return tuple(Reading(source, 12.5) for source in sources if source != "absent")


@dataclass
class Bench:
    clock: VirtualClock = field(default_factory=VirtualClock)
    runtime: ScriptedRuntime = field(default_factory=ScriptedRuntime)
    refusals: dict[str, list[FleetError]] = field(default_factory=lambda: defaultdict(list))
    valid_until: datetime | None = None
    admissions: list[str] = field(default_factory=list)
    authority: bytes = Authority({}).encode()
    generation: int = 0

    def __post_init__(self) -> None:
        self.journal = Journal("node-1", 500)
        inputs = Inputs(OneReading(), SensorTable((), self.clock, lambda *_: None))
        parts = Parts(self.runtime, self.decide, self.granted, self.journal, self.clock, Random(7), inputs)
        self.admission: Admission = self.admit
        self.supervisor = Supervisor(parts)

    async def decide(self, agent: AssignedAgent) -> AdmittedAgent:
        return await self.admission(agent)

    def withdraw(self, admission: Admission) -> None:
        self.admission = admission

    async def admit(self, agent: AssignedAgent) -> AdmittedAgent:
        self.admissions.append(agent.name)
        await asyncio.sleep(0)
        if self.refusals[agent.name]:
            raise self.refusals[agent.name].pop(0)
        start = AgentStart(agent.name, Path("/c"), "sha256:0", self.authority, Path("/state"), config=agent.config)
        return AdmittedAgent(start, self.valid_until)

    async def granted(self, agent: AssignedAgent) -> Authority:
        return Authority.decode(self.authority)

    async def desire(self, *agents: AssignedAgent) -> None:
        self.generation += 1
        self.supervisor.desire(Accepted(self.generation, f"sha256:{self.generation}", agents))
        await self.clock.settle()

    def agent(self, name: str = "app/one") -> ObservedAgent:
        (found,) = (agent for agent in self.supervisor.observed().agents if agent.name == name)
        return found

    def phases(self) -> dict[str, Phase]:
        return {agent.name: agent.phase for agent in self.supervisor.observed().agents}

    def kinds(self, agent: str = "app/one") -> list[str]:
        return [event.kind for event in self.journal.take_events(1_000, START) if event.agent == agent]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    running = asyncio.create_task(bench.supervisor.run())
    await bench.clock.settle()
    yield bench
    running.cancel()
    await asyncio.wait((running,))
    if not running.cancelled():
        running.result()

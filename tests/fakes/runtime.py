"""A runtime whose script says what happens: implements `edge_agent.runtime.Runtime` without any process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.fusion import Fusion
from edge_agent.health import Health
from edge_agent.runtime import (
    AgentConfirmed,
    AgentExited,
    AgentHealthChanged,
    AgentReplaced,
    AgentRestored,
    AgentStart,
    AgentStats,
    Answer,
    BusMessage,
    CallResult,
    Probation,
    RunnerLost,
    RuntimeEvent,
)
from fleet.errors import Code, FleetError
from fleet.model import Exit, ExitCause

WHEN = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class ScriptedRuntime:
    """Runs nothing. `journal` tells what it was asked for, in order.

    Attributes:
        start_faults: agent -> errors of its next starts.
        prepare_faults: digest -> errors of its next compilations.
        traps: invocations that end the agent they call.
        faulty: agent -> configurations under which each of its calls traps.
        slow_calls: agent -> event that its calls wait for.
        stubborn: agents whose stop does not return while their event is unset.
        slow_starts: agent -> event that its starts wait for.
        delivered: agent -> messages of the bus that it was given.
        outcomes: agent -> what its handler of messages returns, `ok` unless it is here, or raises.
        answers: what agents were answered inside their calls.
        unwell: agents that export health, and the errors that they have answered with so far in a row.
    """

    running: dict[str, AgentStart] = field(default_factory=dict)
    older: dict[str, AgentStart] = field(default_factory=dict)
    jobs_left: dict[str, int] = field(default_factory=dict)
    journal: list[str] = field(default_factory=list)
    start_faults: dict[str, list[FleetError]] = field(default_factory=lambda: defaultdict(list))
    prepare_faults: dict[str, list[FleetError]] = field(default_factory=lambda: defaultdict(list))
    traps: set[str] = field(default_factory=set)
    faulty: dict[str, dict[str, str]] = field(default_factory=dict)
    slow_calls: dict[str, asyncio.Event] = field(default_factory=dict)
    stubborn: dict[str, asyncio.Event] = field(default_factory=dict)
    slow_starts: dict[str, asyncio.Event] = field(default_factory=dict)
    events: asyncio.Queue[RuntimeEvent] = field(default_factory=asyncio.Queue)
    calls: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    totals: dict[str, AgentStats] = field(default_factory=dict)

    delivered: dict[str, list[BusMessage]] = field(default_factory=lambda: defaultdict(list))
    outcomes: dict[str, str | FleetError] = field(default_factory=dict)
    answers: list[tuple[str, int, Answer]] = field(default_factory=list)
    unwell: dict[str, int] = field(default_factory=dict)

    async def prepare(self, component: Path, digest: str, fusion: Fusion | None = None) -> None:
        digest = digest if fusion is None else fusion.digest
        if self.prepare_faults[digest]:
            raise self.prepare_faults[digest].pop(0)

    async def start(self, agent: AgentStart) -> None:
        self.journal.append(f"start {agent.name}")
        if agent.name in self.slow_starts:
            await self.slow_starts[agent.name].wait()
        if self.start_faults[agent.name]:
            raise self.start_faults[agent.name].pop(0)
        if agent.name in self.running:
            raise FleetError(Code.ALREADY_EXISTS, f"{agent.name} runs already")
        self.running[agent.name] = agent
        self.totals.setdefault(agent.name, AgentStats())
        if agent.name in self.unwell:
            self.unwell[agent.name] = 0
            self._say(agent.name, Health.UNASKED, "")

    async def replace(self, agent: AgentStart, probation: Probation) -> None:
        self.journal.append(f"replace {agent.name}")
        if agent.name in self.slow_starts:
            await self.slow_starts[agent.name].wait()
        if self.start_faults[agent.name]:
            raise self.start_faults[agent.name].pop(0)
        if agent.name not in self.running:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent.name} does not run")
        self.older.pop(agent.name, None)
        self.events.put_nowait(AgentReplaced(agent.name))
        if probation.jobs:
            self.older[agent.name] = self.running[agent.name]
            self.jobs_left[agent.name] = probation.jobs
        else:
            self.events.put_nowait(AgentConfirmed(agent.name))
        self.running[agent.name] = agent

    def confirm(self, agent: str) -> None:
        """End the probation of an agent."""
        del self.older[agent]
        self.events.put_nowait(AgentConfirmed(agent))

    async def call(self, agent: str, invocation: str, deadline_ms: int | None = None) -> CallResult:
        if agent not in self.running:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent} does not run")
        self.calls[agent].append(invocation)
        self._count(agent, calls=1)
        if agent in self.slow_calls:
            await self.slow_calls[agent].wait()
        if invocation in self.traps or self.running[agent].config == self.faulty.get(agent):
            self._count(agent, errors=1)
            self.trap(agent, ExitCause.UNREACHABLE, "wasm `unreachable` instruction executed")
            raise FleetError(Code.AGENT_TRAPPED, "trapped", cause="unreachable")
        if agent in self.older:
            self.jobs_left[agent] -= 1
            if not self.jobs_left[agent]:
                self.confirm(agent)
        return CallResult(f'ok("{invocation.partition("(")[0]}")', 1.0)

    async def deliver(self, agent: str, message: BusMessage) -> CallResult:
        if agent not in self.running:
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent} does not run")
        self.delivered[agent].append(message)
        self._count(agent, calls=1)
        if agent in self.slow_calls:
            await self.slow_calls[agent].wait()
        outcome = self.outcomes.get(agent, "ok")
        if isinstance(outcome, FleetError):
            raise outcome
        return CallResult(outcome, 1.0)

    def answer(self, agent: str, request: int, answer: Answer) -> None:
        self.answers.append((agent, request, answer))

    async def stop(self, agent: str, grace_ms: int) -> None:
        self.journal.append(f"stop {agent}")
        if agent in self.stubborn:
            await self.stubborn[agent].wait()
        self.running.pop(agent, None)
        self.older.pop(agent, None)
        self.totals.pop(agent, None)

    def stats(self, agent: str) -> AgentStats:
        return self.totals.get(agent, AgentStats())

    def _count(self, agent: str, calls: int = 0, errors: int = 0) -> None:
        before = self.totals.get(agent, AgentStats())
        self.totals[agent] = replace(
            before, calls=before.calls + calls, errors=before.errors + errors, returned=before.returned + calls - errors
        )

    def answer_health(self, agent: str, error: str = "") -> None:
        """Let an agent that exports health answer, with an error or without."""
        self._say(agent, Health.FAILING if error else Health.OK, error)
        self.unwell[agent] = self.unwell[agent] + 1 if error else 0
        if self.unwell[agent] >= self.running[agent].health.failures:
            self.trap(agent, ExitCause.UNHEALTHY, f'health answered with an error: "{error}"')

    def _say(self, agent: str, health: Health, error: str) -> None:
        if self.totals[agent].health is not health:
            self.events.put_nowait(AgentHealthChanged(agent))
        self.totals[agent] = replace(self.totals[agent], health=health, health_message=error)

    async def next_event(self) -> RuntimeEvent:
        return await self.events.get()

    async def close(self) -> None:
        self.running.clear()

    def trap(self, agent: str, cause: ExitCause, message: str = "") -> None:
        """End an agent by itself, or its new instance during a probation."""
        if agent in self.totals:
            self.totals[agent] = replace(self.totals[agent], returned=0, health=Health.UNSERVED, health_message="")
        self.running.pop(agent, None)
        if agent in self.older:
            self.running[agent] = self.older.pop(agent)
            self.events.put_nowait(AgentRestored(agent, Exit(cause, message, WHEN)))
            return
        self.events.put_nowait(AgentExited(agent, Exit(cause, message, WHEN)))

    def lose_runner(self, application: str) -> None:
        """End the process of an application."""
        agents = tuple(sorted(name for name in self.running if name.startswith(f"{application}/")))
        for agent in agents:
            del self.running[agent]
            self.older.pop(agent, None)
        self.events.put_nowait(RunnerLost(application, agents, Exit(ExitCause.ENGINE_CRASH, "SIGABRT", WHEN)))

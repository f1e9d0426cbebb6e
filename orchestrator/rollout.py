"""Decides the next step of a deployment from what the nodes report.

Owns: what makes a node healthy, failed or unreachable, and the order next wave, wait, roll back, finish. Pure: takes
the observations and `now`. Never writes, never signals; `rollouts` does what is decided here.

Time on a node is compared only with time on the same node: how long an agent has run is the difference of two stamps
of one report, prolonged by the coordinator's own clock while the session is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.model import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fleet.model import AssignedAgent, ObservedAgent, ObservedState, RolloutPolicy

FAILING_RESTARTS = 3
"""Restarts after which an agent that waits in back-off counts as failed rather than as slow to start."""


class WaveState(StrEnum):
    """Where a wave stands."""

    WAITING = "waiting"
    RUNNING = "running"
    HEALTHY = "healthy"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"


class Health(StrEnum):
    """What one node of a wave looks like."""

    HEALTHY = "healthy"
    PENDING = "pending"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Wave:
    """One step of a deployment."""

    number: int
    nodes: tuple[str, ...]
    state: WaveState
    started: datetime | None = None


@dataclass(frozen=True, slots=True)
class NodeTarget:
    """What a node of the deployment shall report: at least this generation, and of the application these agents."""

    generation: int
    application: str
    agents: tuple[AssignedAgent, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """The newest report of a node.

    Attributes:
        online: whether the node's session is open now.
    """

    state: ObservedState
    online: bool


@dataclass(frozen=True, slots=True)
class Assessment:
    """Health of one node; `healthy_agents` run with the right digests and are ready, for however long."""

    health: Health
    message: str
    healthy_agents: int = 0


@dataclass(frozen=True, slots=True)
class StartWave:
    """Give the wave's nodes their new generation; every earlier wave is healthy."""

    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`, unless a report comes."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Give every touched node its previous agents again."""

    wave: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Every wave is healthy."""

    unreachable: tuple[str, ...] = ()


Decision = StartWave | Wait | RollBack | Finish


def assess(target: NodeTarget, observation: Observation | None, healthy_for: timedelta) -> Assessment:
    """Judge one node by its newest report, and by nothing else.

    An agent has run long enough when a report says so, by the node's own clock. Time that has passed since the report
    counts for nothing: the agent may have trapped meanwhile and the line be dead. Nodes report again soon after a
    change, so this costs a moment. An agent that runs and is not ready, by its node's word, is on its way there; where
    a node says nothing of that, running is enough. A node that left is unreachable, not failed: silence says nothing
    about its agents.
    """
    if observation is None or not observation.online:
        return Assessment(Health.UNREACHABLE, "no session")
    if observation.state.generation < target.generation:
        return Assessment(
            Health.PENDING, f"generation {observation.state.generation}, {target.generation} is on its way"
        )
    reported = {agent.name: agent for agent in observation.state.agents}
    running = 0
    pending = ""
    young = False
    for wanted in target.agents:
        agent = reported.get(wanted.name)
        if agent is None:
            pending = pending or f"{wanted.name} is not reported yet"
            continue
        fault = _fault(agent)
        if fault:
            return Assessment(Health.FAILED, f"{agent.name}: {fault}", running)
        if agent.phase is not Phase.RUNNING or agent.running_since is None:
            pending = pending or f"{agent.name} is {agent.phase}"
        elif (agent.bundle_digest, agent.grant_digest) != (wanted.bundle.digest, wanted.grant.digest):
            pending = pending or f"{agent.name} still runs its previous version"
        elif agent.vitals.ready is False:
            because = f": {agent.vitals.reason}" if agent.vitals.reason else ""
            pending = pending or f"{agent.name} is not ready{because}"
        else:
            running += 1
            young = young or max(observation.state.at - agent.running_since, timedelta()) < healthy_for
    for name in sorted(reported.keys() - {wanted.name for wanted in target.agents}):
        if name.startswith(f"{target.application}/"):
            pending = pending or f"{name} has not ended yet"
    if pending:
        return Assessment(Health.PENDING, pending, running)
    if young:
        return Assessment(Health.PENDING, "runs, not long enough yet", running)
    return Assessment(Health.HEALTHY, "runs", running)


def _fault(agent: ObservedAgent) -> str:
    if agent.refusal is not None:
        return f"refused, {agent.refusal.code}"
    if agent.phase is Phase.FAILED:
        return "failed"
    if agent.phase is Phase.BACKOFF and agent.restarts >= FAILING_RESTARTS:
        cause = f" after {agent.last_exit.cause}" if agent.last_exit is not None else ""
        return f"in back-off{cause}, {agent.restarts} restarts"
    return ""


def advance(
    policy: RolloutPolicy,
    waves: Sequence[Wave],
    targets: Mapping[str, NodeTarget],
    observations: Mapping[str, Observation],
    now: datetime,
) -> Decision:
    """Decide the next step.

    1. A begun wave with more failed nodes than the policy tolerates: roll back.
    2. The running wave is past its deadline: its online nodes that are not healthy count as failed too; a wave of
       which no node is healthy at all has failed; otherwise its unreachable nodes are left to catch up later.
    3. The running wave is healthy: start the next one, or finish.
    4. Otherwise wait, at most until the deadline.
    """
    healthy_for = timedelta(milliseconds=policy.healthy_for_ms)
    unreachable: list[str] = []
    for wave in waves:
        if wave.state is WaveState.WAITING:
            return StartWave(wave.number)
        judged = {name: assess(targets[name], observations.get(name), healthy_for) for name in wave.nodes}
        failed = {name: a.message for name, a in judged.items() if a.health is Health.FAILED}
        if len(failed) > policy.max_failures:
            return RollBack(wave.number, _first(failed))
        if wave.state is WaveState.HEALTHY or wave.started is None:
            continue
        silent = [name for name, a in judged.items() if a.health is Health.UNREACHABLE]
        late = {name: f"not healthy in time: {a.message}" for name, a in judged.items() if a.health is Health.PENDING}
        deadline = wave.started + timedelta(milliseconds=policy.deadline_ms)
        if not late and not silent:
            continue
        if now < deadline:
            waiting = next(iter(late.items())) if late else (silent[0], "no session")
            return Wait(deadline, f"{waiting[0]}: {waiting[1].removeprefix('not healthy in time: ')}")
        failed |= late
        if len(failed) > policy.max_failures:
            return RollBack(wave.number, _first(failed))
        if len(silent) == len(wave.nodes):
            return RollBack(wave.number, f"no node of wave {wave.number} had a session before the deadline")
        unreachable.extend(silent)
    return Finish(tuple(unreachable))


def _first(failed: Mapping[str, str]) -> str:
    name = min(failed)
    others = f" (and {len(failed) - 1} more nodes)" if len(failed) > 1 else ""
    return f"{name}: {failed[name]}{others}"

"""Decides where the agents of one application run, and in which order the nodes change.

Owns: placement, the difference to what runs now, and the cutting of changed nodes into waves. Pure: the same inventory
gives the same plan. Never decides whether a plan is allowed (`checks`), never looks at health (`rollout`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fleet.model import AssignedAgent, Placement, RolloutPolicy


class Action(StrEnum):
    """What a plan does to one agent on one node."""

    START = "start"
    STOP = "stop"
    REPLACE = "replace"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What the planner may know about a node.

    Attributes:
        agents: every agent of the node's newest desired state, of all applications.
    """

    name: str
    labels: Mapping[str, str]
    online: bool
    agents: tuple[AssignedAgent, ...]


@dataclass(frozen=True, slots=True)
class PlacedAgent:
    """One agent of the application with its bundle and grant already looked up."""

    agent: AssignedAgent
    placement: Placement


@dataclass(frozen=True, slots=True)
class NodeChange:
    """One node before and after; only agents of the planned application.

    Attributes:
        wave: number of the wave that changes the node, from 1; 0 when nothing changes.
    """

    node: str
    before: tuple[AssignedAgent, ...]
    after: tuple[AssignedAgent, ...]
    wave: int

    def actions(self) -> tuple[tuple[AssignedAgent, Action], ...]:
        """Return what happens to each agent, by name."""
        old = {agent.name: agent for agent in self.before}
        new = {agent.name: agent for agent in self.after}
        result: list[tuple[AssignedAgent, Action]] = []
        for name in sorted(old.keys() | new.keys()):
            if name not in new:
                result.append((old[name], Action.STOP))
            elif name not in old:
                result.append((new[name], Action.START))
            else:
                result.append((new[name], Action.KEEP if old[name] == new[name] else Action.REPLACE))
        return tuple(result)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deployment will do; nothing has happened yet.

    Attributes:
        nodes: every node that runs or will run the application, by name.
        waves: names of the nodes that change, in order; wave 1 is `waves[0]`.
    """

    application: str
    nodes: tuple[NodeChange, ...]
    waves: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return bool(self.waves)


def matches(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a node's labels contain all wanted ones."""
    return all(labels.get(key) == value for key, value in wanted.items())


def plan(application: str, agents: Sequence[PlacedAgent], policy: RolloutPolicy, nodes: Iterable[NodeInfo]) -> Plan:
    """Place every agent and cut the changed nodes into waves.

    Nodes without a session go last, so that a wave meant to try the change tries it on a node that can answer.

    Args:
        application: name of the application; its agents on the nodes that are not in `agents` are stopped.
        agents: what shall run.
        policy: sizes of the waves.
        nodes: every node that may be used (joined and not locked).

    Raises:
        FleetError: NO_MATCHING_NODES when an agent fits on no node.
    """
    inventory = sorted(nodes, key=lambda node: node.name)
    after: dict[str, list[AssignedAgent]] = {node.name: [] for node in inventory}
    warnings: list[str] = []
    for placed in agents:
        chosen = [node for node in inventory if matches(node.labels, placed.placement.labels)]
        count = placed.placement.count
        if not chosen:
            wanted = ", ".join(f"{key}={value}" for key, value in sorted(placed.placement.labels.items()))
            raise FleetError(
                Code.NO_MATCHING_NODES,
                f"no joined node for {placed.agent.name}",
                agent=placed.agent.name,
                labels=wanted or "(any)",
            )
        if count is not None:
            if len(chosen) < count:
                warnings.append(f"{placed.agent.name}: {count} nodes wanted, {len(chosen)} match")
            chosen = chosen[:count]
        for node in chosen:
            after[node.name].append(placed.agent)
    changes: list[NodeChange] = []
    for node in inventory:
        old = tuple(sorted((a for a in node.agents if a.application == application), key=lambda a: a.name))
        new = tuple(sorted(after[node.name], key=lambda a: a.name))
        if old or new:
            changes.append(NodeChange(node.name, old, new, 0))
    online = {node.name: node.online for node in inventory}
    changed = sorted((c.node for c in changes if c.before != c.after), key=lambda name: (not online[name], name))
    warnings.extend(f"{name} has no session; it changes when it returns" for name in changed if not online[name])
    waves = cut_waves(changed, policy)
    number = {name: i for i, wave in enumerate(waves, 1) for name in wave}
    numbered = (NodeChange(c.node, c.before, c.after, number.get(c.node, 0)) for c in changes)
    return Plan(application, tuple(numbered), waves, tuple(warnings))


def cut_waves(names: Sequence[str], policy: RolloutPolicy) -> tuple[tuple[str, ...], ...]:
    """Cut nodes into waves: sizes are cumulative, a share is rounded up, the last wave takes the rest."""
    total = len(names)
    waves: list[tuple[str, ...]] = []
    begin = 0
    for i, size in enumerate(policy.waves):
        last = i == len(policy.waves) - 1
        wanted = size if isinstance(size, int) else math.ceil(size * total)
        end = total if last else min(total, max(begin, wanted))
        if end > begin:
            waves.append(tuple(names[begin:end]))
            begin = end
    return tuple(waves)

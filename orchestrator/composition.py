"""What links of an application make of its agents: what is fused into what, and what runs by itself.

Owns: the checks that need the components of all agents at once, and `fuse`. Pure. What one agent may call was checked
against its own grant before (`fleet.grants.check_imports`); types are compared on the node, which has the engine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.links import MAX_FUSED, answering_export, fused_names, linked_imports, outer_links, runs_alone
from fleet.model import AssignedAgent, FusedAgent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.planner import NodeChange, Plan


@dataclass(frozen=True, slots=True)
class Component:
    """One agent of the application, and what its component imports and exports."""

    agent: AssignedAgent
    imports: Sequence[str]
    exports: Sequence[str]


@dataclass(frozen=True, slots=True)
class Composition:
    """What becomes of the agents of an application.

    Attributes:
        agents: what runs by itself, each with everything that is fused into it.
        warnings: what an operator may not expect.
    """

    agents: tuple[AssignedAgent, ...]
    warnings: tuple[str, ...]


def fuse(components: Sequence[Component]) -> Composition:
    """Check every link against both components, and join what is to run as one.

    Args:
        components: every agent of the application; links have full names, and no cycle.

    Raises:
        FleetError: LINK_INVALID naming both agents; LIMIT_EXCEEDED above `MAX_FUSED` parts of one agent.
    """
    known = {component.agent.name: component for component in components}
    for component in components:
        name = component.agent.name
        for imported, link in linked_imports(component.agent.links, component.imports, name).items():
            answering_export(imported, known[link.agent].exports, name, link.agent)
    links = {name: component.agent.links for name, component in known.items()}
    agents: list[AssignedAgent] = []
    warnings: list[str] = []
    for name, component in known.items():
        if runs_alone(name, links, triggered=bool(component.agent.triggers)):
            parts = fused_names(name, links)
            if len(parts) > MAX_FUSED:
                raise FleetError(Code.LIMIT_EXCEEDED, f"{name} has {len(parts)} parts, the limit is {MAX_FUSED}")
            whole = replace(component.agent, fused=tuple(_part(known[part].agent) for part in parts))
            outer_links(whole)
            agents.append(whole)
        else:
            _check_part(component.agent)
            users = sorted(user for user, others in links.items() if any(link.agent == name for link in others))
            warnings.append(f"{name} runs as a part of {', '.join(users)} and not by itself")
    return Composition(tuple(agents), tuple(warnings))


def _part(agent: AssignedAgent) -> FusedAgent:
    return FusedAgent(agent.name, agent.bundle, agent.grant, agent.links, agent.narrow)


def _check_part(agent: AssignedAgent) -> None:
    if agent.config:
        raise FleetError(
            Code.LINK_INVALID,
            f"{agent.name} runs only as a part of others, which have their own configuration",
            agent=agent.name,
            remedy="Move its `config` to the agent that it is fused into, or link it with `isolation: store`.",
        )


def check_neighbours(plan: Plan) -> None:
    """Check that on every node an agent finds those that it calls.

    Raises:
        FleetError: LINK_INVALID naming the node and both agents.
    """
    for change in plan.nodes:
        _check_node(change, {agent.name: agent for agent in change.after})


def _check_node(change: NodeChange, present: Mapping[str, AssignedAgent]) -> None:
    for agent in present.values():
        for link in outer_links(agent):
            if link.agent not in present:
                raise FleetError(
                    Code.LINK_INVALID,
                    f"{agent.name} is placed on {change.node}, and {link.agent}, which it is linked to, is not",
                    agent=agent.name,
                    node=change.node,
                    imports=link.interface,
                    remedy=f"Give {link.agent} a `placement` in fleet.yaml that covers every node of {agent.name}.",
                )

"""Rules that every plan must satisfy before it is stored.

Owns: the invariants, each numbered and named in its refusal. Pure. A broken rule is a fault of the manifest or of the
planner; either way nothing is stored.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from fleet.assignment import MAX_AGENTS
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.planner import NodeInfo, Plan


def check(plan: Plan, nodes: Sequence[NodeInfo]) -> None:
    """Refuse a plan that breaks a rule.

    1. Every node of the plan is in the inventory, once.
    2. `before` is what the inventory says the node runs of the application.
    3. Every agent belongs to the application and is named once per node.
    4. Every changed node is in exactly one wave, no unchanged node is in any, and its number fits.
    5. No wave is empty.
    6. No node gets more than `MAX_AGENTS` agents, those included that are fused into others.

    Raises:
        FleetError: PLAN_INVALID naming the rule and the node.
    """
    inventory = {node.name: node for node in nodes}
    _once("1 unknown or doubled node", Counter(change.node for change in plan.nodes))
    for change in plan.nodes:
        node = inventory.get(change.node)
        if node is None:
            _refuse("1 unknown or doubled node", change.node)
        others = [agent for agent in node.agents if agent.application != plan.application]
        own = {agent.name: agent for agent in node.agents if agent.application == plan.application}
        if own != {agent.name: agent for agent in change.before}:
            _refuse("2 planned from another state", change.node)
        if any(agent.application != plan.application for agent in change.after):
            _refuse("3 agent of another application", change.node)
        _once("3 agent named twice", Counter(agent.name for agent in change.after))
        if sum(len(agent.parts) for agent in (*others, *change.after)) > MAX_AGENTS:
            _refuse(f"6 more than {MAX_AGENTS} agents", change.node)
    _check_waves(plan)


def _check_waves(plan: Plan) -> None:
    placed = {name: number for number, wave in enumerate(plan.waves, 1) for name in wave}
    _once("4 node in two waves", Counter(name for wave in plan.waves for name in wave))
    wanted = {change.node: change.wave for change in plan.nodes if change.before != change.after}
    for name in sorted(placed.keys() | wanted.keys()):
        if placed.get(name) != wanted.get(name):
            _refuse("4 waves do not fit the changes", name)
    for number, wave in enumerate(plan.waves, 1):
        if not wave:
            _refuse("5 empty wave", f"wave {number}")


def _once(rule: str, counts: Mapping[str, int]) -> None:
    for name in sorted(name for name, count in counts.items() if count > 1):
        _refuse(rule, name)


def _refuse(rule: str, subject: str) -> NoReturn:
    raise FleetError(Code.PLAN_INVALID, f"{subject}: rule {rule}", rule=rule, subject=subject)

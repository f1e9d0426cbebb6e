"""Keeps a deployer of one team to that team's applications.

Owns: which team an agent is of: the one whose grants role approved it, as its grant's path says (`grants/TEAM/...`).
Under an emergency grant, which is of no team, it is of the team whose code it runs. An operator without a team is of
all teams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.targets import is_break_glass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.model import AssignedAgent, FusedAgent
    from orchestrator.nodes import NodeView
    from orchestrator.principals import OperatorIdentity


def check_team(operator: OperatorIdentity, agents: Iterable[AssignedAgent]) -> None:
    """Refuse what concerns an agent of another team, or none that is known.

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    if not operator.team:
        return
    whole = tuple(agents)
    teams = {_team(part) for agent in whole for part in agent.parts}
    if teams != {operator.team}:
        raise FleetError(
            Code.PERMISSION_DENIED,
            f"user/{operator.name} is of the team {operator.team}, this is of {', '.join(sorted(teams)) or 'nobody'}",
            team=operator.team,
            remedy=f"Ask somebody of the team {', '.join(sorted(teams - {operator.team})) or 'that owns it'}.",
        )


def _team(part: AssignedAgent | FusedAgent) -> str:
    return (part.bundle if is_break_glass(part.grant.path) else part.grant).path.split("/")[1]


def agents_named(views: Iterable[NodeView], name: str) -> tuple[AssignedAgent, ...]:
    """Return an agent as the nodes are ordered to run it."""
    return tuple(agent for view in views for agent in view.desired_agents if name in {p.name for p in agent.parts})

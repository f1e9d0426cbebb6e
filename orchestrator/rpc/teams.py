"""Keeps whoever is of one team to what is of that team.

Owns: which methods a team limits, and which team an agent is of: the one whose grants role approved it, as its grant's
path says (`grants/TEAM/...`). Under an emergency grant, which is of no team, it is of the team whose code it runs. An
operator without a team is of all teams.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from fleet.errors import Code, FleetError
from fleet.release import ONLINE_ROLES
from fleet.targets import code_role, grants_role, is_break_glass, team_of_grant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.model import AssignedAgent, FusedAgent
    from fleet.trust import Target
    from orchestrator.nodes import NodeView
    from orchestrator.principals import OperatorIdentity


class Scope(Enum):
    """How far a method reaches for somebody of one team."""

    FLEET = auto()
    """As far as for anybody: it only reads, or stores what counts for nothing by itself."""

    TEAM = auto()
    """What is of the team; the door asks `check_team`, `check_agent` or `check_files` before anything is done."""

    NOBODY = auto()
    """Not at all: it concerns every team."""


TEAM_SCOPES: Final[dict[str, Scope]] = {
    "HasBlobs": Scope.FLEET,
    "PutBlob": Scope.FLEET,
    "Publish": Scope.TEAM,
    "GetTrust": Scope.FLEET,
    "GetBlob": Scope.FLEET,
    "Plan": Scope.FLEET,
    "Deploy": Scope.TEAM,
    "WatchDeployment": Scope.FLEET,
    "ListDeployments": Scope.FLEET,
    "GetDeployment": Scope.FLEET,
    "CancelDeployment": Scope.TEAM,
    "ListNodeAuthorities": Scope.FLEET,
    "ListOperators": Scope.FLEET,
    "ListNodes": Scope.FLEET,
    "GetNode": Scope.FLEET,
    "GetOrder": Scope.FLEET,
    "ListAgents": Scope.FLEET,
    "GetAgent": Scope.FLEET,
    "ListGrants": Scope.FLEET,
    "GetGrant": Scope.FLEET,
    "ListBundles": Scope.FLEET,
    "CallAgent": Scope.TEAM,
    "SendEvent": Scope.NOBODY,  # a topic is of no team: whoever listens takes the event
    "StreamLogs": Scope.FLEET,
    "ListEvents": Scope.FLEET,
    "ListCrashes": Scope.FLEET,
    "GetCrash": Scope.TEAM,
    "ListSealingKeys": Scope.FLEET,
    "PutSecret": Scope.TEAM,
    "ListSecrets": Scope.FLEET,
    "RemoveSecret": Scope.TEAM,
    "AuditWho": Scope.FLEET,
    "AuditCheckpoint": Scope.FLEET,
    "AuditEntries": Scope.FLEET,
    "AuditRows": Scope.FLEET,
    "AuditCheckpoints": Scope.FLEET,
    "AuditWitnesses": Scope.FLEET,
    "AuditOffer": Scope.FLEET,
    "AuditCosign": Scope.FLEET,  # a cosignature counts by its key, whoever brings it
}
"""Method of ControlService to its reach; one without a row is for nobody of one team."""


def check_scope(operator: OperatorIdentity, method: str) -> None:
    """Refuse a method that concerns every team to somebody of one team.

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    if operator.team and TEAM_SCOPES.get(method, Scope.NOBODY) is Scope.NOBODY:
        raise FleetError(
            Code.PERMISSION_DENIED,
            f"{method} concerns every team, user/{operator.name} is of the team {operator.team}",
            team=operator.team,
            remedy="Ask somebody who is of all teams.",
        )


def check_files(operator: OperatorIdentity, names: Iterable[str]) -> None:
    """Refuse a publication that changes roles of another team, or of none.

    Args:
        operator: who publishes.
        names: of the files of metadata that change: `7.code-default.json`, `timestamp.json`.

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    own = {code_role(operator.team), grants_role(operator.team), *ONLINE_ROLES}
    others = sorted({name.removesuffix(".json").rpartition(".")[2] for name in names} - own)
    if operator.team and others:
        raise FleetError(
            Code.PERMISSION_DENIED,
            f"user/{operator.name} is of the team {operator.team}, this changes {', '.join(others)}",
            team=operator.team,
            remedy="Ask somebody who is of all teams, or of the one that is named.",
        )


def check_agent(
    operator: OperatorIdentity, name: str, ordered: Iterable[AssignedAgent], grants: Iterable[Target]
) -> None:
    """Refuse what concerns an agent of another team, or of none; it need not run anywhere yet.

    Args:
        operator: who calls.
        name: of the agent.
        ordered: the agent as nodes are ordered to run it.
        grants: the published grants for it.

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    running = {_team(part) for agent in ordered for part in agent.parts if part.name == name}
    approved = {team_of_grant(grant.path) for grant in grants if not is_break_glass(grant.path)}
    _check(operator, running | approved)


def check_team(operator: OperatorIdentity, agents: Iterable[AssignedAgent]) -> None:
    """Refuse what concerns an agent of another team, or none that is known.

    Raises:
        FleetError: PERMISSION_DENIED.
    """
    _check(operator, {_team(part) for agent in agents for part in agent.parts})


def _check(operator: OperatorIdentity, teams: set[str]) -> None:
    if operator.team and teams != {operator.team}:
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

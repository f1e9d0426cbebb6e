"""Whose grants a command means: the team whose role approved them, or shall.

Owns: the one rule by which every command for grants finds the team of an agent. It never chooses among several: a
grant of one team must not be shown, drafted or revoked for that of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.targets import BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, agent_of_grant, grants_role, team_of_grant
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.session import NODE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

TEAM = click.option(
    "--team",
    default="",
    type=NODE_NAME,
    metavar="NAME",
    help="Whose grants; default: the team under whose grant the agent runs, else that of the context.",
)

ONLY_TEAM = click.option("--team", default="", type=NODE_NAME, metavar="NAME", help="Only grants of this team.")

_PREFIX = grants_role("")


def teams_of(release: Release) -> tuple[str, ...]:
    """Return the teams that have a role for grants, sorted; the emergency role is of no team."""
    names = (role.removeprefix(_PREFIX) for role in release.role_keys if role.startswith(_PREFIX))
    return tuple(sorted(name for name in names if name != BREAK_GLASS_TEAM))


def ordered_paths(client: Client | None, agent: str) -> tuple[str, ...]:
    """Return target paths of the grants that nodes are ordered to run an agent under; none without a coordinator."""
    if client is None:
        return ()
    request = pb.ListAgentsRequest(application=agent.partition("/")[0])
    found = client.call(client.stub.ListAgents, request).agents
    return tuple(sorted({entry.grant_path for entry in found if entry.desired and entry.agent.name == agent}))


def find_team(release: Release, agent: str, given: str, ordered: Iterable[str], context: str) -> str:
    """Return the team whose grants of an agent are meant.

    1. The team that the command names; `breakglass` stands for the emergency grants.
    2. The team under whose grant the agent is ordered to run.
    3. The team of the context.
    4. The only team that has a grant for it, or, when none has, the only team that there is.

    Args:
        release: names the roles and the grants.
        agent: `application/agent`.
        given: `--team`; empty for none.
        ordered: target paths of the grants that nodes are ordered to run it under; an emergency grant is of no team.
        context: team of the context; empty for none.

    Raises:
        FleetError: NOT_FOUND for a team that has no role for grants; CONFIG_INVALID where several may be meant.
    """
    teams = teams_of(release)
    known = (*teams, *([BREAK_GLASS_TEAM] if BREAK_GLASS_ROLE in release.role_keys else ()))
    running = {team_of_grant(path) for path in ordered} - {BREAK_GLASS_TEAM}
    named = given or ("" if running else context)
    if named and named not in known:
        raise FleetError(
            Code.NOT_FOUND,
            f"no team {named} has a role for grants; known: {', '.join(known) or 'none'}",
            remedy="See `fleetctl trust status`.",
        )
    if named:  # 1, 3
        return named
    granted = {team_of_grant(t.path) for t in release.targets("grants/") if agent_of_grant(t.path) == agent}
    found = sorted(running or (granted - {BREAK_GLASS_TEAM}) or teams)  # 2, 4
    if len(found) != 1:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"several teams may be meant for {agent}: {', '.join(found)}" if found else "no team has a role for grants",
            agent=agent,
            remedy=" or ".join(f"--team {team}" for team in found) or "fleetctl trust add-team",
        )
    return found[0]


def choose_team(session: Session, client: Client | None, release: Release, agent: str, given: str) -> str:
    """Return the team whose grants of an agent a command means (`find_team`).

    Raises:
        FleetError: as `find_team`.
    """
    context = "" if session.overrides.trust is not None and client is None else session.context().team
    return find_team(release, agent, given, () if given else ordered_paths(client, agent), context)

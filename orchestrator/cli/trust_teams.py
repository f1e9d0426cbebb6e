"""Command trust remove-team: a team whose work is over leaves the release.

Owns: what has to be over first. A role that is gone takes its bundles and grants with it, so every node would stop what
still runs by them; that is refused here, and never happens by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.grants import parse_grant
from fleet.release import RemoveRole
from fleet.targets import DEFAULT_TEAM, bundle_of, code_role, grants_role
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.trust import TrustDirectory, fetch_document
from orchestrator.cli.trust_change import OFFLINE, YES, perform

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fleet.release import Operation
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session


def check_grants_over(team: str, release: Release, documents: dict[str, bytes], now: datetime) -> None:
    """Refuse while a grant of the team is valid, or will be.

    Raises:
        FleetError: PLAN_INVALID with the grant and the command that takes it back.
    """
    for target in release.targets(f"grants/{team}/"):
        grant = parse_grant(documents[target.path], target.path)
        if grant.not_after > now:
            raise FleetError(
                Code.PLAN_INVALID,
                f"a grant of {team} is valid until {grant.not_after:%Y-%m-%d}",
                place=target.path,
                remedy=f"fleetctl grant revoke {grant.agent} --team {team} --reason TEXT",
            )


def check_nothing_runs(team: str, release: Release, agents: Iterable[pb.AgentOnNode]) -> None:
    """Refuse while a node runs, or shall run, something of the team.

    Raises:
        FleetError: NODES_BEHIND with the agents.
    """
    digests = {target.digest for kind in ("bundles", "grants") for target in release.targets(f"{kind}/{team}/")}
    named = {bundle_of(target.path) for target in release.targets(f"bundles/{team}/")}
    running = sorted({item.agent.name for item in agents if _uses(item, digests, named)})
    if running:
        raise FleetError(
            Code.NODES_BEHIND,
            f"nodes run {', '.join(running)} of {team}",
            agents=", ".join(running),
            remedy="Deploy their applications without them, and run the command again.",
        )


def _uses(item: pb.AgentOnNode, digests: set[str], named: set[str]) -> bool:
    """Whether an agent is the team's; one that its node has not reported yet goes by the name of its bundle."""
    known = {item.agent.bundle_digest, item.agent.grant_digest} - {""}
    return not digests.isdisjoint(known) if known else item.bundle in named


@click.command("remove-team")
@click.argument("team", metavar="NAME")
@OFFLINE
@YES
@click.pass_obj
def remove_team(session: Session, /, team: str, **how: bool) -> None:
    """Take away a team and what it signed.

    Its roles go, with everything that they list. Refused while a grant of the team is valid, or a node runs something
    of it. Its name may be used again.
    """
    directory = TrustDirectory(session.trust_folder())
    roles = (code_role(team), grants_role(team))

    def operations(release: Release) -> tuple[Operation, ...]:
        present = [role for role in roles if role in release.role_keys]
        if not present or team == DEFAULT_TEAM:
            raise FleetError(
                Code.NOT_FOUND, f"there is no team {team} that could leave", remedy="See `fleetctl trust status`."
            )
        if how["offline"]:
            check_grants_over(team, release, _documents(directory, None, release, team), session.now())
        else:
            with session.connect() as client:
                check_grants_over(team, release, _documents(directory, client, release, team), session.now())
                agents = client.call(client.stub.ListAgents, pb.ListAgentsRequest()).agents
                check_nothing_runs(team, release, agents)
        return tuple(RemoveRole(role) for role in present)

    perform(session, operations, f"remove team {team}", offline=how["offline"], yes=how["yes"])


def _documents(directory: TrustDirectory, client: Client | None, release: Release, team: str) -> dict[str, bytes]:
    paths = [target.path for target in release.targets(f"grants/{team}/")]
    return {path: fetch_document(directory, client, release, path) for path in paths}

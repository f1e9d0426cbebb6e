"""What the adopted release says may still be chosen: revocations and floors of releases.

Owns: `Standing`. A node decides by the same rules for itself (`edge_agent.listing`); here they keep a plan from
ordering what every node would refuse, and an operator learns it from the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.grants.admission import check_team
from fleet.revocations import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.bundle import VerifiedBundle
    from fleet.floors import Floors
    from fleet.grants.document import Grant
    from fleet.revocations import Revocations
    from fleet.trust import Target


@dataclass(frozen=True, slots=True)
class Standing:
    """The revocations of a release, and the smallest releases that may still run."""

    revocations: Revocations
    floors: Floors

    def check(self, agent: str, bundle: Target, opened: VerifiedBundle, grant: Target) -> None:
        """Refuse what no node would run.

        Checks, in this order:
            1. The bundle is not revoked.
            2. None of its models is revoked.
            3. The grant is not revoked.
            4. The release of the bundle is not below the floor.

        Raises:
            FleetError: 1 to 3 REVOKED; 4 RELEASE_TOO_OLD.
        """
        self.revocations.check(Kind.BUNDLE, bundle.digest, agent)  # 1
        for model in opened.models:
            self.revocations.check(Kind.MODEL, model.digest, agent)  # 2
        self.revocations.check(Kind.GRANT, grant.digest, agent)  # 3
        self.floors.check(bundle)  # 4

    def why_not(self, bundle: Target, opened: VerifiedBundle) -> str:
        """Why no node would run a bundle, under whatever grant; empty where nothing is in the way."""
        try:
            self.revocations.check(Kind.BUNDLE, bundle.digest)
            for model in opened.models:
                self.revocations.check(Kind.MODEL, model.digest)
            self.floors.check(bundle)
        except FleetError as error:
            return error.private
        return ""


def for_team(candidates: Iterable[tuple[Target, Grant]], code_role: str) -> Target | None:
    """Choose among grants of one agent the first that is for bundles of a role; None when there is no grant at all.

    Several teams may publish grants for one agent; one team's must not stand in the way of another's.

    Args:
        candidates: grants with their targets, in order of preference.
        code_role: the role that signs the agent's bundle.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE when there are grants, and none is for that role's bundles.
    """
    fault: FleetError | None = None
    for target, grant in candidates:
        try:
            check_team(grant, target.role, code_role)
        except FleetError as error:
            fault = fault or error
        else:
            return target
    if fault is not None:
        raise fault
    return None

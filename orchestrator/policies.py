"""The fleet's policies about authority, as one release lists them: its ceilings and its guardrails.

Owns: reading both from a verified release, and the checks that everybody makes who passes a release on: fleetctl before
it publishes, a publisher, and the coordinator. Where the bytes come from is behind `Read`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.grants import parse_ceilings, parse_grant
from fleet.targets import CEILINGS_PATH, GUARDRAILS_PATH
from orchestrator.guardrails import circumstances_of, default_guardrails, load_guardrails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet.grants import Ceilings
    from fleet.trust import Release, Target
    from orchestrator.guardrails import Guardrails

    Read = Callable[[Target], bytes]
    """Returns the document of a target, checked against it."""


def fleet_ceilings(release: Release, read: Read) -> Ceilings | None:
    """Return the fleet's ceilings, None when it publishes none.

    Raises:
        FleetError: GRANT_INVALID for a document that cannot be read; no node adopts the release then.
    """
    target = release.documents.get(CEILINGS_PATH)
    return None if target is None else parse_ceilings(read(target), target.path)


def fleet_guardrails(release: Release, read: Read) -> Guardrails:
    """Return the fleet's guardrails: those that it publishes, else those of this program.

    Raises:
        FleetError: CONFIG_INVALID for a policy set that is not usable.
    """
    target = release.documents.get(GUARDRAILS_PATH)
    return default_guardrails() if target is None else load_guardrails(read(target), target.path)


def check_policies(release: Release, read: Read) -> None:
    """Check that the fleet's policies can be read: one that cannot would hold up every node.

    Raises:
        FleetError: GRANT_INVALID, CONFIG_INVALID, LIMIT_EXCEEDED with the place.
    """
    fleet_ceilings(release, read)
    fleet_guardrails(release, read)


def check_grants(release: Release, known: Mapping[str, Target], read: Read, publisher: str) -> None:
    """Check that no guardrail refuses a grant that a release adds.

    Args:
        release: the release to publish, verified; its own guardrails are asked.
        known: targets of the release before it, by path. What has not changed is not asked about again, so that
            stricter guardrails stop no renewal of a role.
        read: returns documents.
        publisher: name of who publishes.

    Raises:
        FleetError: GUARDRAIL_REFUSED for the first grant that is refused, by path.
    """
    new = [
        target
        for target in release.targets("grants/")
        if target.path not in known or known[target.path].digest != target.digest
    ]
    if not new:
        return
    guardrails = fleet_guardrails(release, read)
    for target in new:
        grant = parse_grant(read(target), target.path)
        guardrails.check(grant, circumstances_of(release, grant, target.approvers, publisher))

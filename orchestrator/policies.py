"""The fleet's policies about authority, as one release lists them: its ceilings and its guardrails.

Owns: reading both from a verified release, and the checks that everybody makes who passes a release on: fleetctl before
it publishes, a publisher, and the coordinator. Where the bytes come from is behind `Read`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.grants import check_break_glass, parse_break_glass, parse_ceilings, parse_grant
from fleet.release.metadata_files import role_of_file
from fleet.targets import BREAK_GLASS_PATH, CEILINGS_PATH, GUARDRAILS_PATH, role_of
from orchestrator.guardrails import circumstances_of, default_guardrails, load_guardrails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleet.grants import BreakGlass, Ceilings
    from fleet.release import StagedChange
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


def fleet_break_glass(release: Release, read: Read) -> BreakGlass | None:
    """Return the bounds of emergency grants, None when the fleet allows none.

    Raises:
        FleetError: GRANT_INVALID for a document that cannot be read; no node adopts the release then.
    """
    target = release.documents.get(BREAK_GLASS_PATH)
    return None if target is None else parse_break_glass(read(target), target.path)


def check_policies(release: Release, read: Read) -> None:
    """Check that the fleet's policies can be read: one that cannot would hold up every node.

    Raises:
        FleetError: GRANT_INVALID, CONFIG_INVALID, LIMIT_EXCEEDED with the place.
    """
    fleet_ceilings(release, read)
    fleet_break_glass(release, read)
    fleet_guardrails(release, read)


def check_grants(release: Release, known: Mapping[str, Target], read: Read, publisher: str) -> None:
    """Check that no guardrail refuses a grant that a release adds, and that no node would for its emergency.

    Args:
        release: the release to publish, verified; its own guardrails are asked.
        known: targets of the release before it, by path. What has not changed is not asked about again, so that
            stricter guardrails stop no renewal of a role.
        read: returns documents.
        publisher: name of who publishes.

    Raises:
        FleetError: GUARDRAIL_REFUSED for the first grant that is refused, by path; GRANT_NOT_APPLICABLE for one that
            is out of the bounds of emergency grants.
    """
    new = [
        target
        for target in release.targets("grants/")
        if target.path not in known or known[target.path].digest != target.digest
    ]
    if not new:
        return
    guardrails, emergencies = fleet_guardrails(release, read), fleet_break_glass(release, read)
    for target in new:
        grant = parse_grant(read(target), target.path)
        check_break_glass(grant, target.role, emergencies)
        guardrails.check(grant, circumstances_of(release, grant, target.approvers, publisher))


def check_staged(staged: StagedChange, keys: Iterable[str]) -> None:
    """Check that no guardrail keeps somebody from signing a staged change; needs no network.

    Who has signed already is asked about too. How many approve is counted when the change is published.

    Args:
        staged: the change; policies that its base lists are among the documents that it carries.
        keys: ids of the keys that are about to sign it.

    Raises:
        FleetError: GUARDRAIL_REFUSED for the first grant that is refused, by path; GRANT_NOT_APPLICABLE for one that
            is out of the bounds of emergency grants; NOT_FOUND for a change that does not carry the policies.
    """
    grants = {path: data for path, data in staged.documents.items() if path.startswith("grants/")}
    if not grants:
        return

    def read(target: Target) -> bytes:
        if target.path not in staged.context:
            raise FleetError(
                Code.NOT_FOUND,
                "the change does not carry the fleet's policy",
                place=target.path,
                remedy="Stage it again where they can be read.",
            )
        return staged.context[target.path]

    guardrails = fleet_guardrails(staged.base, read)
    signing = frozenset(keys)
    for path, data in sorted(grants.items()):
        role = role_of(path) or ""
        may_sign = {key.key_id for key in staged.base.role_keys.get(role, ())}
        signed = {k.key_id for r in staged.requirements if role_of_file(r.file) == role for k in r.signed}
        grant = parse_grant(data, path)
        check_break_glass(grant, role, fleet_break_glass(staged.base, read) if grant.break_glass else None)
        guardrails.check(grant, circumstances_of(staged.base, grant, (signing | signed) & may_sign))

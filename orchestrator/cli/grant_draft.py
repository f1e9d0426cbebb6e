"""What `fleetctl grant propose` drafts, from a bundle, the grant in force and the policies of the fleet.

Owns: which bundle is looked at and whose it is. What a draft says is `fleet.grants.draft`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.grants import (
    EXPORTS,
    draft_break_glass,
    extend_grant,
    parse_grant,
    propose_grant,
    render_grant,
    requested_interfaces,
)
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, code_role
from orchestrator.cli.sources import open_layout, open_published
from orchestrator.policies import fleet_break_glass

if TYPE_CHECKING:
    from fleet.bundle import VerifiedBundle
    from fleet.grants.draft import Known
    from orchestrator.cli.client import Client
    from orchestrator.cli.granted import Approved


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a draft is asked for.

    Attributes:
        agent: `application/agent`.
        team: whose grant it shall be.
        bundle: what the agent runs.
        owner: the team that signs the bundle.
        add: interfaces to name beside what the component imports.
        known: what fleet.yaml says of the agent.
    """

    agent: str
    team: str
    bundle: VerifiedBundle
    owner: str
    add: tuple[str, ...]
    known: Known


def open_bundle_of(approved: Approved, client: Client, team: str, reference: str) -> tuple[VerifiedBundle, str]:
    """Open a bundle, and say whose it is.

    Args:
        approved: for the release.
        client: where a published bundle comes from.
        team: whose it is where the reference does not say.
        reference: a built bundle's folder, or `[team/]name@version`.

    Raises:
        FleetError: as `open_layout` and `open_published`.
    """
    if Path(reference).exists():
        return open_layout(Path(reference)).bundle, team
    whose, slash, _ = reference.partition("/")
    owner, full = (whose, reference) if slash else (team, f"{team}/{reference}")
    return open_published(approved.session, client, full).bundle, owner


def draft_grant(approved: Approved, wanted: Wanted) -> bytes:
    """Return the next revision of the agent's grant, or the first.

    Raises:
        FleetError: as `propose_grant` and `extend_grant`.
    """
    bundle = wanted.bundle
    models = tuple(model.name for model in bundle.models)
    newest = approved.revision(wanted.agent, wanted.team)
    if newest:
        return extend_grant(
            approved.document(wanted.agent, newest, wanted.team).grant,
            wanted.add,
            models=models,
            revision=newest + 1,
            request=requested_interfaces(bundle.imports, bundle.exports),
            known=wanted.known,
        )
    served = (name for name in bundle.exports if name.partition("@")[0] in EXPORTS)
    return propose_grant(
        (*bundle.imports, *served, *wanted.add),
        agent=wanted.agent,
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        bundle_role="" if wanted.owner == wanted.team else code_role(wanted.owner),
        models=models,
        revision=1,
        now=approved.session.now(),
        known=wanted.known,
    )


def draft_emergency(approved: Approved, wanted: Wanted, draft: bytes, reason: str) -> bytes:
    """Return the emergency form of a draft: for this bundle alone, within what the policy for emergencies allows.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE where the fleet has no role or no policy for emergencies; GRANT_INVALID for a
            reason that no document can say.
    """
    bounds = fleet_break_glass(approved.release, approved.read)
    if bounds is None or BREAK_GLASS_ROLE not in approved.release.role_keys:
        raise FleetError(
            Code.GRANT_NOT_APPLICABLE,
            f"the fleet allows no emergency grants: it needs {BREAK_GLASS_PATH} and keys of {BREAK_GLASS_ROLE}",
            agent=wanted.agent,
            condition="policy",
            remedy="fleetctl grant break-glass POLICY.YAML --key PUBLIC-KEY",
        )
    ordinary = parse_grant(draft, "draft")
    selector = replace(ordinary.bundle, digests=(wanted.bundle.digest,), role=code_role(wanted.owner))
    made = draft_break_glass(ordinary, bounds, selector, approved.session.now(), reason)
    revision = approved.revision(wanted.agent, BREAK_GLASS_TEAM) + 1
    text = render_grant(replace(made, revision=revision))
    parse_grant(text, "--break-glass")
    return text

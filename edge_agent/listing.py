"""Whether the adopted release still allows what an agent is made of: signed by the right roles, and not revoked.

Owns the checks on an agent's bundle and grant that need nothing but the release, so that they cost microseconds:
admission asks them before every start, and the supervisor asks them of everything that runs as soon as a release was
adopted. Never reads a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.revocations import Kind

if TYPE_CHECKING:
    from fleet.floors import Floors
    from fleet.model import AssignedAgent, FusedAgent, TargetRef
    from fleet.revocations import Revocations
    from fleet.trust import Release, Target

CODE_ROLES = "code-"
GRANT_ROLES = "grants-"


def check_part(
    part: AssignedAgent | FusedAgent, release: Release, revocations: Revocations, floors: Floors
) -> tuple[Target, Target]:
    """Check the bundle and the grant of one component, and return their targets.

    Checks, in this order:
        1. A code role lists the bundle under its path, with the digest that the assignment names.
        2. A grants role lists the grant likewise.
        3. Neither is revoked.
        4. The release of the bundle is not below the smallest that may still run.

    Raises:
        FleetError: 1, 2 TARGET_UNSIGNED, DIGEST_MISMATCH; 3 REVOKED; 4 RELEASE_TOO_OLD.
    """
    bundle = _signed(part.bundle, CODE_ROLES, release)  # 1
    grant = check_grant(part, release, revocations)  # 2, 3
    revocations.check(Kind.BUNDLE, part.bundle.digest, part.name)  # 3
    floors.check(bundle)  # 4
    return bundle, grant


def check_grant(part: AssignedAgent | FusedAgent, release: Release, revocations: Revocations) -> Target:
    """Check the grant of one component alone, as `check_part` does.

    Raises:
        FleetError: TARGET_UNSIGNED, DIGEST_MISMATCH, REVOKED.
    """
    grant = _signed(part.grant, GRANT_ROLES, release)
    revocations.check(Kind.GRANT, part.grant.digest, part.name)
    return grant


def check_listed(spec: AssignedAgent, release: Release, revocations: Revocations, floors: Floors) -> None:
    """Check an agent with everything that is fused into it.

    Raises:
        FleetError: as `check_part`.
    """
    for part in spec.parts:
        check_part(part, release, revocations, floors)


def _signed(ref: TargetRef, roles: str, release: Release) -> Target:
    target = release.target(ref.path)
    if not target.role.startswith(roles):
        raise FleetError(Code.TARGET_UNSIGNED, f"signed by {target.role}, which is no {roles} role", place=ref.path)
    if target.digest != ref.digest:
        raise FleetError(Code.DIGEST_MISMATCH, f"{target.role} signed {target.digest} there", place=ref.path)
    return target

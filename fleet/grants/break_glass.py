"""Break-glass: grants for an emergency, which one person approves, for hours, below a ceiling that others signed.

Owns: the policy `policy/break-glass.yaml` of schema `fleet.break-glass/v1`, which the policy role signs, and the checks
that an emergency grant must pass on every node. The role `grants-breakglass` signs such grants. Empty means deny: a
fleet without that role, or without that policy, has no emergency grants.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.documents import Reader, load_yaml
from fleet.errors import Code, FleetError
from fleet.grants.document import MAX_BREAK_GLASS, parse_optional_limits
from fleet.grants.lattice import Authority, diff, meet, subset
from fleet.grants.limits import HIGHEST_LIMITS
from fleet.grants.rules import parse_capabilities
from fleet.quantities import format_duration, parse_duration
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.grants.document import BundleSelector, Grant

BREAK_GLASS_SCHEMA = "fleet.break-glass/v1"

MIN_VALIDITY = timedelta(minutes=1)
"""Least of what a policy may call the longest validity."""


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """The most that an emergency grant may give.

    Attributes:
        max_validity: the longest that one may be valid; at most `fleet.grants.document.MAX_BREAK_GLASS`.
        authority: what each of them stays within.
    """

    max_validity: timedelta
    authority: Authority


def parse_break_glass(data: bytes, name: str = BREAK_GLASS_PATH) -> BreakGlass:
    """Read the policy for emergency grants.

    1. Strict YAML of this schema, within the size of a document; no key that is not known.
    2. `max_validity` is from `MIN_VALIDITY` to a day.
    3. Capabilities and limits as in a ceiling: an interface that is absent is not allowed; a limit that is absent
       restricts nothing.

    Args:
        data: the signed bytes.
        name: file name or target path, for error places.

    Raises:
        FleetError: GRANT_INVALID with the place; LIMIT_EXCEEDED when too large.
    """
    with Reader(load_yaml(data, Code.GRANT_INVALID, name), Code.GRANT_INVALID, name) as reader:  # 1
        if reader.text("schema") != BREAK_GLASS_SCHEMA:
            reader.fail("schema", f"expected {BREAK_GLASS_SCHEMA}")
        milliseconds = parse_duration(reader.text("max_validity"), reader.code, reader.at("max_validity"))
        longest = timedelta(milliseconds=min(milliseconds, 2 * _ms(MAX_BREAK_GLASS)))
        if not MIN_VALIDITY <= longest <= MAX_BREAK_GLASS:  # 2
            reader.fail("max_validity", "expected a duration from 1m to 24h")
        capabilities = reader.section("caps", parse_capabilities)  # 3
        return BreakGlass(longest, Authority(capabilities, parse_optional_limits(reader, HIGHEST_LIMITS)))


def check_break_glass(grant: Grant, role: str, policy: BreakGlass | None) -> None:
    """Check that a grant is an emergency grant exactly when the role for those signed it, and stays within its bounds.

    1. `break_glass` is marked in exactly the grants that `grants-breakglass` lists: nobody else shortens approval by
       writing the mark, and what that role signs is never taken for an ordinary grant.
    2. The fleet has a policy for emergency grants.
    3. It is valid for no longer than the policy allows. The period is the signed one, however late it is heard of.
    4. It gives nothing that the policy does not allow; what is beyond is refused whole, not cut down.

    Args:
        grant: the verified grant.
        role: the role that lists it.
        policy: of the release that lists it; None where that has none.

    Raises:
        FleetError: GRANT_NOT_APPLICABLE with the failing `condition`.
    """
    if grant.break_glass != (role == BREAK_GLASS_ROLE):  # 1
        what = f"{role} may not sign emergency grants" if grant.break_glass else f"{role} signs emergency grants alone"
        raise _refused(grant, "break_glass", what, f"Emergency grants are signed by {BREAK_GLASS_ROLE}, and marked.")
    if not grant.break_glass:
        return
    if policy is None:  # 2
        raise _refused(
            grant,
            "policy",
            f"the fleet allows no emergency grants: it has no {BREAK_GLASS_PATH}",
            "Have the policy role allow them: `fleetctl grant break-glass POLICY.YAML`.",
        )
    valid = grant.not_after - grant.not_before
    if valid > policy.max_validity:  # 3
        allowed = format_duration(_ms(policy.max_validity))
        raise _refused(
            grant,
            "validity",
            f"it is valid for {format_duration(_ms(valid))}, {BREAK_GLASS_PATH} allows {allowed}",
            f"End it earlier, within {allowed}, or have an ordinary grant approved.",
        )
    if not subset(grant.authority, policy.authority):  # 4
        beyond = "; ".join(diff(policy.authority, grant.authority).widened)
        raise _refused(
            grant,
            "ceiling",
            f"it gives more than {BREAK_GLASS_PATH} allows: {beyond}",
            "Strike what is beyond, or have an ordinary grant approved.",
        )


def draft_break_glass(grant: Grant, policy: BreakGlass, bundle: BundleSelector, begin: datetime, reason: str) -> Grant:
    """Return the emergency form of a grant: what of it the policy allows, for as long as the policy allows.

    Args:
        grant: what the agent needs.
        policy: bounds the result.
        bundle: what it is for, with the role that signs it: an emergency grant is of no team.
        begin: aware time at which its validity begins.
        reason: why it is needed; one line.
    """
    begin = begin.replace(microsecond=0)
    allowed = meet(grant.authority, policy.authority)
    return replace(
        grant,
        bundle=bundle,
        not_before=begin,
        not_after=begin + policy.max_validity,
        capabilities={name: rules for name, rules in allowed.capabilities.items() if rules},
        limits=allowed.limits,
        reason=reason,
        break_glass=True,
    )


def _refused(grant: Grant, condition: str, message: str, remedy: str) -> FleetError:
    return FleetError(Code.GRANT_NOT_APPLICABLE, message, agent=grant.agent, condition=condition, remedy=remedy)


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)

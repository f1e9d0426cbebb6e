"""A fleet of several teams: each has a code role and a grants role of its own."""

from __future__ import annotations

from fleet.release import RoleKeys
from fleet.signing import SigningKey
from tests.fakes.publisher import key, role_keys


def team_keys(*teams: str, policy: bool = True, **others: SigningKey) -> RoleKeys:
    """Keys of the default team, of other teams and of the policy role; `others` as for `role_keys`."""
    base = role_keys(**others)
    roles = [f"{kind}-{team}" for team in teams for kind in ("code", "grants")] + (["policy"] if policy else [])
    return RoleKeys(
        {**base.keys, **{role: (others.get(role.replace("-", "_"), key(role)),) for role in roles}}, base.thresholds
    )

"""A fleet of several teams: each has a code role and a grants role of its own."""

from __future__ import annotations

from fleet.release import ChangeKeys, NamedKey, RoleKeys, completed, sign_staged, stage
from fleet.signing import SigningKey
from fleet.trust import open_release
from tests.fakes.publisher import Publisher, key, role_keys


def team_keys(*teams: str, policy: bool = True, **others: SigningKey) -> RoleKeys:
    """Keys of the default team, of other teams and of the policy role; `others` as for `role_keys`."""
    base = role_keys(**others)
    roles = [f"{kind}-{team}" for team in teams for kind in ("code", "grants")] + (["policy"] if policy else [])
    return RoleKeys(
        {**base.keys, **{role: (others.get(role.replace("-", "_"), key(role)),) for role in roles}}, base.thresholds
    )


def replace_keys(publisher: Publisher, role: str, new: SigningKey) -> None:
    """Let the holders of the targets keys give a role another key in place of all that it has, and publish it."""
    release = open_release(publisher.files, root=publisher.root, now=publisher.now, allow_dev=True)
    change = ChangeKeys(role, (NamedKey(new.public, "new"),), tuple(release.role_keys[role]))
    staged = stage(release, (change,), "replaced", publisher.now, {})
    signed = sign_staged(staged, [*publisher.keys.of("targets"), new])
    publisher.keys = RoleKeys({**publisher.keys.keys, role: (new,)}, publisher.keys.thresholds)
    publisher.files = completed(signed, release)
    publisher.publish()

"""Keys that holders made on their own machines, for the ceremony that takes a fleet into production.

Owns: which role a public key file is for, and whether the keys of a role are enough. Nobody sees another one's private
key: what is read here are the public halves, one line each (`fleetctl trust key`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.release import ONLINE_ROLES, ROOT_ROLE
from fleet.targets import BREAK_GLASS_ROLE, POLICY_ROLE, TARGETS_ROLE
from orchestrator.cli.trust_keys import read_public
from orchestrator.signers import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.release import NamedKey

PUBLISHER = "publisher"
"""Folder of the two keys that sign without a person, and name of whom they belong to."""


@dataclass(frozen=True, slots=True)
class Holders:
    """How many people hold a key of a role, and how many of them sign."""

    people: int
    threshold: int


PRODUCTION = {ROOT_ROLE: Holders(3, 2), TARGETS_ROLE: Holders(2, 2), POLICY_ROLE: Holders(2, 2)}
GRANTS = Holders(3, 2)
BREAK_GLASS = Holders(2, 1)
CODE = Holders(1, 1)


def holders_of(role: str) -> Holders:
    """Who holds keys of a role in production."""
    if role == BREAK_GLASS_ROLE:
        return BREAK_GLASS
    if role.startswith("grants-"):
        return GRANTS
    return PRODUCTION.get(role, CODE)


def read_holders(words: Iterable[str], roles: Iterable[str]) -> dict[str, tuple[NamedKey, ...]]:
    """Read `ROLE=FILE` words.

    Checks, in this order:
        1. Each word names a role of the release and a file with a public key.
        2. No key stands for two roles, except for snapshot and timestamp together.
        3. Each role that is named has at least as many keys as it takes signatures.

    Returns:
        Role to its keys, of the roles that are named.

    Raises:
        FleetError: 1 NOT_FOUND, CONFIG_INVALID; 2, 3 CONFIG_INVALID.
    """
    known = set(roles)
    found: dict[str, tuple[NamedKey, ...]] = {}
    for word in words:  # 1
        role, separator, file = word.partition("=")
        if not separator or not file:
            raise FleetError(Code.CONFIG_INVALID, f"{word!r}: expected ROLE=FILE")
        if role not in known:
            raise FleetError(Code.NOT_FOUND, f"there is no role {role}; known: {', '.join(sorted(known))}")
        found[role] = (*found.get(role, ()), read_public(Path(file)))
    seen: dict[str, str] = {}
    for role, keys in found.items():  # 2
        for key in keys:
            other = seen.setdefault(key.key_id, role)
            if (other != role and not {other, role} <= set(ONLINE_ROLES)) or keys.count(key) > 1:
                raise FleetError(Code.CONFIG_INVALID, f"one key stands for {other} and {role}", key=key.key_id)
    for role, keys in found.items():  # 3
        takes = holders_of(role).threshold
        if len(keys) < takes:
            raise FleetError(
                Code.CONFIG_INVALID,
                f"{role} takes {takes} signatures, and has {len(keys)} keys",
                role=role,
                remedy=f"Name the keys of all its holders: --key {role}=FILE, once for each.",
            )
    return found


def make_keys(folder: Path, roles: Iterable[str]) -> dict[str, tuple[NamedKey, ...]]:
    """Make the keys of roles, each in a folder of its holder; snapshot and timestamp share one."""
    made: dict[str, tuple[NamedKey, ...]] = {}
    for role in roles:
        if role in ONLINE_ROLES:
            made[role] = (KeyFolder(folder / PUBLISHER / "keys").make(role),)
            continue
        people = holders_of(role).people
        names = [role if people == 1 else f"{role}-{number + 1}" for number in range(people)]
        made[role] = tuple(KeyFolder(folder / name / "keys").make(name) for name in names)
    return made

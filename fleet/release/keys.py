"""Who signs: keys with the names of their holders, signers of any kind, and how long signatures are good.

Owns: `RoleKeys`, what a change is signed with; `NamedKey`, a public key as people hand it on; and the lifetimes of each
profile. A signer is anything that has a public key and signs bytes: a key in memory, a token, a key service. Never
opens a key: `orchestrator.signers` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.signing import PublicKey
from fleet.targets import TARGETS_ROLE
from fleet.trust import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT_ROLE = "root"
SNAPSHOT_ROLE = "snapshot"
TIMESTAMP_ROLE = "timestamp"

TOP_LEVEL_ROLES = (ROOT_ROLE, TARGETS_ROLE, SNAPSHOT_ROLE, TIMESTAMP_ROLE)
"""Roles whose keys the root names."""

ONLINE_ROLES = (SNAPSHOT_ROLE, TIMESTAMP_ROLE)
"""Roles of the publisher: they say which versions belong together, and list no document themselves."""

MAX_ROLE_KEYS = 16
"""Keys of one role."""

_KEY_PREFIX = "fleet-key-ed25519"


class RoleSigner(Protocol):
    """Signs bytes with one Ed25519 key."""

    @property
    def public(self) -> PublicKey:
        """Public half of the key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature (64 bytes)."""
        ...


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A public key and the name that its holder goes by; the name is shown, the key decides."""

    public: PublicKey
    name: str

    @property
    def key_id(self) -> str:
        """Key id of the key."""
        return self.public.key_id


def format_named_key(key: NamedKey) -> str:
    """Write a public key as one line, the way people hand it on: kind, key in hex, name."""
    return f"{_KEY_PREFIX} {key.public.hex} {key.name}\n"


def parse_named_key(text: str, place: str) -> NamedKey:
    """Read what `format_named_key` wrote.

    Raises:
        FleetError: CONFIG_INVALID with the place.
    """
    words = text.split()
    if len(words) != 3 or words[0] != _KEY_PREFIX or not is_name(words[2]):
        raise FleetError(Code.CONFIG_INVALID, f"expected `{_KEY_PREFIX} HEX NAME` on one line", place=place)
    try:
        return NamedKey(PublicKey.from_hex(words[1]), words[2])
    except FleetError as error:
        raise FleetError(Code.CONFIG_INVALID, error.private, place=place) from error


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a signature is good for adopting something new.

    `delegated` holds for code, grants and policy: it bounds how long a revocation can be withheld by somebody who has
    the keys of snapshot and timestamp.
    """

    root: timedelta
    targets: timedelta
    delegated: timedelta
    snapshot: timedelta
    timestamp: timedelta

    def of(self, role: str) -> timedelta:
        """Lifetime of a role's metadata."""
        own = {
            ROOT_ROLE: self.root,
            TARGETS_ROLE: self.targets,
            SNAPSHOT_ROLE: self.snapshot,
            TIMESTAMP_ROLE: self.timestamp,
        }
        return own.get(role, self.delegated)


_YEAR = timedelta(days=365)

LIFETIMES: Mapping[Profile, Lifetimes] = MappingProxyType(
    {
        # A demonstration on a laptop shall not die because nobody published for two weeks.
        Profile.DEV: Lifetimes(_YEAR, _YEAR, _YEAR, _YEAR, _YEAR),
        Profile.PRODUCTION: Lifetimes(
            _YEAR, timedelta(days=90), timedelta(days=60), timedelta(days=14), timedelta(days=7)
        ),
    }
)
"""Lifetimes used unless `RoleKeys` names others."""


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who signs.

    Attributes:
        keys: role name to the signers at hand; `new_release` needs every role, a change only the roles it signs.
        thresholds: role name to the number of signatures it takes; 1 where absent. Read by `new_release` and
            `rotate_root`.
        lifetimes: None for those of the repository's profile.
    """

    keys: Mapping[str, tuple[RoleSigner, ...]]
    thresholds: Mapping[str, int] = field(default_factory=dict)
    lifetimes: Lifetimes | None = None

    def of(self, role: str) -> tuple[RoleSigner, ...]:
        """Return the keys of a role.

        Raises:
            FleetError: CONFIG_INVALID if there is none.
        """
        keys = self.keys.get(role, ())
        if not keys:
            raise FleetError(Code.CONFIG_INVALID, f"there is no key of role {role} here", role=role)
        return keys

    def threshold(self, role: str) -> int:
        """Signatures that the role takes."""
        return self.thresholds.get(role, 1)

"""Release counters of bundles, and the floor below which no release runs any more.

Owns: the fields `release` and `min_release` that a code role notes beside a bundle in the release repository (`custom`
of its target), and `Floors`, what a node remembers of them. A version is for people, and a role may list an old one
again; the counter of a bundle only goes up, and a floor that a node has seen once never sinks. So neither the thief of
a code key nor a captured coordinator brings back a release that its publisher called obsolete.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.targets import code_role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.trust import Release, Target

MAX_COUNTER = 2**31 - 1
"""Greatest release counter."""

MAX_FLOORS = 10_000
"""Bundles of which a node remembers a floor."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a code role noted beside a bundle.

    Attributes:
        release: number of this release among the releases of the bundle; 0 where none is noted.
        min_release: smallest release that may still run; 0 rules out nothing.
    """

    release: int = 0
    min_release: int = 0


@dataclass(frozen=True, slots=True)
class Floors:
    """Smallest release that may run, by `TEAM/NAME` of a bundle; 0 where none is known."""

    smallest: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def check(self, target: Target) -> None:
        """Refuse a bundle that is below the floor.

        Raises:
            FleetError: RELEASE_TOO_OLD; TRUST_INVALID for counters that cannot be read.
        """
        bundle, release = bundle_key(target.path), read_counters(target).release
        floor = self.smallest.get(bundle, 0)
        if release < floor:
            raise FleetError(
                Code.RELEASE_TOO_OLD,
                f"release {release} of {bundle} is below {floor}, the smallest that may still run",
                place=target.path,
                release=release,
                min_release=floor,
            )

    def raised(self, release: Release, before: Release | None = None) -> Floors:
        """Return the floors after a release was adopted: for every bundle the highest that was ever seen.

        Where a team has none of the keys any more that it had in the release `before`, what its old keys said is
        forgotten: the thief of a key must not be able to lock a bundle out for good (as TUF specification 5.3.11 resets
        versions after a rotation).

        Raises:
            FleetError: TRUST_INVALID for counters that cannot be read; LIMIT_EXCEEDED above `MAX_FLOORS`.
        """
        kept = {
            bundle: floor
            for bundle, floor in self.smallest.items()
            if not replaced(code_role(bundle.partition("/")[0]), release, before)
        }
        for target in release.targets("bundles/"):
            bundle, floor = bundle_key(target.path), read_counters(target).min_release
            if floor > kept.get(bundle, 0):
                kept[bundle] = floor
        if len(kept) > MAX_FLOORS:
            raise FleetError(Code.LIMIT_EXCEEDED, f"{len(kept)} bundles with a floor, the limit is {MAX_FLOORS}")
        return Floors(MappingProxyType(kept))


def replaced(role: str, release: Release, before: Release | None) -> bool:
    """Whether a role that was there before is there still, and has none of the keys any more that it had."""
    earlier = frozenset() if before is None else before.role_keys.get(role, frozenset())
    present = release.role_keys.get(role, frozenset())
    return bool(earlier and present) and earlier.isdisjoint(present)


def read_counters(target: Target) -> Counters:
    """Read the counters of a bundle; whatever else is noted beside it is not looked at.

    Raises:
        FleetError: TRUST_INVALID: they are no whole numbers in range, or the release is below its own floor.
    """
    release, floor = (_counter(target, name) for name in ("release", "min_release"))
    if floor > release:
        raise FleetError(Code.TRUST_INVALID, f"min_release {floor} is above release {release}", place=target.path)
    return Counters(release, floor)


def next_counters(release: Release, path: str, min_release: int = 0) -> dict[str, int]:
    """Return what to note beside a bundle that is published next (`custom` of `fleet.release.add_target`).

    Args:
        release: the repository as it is.
        path: target path of the new bundle.
        min_release: floor to set with it; one that is listed already is kept where it is higher.

    Raises:
        FleetError: CONFIG_INVALID for a floor above the release; TRUST_INVALID for counters that cannot be read.
    """
    known = [read_counters(target) for target in _siblings(release.targets("bundles/"), path)]
    number = max((counters.release for counters in known), default=0) + 1
    floor = max([min_release, *(counters.min_release for counters in known)])
    if floor > number:
        raise FleetError(
            Code.CONFIG_INVALID, f"release {number} cannot rule out releases below {floor}", place="min_release"
        )
    return {"release": number, **({"min_release": floor} if floor else {})}


def parse_floors(reader: Reader, key: str) -> Floors:
    """Read floors as a node keeps them, and `encode_floors` wrote them.

    Raises:
        FleetError: the code of the reader.
    """
    section = Reader(reader.take(key), reader.code, reader.at(key))
    names = section.names()
    if len(names) > MAX_FLOORS or not all(_is_bundle_key(name) for name in names):
        reader.fail(key, "expected floors by TEAM/NAME")
    return Floors(MappingProxyType({name: section.integer(name, 1, MAX_COUNTER) for name in names}))


def encode_floors(floors: Floors) -> dict[str, int]:
    """Return floors as JSON values."""
    return dict(sorted(floors.smallest.items()))


def bundle_key(path: str) -> str:
    """`TEAM/NAME` of a bundle's target path."""
    _, team, name, _ = path.split("/")
    return f"{team}/{name}"


def _siblings(targets: Iterable[Target], path: str) -> list[Target]:
    return [target for target in targets if bundle_key(target.path) == bundle_key(path)]


def _counter(target: Target, name: str) -> int:
    value = target.custom.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNTER:
        raise FleetError(Code.TRUST_INVALID, f"{name} is no whole number in range", place=target.path)
    return value


def _is_bundle_key(text: str) -> bool:
    team, slash, name = text.partition("/")
    return bool(slash) and is_name(team) and len(name) > 0

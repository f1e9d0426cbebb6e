"""Versions and version ranges.

Owns: parsing and ordering of versions as Semantic Versioning 2.0.0 writes them, and the ranges that a grant names
(`>=1.4,<2`). Never decides what a version means for an interface: that is `fleet.wit`.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VERSION = 64
"""Characters in a version; also bounds the numbers that are parsed from it."""

MAX_COMPARATORS = 8
"""Comparators in one range."""

_NUMBER = r"(?:0|[1-9][0-9]*)"
_PART = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PRE_RELEASE = rf"(?:-(?P<pre>{_PART}(?:\.{_PART})*))?"
_BUILD = r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
_FULL = re.compile(rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER}){_PRE_RELEASE}{_BUILD}")
_COMPARATOR = re.compile(
    rf"(?P<sign>>=|<=|>|<|=)(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER})(?:\.(?P<patch>{_NUMBER}){_PRE_RELEASE})?)?"
)
_OPERATORS: dict[str, Callable[[tuple[object, ...], tuple[object, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Version:
    """A version; build metadata is read over, since it never decides anything (SemVer 2.0.0, section 10)."""

    major: int
    minor: int
    patch: int
    pre_release: tuple[str, ...] = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sort key after SemVer 2.0.0, section 11."""
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre_release)
        return (self.major, self.minor, self.patch, not self.pre_release, parts)

    def __str__(self) -> str:
        suffix = f"-{'.'.join(self.pre_release)}" if self.pre_release else ""
        return f"{self.major}.{self.minor}.{self.patch}{suffix}"


def parse_version(text: str, code: Code, place: str) -> Version:
    """Parse a complete version such as `1.4.0` or `0.2.0-draft2`.

    Raises:
        FleetError: `code` at `place` for anything that SemVer 2.0.0 does not allow.
    """
    match = _FULL.fullmatch(text) if len(text) <= MAX_VERSION else None
    if match is None:
        raise FleetError(code, f"{text[:MAX_VERSION]!r} is not a version such as 1.4.0", place=place)
    return _version(match)


def _version(match: re.Match[str]) -> Version:
    pre_release = match["pre"]
    return Version(
        int(match["major"]),
        int(match["minor"] or 0),
        int(match["patch"] or 0),
        tuple(pre_release.split(".")) if pre_release else (),
    )


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Comparators that must all hold.

    A pre-release is outside every range unless a comparator names a pre-release of the same major.minor.patch: an
    approval of `<2` was never an approval of `2.0.0-rc.1`.
    """

    text: str
    comparators: tuple[tuple[str, Version], ...]

    def __contains__(self, version: Version) -> bool:
        if version.pre_release and not any(_same_release(version, bound) for _, bound in self.comparators):
            return False
        return all(_OPERATORS[sign](version.precedence, bound.precedence) for sign, bound in self.comparators)


def _same_release(version: Version, bound: Version) -> bool:
    same = (version.major, version.minor, version.patch) == (bound.major, bound.minor, bound.patch)
    return same and bool(bound.pre_release)


def parse_range(text: str, code: Code, place: str) -> VersionRange:
    """Parse comparators joined by commas: `>=1.4,<2`, `=0.1.0`; missing numbers are zero.

    Raises:
        FleetError: `code` at `place`.
    """
    parts = text.split(",")
    if len(parts) > MAX_COMPARATORS:
        raise FleetError(code, f"{len(parts)} comparators, the limit is {MAX_COMPARATORS}", place=place)
    comparators: list[tuple[str, Version]] = []
    for part in parts:
        stripped = part.strip(" ")
        match = _COMPARATOR.fullmatch(stripped) if len(stripped) <= MAX_VERSION else None
        if match is None:
            raise FleetError(code, f"{stripped[:MAX_VERSION]!r} is not a comparator such as >=1.4", place=place)
        comparators.append((match["sign"], _version(match)))
    return VersionRange(",".join(part.strip(" ") for part in parts), tuple(comparators))


def is_at_least(version: str, least: str) -> bool:
    """Whether a version that somebody reports is as new as a valid one; a version that cannot be read is not."""
    try:
        reported = parse_version(version, Code.VALUE_INVALID, "version")
    except FleetError:
        return False
    return reported.precedence >= parse_version(least, Code.VALUE_INVALID, "least").precedence

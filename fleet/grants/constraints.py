"""The kinds of constraint that a rule is made of, as small lattices.

Owns: what one constraint allows, and for each kind `meet` (what both allow) and `within` (allows no more than). Laws,
kept by tests: `meet(a, b)` allows exactly what `a` and `b` both allow, and `within` is sound, reflexive and transitive.
Never knows which interface a constraint belongs to: that is `fleet.grants.vocabulary`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self


class Constraint(ABC):
    """One constraint of a rule. Both sides of `meet` and `within` have the same kind."""

    __slots__ = ()

    @abstractmethod
    def meet(self, other: Self) -> Self | None:
        """Return what both allow, or None when that is nothing."""

    @abstractmethod
    def within(self, other: Self) -> bool:
        """Whether this allows no more than `other`."""


class Choice(Constraint):
    """A constraint that a request must name a value for."""

    __slots__ = ()

    @abstractmethod
    def allows(self, value: str) -> bool:
        """Whether the value is allowed."""

    @property
    @abstractmethod
    def texts(self) -> tuple[str, ...]:
        """The values as documents write them, sorted."""


@dataclass(frozen=True, slots=True)
class Literals(Choice):
    """A finite set of exact values."""

    values: frozenset[str]

    def allows(self, value: str) -> bool:
        """Whether the value is one of the set."""
        return value in self.values

    @property
    def texts(self) -> tuple[str, ...]:
        """The values, sorted."""
        return tuple(sorted(self.values))

    def meet(self, other: Literals) -> Literals | None:
        """Return the intersection."""
        both = self.values & other.values
        return Literals(both) if both else None

    def within(self, other: Literals) -> bool:
        """Whether this is a subset."""
        return self.values <= other.values


@dataclass(frozen=True, slots=True)
class Patterns(Choice):
    """Exact values (`frames`) and prefixes (`cfg-*`); `*` alone is every value."""

    patterns: frozenset[str]

    def allows(self, value: str) -> bool:
        """Whether some pattern covers the value. A `*` in the value has no meaning."""
        return any(_covers(pattern, value) for pattern in self.patterns)

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns, sorted."""
        return tuple(sorted(self.patterns))

    def meet(self, other: Patterns) -> Patterns | None:
        """Return the pairwise intersections: of two patterns that overlap, one covers the other."""
        both = {p for p in self.patterns if _covered(p, other)} | {q for q in other.patterns if _covered(q, self)}
        return Patterns(frozenset(both)) if both else None

    def within(self, other: Patterns) -> bool:
        """Whether each pattern is covered by one of `other`; a union of others never covers more."""
        return all(_covered(pattern, other) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Maximum(Constraint):
    """A ceiling on a number; the unit belongs to the constraint's name."""

    value: int

    def meet(self, other: Maximum) -> Maximum:
        """Return the lower ceiling."""
        return min(self, other, key=lambda maximum: maximum.value)

    def within(self, other: Maximum) -> bool:
        """Whether this ceiling is no higher."""
        return self.value <= other.value


def _covers(pattern: str, value: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def _covered(pattern: str, patterns: Patterns) -> bool:
    """Whether everything that `pattern` allows is allowed by one of `patterns`."""
    if not pattern.endswith("*"):
        return patterns.allows(pattern)
    prefix = pattern[:-1]
    return any(other.endswith("*") and prefix.startswith(other[:-1]) for other in patterns.patterns)

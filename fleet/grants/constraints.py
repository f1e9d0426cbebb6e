"""The kinds of constraint that a rule is made of, as small lattices.

Owns: what one constraint allows, and for each kind `meet` (what both allow) and `within` (allows no more than). Laws,
kept by tests: `meet(a, b)` allows exactly what `a` and `b` both allow, and `within` is sound, reflexive and transitive.
Never knows which interface a constraint belongs to: that is `fleet.grants.vocabulary`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

_PATTERN = re.compile(r"[!-)+-~]{0,256}\*?")
"""Printable ASCII without spaces; `*` only at the end."""


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
    """Exact values (`frames`) and prefixes (`cfg-*`); `*` alone is every value.

    Subclasses have patterns of another form. In each, of two patterns that overlap, one covers the other.
    """

    patterns: frozenset[str]

    @staticmethod
    def covers(pattern: str, value: str) -> bool:
        """Whether everything that `value`, an exact one or a pattern, stands for is covered by `pattern`."""
        return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern

    @staticmethod
    def check(pattern: str) -> bool:
        """Whether documents may write this pattern."""
        return bool(pattern) and _PATTERN.fullmatch(pattern) is not None

    def allows(self, value: str) -> bool:
        """Whether some pattern covers the value. A `*` in the value has no meaning."""
        return any(self.covers(pattern, value) for pattern in self.patterns)

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns, sorted."""
        return tuple(sorted(self.patterns))

    def meet(self, other: Self) -> Self | None:
        """Return the pairwise intersections: of two patterns that overlap, one covers the other."""
        both = {p for p in self.patterns if other.allows(p)} | {q for q in other.patterns if self.allows(q)}
        return type(self)(frozenset(both)) if both else None

    def within(self, other: Self) -> bool:
        """Whether each pattern is covered by one of `other`; a union of others never covers more."""
        return all(other.allows(pattern) for pattern in self.patterns)


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

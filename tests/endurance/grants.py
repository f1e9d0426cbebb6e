"""A grant of everything that a document can name."""

from __future__ import annotations

from fleet.grants.constraints import Constraint, Literals, Patterns
from fleet.grants.rules import Rule, Rules
from fleet.grants.vocabulary import VOCABULARY, Kind


def everything() -> dict[str, Rules]:
    """One rule per interface, with each constraint that must be named as wide as it can be."""
    capabilities = {}
    for interface, specs in VOCABULARY.items():
        constraints: dict[str, Constraint] = {}
        for name, spec in specs.items():
            if spec.kind is Kind.LITERALS:
                constraints[name] = Literals(spec.values)
            elif spec.kind is Kind.PATTERNS:
                constraints[name] = Patterns(frozenset({"*"}))
        capabilities[interface] = (Rule(constraints),)
    return capabilities

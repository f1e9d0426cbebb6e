"""Rules: what one entry of a capability allows.

Owns: `Rule`, its reading and writing in documents (the same form in YAML and JSON), its lattice functions and its
one-line description for people. Constraints are and-ed inside a rule; the rules of an interface are or-ed. An absent
constraint leaves its dimension open, which the vocabulary permits only where that cannot be an accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import Reader, Value
from fleet.errors import Code, FleetError
from fleet.grants.constraints import Choice, Constraint, Literals, Maximum, Patterns
from fleet.grants.networks import KINDS, Hosts, Networks, Ports, is_address, is_port
from fleet.grants.vocabulary import MAX_MAXIMUM, ConstraintSpec, Kind, specs_of
from fleet.grants.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

MAX_RULES = 16
"""Rules of one interface in a document."""

MAX_VALUES = 64
"""Values of one constraint in a document."""

_PATTERNS: Mapping[Kind, type[Patterns]] = {
    Kind.PATTERNS: Patterns,
    Kind.HOSTS: Hosts,
    Kind.NETWORKS: Networks,
    Kind.PORTS: Ports,
    Kind.VOLUMES: Volumes,
}

_FORMS: Mapping[Kind, tuple[Callable[[str], bool], str]] = {
    Kind.PATTERNS: (Patterns.check, "a name, or a prefix and *"),
    Kind.HOSTS: (Hosts.check, "a host in lower case, *. and a name, or *"),
    Kind.NETWORKS: (Networks.check, f"one of {', '.join(KINDS)}, or a block of addresses within one of them"),
    Kind.PORTS: (Ports.check, 'a port from 1 to 65535 as text, such as "443", or "*"'),
    Kind.LISTENERS: (is_port, 'a port from 1 to 65535 as text, such as "8080"'),
    Kind.ADDRESSES: (is_address, "an IP address of the node"),
    Kind.VOLUMES: (Volumes.check, "scratch/NAME or node/NAME, or a prefix of one and *"),
}
"""Which values a constraint may have, and how to say so."""

Rules = tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Constraints by name; all must hold. No constraint at all: the whole interface."""

    constraints: Mapping[str, Constraint]

    def allows(
        self, specs: Mapping[str, ConstraintSpec], request: Mapping[str, str], later: Collection[str] = ()
    ) -> bool:
        """Whether every choice holds. A request that leaves out a constrained dimension is denied.

        Args:
            specs: of the interface.
            request: value of each request keyword.
            later: keywords that are not asked for yet.
        """
        for name, constraint in self.constraints.items():
            if isinstance(constraint, Choice) and specs[name].request not in later:
                value = request.get(specs[name].request)
                if value is None or not constraint.allows(value):
                    return False
        return True

    def maximum(self, name: str) -> int | None:
        """Return the ceiling of a maximum, or None when there is none."""
        constraint = self.constraints.get(name)
        return constraint.value if isinstance(constraint, Maximum) else None

    def words(self, name: str) -> tuple[str, ...]:
        """Return the values of a choice as documents write them, none for a constraint that the rule has not."""
        constraint = self.constraints.get(name)
        return constraint.texts if isinstance(constraint, Choice) else ()

    def meet(self, other: Rule) -> Rule | None:
        """Return the rule that allows what both allow, or None when that is nothing."""
        constraints = dict(self.constraints)
        for name, theirs in other.constraints.items():
            mine = constraints.get(name)
            both = theirs if mine is None else mine.meet(theirs)
            if both is None:
                return None
            constraints[name] = both
        return Rule(constraints)

    def within(self, other: Rule) -> bool:
        """Whether this rule allows no more than `other`."""
        for name, theirs in other.constraints.items():
            mine = self.constraints.get(name)
            if mine is None or not mine.within(theirs):
                return False
        return True


def describe_rule(interface: str, rule: Rule) -> str:
    """Describe a rule in one line, such as `buckets=frames,cfg-* ops=get,set max_bytes=50MiB`."""
    specs = specs_of(interface, Code.GRANT_INVALID, interface)
    parts = [f"{name}={_describe(specs[name], rule.constraints[name])}" for name in specs if name in rule.constraints]
    return " ".join(parts) or "unrestricted"


def _describe(spec: ConstraintSpec, constraint: Constraint) -> str:
    written = write_constraint(spec, constraint)
    return ",".join(written) if isinstance(written, list) else str(written)


def write_constraint(spec: ConstraintSpec, constraint: Constraint) -> list[str] | str | int:
    """Return a constraint as documents write it."""
    if isinstance(constraint, Choice):
        return list(constraint.texts)
    if not isinstance(constraint, Maximum):
        raise TypeError(f"unknown constraint {constraint!r}")
    return spec.unit.write(constraint.value)


def write_rule(interface: str, rule: Rule) -> dict[str, list[str] | str | int]:
    """Return a rule as documents write it, for JSON or YAML."""
    specs = specs_of(interface, Code.GRANT_INVALID, interface)
    return {name: write_constraint(specs[name], rule.constraints[name]) for name in specs if name in rule.constraints}


def normal(rules: Iterable[Rule]) -> Rules:
    """Return the rules without those that another one covers; the order of the rest stays."""
    kept: list[Rule] = []
    for rule in rules:
        if not any(rule.within(other) for other in kept):
            kept = [*(other for other in kept if not other.within(rule)), rule]
    return tuple(kept)


def parse_capabilities(reader: Reader) -> dict[str, Rules]:
    """Read a mapping of interface to rules.

    An empty list gives the whole interface; it is refused where a rule must name something.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    result: dict[str, Rules] = {}
    for interface in reader.names():
        specs = specs_of(interface, reader.code, reader.at(interface))
        rules = parse_rules(reader, interface, MAX_RULES)
        if not rules and any(spec.required for spec in specs.values()):
            reader.fail(interface, "expected at least one rule")
        if not specs and rules:
            reader.fail(interface, "has no constraints: write []")
        result[interface] = normal(rules or (Rule({}),))
    return result


def parse_rules(reader: Reader, interface: str, maximum: int) -> Rules:
    """Read the rules of one interface as `write_rule` wrote them; none at all denies every call.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    specs = specs_of(interface, reader.code, reader.at(interface))
    return tuple(_parse_rule(value, reader.code, place, specs) for value, place in reader.items(interface, maximum))


def _parse_rule(value: Value, code: Code, place: str, specs: Mapping[str, ConstraintSpec]) -> Rule:
    constraints: dict[str, Constraint] = {}
    with Reader(value, code, place) as reader:
        for name, spec in specs.items():
            if reader.has(name):
                constraints[name] = _parse_constraint(reader, name, spec)
            elif spec.default:
                constraints[name] = _choice(spec, spec.default)
            elif spec.required or _is_required(spec, constraints):
                reader.fail(name, f"missing constraint {name!r}; without it the rule would allow everything")
    return Rule(constraints)


def _is_required(spec: ConstraintSpec, constraints: Mapping[str, Constraint]) -> bool:
    """Whether what the rule says so far makes this constraint required."""
    if not spec.required_with:
        return False
    name, word = spec.required_with
    other = constraints.get(name)
    return isinstance(other, Choice) and other.allows(word)


def _parse_constraint(reader: Reader, name: str, spec: ConstraintSpec) -> Constraint:
    if spec.kind is Kind.MAXIMUM:
        return Maximum(spec.unit.take(reader, name, 0, MAX_MAXIMUM))
    values = reader.texts(name, MAX_VALUES)
    if not values:
        reader.fail(name, "expected at least one value")
    for i, value in enumerate(values):
        place = f"{reader.at(name)}[{i}]"
        if value in values[:i]:
            raise FleetError(reader.code, f"{value!r} appears twice", place=place)
        if spec.kind is Kind.LITERALS and value not in spec.values:
            allowed = ", ".join(sorted(spec.values))
            raise FleetError(reader.code, f"{value[:64]!r} is not one of {allowed}", place=place)
        if spec.kind in _FORMS and not _FORMS[spec.kind][0](value):
            raise FleetError(reader.code, f"{value[:64]!r} is not {_FORMS[spec.kind][1]}", place=place)
    return _choice(spec, frozenset(values))


def _choice(spec: ConstraintSpec, values: frozenset[str]) -> Choice:
    kind = _PATTERNS.get(spec.kind)
    return Literals(values) if kind is None else kind(values)

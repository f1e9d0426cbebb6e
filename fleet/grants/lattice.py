"""Authority: what an agent may do, as a lattice.

Owns: `Authority` and the total functions on it. `meet` can only take authority away, so that of grant, fleet ceiling,
node ceiling and narrowing only the grant can give any. Laws, kept by tests:

* `meet(a, b)` allows a request exactly when `a` and `b` both do, and is a subset of both;
* `fuse` allows nothing that one of the parts which import the interface may not do;
* `subset` is sound, reflexive and transitive: it may miss a subset that several rules cover together, never invent one;
* `diff` names something widened whenever the new authority allows what the old one did not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code
from fleet.grants.limits import DEFAULT_LIMITS, HIGHEST_LIMITS, LIMITS, Limits, parse_limits
from fleet.grants.rules import Rules, describe_rule, normal, parse_rules, write_rule
from fleet.grants.vocabulary import Kind, find_specs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

AUTHORITY_SCHEMA = "fleet.authority/v1"

MAX_REMEMBERED = 1_024
"""Decisions that one authority remembers; one more, and it begins anew."""

MAX_REMEMBERED_WORDS = 512
"""Characters of the request of a decision that is remembered."""

_MAX_DECODED_RULES = 4096
"""Rules of one interface in an encoded authority; a meet of documents can have more rules than a document."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What an agent may do.

    Attributes:
        capabilities: rules by unversioned interface name. An interface that is absent is not linked; one without
            rules is linked and denies every call.
        limits: resources.
    """

    capabilities: Mapping[str, Rules]
    limits: Limits = DEFAULT_LIMITS
    # An agent asks the same few questions for each of its calls. What the answers depend on never changes.
    _decided: dict[tuple[object, ...], Rules] = field(default_factory=dict, init=False, repr=False, compare=False)

    def allows(self, interface: str, **request: str) -> bool:
        """Whether a call is allowed.

        Args:
            interface: unversioned interface name.
            request: what the call is about, by the vocabulary's request keywords, for example
                `allows("wasi:keyvalue/store", bucket="frames", op="get")`. A keyword that a rule constrains and that
                is left out is denied. Maxima are not asked here: see `maximum`.

        Raises:
            ValueError: for a keyword that the interface does not have.
        """
        known = self._decided.get((interface, (), *request.items()))
        return bool(self._matching(interface, request) if known is None else known)

    def rules_for(self, interface: str, later: Collection[str] = (), **request: str) -> Rules:
        """Return the rules that allow a call, for whoever enforces what is known only while it runs.

        Args:
            interface: unversioned interface name.
            later: request keywords whose values are not known yet: constraints on them are not asked.
            request: as for `allows`.

        Raises:
            ValueError: for a keyword that the interface does not have.
        """
        return self._matching(interface, request, later)

    def maximum(self, interface: str, constraint: str, **request: str) -> int | None:
        """Return the highest ceiling that a matching rule gives; None for no ceiling, 0 when no rule matches.

        Raises:
            ValueError: for a keyword or constraint that the interface does not have.
        """
        specs = find_specs(interface)
        if specs is not None and (constraint not in specs or specs[constraint].kind is not Kind.MAXIMUM):
            raise ValueError(f"{interface} has no maximum {constraint}")
        highest = 0
        for rule in self._matching(interface, request):
            value = rule.maximum(constraint)
            if value is None:
                return None
            highest = max(highest, value)
        return highest

    def choices(self, interface: str, constraint: str, **request: str) -> frozenset[str]:
        """Return the words of a literal constraint that would be allowed, for example the `ops` on a bucket.

        Raises:
            ValueError: for a keyword or constraint that the interface does not have.
        """
        specs = find_specs(interface)
        spec = (specs or {}).get(constraint)
        if spec is None:
            if specs is not None:
                raise ValueError(f"{interface} has no constraint {constraint}")
            return frozenset()
        return frozenset(word for word in spec.values if self.allows(interface, **{**request, spec.request: word}))

    def without(self, interfaces: frozenset[str]) -> Authority:
        """Return the authority with some interfaces taken away: they stay linked and deny every call."""
        return Authority(
            {name: () if name in interfaces else rules for name, rules in self.capabilities.items()}, self.limits
        )

    def encode(self) -> bytes:
        """Return JSON that `decode` reads; equal authorities built from equal documents give equal bytes."""
        capabilities = {
            interface: [write_rule(interface, rule) for rule in rules] for interface, rules in self.capabilities.items()
        }
        return dump_json({"schema": AUTHORITY_SCHEMA, "capabilities": capabilities, "limits": self.limits.describe()})

    @classmethod
    def decode(cls, data: bytes, name: str = "authority") -> Authority:
        """Read what `encode` wrote.

        Raises:
            FleetError: GRANT_INVALID with the place; LIMIT_EXCEEDED when too large.
        """
        with Reader(load_json(data, Code.GRANT_INVALID, name), Code.GRANT_INVALID, name) as reader:
            if reader.text("schema") != AUTHORITY_SCHEMA:
                reader.fail("schema", f"expected {AUTHORITY_SCHEMA}")
            capabilities = reader.section("capabilities", _decode_capabilities)
            limits = reader.section("limits", lambda section: parse_limits(section, HIGHEST_LIMITS))
        return cls(capabilities, limits)

    def _matching(self, interface: str, request: Mapping[str, str], later: Collection[str] = ()) -> Rules:
        question = (interface, tuple(later), *request.items())
        known = self._decided.get(question)
        if known is None:
            known = self._decide(interface, request, later)
            # Guests choose the words, so neither their number nor their length may take the host's memory.
            if sum(map(len, request.values())) <= MAX_REMEMBERED_WORDS:
                if len(self._decided) >= MAX_REMEMBERED:
                    self._decided.clear()
                self._decided[question] = known
        return known

    def _decide(self, interface: str, request: Mapping[str, str], later: Collection[str]) -> Rules:
        specs = find_specs(interface)
        if specs is None:
            return ()
        unknown = request.keys() - {spec.request for spec in specs.values() if spec.request}
        if unknown:
            raise ValueError(f"{interface} has no request {min(unknown)}")
        return tuple(rule for rule in self.capabilities.get(interface, ()) if rule.allows(specs, request, later))


def _decode_capabilities(reader: Reader) -> dict[str, Rules]:
    return {interface: parse_rules(reader, interface, _MAX_DECODED_RULES) for interface in reader.names()}


def meet(a: Authority, b: Authority) -> Authority:
    """Return what both allow, with the lower of each limit."""
    capabilities = {
        interface: normal(
            both
            for mine, theirs in product(rules, b.capabilities[interface])
            if (both := mine.meet(theirs)) is not None
        )
        for interface, rules in a.capabilities.items()
        if interface in b.capabilities
    }
    return Authority(capabilities, a.limits.meet(b.limits))


def fuse(parts: Sequence[tuple[Authority, Collection[str]]]) -> Authority:
    """Return what agents may do that run as one component.

    The whole imports each interface once, so that nobody can tell which part makes a call. What one part imports is as
    its authority says; what several import is only what all of them may do, and nothing when one of them has no grant
    for it. What no part imports is the first part's: the whole has its exports. Of each limit the lowest holds, for the
    whole.

    Args:
        parts: authority of each part, and the unversioned interfaces that its component imports; at least one.
    """
    first, limits = parts[0][0], parts[0][0].limits
    capabilities = dict(first.capabilities)
    for interface in sorted({interface for _, imports in parts for interface in imports}):
        users = [authority for authority, imports in parts if interface in imports]
        if all(interface not in authority.capabilities for authority in users):
            capabilities.pop(interface, None)
            continue
        alone = [Authority({interface: authority.capabilities.get(interface, ())}) for authority in users]
        capabilities[interface] = reduce(meet, alone).capabilities[interface]
    for authority, _ in parts[1:]:
        limits = limits.meet(authority.limits)
    return Authority(capabilities, limits)


def subset(a: Authority, b: Authority) -> bool:
    """Whether `a` allows no more than `b`. May say no for a subset that only several rules of `b` cover together."""
    return a.limits.within(b.limits) and all(
        interface in b.capabilities and not _beyond(rules, b.capabilities[interface])
        for interface, rules in a.capabilities.items()
    )


def _beyond(rules: Rules, others: Rules) -> Rules:
    """Return the rules that no single rule of `others` covers."""
    return tuple(rule for rule in rules if not any(rule.within(other) for other in others))


@dataclass(frozen=True, slots=True)
class AuthorityDiff:
    """What an approver sees, one line per change: `wasi:keyvalue/store: buckets=frames ops=get,set`."""

    widened: tuple[str, ...]
    narrowed: tuple[str, ...]


def diff(old: Authority | None, new: Authority) -> AuthorityDiff:
    """Compare two authorities; a rule that changed shows in both lists. Without an old one everything is new."""
    if old is None:
        limits = [f"limits.{key}: {value}" for key, value in new.limits.describe().items()]
        rules = [line for name in sorted(new.capabilities) for line in describe_rules(name, new.capabilities[name])]
        return AuthorityDiff((*rules, *limits), ())
    widened: list[str] = []
    narrowed: list[str] = []
    for interface in sorted(old.capabilities.keys() | new.capabilities.keys()):
        widened += _excess(interface, new, old)
        narrowed += _excess(interface, old, new)
    before, after = old.limits.describe(), new.limits.describe()
    for name, spec in LIMITS.items():
        mine, theirs = getattr(old.limits, name), getattr(new.limits, name)
        if mine != theirs:
            line = f"limits.{spec.key}: {before.get(spec.key, 'none')} -> {after.get(spec.key, 'none')}"
            (widened if mine is not None and (theirs is None or theirs > mine) else narrowed).append(line)
    return AuthorityDiff(tuple(widened), tuple(narrowed))


def _excess(interface: str, more: Authority, less: Authority) -> list[str]:
    if interface not in more.capabilities:
        return []
    rules = more.capabilities[interface]
    if interface not in less.capabilities:
        return describe_rules(interface, rules)
    beyond = _beyond(rules, less.capabilities[interface])
    return describe_rules(interface, beyond) if beyond else []


def describe_rules(interface: str, rules: Rules) -> list[str]:
    """Return one line per rule, `interface: rule`."""
    if not rules:
        return [f"{interface}: every call denied"]
    return [f"{interface}: {describe_rule(interface, rule)}" for rule in rules]

"""Narrowing: authority that an operator takes away from an agent in fleet.yaml, without a new grant.

Owns: `Narrowing`, its form in fleet.yaml and in assignments, and what it leaves of an authority. The coordinator signs
it with the assignment, and the coordinator can give nothing: whatever the text says, the result allows no more than the
authority that it is applied to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code
from fleet.grants.lattice import Authority, meet
from fleet.grants.limits import HIGHEST_LIMITS, Limits, parse_limits
from fleet.grants.rules import Rule, Rules, parse_capabilities, write_rule
from fleet.grants.vocabulary import find_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DENIED = 256
"""Interfaces that one narrowing takes away."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What is left of an agent's authority.

    Attributes:
        capabilities: interface -> rules; of a call to it, only what these allow as well. An interface that is not named
            is left as it is: this is the one document of authority whose silence denies nothing.
        deny: interfaces that stay linked and deny every call.
        limits: the highest that each limit may be.
    """

    capabilities: Mapping[str, Rules] = field(default_factory=lambda: MappingProxyType({}))
    deny: tuple[str, ...] = ()
    limits: Limits = HIGHEST_LIMITS

    def apply(self, authority: Authority) -> Authority:
        """Return what is left of an authority."""
        named = {name: rules for name, rules in authority.capabilities.items() if name in self.capabilities}
        narrowed = meet(Authority(named, authority.limits), Authority(self.capabilities, self.limits))
        whole = Authority({**authority.capabilities, **narrowed.capabilities}, narrowed.limits)
        return whole.without(frozenset(self.deny))

    def encode(self) -> str:
        """Return canonical JSON, as `fleet.model.AssignedAgent.narrow` carries it; empty for one that does nothing."""
        document: dict[str, object] = {}
        if self.capabilities:
            document["caps"] = {
                interface: [] if rules == WHOLE else [write_rule(interface, rule) for rule in rules]
                for interface, rules in sorted(self.capabilities.items())
            }
        if self.deny:
            document["deny"] = sorted(self.deny)
        if self.limits != HIGHEST_LIMITS:
            highest = HIGHEST_LIMITS.describe()
            document["limits"] = {
                key: value for key, value in self.limits.describe().items() if highest.get(key) != value
            }
        return dump_json(document).decode() if document else ""


WHOLE: Rules = (Rule({}),)
"""What documents write as []: the interface without constraints."""

NOT_NARROWED = Narrowing()
"""What leaves an authority as it is."""


def parse_narrowing(reader: Reader) -> Narrowing:
    """Read `narrow` of an agent: `caps` as in a grant, `deny`, `limits`.

    Raises:
        FleetError: the code of the document, at the offending place; for one that takes nothing away too, since that
            is a mistake.
    """
    capabilities = reader.section("caps", parse_capabilities) if reader.has("caps") else {}
    deny = reader.texts("deny", MAX_DENIED)
    limits = HIGHEST_LIMITS
    if reader.has("limits"):
        limits = reader.section("limits", lambda section: parse_limits(section, HIGHEST_LIMITS))
    for i, interface in enumerate(deny):
        if find_specs(interface) is None or interface in deny[:i] or interface in capabilities:
            reader.fail(f"deny[{i}]", f"{interface[:256]!r} is no interface of a grant, or is named twice")
    narrowing = Narrowing(MappingProxyType(capabilities), tuple(sorted(deny)), limits)
    if narrowing == NOT_NARROWED:
        reader.fail("deny", "nothing is taken away: expected caps, deny or limits")
    return narrowing


def decode_narrowing(text: str, code: Code = Code.ASSIGNMENT_INVALID) -> Narrowing:
    """Read what `Narrowing.encode` wrote.

    Raises:
        FleetError: `code` with the place; LIMIT_EXCEEDED when too large.
    """
    if not text:
        return NOT_NARROWED
    with Reader(load_json(text.encode(), code, "narrow"), code, "narrow") as reader:
        return parse_narrowing(reader)

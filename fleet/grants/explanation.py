"""Why a call is allowed or denied, and which document says so.

Owns: `explain`. Every document that bounds an agent is a `Source`: its grant, the policy for emergencies where it is an
emergency grant, the fleet's ceilings, the ceiling of the node, the narrowing in its assignment. A call is allowed when
every one of them allows it, so the verdict is one line for each, with the first that denies it named as the one that
decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import line_of
from fleet.grants.lattice import describe_rules
from fleet.grants.vocabulary import find_specs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet.grants.lattice import Authority


@dataclass(frozen=True, slots=True)
class Source:
    """A document that says what an agent may do.

    Attributes:
        title: what it is, for people: `grant`, `BREAK-GLASS grant`, `break-glass ceiling`, `fleet ceiling`,
            `node ceiling`, `narrowing`.
        place: where it is: target path, or file.
        authority: what it allows.
        data: its bytes, for line numbers; None when they are not at hand.
        path: keys and indexes in the document that lead to its `caps`.
    """

    title: str
    place: str
    authority: Authority
    data: bytes | None = None
    path: tuple[str | int, ...] = ("caps",)

    def line(self, *path: str | int) -> str:
        """The place with the line of a value."""
        return self.place if self.data is None else f"{self.place}:{line_of(self.data, *self.path, *path)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one document says of a call.

    Attributes:
        title: of the source.
        place: of the rule that allows, or of what leaves the call out.
        allowed: whether the document allows it.
        rules: the rules that it has for the interface, one line each; none where it does not name it.
        why: the rule that allows, or what no rule allows, in words.
    """

    title: str
    place: str
    allowed: bool
    rules: tuple[str, ...]
    why: str


def explain(sources: Sequence[Source], interface: str, request: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Ask every document; the call is allowed when all of them allow it.

    Raises:
        ValueError: for a keyword that the interface does not have.
    """
    return tuple(_ask(source, interface, request) for source in sources)


def _ask(source: Source, interface: str, request: Mapping[str, str]) -> Verdict:
    allowed = source.authority.allows(interface, **request)
    rules = source.authority.capabilities.get(interface)
    if rules is None:
        why = f"{interface} is not in it"
        return Verdict(source.title, source.line(), allowed=False, rules=(), why=why)
    lines = tuple(describe_rules(interface, rules))
    matching = source.authority.rules_for(interface, **request)
    position: tuple[int, ...] = (rules.index(matching[0]),) if matching else ()
    why = lines[position[0]] if matching else _why_not(source.authority, interface, request)
    return Verdict(source.title, source.line(interface, *position), allowed, lines, why)


def _why_not(authority: Authority, interface: str, request: Mapping[str, str]) -> str:
    """Say what of a call no rule allows."""
    if not authority.capabilities[interface]:
        return "it denies every call"
    specs = (find_specs(interface) or {}).values()
    keywords = [spec.request for spec in specs if spec.request]
    asked = " ".join(f"{key}={value}" for key, value in request.items())
    unsaid = [key for key in keywords if key not in request]
    if authority.rules_for(interface, unsaid, **request):
        return f"it depends on more than was asked: say {' '.join(f'{key}=...' for key in unsaid)} too"
    alone = (
        f"{key}={value}"
        for key, value in request.items()
        if not authority.rules_for(interface, [other for other in keywords if other != key], **{key: value})
    )
    return f"no rule allows {' or '.join(alone) or f'{asked} together'}"

"""`fleet:sensors/reader`: what the node measures, receives or finds in files.

Owns: what its functions mean, who may call them and how often. Never reads a source: the supervisor does, and answers
through the context's exchange with what it knows (`edge_agent.sensors`).

- Sources are declared by the node's operator. One that no rule of the grant names is `not-granted`, whether or not the
  node has it.
- `max_rps` of a rule bounds how often the agent asks, for one source or for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind, declare_functions, declare_types
from edge_agent.capabilities.pace import Pace
from fleet.errors import FleetError
from fleet.wit_types import Err, Ok, Variant

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext
    from edge_agent.runtime import SensorState
    from fleet.wit_types import WitValue

READER = "fleet:sensors/reader"
INTERFACE = f"{READER}@0.1.0"

NO_VALUE_YET = "the source has given no value yet"

_TYPES = declare_types(
    {
        "quality": "enum { good, out-of-range }",
        "reading": "record { source: string, value: f64, unit: option<string>, timestamp-ns: u64, quality: quality }",
        "error": "variant { not-granted, unknown-source, unavailable(string), stale(reading), rate-limited }",
        "source-info": "record { name: string, kind: string, unit: option<string> }",
    }
)
_SIGNATURES = declare_functions(
    _TYPES,
    {
        "read": "func(source: string) -> result<reading, error>",
        "sources": "func() -> result<list<source-info>, error>",
    },
)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The interface for one agent."""
    reader = _Reader(context)
    return (HostInterface(INTERFACE, bind(_SIGNATURES, {"read": reader.read, "sources": reader.sources})),)


class _Reader:
    def __init__(self, context: AgentContext) -> None:
        self._authority = context.authority
        self._exchange = context.exchange
        self._pace = Pace(context.clock.monotonic_ns)

    def read(self, source: str) -> Ok[WitValue] | Err[Variant[WitValue]]:
        if not self._allows(source):
            return Err(Variant("not-granted"))
        if not self._pace.take(self._authority.maximum(READER, "max_rps", source=source)):
            return Err(Variant("rate-limited"))
        try:
            states = self._exchange.sensors(source)
        except FleetError as error:
            return Err(Variant("unavailable", error.private))
        if not states:
            return Err(Variant("unknown-source"))
        return _answer(states[0])

    def sources(self) -> Ok[WitValue] | Err[Variant[WitValue]]:
        rules = self._authority.capabilities.get(READER, ())
        if not rules:
            return Err(Variant("not-granted"))
        ceilings = [rule.maximum("max_rps") for rule in rules]
        highest = None if None in ceilings else max(ceiling for ceiling in ceilings if ceiling is not None)
        if not self._pace.take(highest):
            return Err(Variant("rate-limited"))
        try:
            states = self._exchange.sensors("")
        except FleetError as error:
            return Err(Variant("unavailable", error.private))
        return Ok(
            [
                {"name": state.source, "kind": state.kind, "unit": state.unit or None}
                for state in states
                if self._allows(state.source)
            ]
        )

    def _allows(self, source: str) -> bool:
        return self._authority.allows(READER, source=source)


def _answer(state: SensorState) -> Ok[WitValue] | Err[Variant[WitValue]]:
    if not state.value:
        return Err(Variant("unavailable", state.fault or NO_VALUE_YET))
    quality = "out-of-range" if state.state == "out-of-range" else "good"
    reading: dict[str, WitValue] = {
        "source": state.source,
        "value": float(state.value),
        "unit": state.unit or None,
        "timestamp-ns": state.taken_ns,
        "quality": quality,
    }
    if state.state == "unavailable":
        return Err(Variant("unavailable", state.fault or NO_VALUE_YET))
    return Err(Variant("stale", reading)) if state.state == "stale" else Ok(reading)

"""Resource limits of one agent.

Owns: which limits exist, their safe defaults, their bounds and how documents write them. The runner enforces them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fleet.grants.vocabulary import Unit
from fleet.quantities import MAX_QUANTITY

if TYPE_CHECKING:
    from fleet.documents import Reader

_KIB = 1 << 10
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """How documents write one limit, and its bounds (inclusive)."""

    key: str
    unit: Unit
    minimum: int
    maximum: int


LIMITS: dict[str, LimitSpec] = {
    "memory_bytes": LimitSpec("memory", Unit.SIZE, 64 * _KIB, 4096 * _MIB),
    "deadline_ms": LimitSpec("deadline", Unit.DURATION, 1, 600_000),
    "log_bytes_per_minute": LimitSpec("log_per_minute", Unit.SIZE, 0, 64 * _MIB),
    "keyvalue_bytes": LimitSpec("keyvalue", Unit.SIZE, 0, _MIB * _MIB),
    "queue": LimitSpec("queue", Unit.COUNT, 1, 10_000),
    "stack_bytes": LimitSpec("stack", Unit.SIZE, 64 * _KIB, 2 * _MIB),
    "output_bytes": LimitSpec("output", Unit.SIZE, 0, 4 * _MIB),
    "host_calls_per_second": LimitSpec("host_calls_per_second", Unit.COUNT, 1, 10_000_000),
    "fuel_per_call": LimitSpec("fuel_per_call", Unit.COUNT, 1, MAX_QUANTITY),
    "calls_in_flight": LimitSpec("calls_in_flight", Unit.COUNT, 1, 255),
}
"""Field of `Limits` -> how documents write it."""

OPTIONAL = frozenset({"host_calls_per_second", "fuel_per_call"})
"""Limits that an agent may be without: its deadline bounds them too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one agent may use of a node. The defaults suit a small agent; a grant may name other values.

    Attributes:
        memory_bytes: what the agent holds in linear memories and tables, all of them together.
        deadline_ms: wall-clock time of one call.
        log_bytes_per_minute: text the agent may log; more is dropped and counted.
        keyvalue_bytes: what the agent may keep in all its buckets.
        queue: calls that may wait for the agent; what happens to more of them is the application's choice.
        stack_bytes: stack of the agent's functions, beside its memory.
        output_bytes: text of one call's result; a larger one is answered by an error and the agent lives on.
        host_calls_per_second: calls of the agent to the host; faster ones wait, within the deadline. None leaves them
            to the deadline.
        fuel_per_call: WebAssembly operations of one call; None leaves them to the deadline.
        calls_in_flight: calls of asynchronous functions that may run at a time; agents without any take one at a time.
    """

    memory_bytes: int = 64 * _MIB
    deadline_ms: int = 5_000
    log_bytes_per_minute: int = 64 * _KIB
    keyvalue_bytes: int = 16 * _MIB
    queue: int = 64
    stack_bytes: int = 512 * _KIB
    output_bytes: int = _MIB
    host_calls_per_second: int | None = None
    fuel_per_call: int | None = None
    calls_in_flight: int = 16

    def meet(self, other: Limits) -> Limits:
        """Return the lower of each limit."""
        return Limits(
            memory_bytes=min(self.memory_bytes, other.memory_bytes),
            deadline_ms=min(self.deadline_ms, other.deadline_ms),
            log_bytes_per_minute=min(self.log_bytes_per_minute, other.log_bytes_per_minute),
            keyvalue_bytes=min(self.keyvalue_bytes, other.keyvalue_bytes),
            queue=min(self.queue, other.queue),
            stack_bytes=min(self.stack_bytes, other.stack_bytes),
            output_bytes=min(self.output_bytes, other.output_bytes),
            host_calls_per_second=_lower(self.host_calls_per_second, other.host_calls_per_second),
            fuel_per_call=_lower(self.fuel_per_call, other.fuel_per_call),
            calls_in_flight=min(self.calls_in_flight, other.calls_in_flight),
        )

    def within(self, other: Limits) -> bool:
        """Whether no limit is higher than that of `other`."""
        return self.meet(other) == self

    def describe(self) -> dict[str, str | int]:
        """Return the limits as documents write them; a limit that is not set is left out."""
        return {
            spec.key: spec.unit.write(value)
            for field, spec in LIMITS.items()
            if (value := getattr(self, field)) is not None
        }


DEFAULT_LIMITS = Limits()
"""Limits of a grant that names none."""

HIGHEST_LIMITS = Limits(**{field: spec.maximum for field, spec in LIMITS.items() if field not in OPTIONAL})
"""Limits that restrict nothing that a document can say."""


def parse_limits(reader: Reader, defaults: Limits) -> Limits:
    """Read limits; what is absent is taken from `defaults`.

    Raises:
        FleetError: the code of the document, at the offending place.
    """
    named = {
        field: spec.unit.take(reader, spec.key, spec.minimum, spec.maximum)
        for field, spec in LIMITS.items()
        if reader.has(spec.key)
    }
    return replace(defaults, **named)


def _lower(mine: int | None, theirs: int | None) -> int | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return min(mine, theirs)

"""Which interfaces a grant can name, and with which constraints.

Owns: the vocabulary of this release. An interface or constraint that is not here is refused in documents, so that a
grant never promises a restriction that no capability enforces. Interface names carry no version.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.quantities import MAX_QUANTITY, format_duration, format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.documents import Reader


class Kind(StrEnum):
    """Kinds of constraint: see `fleet.grants.constraints`."""

    LITERALS = "literals"
    PATTERNS = "patterns"
    MAXIMUM = "maximum"


class Unit(StrEnum):
    """What a number counts, and so how documents write it."""

    COUNT = "count"
    SIZE = "size"
    DURATION = "duration"

    def take(self, reader: Reader, key: str, minimum: int, maximum: int) -> int:
        """Read a quantity within bounds (inclusive): a whole number, or text with a unit.

        Raises:
            FleetError: the code of the document.
        """
        if self is Unit.COUNT:
            return reader.integer(key, minimum, maximum)
        parse = parse_size if self is Unit.SIZE else parse_duration
        value = parse(reader.text(key), reader.code, reader.at(key))
        if not minimum <= value <= maximum:
            reader.fail(key, f"{self.write(value)} is not between {self.write(minimum)} and {self.write(maximum)}")
        return value

    def write(self, value: int) -> str | int:
        """Write a quantity as documents do: a count as a number, the others as text with a unit."""
        if self is Unit.COUNT:
            return value
        return format_size(value) if self is Unit.SIZE else format_duration(value)


@dataclass(frozen=True, slots=True)
class ConstraintSpec:
    """One constraint that rules of an interface may have.

    Attributes:
        kind: how values are compared.
        request: keyword under which a call names its value; empty for a maximum, which is looked up instead.
        required: whether a rule without it would be an accident, and is refused.
        values: the words that literals are made of.
        unit: what a maximum counts.
    """

    kind: Kind
    request: str = ""
    required: bool = False
    values: frozenset[str] = frozenset()
    unit: Unit = Unit.COUNT


def _literals(request: str, *values: str) -> ConstraintSpec:
    return ConstraintSpec(Kind.LITERALS, request, required=True, values=frozenset(values))


def _patterns(request: str) -> ConstraintSpec:
    return ConstraintSpec(Kind.PATTERNS, request, required=True)


def _maximum(unit: Unit) -> ConstraintSpec:
    return ConstraintSpec(Kind.MAXIMUM, unit=unit)


MAX_MAXIMUM = MAX_QUANTITY
"""Largest number that a maximum may name."""

_BUCKETS = _patterns("bucket")
# `max_bytes` bounds each bucket of the rule, whoever wrote to it; it needs the interface that writes.
_MAX_BYTES = _maximum(Unit.SIZE)

VOCABULARY: Mapping[str, Mapping[str, ConstraintSpec]] = {
    "wasi:logging/logging": {},
    "wasi:keyvalue/store": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "get", "set", "delete", "exists", "list-keys"),
        "max_bytes": _MAX_BYTES,
    },
    "wasi:keyvalue/atomics": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "increment", "swap"),
        "max_bytes": _MAX_BYTES,
    },
    "wasi:keyvalue/batch": {
        "buckets": _BUCKETS,
        "ops": _literals("op", "get-many", "set-many", "delete-many"),
        "max_bytes": _MAX_BYTES,
    },
    # A model is named as the guest names it, or by digest; `devices` are the execution targets of wasi:nn.
    "wasi:nn/graph": {"models": _patterns("model"), "devices": _literals("device", "cpu", "gpu", "tpu")},
    # Tensors hold memory of the host, so they are granted although they reach nothing.
    "wasi:nn/tensor": {},
    "wasi:nn/inference": {"max_rps": _maximum(Unit.COUNT)},
    "wasi:config/store": {"keys": _patterns("key")},
    "wasi:clocks/wall-clock": {},
    "wasi:random/random": {},
    "wasi:random/insecure": {},
    "wasi:random/insecure-seed": {},
}
"""Interface -> constraint name -> what it means."""

BASELINE: frozenset[str] = frozenset(
    {
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:clocks/monotonic-clock",
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        # C libraries, and so Python and Go, import files and sockets even where a program has none. A node shows them
        # no directory and opens no socket: the calls that would are answered with the interface's own denial.
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:sockets/instance-network",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
        # No function of it makes an error; the only ones come out of interfaces that are granted.
        "wasi:nn/errors",
    }
)
"""Interfaces that every agent may import: as a node serves them they reach nothing.

The environment is empty, input is at its end, output is captured, and there are no files and no sockets.
Language runtimes import most of them whether the agent uses them or not.
"""


def specs_of(interface: str, code: Code, place: str) -> Mapping[str, ConstraintSpec]:
    """Return the constraints of an interface.

    Raises:
        FleetError: `code` at `place` for an interface outside the vocabulary.
    """
    specs = VOCABULARY.get(interface)
    if specs is not None:
        return specs
    if interface in BASELINE:
        raise FleetError(code, f"{interface} needs no grant: every agent may import it", place=place)
    raise FleetError(code, f"{interface[:256]!r} is no interface that this release can grant", place=place)

"""What specimens are given: a grant of everything that a component can import, and calls."""

from __future__ import annotations

from fleet.grants.vocabulary import EXPORTS, VOCABULARY, ConstraintSpec, Kind
from tests.fakes.agents import authority


def everything() -> dict[str, list[dict[str, object]]]:
    """One rule per imported interface, each constraint that must be named as wide as it can be; no real host."""
    return {
        interface: [{name: _widest(spec) for name, spec in specs.items() if spec.required or spec.required_with}]
        if specs
        else []
        for interface, specs in VOCABULARY.items()
        if interface not in EXPORTS
    }


def _widest(spec: ConstraintSpec) -> list[str] | str:
    match spec.kind:
        case Kind.LITERALS:
            return sorted(spec.values)
        case Kind.PATTERNS | Kind.PORTS:
            return ["*"]
        case Kind.HOSTS:
            return ["nowhere.invalid"]
        case Kind.VOLUMES:
            return ["scratch/own"]
        case Kind.MAXIMUM:
            return "1MiB"
    raise NotImplementedError(spec.kind)


CAPABILITIES = everything()
LIMITS = {"memory": "8MiB", "deadline": "150ms", "log_per_minute": "4KiB", "keyvalue": "1MiB"}
GRANTED = authority(CAPABILITIES, **LIMITS)

INVOCATIONS = (
    'handle-data({source: "x", value: 1.5, timestamp: 7})',
    "make()",
    "add(1, 2)",
    "grow(3)",
    "random()",
    "read()",
    'print("text")',
    "directories()",
    "exit(3)",
)
"""Calls of functions that the damaged components had."""

"""A grant of everything that a component can import."""

from __future__ import annotations

from fleet.grants.vocabulary import EXPORTS, VOCABULARY, ConstraintSpec, Kind


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
        case Kind.PATTERNS:
            return ["*"]
        case Kind.HOSTS:
            return ["nowhere.invalid"]
        case Kind.VOLUMES:
            return ["scratch/own"]
        case Kind.MAXIMUM:
            return "1MiB"
    raise NotImplementedError(spec.kind)

"""What lets several calls be in flight in one agent: which functions take part, and what the host does for them.

Owns: `CALLS`, the interface between the host and the generated components, and `Concurrent`, which says what is in it
for one component. Two components take part (see `dispatcher` and `waits`): the dispatcher calls the agent's
asynchronous exports for the host, and the adapters of its asynchronous imports let the host answer later.

An export takes part when it is asynchronous and neither its parameters nor its result hold a resource,
a stream or a future. An import takes
part when besides they hold no list of numbers, which crosses as text on another way, and have room for one core value
more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim import abi
from edge_agent.runner.engine.shim.moved import contains, has_numbers, types_of
from edge_agent.runner.engine.types import ROOT, AsyncFuncType, ComponentTypes, InterfaceType, PassedType
from fleet.errors import Code, FleetError
from fleet.wit_types import BorrowType, FuncType, OwnType, Primitive, TupleType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CALLS = "fleet:node/calls@0.1.0"
"""Imported from the host by the generated components, and exported with `run`; no interface of an agent."""

RUN = "run"

MAX_CALLS = 256
"""Calls that one agent can have in flight: the dispatcher's table has so many rows."""

NEXT_NOTHING = 0
"""What `next` returns in its lower half: nothing to do now; the number of an export, counted from one; or these."""
NEXT_END = 0xFFFF_FFFF
NEXT_WAKE = 0xFFFF_FFFE
NEXT_CANCEL = 0xFFFF_FFFD

_U32, _U64 = Primitive.U32, Primitive.U64


@dataclass(frozen=True, slots=True)
class Concurrent:
    """The functions of one component that take part, by `interface#function`, in the order of their numbers.

    Attributes:
        exports: what the dispatcher calls; nothing takes part where there is none.
        imports: what the host may answer later.
    """

    exports: Mapping[str, FuncType] = field(default_factory=dict)
    imports: Mapping[str, FuncType] = field(default_factory=dict)

    def interface(self) -> InterfaceType:
        """What the host does for the generated components.

        `next` says what to do: a number in its lower half, and a row of the dispatcher's table, or an end of a future,
        in its upper half.
        """
        functions = {"next": FuncType((), _U64), "cancelled": FuncType((("call", _U32),))}
        for number, kind in enumerate(self.exports.values()):
            if kind.params:
                params = TupleType(tuple(part for _, part in kind.params))
                functions[f"take-n{number}"] = FuncType((("call", _U32),), params)
            result = () if kind.result is None else (("value", kind.result),)
            functions[f"done-n{number}"] = FuncType((("call", _U32), *result))
        for number, kind in enumerate(self.imports.values()):
            functions[f"start-n{number}"] = FuncType((*kind.params, ("shim-ends", _U64)), Primitive.BOOL)
            functions[f"finish-n{number}"] = FuncType((("end", _U32),), kind.result)
        if self.imports:
            functions["forget"] = FuncType((("end", _U32),), _U32)
        return InterfaceType(functions, {})


def find_concurrent(types: ComponentTypes) -> Concurrent:
    """Find the functions of a component that take part."""
    if CALLS in types.imports or CALLS in types.exports:
        return Concurrent()
    exports = {
        name: kind for name, kind in _functions(types.exports).items() if _is_asynchronous(kind) and _is_plain(kind)
    }
    if not exports:
        return Concurrent()
    imports = {
        name: kind
        for name, kind in _functions(types.imports).items()
        if _is_asynchronous(kind) and _is_plain(kind) and _is_adaptable(kind) and not name.startswith(f"{ROOT}#")
    }
    return Concurrent(exports, imports)


def taking_part(types: ComponentTypes, calls: Iterable[str], waits: Iterable[str]) -> Concurrent:
    """Find the functions again of which it was written down that they take part.

    Raises:
        FleetError: COMPONENT_INVALID when the component has none of that name.
    """
    exports, imports = _functions(types.exports), _functions(types.imports)
    try:
        return Concurrent({name: exports[name] for name in calls}, {name: imports[name] for name in waits})
    except KeyError as error:
        raise FleetError(Code.COMPONENT_INVALID, f"the component has no function {error}") from None


def without_calls(types: ComponentTypes) -> ComponentTypes:
    """The types without what is between the host and the generated components."""
    imports = {name: declared for name, declared in types.imports.items() if name != CALLS}
    return ComponentTypes(imports, {name: declared for name, declared in types.exports.items() if name != CALLS})


def full_name(interface: str, function: str) -> str:
    """Name of a function as `Instance.call` takes it."""
    return f"{interface}#{function}" if interface else function


def _functions(interfaces: Mapping[str, InterfaceType]) -> dict[str, FuncType]:
    return {
        f"{interface}#{name}": kind
        for interface, declared in interfaces.items()
        for name, kind in declared.functions.items()
    }


def _is_asynchronous(kind: FuncType) -> bool:
    return isinstance(kind, AsyncFuncType)


def _is_plain(kind: FuncType) -> bool:
    return not any(
        contains(part, lambda found: isinstance(found, OwnType | BorrowType | PassedType)) for part in types_of(kind)
    )


def _is_adaptable(kind: FuncType) -> bool:
    cores = sum(len(abi.flat(part)) for _, part in kind.params)
    return cores < abi.MAX_FLAT_PARAMS and not any(map(has_numbers, types_of(kind)))

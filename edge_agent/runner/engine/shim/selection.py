"""Which functions of a component the shim converts, and whether it can be written down at all.

Owns: `moved_imports`, `moved_exports`, `all_marks` and `can_be_written`. Types in, names out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim.moved import contains, has_numbers, marks, types_of
from edge_agent.runner.engine.shim.scope import INVENTED, names_in, resources_in
from edge_agent.runner.engine.types import ROOT, AsyncFuncType, ComponentTypes, InterfaceType
from fleet.wit_types import BorrowType, FuncType

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAFE = re.compile(r"[A-Za-z0-9:/@.+\-\[\]]+", re.ASCII)


def moved_imports(declared: InterfaceType, *, lists: bool) -> frozenset[str]:
    """Names of the imported functions that need the shim; without `lists` those alone that cannot do without."""
    waiting = {name for name, function in declared.functions.items() if _waits(function) and _can_move(function)}
    return frozenset(waiting) | moved_exports(declared) if lists else frozenset(waiting)


def moved_exports(declared: InterfaceType) -> frozenset[str]:
    """Names of the functions whose lists of numbers the shim converts."""
    return frozenset(
        name
        for name, function in declared.functions.items()
        if any(map(has_numbers, types_of(function))) and _can_move(function) and not _waits(function)
    )


def _waits(function: FuncType) -> bool:
    return isinstance(function, AsyncFuncType)


def _can_move(function: FuncType) -> bool:
    return not any(
        contains(kind, lambda part: isinstance(part, BorrowType))
        for _, kind in function.params
        if not isinstance(kind, BorrowType)
    )


def all_marks(interfaces: Mapping[str, InterfaceType], moved: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Return the marks of everything that is converted, by `interface#function`."""
    return {
        f"{interface}#{name}": marks(interfaces[interface].functions[name])
        for interface, names in moved.items()
        for name in sorted(names)
    }


def can_be_written(types: ComponentTypes) -> bool:
    """Every name is plain, no resource stands outside interfaces, and functions use resources their interface names."""
    for interface, declared in (*types.imports.items(), *types.exports.items()):
        kinds = [kind for function in declared.functions.values() for kind in types_of(function)]
        kinds += declared.types.values()
        words = [word for kind in kinds for word in names_in(kind)]
        words += [*declared.functions, *declared.resources, *declared.types]
        words += [name for function in declared.functions.values() for name, _ in function.params]
        words += [interface] if interface != ROOT else []
        if not all(_SAFE.fullmatch(word) and not word.startswith(INVENTED) for word in words):
            return False
        used = {name for kind in kinds for name in resources_in(kind)}
        if declared.resources if interface == ROOT else used - declared.resources.keys():
            return False
    return True

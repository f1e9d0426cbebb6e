"""A call as text: which exported function is meant, its arguments, and its result as text again.

Owns: `resolve_export`, `read` and `evaluate`. Texts are WAVE (`fleet.wave`) or, where the call begins with a brace,
JSON (`fleet.wit_json`); the result has the form of the call. Both are read and written by the types of the component.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edge_agent.runner.kept_values import numbered
from fleet.errors import Code, FleetError
from fleet.wave import parse_call
from fleet.wave_print import print_value
from fleet.wit_json import parse_json_call, print_json_result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.runner.engine import Instance
    from fleet.wit_types import FuncType, WitType, WitValue


def resolve_export(exports: Mapping[str, FuncType], name: str) -> str:
    """Return the full name of an exported function.

    Args:
        exports: full names, `interface@version#function` or a bare name for a function outside interfaces.
        name: the full name; or `interface#function` without the version, or the bare name, where that is unique.

    Raises:
        FleetError: EXPORT_NOT_FOUND, naming the candidates when there are several.
    """
    if name in exports:
        return name
    found = [full for full in exports if name in _short_names(full)]
    if len(found) == 1:
        return found[0]
    if found:
        raise FleetError(
            Code.EXPORT_NOT_FOUND, f"several interfaces export '{name}'", function=name, candidates=", ".join(found)
        )
    raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no function '{name}'", function=name)


def evaluate(instance: Instance, invocation: str, seconds: float) -> str:
    """Call a function of an instance.

    Returns:
        Its result as text in the form of the call; for a function without a result "" in WAVE and "null" in JSON.

    Raises:
        Trap: the guest ended.
        FleetError: WAVE_INVALID, VALUE_INVALID, EXPORT_NOT_FOUND, LIMIT_EXCEEDED, and what `Instance.call` raises; the
            guest did not run.
    """
    function, arguments, printed = read(instance, invocation)
    return printed(instance.call(function, *arguments, seconds=seconds))


def read(instance: Instance, invocation: str) -> tuple[str, tuple[WitValue, ...], Callable[[WitValue], str]]:
    """Return the function that a text calls, its arguments, and what makes a text of its result.

    Raises:
        FleetError: WAVE_INVALID, VALUE_INVALID, EXPORT_NOT_FOUND, LIMIT_EXCEEDED.
    """
    exports = instance.exports
    json = invocation.startswith("{")
    call = (parse_json_call if json else parse_call)(invocation, lambda name: exports[resolve_export(exports, name)])
    function = resolve_export(exports, call.function)
    kind = exports[function].result
    if kind is not None and numbered(kind) != kind:
        # A handle means something inside the instance only. Said now, since afterwards the guest would have run.
        raise FleetError(Code.VALUE_INVALID, f"{function} returns {kind}: a resource has no text", function=function)
    return function, call.arguments, partial(_printed, kind=kind, json=json)


def _printed(result: WitValue, *, kind: WitType | None, json: bool) -> str:
    if json:
        return print_json_result(result, kind)
    return "" if kind is None else print_value(result, kind)


def _short_names(full: str) -> tuple[str, ...]:
    interface, hash_sign, function = full.rpartition("#")
    return (function, f"{interface.partition('@')[0]}#{function}") if hash_sign else ()

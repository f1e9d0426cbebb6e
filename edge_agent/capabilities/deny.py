"""Stand-ins for optional imports that a node does not serve: every call is refused.

Owns: `deny_interface`, and `error_value` for whoever answers in place of another. Interfaces that this package serves
need no stand-in: they ask the authority themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostFunction, HostInterface
from fleet.errors import Code, FleetError
from fleet.wit_types import EnumType, Err, Primitive, ResultType, Variant, VariantType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleet.wit_types import FuncType, WitType, WitValue

DENIED_CASES = ("access-denied", "not-permitted", "security", "access", "other", "unknown")
"""Names of error cases that say "denied" in published interfaces, the clearest first."""

DENIED_TEXT = "the grant does not include this interface"


def deny_interface(
    name: str, signatures: Mapping[str, FuncType], resources: Iterable[str] = (), uses: Mapping[str, str] | None = None
) -> HostInterface:
    """An interface that refuses every call.

    It answers with an error value where the signature has a fitting one, else with a host error that ends the agent.

    Args:
        name: the interface as the component imports it.
        signatures: its functions as the component declares them.
        resources: resources that the interface defines; no handle of them ever exists.
        uses: resources that it takes from other interfaces.
    """
    return HostInterface(
        name,
        {
            function: HostFunction(signature, _refusal(name, function, signature))
            for function, signature in signatures.items()
        },
        resources=dict.fromkeys(resources, _never_dropped),
        uses=dict(uses or {}),
    )


def _refusal(interface: str, function: str, signature: FuncType) -> Callable[..., WitValue]:
    result = signature.result
    refused = error_value(result.err, DENIED_CASES, DENIED_TEXT) if isinstance(result, ResultType) else None

    def refuse(*_: WitValue) -> WitValue:
        if refused is None:
            raise FleetError(Code.CALL_DENIED, DENIED_TEXT, interface=interface, function=function)
        return refused

    return refuse


def error_value(kind: WitType | None, cases: Iterable[str], text: str) -> Err[WitValue] | None:
    """An error of a function's error type, None when that has no room for one.

    Args:
        kind: the error type.
        cases: of an enum or variant, the first of these that it has, without payload or with text.
        text: what is told where the type has room for words.
    """
    match kind:
        case None:
            return Err(None)
        case Primitive.STRING:
            return Err(text)
        case EnumType(names):
            for case in cases:
                if case in names:
                    return Err(case)
        case VariantType(parts):
            payloads = dict(parts)
            for case in cases:
                if case in payloads and payloads[case] is None:
                    return Err(Variant(case))
                if case in payloads and payloads[case] is Primitive.STRING:
                    return Err(Variant(case, text))
    return None


def _never_dropped(number: int) -> None:
    raise RuntimeError(f"resource {number} was never made")

"""Stand-ins for optional imports that a node does not serve: every call is refused.

Owns: `deny_interface`. Interfaces that this package serves need no stand-in: they ask the authority themselves.
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
    refused = _denied(result.err) if isinstance(result, ResultType) else None

    def refuse(*_: WitValue) -> WitValue:
        if refused is None:
            raise FleetError(Code.CALL_DENIED, DENIED_TEXT, interface=interface, function=function)
        return refused

    return refuse


def _denied(kind: WitType | None) -> Err[WitValue] | None:
    """An error value that says "denied", None when the type has none."""
    match kind:
        case None:
            return Err(None)
        case Primitive.STRING:
            return Err(DENIED_TEXT)
        case EnumType(cases):
            for case in DENIED_CASES:
                if case in cases:
                    return Err(case)
        case VariantType(cases):
            payloads = dict(cases)
            for case in DENIED_CASES:
                if case in payloads and payloads[case] is None:
                    return Err(Variant(case))
                if case in payloads and payloads[case] is Primitive.STRING:
                    return Err(Variant(case, DENIED_TEXT))
    return None


def _never_dropped(number: int) -> None:
    raise RuntimeError(f"resource {number} was never made")

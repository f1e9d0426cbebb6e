"""`wasi:filesystem` and `wasi:sockets` with nothing behind them: no file and no socket can be opened.

Owns: `EMPTY`, which says which interfaces these are, and `empty_interface`. Language runtimes import them whether the
agent uses them or not. There is no directory to start from, and what would make a socket or look a name up is answered
with the interface's own error for "denied". Signatures are those that the component declares: an interface that does
nothing cannot be misled by others, so any version of it will do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostFunction, Table
from edge_agent.capabilities.deny import deny_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import AgentContext, HostInterface
    from fleet.wit_types import FuncType, WitValue

EMPTY = frozenset(
    {
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:sockets/instance-network",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
    }
)
"""Interfaces, without version, that every agent finds empty."""

MAX_NETWORKS = 64
"""Handles of the network that an agent may hold. It is what a socket would be opened with."""


def empty_interface(
    context: AgentContext,
    name: str,
    signatures: Mapping[str, FuncType],
    resources: Iterable[str],
    uses: Mapping[str, str],
) -> HostInterface:
    """One of the interfaces of `EMPTY`, for one agent.

    Args:
        context: of the agent.
        name: the interface as the component imports it.
        signatures: its functions as the component declares them.
        resources: resources that the interface defines.
        uses: resources that it takes from other interfaces.
    """
    networks = context.shared(_networks)
    answers: dict[str, Callable[..., WitValue]] = {
        "get-directories": list,
        "filesystem-error-code": lambda _error: None,
        "instance-network": lambda: networks.insert(None),
    }
    denied = deny_interface(name, signatures, resources, uses)
    return replace(
        denied,
        functions={
            function: HostFunction(refusal.signature, answers.get(function, refusal.call))
            for function, refusal in denied.functions.items()
        },
        resources={**denied.resources, **({"network": networks.drop} if "network" in denied.resources else {})},
    )


def _networks(_context: AgentContext) -> Table[None]:
    return Table("networks", MAX_NETWORKS)

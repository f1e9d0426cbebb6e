"""What one agent is linked with: exactly its imports, each by its grant, as baseline, or as a stand-in that refuses.

Owns: `link`. It repeats on the component itself what admission decided from the bundle: an import that is neither
granted nor baseline nor among the deny stubs is left out, and the engine then refuses the component. Interfaces that
do nothing have the signatures that the component declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities import find, interfaces_for
from edge_agent.capabilities.deny import deny_interface
from edge_agent.capabilities.empty import EMPTY, empty_interface
from edge_agent.capabilities.lazy import LazyInterfaces
from edge_agent.runner.engine import ROOT
from fleet.errors import Code
from fleet.grants import BASELINE
from fleet.wit import parse_interface

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edge_agent.capabilities.base import AgentContext, HostInterface
    from edge_agent.runner.engine import Component, InterfaceType
    from fleet.grants import Authority
    from fleet.wit_types import FuncType


def link(
    component: Component, context: AgentContext, authority: Authority, deny_stubs: Collection[str]
) -> LazyInterfaces:
    """Return the host interfaces for one agent, under the names that its component imports.

    Which they are is decided now; they are made when they are first needed.

    Args:
        component: what is linked.
        context: what the capabilities work with.
        authority: decides which imports are granted.
        deny_stubs: imports, with their versions, that are linked without a grant and refuse every call.

    Raises:
        FleetError: COMPONENT_UNSUPPORTED for an import that is no interface.
    """
    imports = component.types.imports
    linked = tuple(name for name in imports if name != ROOT and _is_linked(name, authority, deny_stubs))
    stubs = frozenset(deny_stubs)
    return LazyInterfaces((linked, stubs), lambda: _made(imports, linked, context, stubs))


def _made(
    imports: Mapping[str, InterfaceType], linked: Collection[str], context: AgentContext, deny_stubs: Collection[str]
) -> list[HostInterface]:
    served = [name for name in linked if find(name) is not None]
    others = [name for name in linked if name not in served]
    return [
        *interfaces_for(served, context),
        *(empty_interface(context, name, *_parts(name, imports[name])) for name in others if _is_empty(name)),
        *(deny_interface(name, *_parts(name, imports[name])) for name in others if _is_stub(name, deny_stubs)),
    ]


def _is_linked(name: str, authority: Authority, deny_stubs: Collection[str]) -> bool:
    interface = parse_interface(name, Code.COMPONENT_UNSUPPORTED).unversioned
    return interface in authority.capabilities or interface in BASELINE or name in deny_stubs


def _is_empty(name: str) -> bool:
    return parse_interface(name).unversioned in EMPTY


def _is_stub(name: str, deny_stubs: Collection[str]) -> bool:
    return name in deny_stubs and not _is_empty(name)


def _parts(name: str, declared: InterfaceType) -> tuple[Mapping[str, FuncType], set[str], dict[str, str]]:
    """Functions, own resources and resources of other interfaces, as the component declares them."""
    own = {resource for resource, origin in declared.resources.items() if origin == f"{name}#{resource}"}
    uses = {
        resource: origin.rpartition("#")[0] for resource, origin in declared.resources.items() if resource not in own
    }
    return declared.functions, own, uses

"""Host functions that agents may import, one module per WIT package.

Owns: which interfaces a node serves and which module serves each. A capability returns plain callables and never sees
the engine; `edge_agent.runner` links them.

To add one: write a module with `interfaces(context) -> tuple[HostInterface, ...]`, declare its signatures from the
`.wit` text, name its interfaces in `SERVED` below, name its constraints in `fleet.grants.vocabulary`, and add a test
file; `tests/edge_agent/capabilities/test_signatures.py` compares the signatures with `wit/`.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.wit import compatible, parse_interface

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from edge_agent.capabilities.base import AgentContext, HostInterface

SERVED: Mapping[str, str] = MappingProxyType(
    {
        "fleet:secrets/http@0.1.0": "secrets",
        "fleet:secrets/reveal@0.1.0": "secrets",
        "fleet:secrets/store@0.1.0": "secrets",
        "fleet:sensors/reader@0.1.0": "sensor_reader",
        "wasi:cli/environment@0.2.12": "wasi_cli",
        "wasi:cli/environment@0.3.0": "wasi_cli",
        "wasi:cli/exit@0.2.12": "wasi_cli",
        "wasi:cli/exit@0.3.0": "wasi_cli",
        "wasi:cli/stderr@0.2.12": "wasi_cli",
        "wasi:cli/stdin@0.2.12": "wasi_cli",
        "wasi:cli/stdout@0.2.12": "wasi_cli",
        "wasi:cli/terminal-input@0.2.12": "wasi_cli",
        "wasi:cli/terminal-output@0.2.12": "wasi_cli",
        "wasi:cli/terminal-stderr@0.2.12": "wasi_cli",
        "wasi:cli/terminal-stdin@0.2.12": "wasi_cli",
        "wasi:cli/terminal-stdout@0.2.12": "wasi_cli",
        "wasi:clocks/monotonic-clock@0.2.12": "clocks",
        "wasi:clocks/monotonic-clock@0.3.0": "clocks",
        "wasi:clocks/system-clock@0.3.0": "clocks",
        "wasi:clocks/types@0.3.0": "clocks",
        "wasi:clocks/wall-clock@0.2.12": "clocks",
        "wasi:config/store@0.2.0-draft": "config_store",
        "wasi:config/store@0.2.0-rc.1": "config_store",
        "wasi:filesystem/preopens@0.2.12": "filesystem",
        "wasi:filesystem/types@0.2.12": "filesystem",
        "wasi:http/outgoing-handler@0.2.12": "wasi_http",
        "wasi:http/types@0.2.12": "wasi_http",
        "wasi:io/error@0.2.12": "wasi_io",
        "wasi:io/poll@0.2.12": "wasi_io",
        "wasi:io/streams@0.2.12": "wasi_io",
        "wasi:keyvalue/atomics@0.2.0-draft": "keyvalue",
        "wasi:keyvalue/atomics@0.2.0-draft2": "keyvalue",
        "wasi:keyvalue/batch@0.2.0-draft": "keyvalue",
        "wasi:keyvalue/batch@0.2.0-draft2": "keyvalue",
        "wasi:keyvalue/store@0.2.0-draft": "keyvalue",
        "wasi:keyvalue/store@0.2.0-draft2": "keyvalue",
        "wasi:logging/logging@0.1.0-draft": "log",
        "wasi:messaging/producer@0.2.0-draft": "messaging",
        "wasi:messaging/request-reply@0.2.0-draft": "messaging",
        "wasi:messaging/types@0.2.0-draft": "messaging",
        "wasi:nn/errors@0.2.0-rc-2024-10-28": "nn",
        "wasi:nn/graph@0.2.0-rc-2024-10-28": "nn",
        "wasi:nn/inference@0.2.0-rc-2024-10-28": "nn",
        "wasi:nn/tensor@0.2.0-rc-2024-10-28": "nn",
        "wasi:random/insecure-seed@0.2.12": "randomness",
        "wasi:random/insecure-seed@0.3.0": "randomness",
        "wasi:random/insecure@0.2.12": "randomness",
        "wasi:random/insecure@0.3.0": "randomness",
        "wasi:random/random@0.2.12": "randomness",
        "wasi:random/random@0.3.0": "randomness",
    }
)
"""Interface -> module of this package that serves it."""

_PROVIDED = {parse_interface(name): name for name in SERVED}


def find(imported: str) -> str | None:
    """Name of the served interface that answers to an imported one, None when there is none.

    Raises:
        FleetError: COMPONENT_INVALID when `imported` is no interface name.
    """
    if imported in SERVED:
        return imported
    required = parse_interface(imported)
    return next((name for provided, name in _PROVIDED.items() if compatible(required, provided)), None)


def interfaces_for(imports: Iterable[str], context: AgentContext) -> tuple[HostInterface, ...]:
    """Interfaces for one agent: those of its imports that are served here, under the names that it imports.

    Each of them asks the authority call by call, so that an interface that is linked but not granted (the deny stub of
    an optional import) answers with its own error. Modules are imported here, when the first agent needs them: wasi:nn
    brings ONNX Runtime with it.

    Raises:
        FleetError: COMPONENT_INVALID when an import is no interface name.
    """
    found = {imported: served for imported in imports if (served := find(imported)) is not None}
    offered: dict[str, HostInterface] = {}
    for module in sorted({SERVED[served] for served in found.values()}):
        for interface in import_module(f"{__name__}.{module}").interfaces(context):
            offered[interface.name] = interface
    return tuple(_renamed(offered[served], imported, found) for imported, served in found.items())


def _renamed(interface: HostInterface, name: str, found: Mapping[str, str]) -> HostInterface:
    """Return the interface under the name that the guest imports, with the resources of others under theirs."""
    uses = {resource: _source_as(source, name, found) for resource, source in interface.uses.items()}
    if name == interface.name and uses == interface.uses:
        return interface
    return replace(interface, name=name, uses=uses)


def _source_as(source: str, user: str, found: Mapping[str, str]) -> str:
    """Source of a resource in the names that the guest imports; `source` is as `HostInterface.uses` says."""
    served, hash_sign, resource = source.partition("#")
    return f"{_imported_as(served, user, found)}{hash_sign}{resource}"


def _imported_as(served: str, user: str, found: Mapping[str, str]) -> str:
    """Name under which the guest imports `served` where it imports `user`.

    A guest may import two versions of one track; interfaces of a version use the resources of the same version.
    """
    version = parse_interface(user).version
    names = [imported for imported, answer in found.items() if answer == served]
    return next((name for name in names if parse_interface(name).version == version), names[0] if names else served)

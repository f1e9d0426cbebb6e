"""Which components run as one agent, and which of them answers what.

Owns: `Fusion`, `Part` and `Wire`, the values that admission hands to the runtime. Pure; the components are put together
by `edge_agent.runner.engine.fusion`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import dump_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a fusion, and the agent that it belongs to."""

    agent: str
    component: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Wire:
    """The import `interface` of the part with number `user` is answered by the part with number `provider`."""

    user: int
    interface: str
    provider: int


@dataclass(frozen=True, slots=True)
class Fusion:
    """Components that run as one: what the first of them exports is what the whole does.

    Attributes:
        parts: the agent's own component first.
        wires: which part answers what; all other imports are the whole's, those of one name shared.
    """

    parts: tuple[Part, ...]
    wires: tuple[Wire, ...]

    @property
    def digest(self) -> str:
        """Names what the parts make together, as the digest of a component names the component."""
        recipe = {
            "schema": "fleet.fusion/v1",
            "parts": [part.digest for part in self.parts],
            "wires": [[wire.user, wire.interface, wire.provider] for wire in self.wires],
        }
        return f"sha256:{hashlib.sha256(dump_json(recipe)).hexdigest()}"

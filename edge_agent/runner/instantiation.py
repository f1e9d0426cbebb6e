"""How the memory of a grant becomes the limits of an instance.

Owns: `instantiate`, the same for an agent that runs and for one that is replayed. Never decides what a limit is.

The engine bounds each linear memory and each table by itself; a grant bounds their sum. How many a component has shows
only when it is instantiated, so it is tried with few, and with what the engine says it lacks. The grant is then shared
out: tables have a small part, or what the component's own tables need at least, and the memories have equal parts of
the rest. An element of a table counts as a pointer. A component with several memories therefore cannot use all of its
grant in one of them; nearly all components have one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_agent.runner.engine import Limits, Trap

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Instance
    from fleet.grants.limits import Limits as GrantLimits

START_SECONDS = 30.0
"""Wall-clock time of instantiation, start functions included; an interpreter in a guest takes seconds of it."""

ELEMENT_BYTES = 8
"""What one element of a table takes in the engine: a pointer."""

TABLES_PART = 64
"""Tables have one part in so many of the memory, to begin with."""

MAX_MEMORIES = 16
MAX_TABLES = 64

_TOO_MANY = re.compile(r"(memory|table) count too high at ([0-9]{1,9})$")
_TOO_LARGE = re.compile(r"table minimum size of ([0-9]{1,18}) elements exceeds table limits$")


@dataclass(frozen=True, slots=True)
class Shares:
    """What a component is tried with.

    Attributes:
        memories: number of linear memories.
        tables: number of tables; four are usual in a component with one core module.
        elements: elements that its largest table has from the start, as far as the engine has said.
    """

    memories: int = 1
    tables: int = 4
    elements: int = 0

    def limits(self, grant: GrantLimits) -> Limits:
        """Share the memory of a grant out."""
        elements = max(self.elements, grant.memory_bytes // TABLES_PART // ELEMENT_BYTES // self.tables)
        rest = max(0, grant.memory_bytes - self.tables * elements * ELEMENT_BYTES)
        return Limits(
            memory_bytes=rest // self.memories,
            memories=self.memories,
            tables=self.tables,
            table_elements=elements,
            call_seconds=None,  # every call has its own deadline
            start_seconds=START_SECONDS,
            fuel_per_call=grant.fuel_per_call,
        )

    def after(self, message: str) -> Shares | None:
        """What to try after the engine has refused with this message; None when more of the same does not help."""
        if (found := _TOO_MANY.search(message)) is not None:
            count = int(found[2])
            if found[1] == "memory":
                return replace(self, memories=count) if self.memories < count <= MAX_MEMORIES else None
            return replace(self, tables=count) if self.tables < count <= MAX_TABLES else None
        if (found := _TOO_LARGE.search(message)) is not None and int(found[1]) > self.elements:
            return replace(self, elements=int(found[1]))
        return None


def instantiate(make: Callable[[Limits], Instance], limits: GrantLimits) -> Instance:
    """Make an instance whose memories and tables together stay within a grant.

    The byte shim of a component that moves bytes has a memory of its own on top (see `engine.Limits`): it is the host's
    way of passing values, and no code of the guest can address it.

    Args:
        make: makes it within some limits; called again with others where the component has more memories or tables.
        limits: what the grant allows.

    Raises:
        Trap, FleetError: as `Instance` does.
    """
    shares: Shares | None = Shares()
    while shares is not None:
        try:
            return make(shares.limits(limits))
        except Trap as trap:
            shares = shares.after(trap.message)
            if shares is None:
                raise
    raise RuntimeError("every refusal is raised or answered by other shares")

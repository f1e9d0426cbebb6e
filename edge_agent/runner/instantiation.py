"""How the limits of a grant become those of an instance.

Owns: `instantiate`, the same for an agent that runs and for one that is replayed. Never decides what a limit is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine import Limits, Trap

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine import Instance
    from fleet.grants.limits import Limits as GrantLimits

START_SECONDS = 30.0
"""Wall-clock time of instantiation, start functions included; an interpreter in a guest takes seconds of it."""

_MEMORY_COUNTS = (1, 2, 4)
"""How many linear memories an agent's memory is shared out to: as few as the component can be instantiated with."""

_TOO_MANY_MEMORIES = "memory count too high"


def instantiate(make: Callable[[Limits], Instance], limits: GrantLimits) -> Instance:
    """Make an instance. The engine bounds each linear memory; the grant bounds their sum.

    The byte shim of a component that moves bytes has a memory of its own on top, per direction at most 16 MiB and never
    more than the grant: it is the host's way of passing values, and no code of the guest can address it.

    Args:
        make: makes it within some limits; called again with others where the component has more memories.
        limits: what the grant allows.

    Raises:
        Trap, FleetError: as `Instance` does.
    """
    for memories in _MEMORY_COUNTS:
        shared = Limits(
            memory_bytes=limits.memory_bytes // memories,
            memories=memories,
            call_seconds=None,  # every call has its own deadline
            start_seconds=START_SECONDS,
            fuel_per_call=limits.fuel_per_call,
        )
        try:
            return make(shared)
        except Trap as trap:
            if _TOO_MANY_MEMORIES not in trap.message or memories == _MEMORY_COUNTS[-1]:
                raise
    raise RuntimeError("the last count returns or raises")

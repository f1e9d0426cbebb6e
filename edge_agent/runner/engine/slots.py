"""What the binding keeps per agent while its code runs: the place host callbacks find their agent by.

Owns: `AgentSlot`, the registry that maps a store back to its slot, and the trampolines' rule for exceptions: they are
kept in the slot of the agent whose call raised them, never in a process-wide variable, so that two agents in two
threads cannot see each other's. Never calls the engine.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge_agent.runner.engine.arena import Arena

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edge_agent.runner.engine.resources import GuestResource
    from fleet.model import ExitCause


class QuotaError(Exception):
    """The guest asked a host function for more than its limits allow; ends the agent with cause `quota`."""


class AgentSlot:
    """State of one agent that callbacks need; used by one thread at a time, like the store it belongs to.

    Attributes:
        functions: host functions of this agent, by their place among those that the component imports.
        destructors: destructors of this agent's resources, by resource number.
        clock: monotonic seconds.
        context: pointer to the store's context, set once the store exists.
        failure: first exception raised by a host function since the last call from outside.
        stopped_by: why the epoch callback stopped the guest, if it did.
        deadline: monotonic second at which the running call must end; infinite when it need not.
        interrupted: set by another thread to stop the guest at the next check.
        movable: most bytes of lists of numbers that one call may carry through the shim.
        live: numbers of the resources the guest holds, by resource number.
        lent: those of them that were handed over since the last call from outside began.
        drop_guest: gives the function that drops a resource of the guest, which keeps the instance alive.
        held: pointers to the open handles on resources of the guest, by the identity of their `GuestResource`.
        abandoned: those that nobody can use any more; dropped with the next call.
        given: resources of the guest that are arguments of the call being made, as its own.
    """

    __slots__ = (
        "abandoned",
        "arena",
        "clock",
        "context",
        "deadline",
        "destructors",
        "drop_guest",
        "failure",
        "functions",
        "given",
        "held",
        "interrupted",
        "lent",
        "live",
        "movable",
        "number",
        "resource_limit",
        "stopped_by",
    )

    def __init__(
        self,
        functions: dict[int, Callable[..., object]],
        destructors: Mapping[int, Callable[[int], None]],
        resource_limit: int,
        clock: Callable[[], float],
        movable: int,
    ) -> None:
        self.number = next(_numbers)
        self.functions = functions
        self.destructors = destructors
        self.resource_limit = resource_limit
        self.clock = clock
        self.movable = movable
        self.context = 0
        self.arena = Arena()
        self.failure: BaseException | None = None
        self.stopped_by: ExitCause | None = None
        self.deadline = float("inf")
        self.interrupted = False
        self.live: set[tuple[int, int]] = set()
        self.lent: list[tuple[int, int]] = []
        self.drop_guest: Callable[[], Callable[[int], None]]
        self.held: dict[int, int] = {}
        self.abandoned: list[int] = []
        self.given: list[GuestResource] = []

    def lend(self, resource: int, rep: int) -> None:
        """Note that the guest now owns a resource.

        Raises:
            QuotaError: the guest holds too many.
        """
        if len(self.live) >= self.resource_limit:
            raise QuotaError(f"the guest holds {self.resource_limit} resources, its limit")
        self.live.add((resource, rep))
        self.lent.append((resource, rep))

    def take_back(self) -> None:
        """The call did not come about: what it would have given to the guest is still the host's."""
        self.live.difference_update(self.lent)
        for resource in self.given:
            resource.keep()
        self.given = []

    def hand_over(self) -> None:
        """The call has begun: what it took of the guest's resources is no longer the host's."""
        given, self.given = self.given, []
        for resource in given:
            resource.forget()

    def drop(self, resource: int, rep: int) -> None:
        """The guest dropped a resource it owned: run its destructor."""
        self.live.discard((resource, rep))
        self.destructors[resource](rep)

    def destroy_all(self) -> None:
        """Run the destructors of everything the guest still holds; all of them, even if one raises."""
        with ExitStack() as stack:
            for resource, rep in self.live:
                stack.callback(self.destructors[resource], rep)
            self.live = set()


slots: dict[int, AgentSlot] = {}
"""Live slots by number; the number is the data pointer of the store, so a callback finds its own slot and no other."""

_numbers = itertools.count(1)

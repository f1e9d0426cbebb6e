"""Calls of asynchronous functions, which the engine runs in steps.

Owns: `stepwise`. A step ends when the guest has nothing to do but to wait, or yields; as all host functions answer at
once, a guest that waits for nothing else comes to its end in the first step, and one that yields is asked again until
its deadline. The engine borrows the store for the whole call: nothing else may be done with it in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine.slots import AgentSlot

STOPPED = b"the host stopped the guest"


def stepwise(start: Callable[[], int], error: ffi.Pointer, slot: AgentSlot) -> Callable[..., int | None]:
    """Return a function that makes a call from its start to its end; it returns a pointer to an error, or None.

    It may be given what is to be called between two steps.

    Args:
        start: prepares the call and returns the engine's pointer to it.
        error: where the engine puts what the call fails with.
        slot: says when it must end.
    """

    def run(between: Callable[[], None] = _nothing) -> int | None:
        error.value = None
        call = start()
        try:
            while not ffi.call_poll(call):
                slot.stopped_by = stop_cause(slot)
                if slot.stopped_by is not None:
                    return ffi.error_new(STOPPED)  # type: ignore[no-any-return]
                between()
        finally:
            ffi.call_delete(call)
        return error.value

    return run


def _nothing() -> None:
    """Do nothing between two steps."""


def stop_cause(slot: AgentSlot) -> ExitCause | None:
    """Why the guest must stop now, if it must."""
    if slot.interrupted:
        return ExitCause.STOPPED
    return ExitCause.DEADLINE if slot.clock() >= slot.deadline else None

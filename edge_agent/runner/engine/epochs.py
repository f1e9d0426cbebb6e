"""What happens each time a guest has used its ticks up: look at the clock, and stop it or give it more.

Owns: `on_epoch`, the engine's callback for every store, and how many ticks a guest gets at a time.
"""

from __future__ import annotations

import math
from ctypes import c_uint64
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.engine import TICK_SECONDS
from edge_agent.runner.engine.slots import slots
from edge_agent.runner.engine.waiting import STOPPED, stop_cause

if TYPE_CHECKING:
    from edge_agent.runner.engine.slots import AgentSlot

CHECK_TICKS = 10
"""Ticks between two looks at the clock and at `interrupt` while a guest runs: a tenth of a second."""

CHECK_SECONDS = CHECK_TICKS * TICK_SECONDS


def ticks_until(slot: AgentSlot) -> int:
    """Return ticks until the clock must be looked at again."""
    left = slot.deadline - slot.clock()
    return CHECK_TICKS if left > CHECK_SECONDS else max(1, math.ceil(left / TICK_SECONDS))


def _check_epoch(_context: int, number: int, delta: int, _kind: int) -> int:
    """Called by the engine while a guest runs and its ticks are used up: stop it, or give it more."""
    slot = slots[number]
    try:
        slot.stopped_by = stop_cause(slot)
        if slot.stopped_by is None:
            c_uint64.from_address(delta).value = ticks_until(slot)
            return 0
    except BaseException as error:  # noqa: BLE001 - a signal may arrive here: kept for the caller, as in host functions
        slot.failure = error
    return ffi.error_new(STOPPED)  # type: ignore[no-any-return]


on_epoch = ffi.EpochCallback(_check_epoch)

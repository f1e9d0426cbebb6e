"""Why a guest stopped.

Owns: `Trap`, `classify` and the post-mortem that tells a memory quota from a plain abort. The C API gives no code for
errors of component calls, only text. The text ends with the cause; names that a guest may choose stand before it.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.memory_meter import linear_memories
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from edge_agent.runner.engine.errors import EngineError

_CAUSES = {
    "wasm trap: all fuel consumed by WebAssembly": ExitCause.FUEL,
    "wasm trap: call stack exhausted": ExitCause.STACK_OVERFLOW,
    "wasm trap: wasm `unreachable` instruction executed": ExitCause.UNREACHABLE,
    "wasm trap: out of bounds memory access": ExitCause.OUT_OF_BOUNDS,
    "wasm trap: undefined element: out of bounds table access": ExitCause.OUT_OF_BOUNDS,
    "wasm trap: integer divide by zero": ExitCause.DIVIDE,
    "wasm trap: integer overflow": ExitCause.DIVIDE,
    "fuel allocated for hostcalls has been exhausted": ExitCause.QUOTA,
}
_SPOKEN = frozenset({ExitCause.UNREACHABLE, ExitCause.QUOTA, ExitCause.GUEST_EXIT})
"""Causes behind which a guest may have had a reason of its own."""

_TWO_BORROWS = "deferred host scope has no call context"
_QUOTA_TEXTS = ("exceeds memory limits", "exceeds table limits", "resource limit exceeded")

_SHIM_FULL = re.compile(r"^\s*0:\s+0x[0-9a-f]+ - shim-(calls-|waits-)?memory!allocate$", re.MULTILINE)
"""Innermost frame when the shim runs out of memory; a guest that uses the name only tells its own end differently."""

# Re-entrant: the garbage collector may free another instance while this thread holds it.
_teardown = threading.RLock()


class Trap(FleetError):  # noqa: N818 - the word of the field
    """A guest ended during a call; code AGENT_TRAPPED.

    Attributes:
        cause: why, for the restart policy and for people.
        message: one line.
        backtrace: the engine's whole text with the guest's frames; names in it were chosen by the guest.
    """

    def __init__(self, cause: ExitCause, message: str, backtrace: str = "") -> None:
        super().__init__(Code.AGENT_TRAPPED, message, cause=str(cause))
        self.cause = cause
        self.message = message
        self.backtrace = backtrace

    def also(self, message: str) -> Trap:
        """Return the same with something more to say."""
        trap = Trap(self.cause, f"{self.message}; {message}", self.backtrace)
        trap.__cause__ = self.__cause__
        return trap

    def quoting(self, words: str) -> Trap:
        """Return the same with what the guest said shortly before, marked as its words; "" for nothing."""
        if not words or self.cause not in _SPOKEN:
            return self
        return Trap(self.cause, f'{self.message}; the guest said: "{words}"', self.backtrace)


def classify(error: EngineError) -> Trap:
    """Tell from an engine error why the guest stopped, as far as its text says."""
    if error.exit_status is not None:
        return Trap(ExitCause.GUEST_EXIT, f"the guest exited with status {error.exit_status}", error.text)
    root = error.text.rsplit("Caused by:", 1)[-1].strip().splitlines()[-1].strip()
    number, colon, rest = root.partition(": ")
    if colon and number.isdigit():
        root = rest.strip()
    cause = _CAUSES.get(root, ExitCause.TRAP)
    if found := _SHIM_FULL.search(error.text):
        what = "the values of calls in flight" if found[1] else "the lists of numbers in one call"
        return Trap(ExitCause.QUOTA, f"{what} are more than the memory limit lets pass", error.text)
    if _TWO_BORROWS in error.text:
        message = "the engine cannot run a host function that takes two borrowed handles in an asynchronous component"
        return Trap(ExitCause.HOST_ERROR, message, error.text)
    if any(text in root for text in _QUOTA_TEXTS):
        cause = ExitCause.QUOTA
    return Trap(cause, root, error.text)


def delete_store(store: int) -> None:
    """Delete a store; waits for a post-mortem in another thread, which compares the process's mappings."""
    with _teardown:
        ffi.store_delete(store)


def delete_store_and_measure(store: int) -> int:
    """Delete a store and find how many bytes its largest linear memory had.

    The C API cannot be asked, and a denied `memory.grow` leaves no trace, so the memories of the process are compared
    before and after: those that vanish are the store's. Costs a few milliseconds; only for the dead. A guess in one
    direction: where another thread makes a memory at the same address in between, the memory looks smaller.
    """
    with _teardown:
        before = linear_memories()
        ffi.store_delete(store)
        after = linear_memories()
    return max((size for start, size in before.items() if start not in after), default=0)

"""Handles on resources that a guest defines: the values of `own<R>` that its exports return.

Owns: `GuestResource`. Resources of the host are plain numbers to both sides; one of a guest lives in its instance, and
only the engine's handle reaches it. A handle keeps its instance alive. Every one is given back: by `close`, by leaving
a `with` block, by handing it over as `own<R>`, with the next call after the last reference to it is gone, or at the
latest with its instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.leaves import Mismatch

if TYPE_CHECKING:
    from types import TracebackType

    from edge_agent.runner.engine.slots import AgentSlot


class GuestResource:
    """A resource of one instance; to be used where that is used, and by the same thread.

    Pass it to the functions of the instance, where they take `own<R>` or `borrow<R>`: `[method]thing.name` takes it as
    its first argument. Handing it over as `own<R>` ends this handle.

    Attributes:
        kind: the resource type, as `interface#name`.
    """

    __slots__ = ("_drop", "_pointer", "_slot", "_spoken_for", "kind")

    def __init__(self, slot: AgentSlot, kind: str, pointer: int) -> None:
        self.kind = kind
        self._slot = slot
        self._drop = slot.drop_guest()
        self._pointer = pointer
        self._spoken_for = False
        slot.held[id(self)] = pointer

    def __repr__(self) -> str:
        return f"<{self.kind}, {'open' if self.open else 'closed'}>"

    @property
    def open(self) -> bool:
        """False after it was closed or handed over, and when its instance has ended."""
        return not self._spoken_for and id(self) in self._slot.held

    def close(self) -> None:
        """Drop the resource: its destructor runs in the guest. Idempotent.

        Raises:
            Trap: the destructor trapped; the instance is dead.
        """
        if self.open:
            self._drop(self._release())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Any thread may be here, and a destructor is guest code: it runs where that is allowed.
        pointer = self._slot.held.pop(id(self), None)
        if pointer is not None:
            self._slot.abandoned.append(pointer)

    def lend(self, slot: AgentSlot, kind: str, *, give: bool) -> int:
        """Pointer to the handle for a call.

        Args:
            slot: the instance that is called.
            kind: the resource type that the function takes.
            give: the function takes it as its own: this handle ends when the call begins.

        Raises:
            Mismatch: it is closed, of another instance or of another type.
        """
        if self._slot is not slot:
            raise Mismatch(f"{self.kind} of another instance")
        if self.kind != kind:
            raise Mismatch(f"expected {kind}, got {self.kind}")
        if not self.open:
            raise Mismatch(f"the handle on {self.kind} is closed")
        if give:
            self._spoken_for = True
            slot.given.append(self)
        return self._pointer

    def keep(self) -> None:
        """The call that would have taken it did not begin."""
        self._spoken_for = False

    def forget(self) -> None:
        """The call that took it has begun, so the resource is the guest's."""
        if id(self) in self._slot.held:
            ffi.resource_any_delete(self._release())

    def _release(self) -> int:
        return self._slot.held.pop(id(self))

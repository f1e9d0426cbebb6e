"""The engine: compile components, load compiled ones, keep time.

Owns: `Engine`. Never reads or writes a file: who stores compiled code authenticates it before it comes back, because
loading it is running it. Never starts a thread: the owner calls `tick` about every `TICK_SECONDS`.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
import weakref
from ctypes import addressof, string_at
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.component import Component
from edge_agent.runner.engine.errors import check, take_error
from edge_agent.runner.engine.fusion import FusedPart, fuse
from edge_agent.runner.engine.shim.compose import compose
from edge_agent.runner.engine.shim.moved import Moved, append, split
from edge_agent.runner.engine.types import read_types
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edge_agent.fusion import Wire
    from edge_agent.runner.engine.types import ComponentTypes

TICK_SECONDS = 0.010
"""Time between two calls of `Engine.tick`; deadlines are as exact as this."""

STACK_BYTES = 512 << 10
"""Stack of a guest that has no limit of its own."""

_log = logging.getLogger(__name__)

_COMPONENT_HEADER = b"\0asm\x0d\x00\x01\x00"
_EMPTY_COMPONENT = _COMPONENT_HEADER
_NUMBER_LISTS = re.compile(rb"\x70[\x75-\x7e]")
"""How a component defines lists of numbers (Component Model, "Binary Format"); without one there is nothing to move."""
_NEEDS_ASYNC = "component model async"

_HOST_STACK_BYTES = 8 << 20
"""Stack for host functions, on top of the guest's, where asynchronous guests run on stacks of the engine's own."""


class Engine:
    """A configured Wasmtime engine. May be used from any thread.

    Epochs are always on. Components that need the asynchronous part of the component model have an engine of their own
    beside this one, which `compile` and `load` turn to by themselves: with that part on, Wasmtime 50 traps every host
    call that takes two borrows ("deferred host scope has no call context"), and all others do better without it.

    Args:
        fuel: count instructions, so that `Limits.fuel_per_call` may be used; costs 5 to 100 % of speed.
        clock: monotonic seconds, for deadlines.
        stack_bytes: stack of a guest, at most 2 MiB: the engine ends the process when it is configured with more; code
            compiled under one size loads under any.
        asynchronous: be the engine for asynchronous components; see above.
    """

    def __init__(
        self,
        *,
        fuel: bool = False,
        clock: Callable[[], float] = time.monotonic,
        stack_bytes: int = STACK_BYTES,
        asynchronous: bool = False,
    ) -> None:
        config = ffi.config_new()
        ffi.config_epoch(config, True)
        ffi.config_fuel(config, fuel)
        ffi.config_stack(config, stack_bytes)
        ffi.config_async(config, asynchronous)
        ffi.config_concurrency(config, asynchronous)
        ffi.config_async_stack(config, stack_bytes + _HOST_STACK_BYTES)
        self.fuel = fuel
        self.asynchronous = asynchronous
        self.stack_bytes = stack_bytes
        self.clock = clock
        self.pointer: int = ffi.engine_new(config)
        weakref.finalize(self, ffi.engine_delete, self.pointer).atexit = False
        self._fingerprint: str | None = None
        self._beside: Engine | None = None

    @property
    def for_asynchronous(self) -> Engine:
        """The engine for components with asynchronous functions; made when it is first asked for, by one thread."""
        if self.asynchronous:
            return self
        if self._beside is None:
            self._beside = Engine(fuel=self.fuel, clock=self.clock, stack_bytes=self.stack_bytes, asynchronous=True)
        return self._beside

    def tick(self) -> None:
        """Advance the engine's clock by one tick. Cheap, and safe while guests run in other threads."""
        ffi.engine_tick(self.pointer)

    def compile(self, component: bytes) -> bytes:
        """Compile a component; takes seconds to minutes for large ones and uses every core.

        One that moves lists of numbers is compiled twice: its types are known only after the first time, and with them
        the shim that is put around it (see `shim`). Where instructions are counted there is no shim: they are to be the
        agent's. Asynchronous imports have theirs all the same.

        Returns:
            Code for `load` on an engine with the same `fingerprint`.

        Raises:
            FleetError: COMPONENT_INVALID; COMPONENT_UNSUPPORTED when it needs what the engine has turned off.
        """
        if not component.startswith(_COMPONENT_HEADER):
            raise FleetError(Code.COMPONENT_INVALID, "the file does not start as a WebAssembly component does")
        original = self._compiled_here(component)
        if original is None:
            return self.for_asynchronous.compile(component)
        try:
            may_move = not self.fuel and _NUMBER_LISTS.search(component)
            shimmed = self._with_shim(component, original) if may_move or self.asynchronous else None
            return shimmed or self._finished(original, Moved())
        finally:
            ffi.component_delete(original)

    def _compiled_here(self, component: bytes) -> int | None:
        """Pointer to the compiled component; None for one that the engine for asynchronous components is for."""
        try:
            return self._compiled(component)
        except FleetError as error:
            if self.asynchronous or _NEEDS_ASYNC not in error.private:
                raise
            return None

    def _finished(self, component: int, moved: Moved) -> bytes:
        """Code for `load`; of asynchronous components the types are checked, as `load` would do."""
        if self.asynchronous:
            read_types(self.pointer, component)
            moved = replace(moved, asynchronous=True)
        return append(_serialize(component), moved)

    def fuse(self, parts: Sequence[tuple[str, bytes]], wires: Iterable[Wire]) -> bytes:
        """Return the component that several make together (see `fusion.fuse`).

        Args:
            parts: agent and component of each; the first gives the whole its exports.
            wires: which part answers which import.

        Raises:
            FleetError: COMPONENT_INVALID and COMPONENT_UNSUPPORTED for a part; LINK_INVALID when they do not fit.
        """
        return fuse([FusedPart(agent, data, self.part_types(data)) for agent, data in parts], wires)

    def part_types(self, component: bytes) -> ComponentTypes:
        """Types of a component that is to be fused with others.

        Raises:
            FleetError: COMPONENT_INVALID, COMPONENT_UNSUPPORTED.
        """
        pointer = self._compiled_here(component)
        if pointer is None:
            return self.for_asynchronous.part_types(component)
        try:
            return read_types(self.pointer, pointer, named=True, inner=True)
        finally:
            ffi.component_delete(pointer)

    def _with_shim(self, component: bytes, original: int) -> bytes | None:
        """The compiled component with the shim around it; None when it has to do without."""
        composed = compose(component, read_types(self.pointer, original, named=True), lists=not self.fuel)
        if composed is None:
            return None
        around, moved = composed
        try:
            pointer = self._compiled(around)
        except FleetError as error:
            # A valid component must not be refused for what was put around it; it is only slower alone.
            _log.warning("the shim for lists of numbers does not fit, and is left out: %s", error)
            return None
        try:
            return self._finished(pointer, moved)
        finally:
            ffi.component_delete(pointer)

    def _compiled(self, component: bytes) -> int:
        pointer = ffi.Pointer()
        failed = ffi.component_new(self.pointer, ffi.bytes_address(component), len(component), addressof(pointer))
        if failed:
            text = take_error(failed).text
            code = Code.COMPONENT_UNSUPPORTED if _NEEDS_ASYNC in text else Code.COMPONENT_INVALID
            raise FleetError(code, text)
        return pointer.value or 0

    def load(self, compiled: bytes) -> Component:
        """Load compiled code. The caller vouches for every byte: this maps it as machine code.

        Raises:
            FleetError: COMPONENT_INVALID when another engine or configuration made it; COMPONENT_UNSUPPORTED when its
                types cannot cross the boundary.
        """
        size, moved = split(BytesIO(compiled))
        if moved.asynchronous and not self.asynchronous:
            return self.for_asynchronous.load(compiled)
        pointer = ffi.Pointer()
        check(
            ffi.component_deserialize(self.pointer, ffi.bytes_address(compiled), size, addressof(pointer)),
            Code.COMPONENT_INVALID,
        )
        return Component(self, pointer.value or 0, moved)

    def load_file(self, path: str) -> Component:
        """Load compiled code by mapping a file, whose pages all processes that map it share.

        The caller vouches for every byte as in `load`, and for nobody changing the file while the component lives.

        Raises:
            FleetError: as `load` does.
        """
        with Path(path).open("rb") as file:
            _, moved = split(file)
        if moved.asynchronous and not self.asynchronous:
            return self.for_asynchronous.load_file(path)
        # What follows the code is not looked at: it is an ELF image, which says where its parts are.
        pointer = ffi.Pointer()
        check(
            ffi.component_deserialize_file(self.pointer, path.encode(), addressof(pointer)),
            Code.COMPONENT_INVALID,
        )
        return Component(self, pointer.value or 0, moved)

    @property
    def fingerprint(self) -> str:
        """Names engine version, configuration and CPU features: code compiled under one loads under no other.

        It is the digest of the compiled empty component, into which the engine writes exactly what it checks when it
        loads code, and covers the engine for asynchronous components too. For cache keys.
        """
        if self._fingerprint is None:
            compiled = self.compile(_EMPTY_COMPONENT) + self.for_asynchronous.compile(_EMPTY_COMPONENT)
            self._fingerprint = hashlib.sha256(compiled).hexdigest()
        return self._fingerprint


def _serialize(component: int) -> bytes:
    serialized = ffi.ByteVec()
    check(ffi.component_serialize(component, addressof(serialized)))
    try:
        return string_at(serialized.data or 0, serialized.size)
    finally:
        ffi.byte_vec_delete(addressof(serialized))

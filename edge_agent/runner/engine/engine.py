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

MAX_STACK_BYTES = 2 << 20
"""The engine ends the process when it is configured with more."""

_log = logging.getLogger(__name__)

_COMPONENT_HEADER = b"\0asm\x0d\x00\x01\x00"
_EMPTY_COMPONENT = _COMPONENT_HEADER
_NUMBER_LISTS = re.compile(rb"\x70[\x75-\x7e]")
"""How a component defines lists of numbers (Component Model, "Binary Format"); without one there is nothing to move."""
_NEEDS_ASYNC = "component model async"


class Engine:
    """A configured Wasmtime engine. May be used from any thread.

    Epochs are always on. The asynchronous part of the component model is off, so the engine refuses components with
    streams, futures and asynchronous functions, whose values would end the process at the boundary.

    Args:
        fuel: count instructions, so that `Limits.fuel_per_call` may be used; costs 5 to 100 % of speed.
        clock: monotonic seconds, for deadlines.
        stack_bytes: stack of a guest, at most `MAX_STACK_BYTES`; code compiled under one size loads under any.
    """

    def __init__(
        self,
        *,
        fuel: bool = False,
        clock: Callable[[], float] = time.monotonic,
        stack_bytes: int = STACK_BYTES,
    ) -> None:
        config = ffi.config_new()
        ffi.config_epoch(config, True)
        ffi.config_fuel(config, fuel)
        ffi.config_stack(config, stack_bytes)
        ffi.config_async(config, False)
        # With it, Wasmtime 50 traps every host call that takes two borrows ("deferred host scope has no call context").
        ffi.config_concurrency(config, False)
        self.fuel = fuel
        self.clock = clock
        self.pointer: int = ffi.engine_new(config)
        weakref.finalize(self, ffi.engine_delete, self.pointer).atexit = False
        self._fingerprint: str | None = None

    def tick(self) -> None:
        """Advance the engine's clock by one tick. Cheap, and safe while guests run in other threads."""
        ffi.engine_tick(self.pointer)

    def compile(self, component: bytes) -> bytes:
        """Compile a component; takes seconds to minutes for large ones and uses every core.

        One that moves lists of numbers is compiled twice: its types are known only after the first time, and with them
        the shim that is put around it (see `shim`). Where instructions are counted there is no shim: they are to be the
        agent's.

        Returns:
            Code for `load` on an engine with the same `fingerprint`.

        Raises:
            FleetError: COMPONENT_INVALID; COMPONENT_UNSUPPORTED when it needs what the engine has turned off.
        """
        if not component.startswith(_COMPONENT_HEADER):
            raise FleetError(Code.COMPONENT_INVALID, "the file does not start as a WebAssembly component does")
        original = self._compiled(component)
        try:
            may_move = not self.fuel and _NUMBER_LISTS.search(component)
            shimmed = self._with_shim(component, original) if may_move else None
            return shimmed or append(_serialize(original), Moved())
        finally:
            ffi.component_delete(original)

    def fuse(self, parts: Sequence[tuple[str, bytes]], wires: Iterable[Wire]) -> bytes:
        """Return the component that several make together (see `fusion.fuse`).

        Args:
            parts: agent and component of each; the first gives the whole its exports.
            wires: which part answers which import.

        Raises:
            FleetError: COMPONENT_INVALID and COMPONENT_UNSUPPORTED for a part; LINK_INVALID when they do not fit.
        """
        return fuse([FusedPart(agent, data, self._types(data)) for agent, data in parts], wires)

    def _types(self, component: bytes) -> ComponentTypes:
        pointer = self._compiled(component)
        try:
            return read_types(self.pointer, pointer, named=True)
        finally:
            ffi.component_delete(pointer)

    def _with_shim(self, component: bytes, original: int) -> bytes | None:
        """The compiled component with the shim around it; None when it has to do without."""
        composed = compose(component, read_types(self.pointer, original, named=True))
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
            return append(_serialize(pointer), moved)
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
        loads code. For cache keys.
        """
        if self._fingerprint is None:
            self._fingerprint = hashlib.sha256(self.compile(_EMPTY_COMPONENT)).hexdigest()
        return self._fingerprint


def _serialize(component: int) -> bytes:
    serialized = ffi.ByteVec()
    check(ffi.component_serialize(component, addressof(serialized)))
    try:
        return string_at(serialized.data or 0, serialized.size)
    finally:
        ffi.byte_vec_delete(addressof(serialized))

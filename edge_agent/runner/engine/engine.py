"""The engine: compile components, load compiled ones, keep time.

Owns: `Engine`. Never reads or writes a file: who stores compiled code authenticates it before it comes back, because
loading it is running it. Never starts a thread: the owner calls `tick` about every `TICK_SECONDS`.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from ctypes import addressof, string_at
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.component import Component
from edge_agent.runner.engine.errors import check, take_error
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_SECONDS = 0.010
"""Time between two calls of `Engine.tick`; deadlines are as exact as this."""

_COMPONENT_HEADER = b"\0asm\x0d\x00\x01\x00"
_EMPTY_COMPONENT = _COMPONENT_HEADER
_NEEDS_ASYNC = "component model async"


class Engine:
    """A configured Wasmtime engine. May be used from any thread.

    Epochs are always on. The asynchronous part of the component model is off, so the engine refuses components with
    streams, futures and asynchronous functions, whose values would end the process at the boundary.

    Args:
        fuel: count instructions, so that `Limits.fuel_per_call` may be used; costs 5 to 100 % of speed.
        clock: monotonic seconds, for deadlines.
    """

    def __init__(self, *, fuel: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        config = ffi.config_new()
        ffi.config_epoch(config, True)
        ffi.config_fuel(config, fuel)
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

        Returns:
            Code for `load` on an engine with the same `fingerprint`.

        Raises:
            FleetError: COMPONENT_INVALID; COMPONENT_UNSUPPORTED when it needs what the engine has turned off.
        """
        if not component.startswith(_COMPONENT_HEADER):
            raise FleetError(Code.COMPONENT_INVALID, "the file does not start as a WebAssembly component does")
        pointer = ffi.Pointer()
        failed = ffi.component_new(self.pointer, ffi.bytes_address(component), len(component), addressof(pointer))
        if failed:
            text = take_error(failed).text
            code = Code.COMPONENT_UNSUPPORTED if _NEEDS_ASYNC in text else Code.COMPONENT_INVALID
            raise FleetError(code, text)
        try:
            return _serialize(pointer.value or 0)
        finally:
            ffi.component_delete(pointer)

    def load(self, compiled: bytes) -> Component:
        """Load compiled code. The caller vouches for every byte: this maps it as machine code.

        Raises:
            FleetError: COMPONENT_INVALID when another engine or configuration made it; COMPONENT_UNSUPPORTED when its
                types cannot cross the boundary.
        """
        pointer = ffi.Pointer()
        check(
            ffi.component_deserialize(self.pointer, ffi.bytes_address(compiled), len(compiled), addressof(pointer)),
            Code.COMPONENT_INVALID,
        )
        return Component(self, pointer.value or 0)

    def load_file(self, path: str) -> Component:
        """Load compiled code by mapping a file, whose pages all processes that map it share.

        The caller vouches for every byte as in `load`, and for nobody changing the file while the component lives.

        Raises:
            FleetError: as `load` does.
        """
        pointer = ffi.Pointer()
        check(
            ffi.component_deserialize_file(self.pointer, path.encode(), addressof(pointer)),
            Code.COMPONENT_INVALID,
        )
        return Component(self, pointer.value or 0)

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

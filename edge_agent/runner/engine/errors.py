"""Errors the engine hands out: their text, and freeing them exactly once.

Owns: `EngineError`, `take_error`, `check`. What a text means for an agent is decided in `traps`.
"""

from __future__ import annotations

from ctypes import addressof, string_at
from dataclasses import dataclass

from edge_agent.runner.engine import ffi
from fleet.errors import Code, FleetError


@dataclass(frozen=True, slots=True)
class EngineError:
    """Text of an engine error, and the exit status when the guest asked to exit."""

    text: str
    exit_status: int | None


def take_error(pointer: int) -> EngineError:
    """Read an error that the C API returned, and free it."""
    message, status = ffi.ByteVec(), ffi.Int()
    ffi.error_message(pointer, addressof(message))
    text = string_at(message.data or 0, message.size).decode(errors="replace")
    ffi.byte_vec_delete(addressof(message))
    exited = ffi.error_exit_status(pointer, addressof(status))
    ffi.error_delete(pointer)
    return EngineError(text, status.value if exited else None)


def check(pointer: int | None, code: Code = Code.INTERNAL) -> None:
    """Raise if the C API returned an error.

    Raises:
        FleetError: the given code, with the engine's text.
    """
    if pointer:
        raise FleetError(code, take_error(pointer).text)

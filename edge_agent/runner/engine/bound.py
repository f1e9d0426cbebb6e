"""An exported function of one instance, ready to be called.

Owns: `BoundFunction`: whatever a call needs that can be made before, is made once.
"""

from __future__ import annotations

from ctypes import addressof
from functools import partial
from typing import TYPE_CHECKING

from edge_agent.runner.engine import ffi
from edge_agent.runner.engine.arena import address_of
from edge_agent.runner.engine.types import AsyncFuncType
from edge_agent.runner.engine.waiting import stepwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.runner.engine.component import ExportPlan
    from edge_agent.runner.engine.slots import AgentSlot


class BoundFunction:
    """The engine's handle, and a call of it with all arguments made.

    Attributes:
        pointer: where the engine's handle is to be written.
        buffer: where the values of the parameters are laid out.
        params: name, conversion and place in the buffer of each.
        lift: conversion of the result, if there is one.
        plain_result: the result holds no memory that has to be freed.
        run: calls the function; returns a pointer to an error, or None.
    """

    __slots__ = ("_handle", "buffer", "lift", "params", "plain_result", "pointer", "run")

    def __init__(self, plan: ExportPlan, context: int, result: int, slot: AgentSlot) -> None:
        self._handle = bytearray(ffi.FUNC_SIZE)
        self.pointer = address_of(self._handle)
        self.buffer = bytearray(plan.blank)
        self.params = [(name, lower, at * ffi.VAL_SIZE) for at, (name, lower) in enumerate(plan.params)]
        self.lift = plan.lift
        self.plain_result = plan.plain_result
        arguments = (
            ffi.pointer(self.pointer),
            ffi.pointer(context),
            ffi.pointer(address_of(self.buffer) if plan.params else None),
            ffi.size(len(plan.params)),
            ffi.pointer(None if plan.lift is None else result),
            ffi.size(0 if plan.lift is None else 1),
        )
        self.run: Callable[..., int | None]
        if isinstance(plan.type, AsyncFuncType):
            error = ffi.Pointer()
            start = partial(ffi.bare_func_call_async, *arguments, ffi.pointer(addressof(error)))
            self.run = stepwise(start, error, slot)
        else:
            self.run = partial(ffi.bare_func_call, *arguments)

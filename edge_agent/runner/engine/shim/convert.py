"""The part of a shim that converts: what is lowered, the core code in between, and what is lifted.

Owns: `Converter`, which writes it as component text. The code itself is written by `core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim.core import CoreFunctions, memory_module
from edge_agent.runner.engine.shim.moved import as_hex
from edge_agent.runner.engine.shim.scope import Scope, Style
from fleet.wit_types import BorrowType, FuncType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Converter:
    """Takes functions one by one.

    Args:
        numbers: for identifiers that are unique in the whole text.
        inward: what is taken speaks text, and what is made of it lists; else the other way round.
    """

    def __init__(self, numbers: Iterator[int], *, inward: bool) -> None:
        self._numbers = numbers
        self._inward = inward
        self._core = CoreFunctions("$spread", "$gather") if inward else CoreFunctions("$gather", "$spread")
        self._lowered: list[str] = []
        self._calls: list[str] = []
        self._lifted: list[str] = []
        self._drops: dict[str, str] = {}

    def add(self, function: FuncType, source: str, resources: Mapping[str, str]) -> str:
        """Convert a function; returns the identifier of the converted one."""
        label = f"f{next(self._numbers)}"
        drops = {
            kind.resource: self._drop(resources[kind.resource])
            for _, kind in function.params
            if isinstance(kind, BorrowType)
        }
        spilled = self._core.add(label, function, drops)
        # The side that speaks lists is given twice the room that it asks for: see `core`.
        near, far = ("allocate", "allocate-twice") if self._inward else ("allocate-twice", "allocate")
        self._lowered.append(f"(core func $low-{label} (canon lower (func {source}) {_options(near)}))")
        self._calls.append(f'(export "{label}" (func $low-{label}))')
        scope = Scope(Style.PLAIN, self._numbers, resources)
        signature = scope.signature(function if self._inward else as_hex(function))
        after = ' (post-return (core func $memory "leave"))' if spilled else ""
        self._lifted += scope.lines
        self._lifted.append(
            f'(func ${label}{signature} (canon lift (core func $main "{label}") {_options(far)}{after}))'
        )
        return label

    def lines(self) -> list[str]:
        """Everything that was added, in order of dependence."""
        return [
            f"(core module $shim-memory {memory_module()})",
            "(core instance $memory (instantiate $shim-memory))",
            *self._lowered,
            f"(core module $main-code {self._core.text()})",
            '(core instance $main (instantiate $main-code (with "memory" (instance $memory))',
            f' (with "calls" (instance {" ".join(self._calls)}))))',
            *self._lifted,
        ]

    def _drop(self, resource: str) -> str:
        """Core function that drops a handle of a resource."""
        name = self._drops.get(resource)
        if name is None:
            name = self._drops[resource] = f"drop-{resource}"
            self._core.declare_drop(name)
            self._lowered.append(f"(core func ${name} (canon resource.drop ${resource}))")
            self._calls.append(f'(export "{name}" (func ${name}))')
        return name


def _options(allocate: str) -> str:
    return f'(memory (core memory $memory "memory")) (realloc (core func $memory "{allocate}")) string-encoding=utf8'

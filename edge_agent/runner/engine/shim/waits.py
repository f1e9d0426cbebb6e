"""Adapters of asynchronous imports that the host may answer later.

Owns: `WaitingImports`, their text. Host functions answer at once. An adapter is an asynchronous function that hands its
arguments to the host (`start`), which says whether it has to wait; if so it reads from a future whose writing end the
host holds, and which is written (`wake`) when the dispatcher hears that the answer is there. Then it fetches the answer
(`finish`). Meanwhile everything else of the agent goes on.

A caller that gives up gets its cancellation at once, and the host is told (`forget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim import abi
from edge_agent.runner.engine.shim.core import memory_module
from edge_agent.runner.engine.shim.flat import Loader
from edge_agent.runner.engine.shim.scope import Scope, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.wit_types import FuncType

_OPTIONS = (
    '(memory (core memory $wait-memory "memory")) (realloc (core func $wait-memory "allocate")) string-encoding=utf8'
)
_RETURN_OPTIONS = '(memory (core memory $wait-memory "memory")) string-encoding=utf8'

_EVENT_CANCELLED = 6

_BUILTINS = {
    "ends-new": ("future.new $pause", "(result i64)"),
    "read": ("future.read $pause async", "(param i32 i32) (result i32)"),
    "cancel-read": ("future.cancel-read $pause", "(param i32) (result i32)"),
    "write": ("future.write $pause async", "(param i32 i32) (result i32)"),
    "drop-reader": ("future.drop-readable $pause", "(param i32)"),
    "drop-writer": ("future.drop-writable $pause", "(param i32)"),
    "set-new": ("waitable-set.new", "(result i32)"),
    "set-drop": ("waitable-set.drop", "(param i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "give-up": ("task.cancel", ""),
    "both": ("context.get i32 0", "(result i32)"),
    "keep-both": ("context.set i32 0", "(param i32)"),
}

_SHARED = """
  (func $pause (param $ends i64) (result i32) (local $set i32)
   (drop (call $read (i32.wrap_i64 (local.get $ends)) (i32.const 0)))
   (local.set $set (call $set-new))
   (call $join (i32.wrap_i64 (local.get $ends)) (local.get $set))
   (call $keep-both (i32.or (i32.shl (local.get $set) (i32.const 16)) (i32.wrap_i64 (local.get $ends))))
   (i32.or (i32.shl (local.get $set) (i32.const 4)) (i32.const 2)))
  (func $reader-of (result i32) (i32.and (call $both) (i32.const 65535)))
  (func $resume
   (call $join (call $reader-of) (i32.const 0))
   (call $set-drop (i32.shr_u (call $both) (i32.const 16))))
  (func $close (param $writer i32)
   (drop (call $write (local.get $writer) (i32.const 0)))
   (call $drop-writer (local.get $writer)))
  (func $stop (local $writer i32)
   (call $resume)
   (drop (call $cancel-read (call $reader-of)))
   (local.set $writer (call $forget (call $reader-of)))
   (call $drop-reader (call $reader-of))
   (if (local.get $writer) (then (call $close (local.get $writer))))
   (call $give-up))
  (func (export "wake") (param $writer i32) (call $close (local.get $writer)))"""
"""A future is written once and must be before it is dropped, even when nobody reads it any more.

A task can keep one number. Waitable set and reading end share it: the host lets so few wait that both stay small.
"""


class WaitingImports:
    """Takes the functions one by one.

    Args:
        numbers: for identifiers that are unique in the whole text.
        host: identifier of the imported instance of `CALLS`.
    """

    def __init__(self, numbers: Iterator[int], host: str) -> None:
        self._numbers = numbers
        self._host = host
        self._lowered: list[str] = []
        self._imports: dict[str, str] = {}
        self._functions: list[str] = []
        self._lifted: list[str] = []

    def add(self, number: int, function: FuncType) -> str:
        """Adapt the function with this number in `Concurrent.imports`; returns the identifier of the adapter."""
        label = f"waiting-{number}"
        scope = Scope(Style.PLAIN, self._numbers, {})
        signature = scope.signature(function)
        result = "" if function.result is None else f" (result {scope.use(function.result)})"
        for step in ("start", "finish"):
            source = f'(func ${self._host} "{step}-n{number}")'
            self._lowered.append(f"(core func ${step}-{number} (canon lower {source} {_OPTIONS}))")
        self._lowered += scope.lines
        self._lowered.append(f"(core func $return-{number} (canon task.return{result} {_RETURN_OPTIONS}))")
        self._functions += [self._start(number, function), self._finish(number, function), self._callback(number)]
        callback = f'(callback (core func $waits "callback-{number}"))'
        self._lifted.append(
            f'(func ${label}{signature} (canon lift (core func $waits "start-{number}") async {callback} {_OPTIONS}))'
        )
        return label

    def lines(self) -> list[str]:
        """Everything that was added, in order of dependence, and the function `$wake`."""
        imports = {name: kind for name, (_, kind) in _BUILTINS.items()} | {"forget": "(param i32) (result i32)"}
        imports |= self._imports
        return [
            f"(core module $shim-waits-memory {memory_module()})",
            "(core instance $wait-memory (instantiate $shim-waits-memory))",
            "(type $pause (future))",
            *(f"(core func ${name} (canon {builtin}))" for name, (builtin, _) in _BUILTINS.items()),
            f'(core func $forget (canon lower (func ${self._host} "forget")))',
            *self._lowered,
            "(core module $waits-code",
            '(import "memory" "enter" (func $enter (param i32) (result i32)))',
            '(import "memory" "leave" (func $leave (param i32)))',
            '(import "memory" "memory" (memory 1))',
            *(f'(import "calls" "{name}" (func ${name} {kind}))' for name, kind in imports.items()),
            _SHARED,
            *self._functions,
            ")",
            '(core instance $waits (instantiate $waits-code (with "memory" (instance $wait-memory))',
            ' (with "calls" (instance',
            *(f'(export "{name}" (func ${name}))' for name in imports),
            "))))",
            *self._lifted,
            '(func $wake (param "end" u32) (canon lift (core func $waits "wake")))',
            '(export "wake" (func $wake))',
        ]

    def _start(self, number: int, function: FuncType) -> str:
        core = [part for _, kind in function.params for part in abi.flat(kind)]
        params = "".join(f" (param {part})" for part in core)
        given = " ".join(f"(local.get {at})" for at in range(len(core)))
        self._imports[f"start-{number}"] = f"{params} (param i64) (result i32)"
        return f"""(func (export "start-{number}"){params} (result i32) (local $frame i32) (local $ends i64)
   (local.set $frame (call $enter (i32.const 0)))
   (local.set $ends (call $ends-new))
   (if (call $start-{number} {given} (local.get $ends))
    (then (call $leave (local.get $frame)) (return (call $pause (local.get $ends)))))
   (call $leave (local.get $frame))
   (call $drop-reader (i32.wrap_i64 (local.get $ends)))
   (call $close (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
   (call $finished-{number} (i32.wrap_i64 (local.get $ends)))
   (i32.const 0))"""

    def _finish(self, number: int, function: FuncType) -> str:
        """Fetch the answer and return it."""
        core = [] if function.result is None else abi.flat(function.result)
        loader = Loader()
        room = 0
        if len(core) > 1 and function.result is not None:
            room = abi.size(function.result)
            self._imports[f"finish-{number}"] = "(param i32 i32)"
            fetch = f"(call $finish-{number} (local.get $end) (local.get $frame))"
            if len(core) > abi.MAX_FLAT_PARAMS:
                core, arguments = ["i32"], ["(local.get $frame)"]
            else:
                arguments = loader.load(function.result, "(local.get $frame)")
        else:
            back = f" (result {core[0]})" if core else ""
            self._imports[f"finish-{number}"] = f"(param i32){back}"
            call = f"(call $finish-{number} (local.get $end))"
            fetch, arguments = ("", [call]) if core else (call, [])
        self._imports[f"return-{number}"] = "".join(f"(param {part}) " for part in core)
        return f"""(func $finished-{number} (param $end i32) (local $frame i32) {" ".join(loader.locals)}
   (local.set $frame (call $enter (i32.const {room})))
   {fetch} {" ".join(loader.lines)}
   (call $return-{number} {" ".join(arguments)})
   (call $leave (local.get $frame)))"""

    def _callback(self, number: int) -> str:
        return f"""(func (export "callback-{number}") (param $event i32) (param $end i32) (param i32) (result i32)
   (if (i32.eq (local.get $event) (i32.const {_EVENT_CANCELLED})) (then (call $stop) (return (i32.const 0))))
   (call $resume)
   (call $drop-reader (local.get $end))
   (call $finished-{number} (local.get $end))
   (i32.const 0))"""

"""The dispatcher: a generated component that calls an agent's asynchronous exports, many at a time.

Owns: `dispatcher_code`, its text. The engine's C API lends a whole store to one call; that call is the dispatcher's
`run`, which asks the host what to do (`CALLS#next`), starts the calls that the host gives it as subtasks, hands results
over as they come, and yields in between, so that every task of the store has its turn and the host too. It returns when
the host has nothing more.

Memory holds a row for each call in flight (its subtask, the blocks of its parameters, its export, its result) and a
heap of blocks of powers of two. Blocks are freed by the chain that they hang on: the parameters of a call when it has
ended; results, of which nobody says for which call they are allocated, when no call has one that the host has not got.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim import abi
from edge_agent.runner.engine.shim.calls import MAX_CALLS, NEXT_CANCEL, NEXT_END, NEXT_WAKE
from edge_agent.runner.engine.shim.flat import Loader
from edge_agent.runner.engine.shim.moved import MEMORY_PAGES
from fleet.wit_types import Primitive, TupleType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.wit_types import FuncType

_MAX_FLAT_ASYNC = 4
"""Parameters of more core values are passed to a subtask in memory (Canonical ABI, `MAX_FLAT_ASYNC_PARAMS`)."""

_MAX_FLAT = abi.MAX_FLAT_PARAMS
_ROWS = 64
_ROW_SIZE = 16
_FREE = _ROWS + MAX_CALLS * _ROW_SIZE
_HEAP = 8192
_MAX_BLOCK = 1 << 27

_MEMORY = f"""
  (memory (export "memory") 1 {MEMORY_PAGES})
  (global $top (mut i32) (i32.const {_HEAP}))
  (global $chain (export "chain") (mut i32) (i32.const 0))
  (func $allocate (export "allocate") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
    (result i32) (local $class i32) (local $list i32) (local $at i32) (local $end i64) (local $room i64)
    (if (i32.gt_u (local.get $size) (i32.const {_MAX_BLOCK - 8})) (then unreachable))
    (local.set $class (i32.sub (i32.const 32) (i32.clz
      (i32.or (i32.add (local.get $size) (i32.const 7)) (i32.const 31)))))
    (local.set $list (i32.add (i32.const {_FREE}) (i32.shl (local.get $class) (i32.const 2))))
    (local.set $at (i32.load (local.get $list)))
    (if (local.get $at) (then (i32.store (local.get $list) (i32.load (local.get $at))))
     (else
      (local.set $at (global.get $top))
      (local.set $end (i64.add (i64.extend_i32_u (local.get $at))
        (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $class)))))
      (local.set $room (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
      (if (i64.gt_u (local.get $end) (local.get $room)) (then
        (if (i64.gt_u (local.get $end) (i64.const {MEMORY_PAGES << 16})) (then unreachable))
        (if (i32.lt_s (memory.grow (i32.wrap_i64 (i64.shr_u
           (i64.add (i64.sub (local.get $end) (local.get $room)) (i64.const 65535)) (i64.const 16)))) (i32.const 0))
          (then unreachable))))
      (global.set $top (i32.wrap_i64 (local.get $end)))))
    (i32.store (local.get $at) (global.get $chain))
    (i32.store offset=4 (local.get $at) (local.get $class))
    (global.set $chain (local.get $at))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (if (local.get $old-size) (then (memory.copy (local.get $at) (local.get $old)
      (select (local.get $old-size) (local.get $size) (i32.lt_u (local.get $old-size) (local.get $size))))))
    (local.get $at))
  (func (export "free") (param $at i32) (local $next i32) (local $list i32)
    (block $done (loop $again
     (br_if $done (i32.eqz (local.get $at)))
     (local.set $next (i32.load (local.get $at)))
     (local.set $list (i32.add (i32.const {_FREE}) (i32.shl (i32.load offset=4 (local.get $at)) (i32.const 2))))
     (i32.store (local.get $at) (i32.load (local.get $list)))
     (i32.store (local.get $list) (local.get $at))
     (local.set $at (local.get $next))
     (br $again))))"""
"""Blocks of 32 bytes and more; the first 8 hold the next one in the chain and the power of two."""

_OPTIONS = '(memory (core memory $memory "memory")) (realloc (core func $memory "allocate")) string-encoding=utf8'

_BUILTINS = {
    "set-new": ("waitable-set.new", "(result i32)"),
    "poll": ('waitable-set.poll (memory (core memory $memory "memory"))', "(param i32 i32) (result i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "drop": ("subtask.drop", "(param i32)"),
    "cancel": ("subtask.cancel", "(param i32) (result i32)"),
    "return": ("task.return", ""),
}


def dispatcher_code(exports: Sequence[tuple[FuncType, str]], host: str, *, wakes: bool) -> list[str]:
    """Lines of the dispatcher's component, after its imports.

    Args:
        exports: type and identifier of each function that it calls, in the order of their numbers.
        host: identifier of the imported instance of `CALLS`.
        wakes: whether there is a function `$wake`.
    """
    lowered = [
        f'(core func $next (canon lower (func ${host} "next")))',
        f'(core func $cancelled (canon lower (func ${host} "cancelled")))',
        *(f"(core func ${name} (canon {builtin}))" for name, (builtin, _) in _BUILTINS.items()),
    ]
    given = {
        "next": "(result i64)",
        "cancelled": "(param i32)",
        **{name: kind for name, (_, kind) in _BUILTINS.items()},
    }
    if wakes:
        lowered.append("(core func $wake-low (canon lower (func $wake)))")
        given["wake-low"] = "(param i32)"
    functions = []
    for number, (kind, identifier) in enumerate(exports):
        functions.append(_start(number, kind, given))
        functions.append(_done(number, kind, given))
        lowered += _lowered(number, kind, identifier, host)
    imports = [f'(import "calls" "{name}" (func ${name} {kind}))' for name, kind in given.items()]
    return [
        f"(core module $shim-calls-memory {_MEMORY})",
        "(core instance $memory (instantiate $shim-calls-memory))",
        *lowered,
        "(core module $code",
        '(import "memory" "memory" (memory 1))',
        '(import "memory" "chain" (global $chain (mut i32)))',
        '(import "memory" "allocate" (func $allocate (param i32 i32 i32 i32) (result i32)))',
        '(import "memory" "free" (func $free (param i32)))',
        *imports,
        *functions,
        _loop(len(exports), wakes=wakes),
        ")",
        '(core instance $main (instantiate $code (with "memory" (instance $memory)) (with "calls" (instance',
        *(f'(export "{name}" (func ${name}))' for name in given),
        "))))",
        '(func $run async (canon lift (core func $main "run") async (callback (core func $main "callback"))))',
        '(export "run" (func $run))',
    ]


def _lowered(number: int, kind: FuncType, identifier: str, host: str) -> list[str]:
    lines = [
        f"(core func $call-{number} (canon lower (func ${identifier}) async {_OPTIONS}))",
        f'(core func $done-{number} (canon lower (func ${host} "done-n{number}") {_OPTIONS}))',
    ]
    if kind.params:
        lines.append(f'(core func $take-{number} (canon lower (func ${host} "take-n{number}") {_OPTIONS}))')
    return lines


def _area(kind: FuncType) -> tuple[int, int]:
    """Size of the block in which a result is kept for `done`, behind the row's number, and where it lies there."""
    if kind.result is None:
        return 0, 0
    parts = (Primitive.U32, kind.result)
    return abi.size(TupleType(parts)), abi.offsets(parts)[1]


def _start(number: int, kind: FuncType, given: dict[str, str]) -> str:
    """Take a call from the host and begin it."""
    params = TupleType(tuple(part for _, part in kind.params))
    core = abi.flat(params)
    loader = Loader()
    lines = []
    arguments: list[str] = []
    if core:
        in_memory = len(core) > 1
        given[f"take-{number}"] = "(param i32 i32)" if in_memory else f"(param i32) (result {core[0]})"
        if in_memory:
            size = abi.size(params)
            lines.append(
                f"(local.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size})))"
            )
            lines.append(f"(call $take-{number} (local.get $row) (local.get $at))")
            arguments = ["(local.get $at)"]
            if len(core) <= _MAX_FLAT_ASYNC:
                arguments = loader.load(params, "(local.get $at)")
        else:
            arguments = [f"(call $take-{number} (local.get $row))"]
    lines += loader.lines
    size, offset = _area(kind)
    if kind.result is not None:
        area = f"(call $allocate (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size}))"
        lines.append(f"(local.set $result {area})")
        arguments.append(f"(i32.add (local.get $result) (i32.const {offset}))")
    passed = ["i32"] if len(core) > _MAX_FLAT_ASYNC else list(core)
    passed += ["i32"] if kind.result is not None else []
    given[f"call-{number}"] = f"(param {' '.join(passed)}) (result i32)"
    if len(core) == 1:
        # What the host gives may need memory, which belongs to the parameters: take it while their chain grows.
        lines.append(f"(local.set $only {arguments[0]})")
        arguments[0] = "(local.get $only)"
    only = f"(local $only {core[0]})" if len(core) == 1 else ""
    return f"""(func $start-{number} (param $row i32) (result i32)
    (local $at i32) (local $result i32) (local $kept i32) (local $mine i32) {only} {" ".join(loader.locals)}
    (local.set $mine (i32.add (i32.const {_ROWS}) (i32.mul (local.get $row) (i32.const {_ROW_SIZE}))))
    (local.set $kept (global.get $chain))
    (global.set $chain (i32.const 0))
    {" ".join(lines)}
    (i32.store offset=4 (local.get $mine) (global.get $chain))
    (i32.store offset=8 (local.get $mine) (i32.const {number}))
    (i32.store offset=12 (local.get $mine) (local.get $result))
    (global.set $chain (local.get $kept))
    (call $call-{number} {" ".join(arguments)}))"""


def _done(number: int, kind: FuncType, given: dict[str, str]) -> str:
    """Give the result of a call to the host."""
    loader = Loader()
    arguments = ["(local.get $row)"]
    passed = ["i32"]
    before = ""
    if kind.result is not None:
        core = abi.flat(kind.result)
        offset = _area(kind)[1]
        if len(core) + 1 > _MAX_FLAT:
            before = "(i32.store (local.get $result) (local.get $row))"
            arguments = ["(local.get $result)"]
        else:
            passed += core
            arguments += loader.load(kind.result, f"(i32.add (local.get $result) (i32.const {offset}))")
    given[f"done-{number}"] = f"(param {' '.join(passed)})"
    return f"""(func $give-{number} (param $row i32) (param $result i32) {" ".join(loader.locals)}
    {before} {" ".join(loader.lines)}
    (call $done-{number} {" ".join(arguments)}))"""


def _loop(count: int, *, wakes: bool) -> str:
    """The functions that do not depend on types."""
    starts = " ".join(
        f"(if (i32.eq (local.get $what) (i32.const {number + 1})) (then"
        f" (local.set $state (call $start-{number} (local.get $row)))))"
        for number in range(count)
    )
    gives = " ".join(
        f"(if (i32.eq (i32.load offset=8 (local.get $mine)) (i32.const {number})) (then"
        f" (call $give-{number} (local.get $row) (i32.load offset=12 (local.get $mine)))))"
        for number in range(count)
    )
    wake = (
        f"(if (i32.eq (local.get $what) (i32.const {NEXT_WAKE})) (then (call $wake-low (local.get $row)) (br $more)))"
        if wakes
        else ""
    )
    row = f"(i32.add (i32.const {_ROWS}) (i32.mul (local.get $row) (i32.const {_ROW_SIZE})))"
    return f"""
  (global $set (mut i32) (i32.const 0))
  (func $row-of (param $handle i32) (result i32) (local $row i32)
   (block $found (loop $again
    (br_if $found (i32.eq (i32.load {row}) (local.get $handle)))
    (local.set $row (i32.add (local.get $row) (i32.const 1)))
    (if (i32.ge_u (local.get $row) (i32.const {MAX_CALLS})) (then unreachable))
    (br $again)))
   (local.get $row))
  (func $end (param $row i32) (param $state i32) (local $mine i32)
   (local.set $mine {row})
   (i32.store (local.get $mine) (i32.const 0))
   (if (i32.eq (local.get $state) (i32.const 2)) (then {gives})
    (else (call $cancelled (local.get $row))))
   (call $free (i32.load offset=4 (local.get $mine))))
  (func $step (result i32) (local $next i64) (local $what i32) (local $row i32) (local $state i32)
   (block $none (loop $events
    (br_if $none (i32.eqz (call $poll (global.get $set) (i32.const 0))))
    (br_if $events (i32.lt_u (i32.load (i32.const 4)) (i32.const 2)))
    (local.set $row (call $row-of (i32.load (i32.const 0))))
    (call $join (i32.load (i32.const 0)) (i32.const 0))
    (call $drop (i32.load (i32.const 0)))
    (call $end (local.get $row) (i32.load (i32.const 4)))
    (br $events)))
   (call $free (global.get $chain))
   (global.set $chain (i32.const 0))
   (loop $more
    (local.set $next (call $next))
    (local.set $what (i32.wrap_i64 (local.get $next)))
    (local.set $row (i32.wrap_i64 (i64.shr_u (local.get $next) (i64.const 32))))
    (if (i32.eqz (local.get $what)) (then (return (i32.const 1))))
    (if (i32.eq (local.get $what) (i32.const {NEXT_END})) (then (call $return) (return (i32.const 0))))
    {wake}
    (if (i32.eq (local.get $what) (i32.const {NEXT_CANCEL})) (then
     (local.set $what (i32.load {row}))
     (call $join (local.get $what) (i32.const 0))
     (local.set $state (call $cancel (local.get $what)))
     (call $drop (local.get $what))
     (call $end (local.get $row) (local.get $state))
     (br $more)))
    (local.set $state (i32.const 0))
    {starts}
    (if (i32.eq (local.get $state) (i32.const 2)) (then (call $end (local.get $row) (i32.const 2)))
     (else
      (i32.store {row} (i32.shr_u (local.get $state) (i32.const 4)))
      (call $join (i32.shr_u (local.get $state) (i32.const 4)) (global.get $set))))
    (br $more))
   unreachable)
  (func (export "run") (result i32)
   (if (i32.eqz (global.get $set)) (then (global.set $set (call $set-new))))
   (call $step))
  (func (export "callback") (param i32 i32 i32) (result i32) (call $step))"""

"""Components for tests, written as WebAssembly text and compiled by the engine's own text parser.

`echo` builds, for any type, a component that passes a value to a host function of the same type and returns what comes
back, so that one call converts the value four times: argument and result, of guest and of host.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest

from wasmtime import wat2wasm

from edge_agent.runner.engine import TICK_SECONDS, Engine
from fleet.wit_types import (
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

ECHO_INTERFACE = "test:echo/host"

ALLOCATOR = """
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 1024))
  (func (export "reset") (global.set $top (i32.const 1024)))
  (func $realloc (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
    (result i32) (local $at i32)
    (global.set $top (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ge_s
        (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))) (i32.const 0)))
      unreachable)
    (if (local.get $old_size) (then (memory.copy (local.get $at) (local.get $old) (local.get $old_size))))
    (local.get $at))
"""
"""Core module items: a memory with an allocator that forgets everything on `reset`."""

OPTIONS = '(memory (core memory $a "memory")) (realloc (core func $a "realloc"))'
"""Canonical options for an instance `$a` of a module with `ALLOCATOR`."""


@contextmanager
def ticking(engine: Engine) -> Iterator[None]:
    """A thread that keeps the engine's time."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(TICK_SECONDS):
            engine.tick()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wasm(text: str) -> bytes:
    """Binary form of a component's text."""
    return bytes(wat2wasm(text))


def echo(kind: WitType) -> bytes:
    """A component with `echo: func(v: T) -> T` that calls the host's `echo` of the same type."""
    return wasm(echo_text(kind))


def echo_text(kind: WitType) -> str:
    names = type_definitions(kind)
    top = names.top
    flat = flat_types(kind)
    params = flat if len(flat) <= 16 else ["i32"]
    forward = " ".join(f"(local.get {at})" for at in range(len(params)))
    signature = " ".join(f"(param {part})" for part in params)
    if len(flat) > 1:
        lowered = f"(func $echo {signature} (param i32))"
        size = 32 * 1024  # room for any result of the tests; alignment 8 suits every type
        body = (
            f'(func (export "echo") {signature} (result i32) (local $r i32)'
            f" (local.set $r (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {size})))"
            f" (call $echo {forward} (local.get $r)) (local.get $r))"
        )
    else:
        result = f"(result {flat[0]})"
        lowered = f"(func $echo {signature} {result})"
        body = f'(func (export "echo") {signature} {result} (call $echo {forward}))'
    core_results = "i32" if len(flat) > 1 else flat[0]
    return f"""(component
 (import "test:echo/types" (instance $types {" ".join(names.definitions)}))
 {" ".join(f'(alias export $types "{name}" (type ${name}))' for name in names.order)}
 (import "{ECHO_INTERFACE}" (instance $host
   {" ".join(f"(alias outer 1 ${name} (type ${name}))" for name in names.order)}
   (export "echo" (func (param "v" {top}) (result {top})))))
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core func $echo (canon lower (func $host "echo") {OPTIONS}))
 (core module $main
  (import "h" "echo" {lowered})
  (import "a" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "a" "reset" (func $reset))
  (func (export "done") (param {core_results}) (call $reset))
  {body})
 (core instance $main (instantiate $main
   (with "h" (instance (export "echo" (func $echo)))) (with "a" (instance $a))))
 (func (export "echo") (param "v" {top}) (result {top})
   (canon lift (core func $main "echo") {OPTIONS} (post-return (core func $main "done")))))"""


def type_definitions(kind: WitType) -> TypeNames:
    """A type and what it is made of, named; `top` is how to write it."""
    names = TypeNames()
    names.top = names.use(kind)
    return names


class TypeNames:
    """Gives every compound type a name, since exported functions may use only named ones."""

    def __init__(self) -> None:
        self.definitions: list[str] = []
        self.order: list[str] = []
        self.top = ""

    def as_exports(self) -> list[str]:
        """Definitions for the level of a component, which exports each type as it defines it."""
        return [
            re.sub(r'\(export "(\w+)" \(type \$\w+ \(eq (\$\w+)\)\)\)', r'(export $\1 "\1" (type \2))', text)
            for text in self.definitions
        ]

    def use(self, kind: WitType) -> str:
        """How to write the type where it is used; defines it, and what it is made of, first."""
        if isinstance(kind, Primitive):
            return str(kind)
        text = self._define(kind)
        name = f"t{len(self.order)}"
        self.order.append(name)
        self.definitions.append(f'(type $d{name} {text}) (export "{name}" (type ${name} (eq $d{name})))')
        return f"${name}"

    def _define(self, kind: WitType) -> str:
        match kind:
            case ListType():
                return f"(list {self.use(kind.element)})"
            case OptionType():
                return f"(option {self.use(kind.payload)})"
            case TupleType():
                return f"(tuple {' '.join(self.use(part) for part in kind.items)})"
            case RecordType():
                fields = [f'(field "{name}" {self.use(part)})' for name, part in kind.fields]
                return f"(record {' '.join(fields)})"
            case VariantType():
                cases = [f'(case "{name}"{"" if part is None else " " + self.use(part)})' for name, part in kind.cases]
                return f"(variant {' '.join(cases)})"
            case ResultType():
                ok = "" if kind.ok is None else f" {self.use(kind.ok)}"
                return f"(result{ok}{'' if kind.err is None else f' (error {self.use(kind.err)})'})"
            case EnumType():
                return f"(enum {' '.join(map(_quoted, kind.cases))})"
            case FlagsType():
                return f"(flags {' '.join(map(_quoted, kind.names))})"
        raise ValueError(f"no echo for {kind}")


def _quoted(label: str) -> str:
    return f'"{label}"'


_CORE = {Primitive.F32: "f32", Primitive.F64: "f64", Primitive.S64: "i64", Primitive.U64: "i64"}


def flat_types(kind: WitType) -> list[str]:
    """Core types a value is passed in (Component Model, Canonical ABI, "flattening")."""
    match kind:
        case Primitive.STRING | ListType():
            return ["i32", "i32"]
        case Primitive():
            return [_CORE.get(kind, "i32")]
        case RecordType():
            return [core for _, part in kind.fields for core in flat_types(part)]
        case TupleType():
            return [core for part in kind.items for core in flat_types(part)]
        case VariantType():
            return _flat_cases([part for _, part in kind.cases])
        case OptionType():
            return _flat_cases([None, kind.payload])
        case ResultType():
            return _flat_cases([kind.ok, kind.err])
    return ["i32"]


def _flat_cases(cases: list[WitType | None]) -> list[str]:
    joined: list[str] = []
    for case in cases:
        part = [] if case is None else flat_types(case)
        joined = [_join(mine, theirs) for mine, theirs in zip_longest(joined, part)]
    return ["i32", *joined]


def _join(mine: str | None, theirs: str | None) -> str:
    if mine is None or theirs is None or mine == theirs:
        return mine or theirs or "i32"
    return "i32" if {mine, theirs} == {"i32", "f32"} else "i64"

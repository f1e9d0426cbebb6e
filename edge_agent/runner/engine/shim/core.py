"""The code of the shim: core functions that take one form of a call and make the other.

Owns: `memory_module` (memory, allocator and the two codecs) and `CoreFunctions` (one function per moved function, and
what it needs to find every list in its parameters and its result). Text in, text out; types decide everything.

Both codecs work in place, because a list and its text are laid out alike and only differ in length: `$spread` turns n
bytes into 2n hexadecimal digits and goes backwards, `$gather` turns digits into bytes and goes forwards. Where lists
come in, the allocator therefore gives out twice what is asked for. The digits come from our own lowering or from
`$spread`, so `$gather` does not check them.

Text may lie anywhere and numbers may not, so everything is aligned to 8 bytes. The allocator only goes up. Every call
has a frame, which holds the result and where to go back to: a host function may call the very guest that is calling it,
and then calls lie on top of one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.engine.shim import abi
from edge_agent.runner.engine.shim.moved import MEMORY_PAGES, has_numbers, is_numbers
from fleet.wit_types import (
    BorrowType,
    FuncType,
    ListType,
    OptionType,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HEX_BYTES = " ".join(str(byte) for byte in b"0123456789abcdef")
_FIFTEENS = "(v128.const i8x16" + " 15" * 16 + ")"
_FIRST_HALF = " ".join(f"{at} {at + 16}" for at in range(8))
_SECOND_HALF = " ".join(f"{at} {at + 16}" for at in range(8, 16))

_NIBBLES = f"""(i8x16.add (v128.and (local.get $v) {_FIFTEENS})
     (i8x16.add (i8x16.shl (i8x16.shr_u (local.get $v) (i32.const 6)) (i32.const 3))
      (i8x16.shr_u (local.get $v) (i32.const 6))))"""
"""Value of each digit: its low four bits, and nine more for a letter, whose bit 6 is set."""

_PAIRED = """(v128.and (v128.const i16x8 255 255 255 255 255 255 255 255)
     (v128.or (i16x8.shl (local.get $v) (i32.const 4)) (i16x8.shr_u (local.get $v) (i32.const 8))))"""
"""Two neighbouring digits as one byte in the lower half of each lane; the first digit is the high one."""


def memory_module() -> str:
    """Fields of the core module with everything that does not depend on types."""
    return f"""
  (memory (export "memory") 1 {MEMORY_PAGES})
  (global $top (mut i32) (i32.const 16))
  (global $floor (mut i32) (i32.const 16))
  (func (export "enter") (param $size i32) (result i32) (local $at i32)
    (local.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 8)
      (i32.add (local.get $size) (i32.const 8))))
    (i32.store (local.get $at) (global.get $floor))
    (global.set $floor (global.get $top))
    (i32.add (local.get $at) (i32.const 8)))
  (func (export "leave") (param $result i32)
    (global.set $floor (i32.load (i32.sub (local.get $result) (i32.const 8))))
    (global.set $top (global.get $floor)))
  (func $allocate (export "allocate") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
    (result i32) (local $at i32) (local $end i64) (local $room i64)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (local.set $end (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $size))))
    (local.set $room (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
    (if (i64.gt_u (local.get $end) (local.get $room)) (then
      (if (i64.gt_u (local.get $end) (i64.const {MEMORY_PAGES << 16})) (then unreachable))
      (if (i32.lt_s (memory.grow (i32.wrap_i64 (i64.shr_u
         (i64.add (i64.sub (local.get $end) (local.get $room)) (i64.const 65535)) (i64.const 16)))) (i32.const 0))
        (then unreachable))))
    (global.set $top (i32.wrap_i64 (local.get $end)))
    (if (local.get $old-size) (then (memory.copy (local.get $at) (local.get $old)
      (select (local.get $old-size) (local.get $size) (i32.lt_u (local.get $old-size) (local.get $size))))))
    (local.get $at))
  (func (export "allocate-twice") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
    (result i32)
    (if (i32.lt_s (local.get $size) (i32.const 0)) (then unreachable))
    (call $allocate (local.get $old) (local.get $old-size) (local.get $align)
      (i32.shl (local.get $size) (i32.const 1))))
  (func $digit (param $n i32) (result i32)
    (i32.add (i32.add (local.get $n) (i32.const 48))
      (i32.mul (i32.gt_u (local.get $n) (i32.const 9)) (i32.const 39))))
  (func (export "spread") (param $p i32) (param $n i32) (result i32)
    (local $i i32) (local $o i32) (local $b i32) (local $high v128) (local $low v128)
    (local.set $i (local.get $n))
    (block $done (loop $next
     (br_if $done (i32.eqz (i32.and (local.get $i) (i32.const 15))))
     (local.set $i (i32.sub (local.get $i) (i32.const 1)))
     (local.set $b (i32.load8_u (i32.add (local.get $p) (local.get $i))))
     (local.set $o (i32.add (local.get $p) (i32.shl (local.get $i) (i32.const 1))))
     (i32.store8 (local.get $o) (call $digit (i32.shr_u (local.get $b) (i32.const 4))))
     (i32.store8 offset=1 (local.get $o) (call $digit (i32.and (local.get $b) (i32.const 15))))
     (br $next)))
    (block $done (loop $next
     (br_if $done (i32.eqz (local.get $i)))
     (local.set $i (i32.sub (local.get $i) (i32.const 16)))
     (local.set $low (v128.load align=1 (i32.add (local.get $p) (local.get $i))))
     (local.set $high (i8x16.swizzle (v128.const i8x16 {_HEX_BYTES}) (i8x16.shr_u (local.get $low) (i32.const 4))))
     (local.set $low (i8x16.swizzle (v128.const i8x16 {_HEX_BYTES}) (v128.and (local.get $low) {_FIFTEENS})))
     (local.set $o (i32.add (local.get $p) (i32.shl (local.get $i) (i32.const 1))))
     (v128.store align=1 (local.get $o) (i8x16.shuffle {_FIRST_HALF} (local.get $high) (local.get $low)))
     (v128.store offset=16 align=1 (local.get $o) (i8x16.shuffle {_SECOND_HALF} (local.get $high) (local.get $low)))
     (br $next)))
    (i32.shl (local.get $n) (i32.const 1)))
  (func $value (param $p i32) (result i32) (local $c i32)
    (local.set $c (i32.load8_u (local.get $p)))
    (i32.add (i32.and (local.get $c) (i32.const 15))
      (i32.mul (i32.shr_u (local.get $c) (i32.const 6)) (i32.const 9))))
  (func $packed (param $v v128) (result v128)
    (local.set $v {_NIBBLES})
    {_PAIRED})
  (func (export "gather") (param $p i32) (param $n i32) (result i32) (local $o i32) (local $i i32)
    (local.set $n (i32.shr_u (local.get $n) (i32.const 1)))
    (block $done (loop $next
     (br_if $done (i32.gt_u (i32.add (local.get $o) (i32.const 16)) (local.get $n)))
     (local.set $i (i32.add (local.get $p) (i32.shl (local.get $o) (i32.const 1))))
     (v128.store align=1 (i32.add (local.get $p) (local.get $o)) (i8x16.narrow_i16x8_u
       (call $packed (v128.load align=1 (local.get $i)))
       (call $packed (v128.load offset=16 align=1 (local.get $i)))))
     (local.set $o (i32.add (local.get $o) (i32.const 16)))
     (br $next)))
    (block $done (loop $next
     (br_if $done (i32.ge_u (local.get $o) (local.get $n)))
     (local.set $i (i32.add (local.get $p) (i32.shl (local.get $o) (i32.const 1))))
     (i32.store8 (i32.add (local.get $p) (local.get $o)) (i32.or
       (i32.shl (call $value (local.get $i)) (i32.const 4))
       (call $value (i32.add (local.get $i) (i32.const 1)))))
     (local.set $o (i32.add (local.get $o) (i32.const 1)))
     (br $next)))
    (local.get $n))"""


_SHARED = """
  (import "memory" "memory" (memory 1))
  (import "memory" "enter" (func $enter (param i32) (result i32)))
  (import "memory" "leave" (func $leave (param i32)))
  (import "memory" "spread" (func $spread (param i32 i32) (result i32)))
  (import "memory" "gather" (func $gather (param i32 i32) (result i32)))"""


class CoreFunctions:
    """Writes the core module with one function per moved function.

    Args:
        inward: codec for parameters, `$spread` or `$gather`; results take the other.
        outward: codec for results.
    """

    def __init__(self, inward: str, outward: str) -> None:
        self._inward = inward
        self._outward = outward
        self._imports: list[str] = []
        self._functions: list[str] = []
        self._walks: dict[tuple[WitType, str], str] = {}

    def text(self) -> str:
        """All fields of the module."""
        return "\n  ".join([_SHARED, *self._imports, *self._functions])

    def add(self, label: str, function: FuncType, drops: Mapping[str, str]) -> bool:
        """Write the function `label`, which calls the import `label` from `calls`.

        Args:
            label: name of both.
            function: type of the function; lists to convert are those of numbers.
            drops: import that drops a borrowed handle, by the resource's name.

        Returns:
            True when the result is returned in memory, and `leave` has to follow it.
        """
        params = [kind for _, kind in function.params]
        core = [part for kind in params for part in abi.flat(kind)]
        in_memory = len(core) > abi.MAX_FLAT_PARAMS
        core = ["i32"] if in_memory else core
        results = [] if function.result is None else abi.flat(function.result)
        spilled = len(results) > 1
        given = "".join(f" (param {part})" for part in core)
        back = f" (result {'i32' if spilled else results[0]})" if results else ""
        self._imports.append(
            f'(import "calls" "{label}" (func $call-{label}{given}{" (param i32)" if spilled else back}))'
        )
        before, after = self._parameters(params, core, drops, in_memory=in_memory)
        call = f"(call $call-{label}{''.join(f' (local.get {at})' for at in range(len(core)))}"
        if spilled and function.result is not None:
            room = abi.size(function.result)
            lines = [*before, f"{call} (local.get $frame))", *after]
            if has_numbers(function.result):
                lines.append(self._at(function.result, "(local.get $frame)", self._outward))
            lines.append("(local.get $frame)")
        else:
            room = 0
            made = [f"(local.set $plain {call}))", "(local.get $plain)"] if results else [f"{call})"]
            lines = [*before, made[0], *after, "(call $leave (local.get $frame))", *made[1:]]
        plain = f" (local $plain {results[0]})" if results and not spilled else ""
        head = f'(func (export "{label}"){given}{back} (local $frame i32){plain}'
        enter = f"(local.set $frame (call $enter (i32.const {room})))"
        self._functions.append("\n   ".join([head, enter, *lines, ")"]))
        return spilled

    def _parameters(
        self, params: Sequence[WitType], core: Sequence[str], drops: Mapping[str, str], *, in_memory: bool
    ) -> tuple[list[str], list[str]]:
        """What to do with the parameters before the call: convert lists; and after it: give borrows back."""
        before, after = [], []
        at = 0
        for kind, offset in zip(params, abi.offsets(params), strict=True):
            place = f"(i32.add (local.get 0) (i32.const {offset}))"
            if has_numbers(kind):
                before.append(self._at(kind, place, self._inward) if in_memory else self._flat(kind, core, at))
            if isinstance(kind, BorrowType):
                handle = f"(i32.load {place})" if in_memory else f"(local.get {at})"
                after.append(f"(call ${drops[kind.resource]} {handle})")
            at += len(abi.flat(kind))
        return before, after

    def declare_drop(self, name: str) -> None:
        """Import a function that drops a handle."""
        self._imports.append(f'(import "calls" "{name}" (func ${name} (param i32)))')

    def _flat(self, kind: WitType, core: Sequence[str], at: int) -> str:
        """Convert a parameter whose core values start at local `at`."""
        match kind:
            case ListType() if is_numbers(kind):
                length = _converted(kind, self._inward, _local(core, at), _local(core, at + 1))
                return _set_local(core, at + 1, length)
            case ListType():
                return self._items(kind, _local(core, at), _local(core, at + 1), self._inward)
            case RecordType() | TupleType():
                lines = []
                for part in abi.parts(kind):
                    if has_numbers(part):
                        lines.append(self._flat(part, core, at))
                    at += len(abi.flat(part))
                return " ".join(lines)
            case VariantType() | OptionType() | ResultType():
                return " ".join(
                    f"(if (i32.eq {_local(core, at)} (i32.const {index})) (then {self._flat(part, core, at + 1)}))"
                    for index, part in enumerate(abi.cases(kind))
                    if part and has_numbers(part)
                )
        raise ValueError(f"{kind} holds no list of numbers")

    def _at(self, kind: WitType, address: str, codec: str) -> str:
        """Convert a value in memory."""
        return f"(call {self._walk(kind, codec)} {address})"

    def _items(self, kind: ListType, address: str, count: str, codec: str) -> str:
        """Convert every item of a list that is not itself one of numbers."""
        return f"(call {self._walk(kind, codec)}-items {address} {count})"

    def _walk(self, kind: WitType, codec: str) -> str:
        """Name of the function that converts a value of the type at an address; written when first asked for."""
        name = self._walks.get((kind, codec))
        if name is None:
            name = self._walks[kind, codec] = f"$walk-{len(self._walks)}"
            self._functions.append(f"(func {name} (param $at i32)\n    {self._walk_body(kind, name, codec)})")
        return name

    def _walk_body(self, kind: WitType, name: str, codec: str) -> str:
        at = "(local.get $at)"
        match kind:
            case ListType() if is_numbers(kind):
                length = _converted(kind, codec, f"(i32.load {at})", f"(i32.load offset=4 {at})")
                return f"(i32.store offset=4 {at} {length})"
            case ListType():
                item = self._at(kind.element, "(local.get $p)", codec)
                self._functions.append(f"""(func {name}-items (param $p i32) (param $n i32)
    (block $done (loop $next
     (br_if $done (i32.eqz (local.get $n)))
     {item}
     (local.set $p (i32.add (local.get $p) (i32.const {abi.size(kind.element)})))
     (local.set $n (i32.sub (local.get $n) (i32.const 1)))
     (br $next))))""")
                return f"(call {name}-items (i32.load {at}) (i32.load offset=4 {at}))"
            case RecordType() | TupleType():
                parts = abi.parts(kind)
                return " ".join(
                    self._at(part, f"(i32.add {at} (i32.const {offset}))", codec)
                    for part, offset in zip(parts, abi.offsets(parts), strict=True)
                    if has_numbers(part)
                )
            case VariantType() | OptionType() | ResultType():
                width, start = abi.case_layout(kind)
                load = {1: "i32.load8_u", 2: "i32.load16_u", 4: "i32.load"}[width]
                payload = f"(i32.add {at} (i32.const {start}))"
                return " ".join(
                    f"(if (i32.eq ({load} {at}) (i32.const {index})) (then {self._at(part, payload, codec)}))"
                    for index, part in enumerate(abi.cases(kind))
                    if part and has_numbers(part)
                )
        raise ValueError(f"{kind} holds no list of numbers")


def _converted(kind: WitType, codec: str, address: str, length: str) -> str:
    """Convert a list of numbers; the value is its new length: digits, or numbers."""
    shift = abi.size(kind.element).bit_length() - 1 if isinstance(kind, ListType) else 0
    if not shift:
        return f"(call {codec} {address} {length})"
    if codec == "$spread":
        return f"(call $spread {address} (i32.shl {length} (i32.const {shift})))"
    return f"(i32.shr_u (call $gather {address} {length}) (i32.const {shift}))"


def _local(core: Sequence[str], at: int) -> str:
    """A core value as the `i32` it stands for; one shared with cases of other types may be wider."""
    return f"(local.get {at})" if core[at] == "i32" else f"(i32.wrap_i64 (local.get {at}))"


def _set_local(core: Sequence[str], at: int, value: str) -> str:
    return f"(local.set {at} {value if core[at] == 'i32' else f'(i64.extend_i32_u {value})'})"

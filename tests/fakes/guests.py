"""A small guest whose functions do what their names say, for tests that run real processes."""

from __future__ import annotations

from tests.fakes.components import wasm

GUEST_TEXT = """(component
 (core module $m
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "count") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
  (func (export "trap") unreachable)
  (func $deep (export "deep") (call $deep))
  (func $deep-to (export "deep-to") (param i32)
    (if (local.get 0) (then (call $deep-to (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "loop") (loop $l (br $l)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow-or-abort")
    (loop $l (if (i32.lt_s (memory.grow (i32.const 16)) (i32.const 0)) (then unreachable)) (br $l))))
 (core instance $i (instantiate $m))
 (func (export "add") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
 (func (export "count") (result u32) (canon lift (core func $i "count")))
 (func (export "trap") (canon lift (core func $i "trap")))
 (func (export "deep") (canon lift (core func $i "deep")))
 (func (export "deep-to") (param "depth" u32) (canon lift (core func $i "deep-to")))
 (func (export "loop") (canon lift (core func $i "loop")))
 (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
 (func (export "grow-or-abort") (canon lift (core func $i "grow-or-abort"))))"""


def guest() -> bytes:
    """The component in binary form."""
    return wasm(GUEST_TEXT)

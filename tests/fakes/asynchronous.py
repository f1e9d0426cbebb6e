"""Components with asynchronous functions, written as WebAssembly text.

They use the binary forms of WASI 0.3 as its tools do: functions that wait are lifted with a callback, which the engine
calls with every event and which answers with what to wait for (Component Model, "Canonical ABI", `canon lift`).
"""

from __future__ import annotations

from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

NUMBERS = "acme:numbers/source@0.1.0"
"""`slow: async func(x: u32) -> u32` and `named: async func(names: list<string>) -> result<list<u8>, string>`."""

_LIFT = 'async (callback (core func $i "callback"))'


def waiter() -> bytes:
    """Asynchronous exports that end well, and in every way that is not well."""
    functions = "".join(
        f'\n (func (export "{name}") async (param "x" u32) (result u32) (canon lift (core func $i "{name}") {_LIFT}))'
        for name in ("double", "forever", "yielding", "turns", "stuck", "broken", "silent")
    )
    return wasm(f"""(component
 (core module $m
  (import "" "return" (func $return (param i32)))
  (import "" "set" (func $set (result i32)))
  (global $left (mut i32) (i32.const 0))
  (func (export "double") (param i32) (result i32)
   (call $return (i32.mul (local.get 0) (i32.const 2))) (i32.const 0))
  (func (export "forever") (param i32) (result i32) (loop $again (br $again)) unreachable)
  (func (export "yielding") (param i32) (result i32) (global.set $left (i32.const -1)) (i32.const 1))
  (func (export "turns") (param i32) (result i32) (global.set $left (local.get 0)) (i32.const 1))
  (func (export "stuck") (param i32) (result i32) (i32.or (i32.shl (call $set) (i32.const 4)) (i32.const 2)))
  (func (export "broken") (param i32) (result i32) unreachable)
  (func (export "silent") (param i32) (result i32) (i32.const 0))
  (func (export "callback") (param i32 i32 i32) (result i32)
   (if (i32.eqz (global.get $left)) (then (call $return (i32.const 7)) (return (i32.const 0))))
   (global.set $left (i32.sub (global.get $left) (i32.const 1)))
   (i32.const 1))
  (func (export "plain") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))
 (core func $return (canon task.return (result u32)))
 (core func $set (canon waitable-set.new))
 (core instance $i (instantiate $m (with "" (instance
  (export "return" (func $return)) (export "set" (func $set))))))
 (func (export "plain") (param "x" u32) (result u32) (canon lift (core func $i "plain"))){functions})""")


def importer() -> bytes:
    """Asynchronous exports that call asynchronous imports: one number, two at once, and values that need memory."""
    return wasm(f"""(component
 (import "{NUMBERS}" (instance $n
  (export "slow" (func async (param "x" u32) (result u32)))
  (export "named" (func async (param "names" (list string)) (result (result (list u8) (error string)))))
  (export "quick" (func (param "x" u32) (result u32)))))
 (core module $a {ALLOCATOR})
 (core instance $a (instantiate $a))
 (core func $slow (canon lower (func $n "slow") async {OPTIONS}))
 (core func $named (canon lower (func $n "named") async {OPTIONS}))
 (core func $quick (canon lower (func $n "quick")))
 (core func $return (canon task.return (result u32)))
 (core func $answer (canon task.return (result (result (list u8) (error string))) (memory (core memory $a "memory"))))
 (core module $m
  (import "" "memory" (memory 1))
  (import "" "slow" (func $slow (param i32 i32) (result i32)))
  (import "" "named" (func $named (param i32 i32 i32) (result i32)))
  (import "" "quick" (func $quick (param i32) (result i32)))
  (import "" "return" (func $return (param i32)))
  (import "" "answer" (func $answer (param i32 i32 i32)))
  (func $returned (param i32)
   (if (i32.ne (i32.and (local.get 0) (i32.const 15)) (i32.const 2)) (then unreachable)))
  (func (export "sum") (param i32 i32) (result i32)
   (call $returned (call $slow (local.get 0) (i32.const 16)))
   (call $returned (call $slow (local.get 1) (i32.const 24)))
   (call $return (i32.add (call $quick (i32.const 1))
    (i32.add (i32.load (i32.const 16)) (i32.load (i32.const 24)))))
   (i32.const 0))
  (func (export "named") (param i32 i32) (result i32)
   (call $returned (call $named (local.get 0) (local.get 1) (i32.const 32)))
   (call $answer (i32.load8_u (i32.const 32)) (i32.load (i32.const 36)) (i32.load (i32.const 40)))
   (i32.const 0))
  (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
 (core instance $i (instantiate $m (with "" (instance
  (export "memory" (memory $a "memory")) (export "slow" (func $slow)) (export "named" (func $named))
  (export "quick" (func $quick)) (export "return" (func $return)) (export "answer" (func $answer))))))
 (func (export "sum") async (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $i "sum") {_LIFT}))
 (func (export "named") async (param "names" (list string)) (result (result (list u8) (error string)))
  (canon lift (core func $i "named") {_LIFT} {OPTIONS})))""")

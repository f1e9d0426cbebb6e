"""A guest that is given secrets: it can say that it knows one without saying it, and it can spill one."""

from __future__ import annotations

from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

FAILED = 1_000
"""What `sum` and `hold` answer is this and the number of the error's case, when there is no secret."""

NOT_GRANTED, NOT_FOUND = FAILED, FAILED + 1

_ERROR = '(type $e (variant (case "not-granted") (case "not-found") (case "unfit" string)))'

GUEST_TEXT = f"""(component
 (import "fleet:secrets/store@0.1.0" (instance $store
  (export "secret" (type $s (sub resource)))
  {_ERROR} (export "error" (type $error (eq $e)))
  (export "get" (func (param "name" string) (result (result (own $s) (error $error)))))))
 (alias export $store "secret" (type $secret))
 (alias export $store "error" (type $error))
 (import "fleet:secrets/reveal@0.1.0" (instance $reveal
  (alias outer 1 $secret (type $s)) (export "secret" (type $s2 (eq $s)))
  (alias outer 1 $error (type $e)) (export "error" (type $e2 (eq $e)))
  (type $v (variant (case "text" string) (case "bytes" (list u8)))) (export "secret-value" (type $value (eq $v)))
  (export "reveal" (func (param "secret" (borrow $s2)) (result (result $value (error $e2)))))))
 (import "wasi:logging/logging@0.1.0-draft" (instance $logging
  (type $l (enum "trace" "debug" "info" "warn" "error" "critical")) (export "level" (type $level (eq $l)))
  (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))

 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core func $get (canon lower (func $store "get") {OPTIONS}))
 (core func $drop (canon resource.drop $secret))
 (core func $tell (canon lower (func $reveal "reveal") {OPTIONS}))
 (core func $log (canon lower (func $logging "log") {OPTIONS}))

 (core module $main
  (import "a" "memory" (memory 1))
  (import "a" "reset" (func $reset))
  (import "h" "get" (func $get (param i32 i32 i32)))
  (import "h" "drop" (func $drop (param i32)))
  (import "h" "tell" (func $tell (param i32 i32)))
  (import "h" "log" (func $log (param i32 i32 i32 i32 i32)))
  (func (export "hold") (param $name i32) (param $size i32) (result i32)
   (call $get (local.get $name) (local.get $size) (i32.const 16))
   (call $reset)
   (if (i32.load8_u (i32.const 16)) (then (return (i32.add (i32.const {FAILED}) (i32.load8_u (i32.const 20))))))
   (call $drop (i32.load (i32.const 20)))
   (i32.const 0))
  (func $told (param $name i32) (param $size i32) (result i32) (local $secret i32)
   (call $get (local.get $name) (local.get $size) (i32.const 16))
   (if (i32.load8_u (i32.const 16)) (then (return (i32.add (i32.const {FAILED}) (i32.load8_u (i32.const 20))))))
   (local.set $secret (i32.load (i32.const 20)))
   (call $tell (local.get $secret) (i32.const 32))
   (call $drop (local.get $secret))
   (if (i32.load8_u (i32.const 32)) (then (return (i32.add (i32.const {FAILED}) (i32.load8_u (i32.const 36))))))
   (i32.const 0))
  (func (export "sum") (param $name i32) (param $size i32) (result i32)
   (local $at i32) (local $end i32) (local $sum i32)
   (local.set $sum (call $told (local.get $name) (local.get $size)))
   (call $reset)
   (if (local.get $sum) (then (return (local.get $sum))))
   (local.set $at (i32.load (i32.const 40)))
   (local.set $end (i32.add (local.get $at) (i32.load (i32.const 44))))
   (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
    (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br $next)))
   (local.get $sum))
  (func $write (export "write") (param $name i32) (param $size i32)
   (if (call $told (local.get $name) (local.get $size)) (then unreachable))
   (call $log (i32.const 4) (i32.const 0) (i32.const 0) (i32.load (i32.const 40)) (i32.load (i32.const 44)))
   (call $reset))
  (func (export "spill") (param $name i32) (param $size i32)
   (call $write (local.get $name) (local.get $size))
   unreachable))
 (core instance $main (instantiate $main (with "a" (instance $a)) (with "h" (instance
  (export "get" (func $get)) (export "drop" (func $drop)) (export "tell" (func $tell)) (export "log" (func $log))))))
 (func (export "hold") (param "name" string) (result u32) (canon lift (core func $main "hold") {OPTIONS}))
 (func (export "sum") (param "name" string) (result u32) (canon lift (core func $main "sum") {OPTIONS}))
 (func (export "write") (param "name" string) (canon lift (core func $main "write") {OPTIONS}))
 (func (export "spill") (param "name" string) (canon lift (core func $main "spill") {OPTIONS})))"""


def secret_guest() -> bytes:
    """The component in binary form."""
    return wasm(GUEST_TEXT)

"""Two components that are made for each other: one asks, one answers, with numbers that make the answering one fail.

The interface has a function that can say why it failed, and one that cannot.
"""

from __future__ import annotations

from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

SCORE = "acme:pipeline/score@0.1.0"

TRAPS, HANGS, REFUSES = 0, 1, 2
"""What `score` is asked for so that it fails; any other number is answered by its double."""

RANDOM = '(import "wasi:random/random@0.2.12" (instance $random (export "get-random-u64" (func (result u64)))))'
"""An import that needs a grant, for both."""

_SIGNATURES = """
  (export "score" (func (param "value" u32) (result (result u32 (error string)))))
  (export "plain" (func (param "value" u32) (result u32)))"""


def scorer(interface: str = SCORE, *, imports: str = "", factor: int = 2, result: str = "u32") -> bytes:
    """A component that answers with `factor` times the number."""
    return wasm(f"""(component
 {imports}
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core module $main
  (import "a" "memory" (memory 1))
  (data (i32.const 600) "bad")
  (func (export "plain") (param i32) (result i32)
   (if (i32.eqz (local.get 0)) (then unreachable))
   (i32.mul (local.get 0) (i32.const {factor})))
  (func (export "score") (param i32) (result i32)
   (if (i32.eqz (local.get 0)) (then unreachable))
   (if (i32.eq (local.get 0) (i32.const {HANGS})) (then (loop $again (br $again))))
   (if (i32.eq (local.get 0) (i32.const {REFUSES})) (then
     (i32.store8 (i32.const 512) (i32.const 1))
     (i32.store (i32.const 516) (i32.const 600))
     (i32.store (i32.const 520) (i32.const 3))
     (return (i32.const 512))))
   (i32.store8 (i32.const 512) (i32.const 0))
   (i32.store (i32.const 516) (i32.mul (local.get 0) (i32.const {factor})))
   (i32.const 512)))
 (core instance $m (instantiate $main (with "a" (instance $a))))
 (func $score (param "value" u32) (result (result {result} (error string)))
  (canon lift (core func $m "score") {OPTIONS}))
 (func $plain (param "value" u32) (result u32) (canon lift (core func $m "plain")))
 (instance $answers (export "score" (func $score)) (export "plain" (func $plain)))
 (export "{interface}" (instance $answers)))""")


def asker(interface: str = SCORE, *, imports: str = "") -> bytes:
    """A component with `run` and `run-plain`, which hand their argument on and return the answer.

    `run-many` calls the plain function so many times.
    """
    return wasm(f"""(component
 {imports}
 (import "{interface}" (instance $score {_SIGNATURES}))
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core func $lowered (canon lower (func $score "score") {OPTIONS}))
 (core func $plain (canon lower (func $score "plain")))
 (core module $main
  (import "score" "score" (func $score (param i32 i32)))
  (import "score" "plain" (func $plain (param i32) (result i32)))
  (import "a" "reset" (func $reset))
  (func (export "done") (param i32) (call $reset))
  (func (export "run-plain") (param i32) (result i32) (call $plain (local.get 0)))
  (func (export "run-many") (param i32)
   (loop $again
    (if (local.get 0) (then
     (drop (call $plain (i32.const 1)))
     (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
     (br $again)))))
  (func (export "run") (param i32) (result i32)
   (call $score (local.get 0) (i32.const 512)) (i32.const 512)))
 (core instance $m (instantiate $main
  (with "a" (instance $a))
  (with "score" (instance (export "score" (func $lowered)) (export "plain" (func $plain))))))
 (func (export "run") (param "value" u32) (result (result u32 (error string)))
  (canon lift (core func $m "run") {OPTIONS} (post-return (core func $m "done"))))
 (func (export "run-many") (param "times" u32) (canon lift (core func $m "run-many")))
 (func (export "run-plain") (param "value" u32) (result u32) (canon lift (core func $m "run-plain"))))""")


def alerter() -> bytes:
    """The last component of `examples/pipeline`, which takes every alert and forgets it."""
    return wasm(f"""(component
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core module $main
  (import "a" "reset" (func $reset))
  (func (export "done") (param i32) (call $reset))
  (func (export "send") (param i32 i32 f32) (result i32) (i32.const 512)))
 (core instance $m (instantiate $main (with "a" (instance $a))))
 (func $send (param "source" string) (param "score" f32) (result (result (error string)))
  (canon lift (core func $m "send") {OPTIONS} (post-return (core func $m "done"))))
 (instance $answers (export "send" (func $send)))
 (export "example:pipeline/alert@0.1.0" (instance $answers)))""")

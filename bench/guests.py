"""Guests that do one thing with a capability, so that a benchmark measures what an agent sees, crossing included.

Written as WebAssembly text, as small as they can be: what they take themselves is next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import wasmtime

from edge_agent.runner.engine import Engine, Instance, Limits
from edge_agent.runner.engine.malloc import keep_large_blocks
from edge_agent.runner.linking import link

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext

ALLOCATOR = """
 (core module $allocator
  (memory (export "memory") 512)
  (global $top (mut i32) (i32.const 0x1000000))
  (func (export "reset") (global.set $top (i32.const 0x1000000)))
  (func (export "realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
   (local $at i32)
   (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
   (global.set $top (i32.add (local.get $at) (local.get $size)))
   (local.get $at))
  (data (i32.const 0) "bench") (data (i32.const 8) "k0") (data (i32.const 16) "m") (data (i32.const 24) "ab"))
 (core instance $a (instantiate $allocator))"""
"""Memory of 32 MiB: names at 0, the guest's own data below 16 MiB, what the host hands over above."""

OPTIONS = '(memory (core memory $a "memory")) (realloc (core func $a "realloc"))'

KEYVALUE = f"""(component
 (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
  (export "bucket" (type $b (sub resource)))
  (type $e' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
  (export "error" (type $e (eq $e')))
  (export "open" (func (param "identifier" string) (result (result (own $b) (error $e)))))
  (export "[method]bucket.get" (func (param "self" (borrow $b)) (param "key" string)
   (result (result (option (list u8)) (error $e)))))
  (export "[method]bucket.set" (func (param "self" (borrow $b)) (param "key" string) (param "value" (list u8))
   (result (result (error $e)))))))
 {ALLOCATOR}
 (core func $open (canon lower (func $store "open") {OPTIONS}))
 (core func $get (canon lower (func $store "[method]bucket.get") {OPTIONS}))
 (core func $set (canon lower (func $store "[method]bucket.set") {OPTIONS}))
 (core module $m
  (import "a" "memory" (memory 1))
  (import "a" "reset" (func $reset))
  (import "h" "open" (func $open (param i32 i32 i32)))
  (import "h" "get" (func $get (param i32 i32 i32 i32)))
  (import "h" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
  (global $bucket (mut i32) (i32.const 0))
  (func $begin (param $i i32)
   (call $reset)
   (i32.store8 (i32.const 9) (i32.add (i32.const 48) (i32.rem_u (local.get $i) (i32.const 5))))
   (if (i32.eqz (global.get $bucket)) (then
    (call $open (i32.const 0) (i32.const 5) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then unreachable))
    (global.set $bucket (i32.load (i32.const 260))))))
  (func (export "set") (param $i i32) (param $size i32)
   (call $begin (local.get $i))
   (i32.store (i32.const 0x10000) (local.get $i))
   (call $set (global.get $bucket) (i32.const 8) (i32.const 2) (i32.const 0x10000) (local.get $size) (i32.const 256))
   (if (i32.load8_u (i32.const 256)) (then unreachable)))
  (func (export "get") (param $i i32) (result i32)
   (call $begin (local.get $i))
   (call $get (global.get $bucket) (i32.const 8) (i32.const 2) (i32.const 256))
   (if (i32.load8_u (i32.const 256)) (then unreachable))
   (if (i32.eqz (i32.load8_u (i32.const 260))) (then unreachable))
   (i32.load (i32.const 268))))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
  (export "open" (func $open)) (export "get" (func $get)) (export "set" (func $set))))))
 (func (export "set") (param "i" u32) (param "size" u32) (canon lift (core func $i "set")))
 (func (export "get") (param "i" u32) (result u32) (canon lift (core func $i "get"))))"""
"""`set` writes a value of so many bytes, a new one for every `i`; `get` reads one and returns its size."""

NN = f"""(component
 (import "wasi:nn/errors@0.2.0-rc-2024-10-28" (instance $errors (export "error" (type (sub resource)))))
 (alias export $errors "error" (type $error))
 (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" (instance $tensors
  (export "tensor" (type $t (sub resource)))
  (type $k' (enum "FP16" "FP32" "FP64" "BF16" "U8" "I32" "I64"))
  (export "tensor-type" (type $k (eq $k')))
  (export "[constructor]tensor" (func (param "dimensions" (list u32)) (param "ty" $k) (param "data" (list u8))
   (result (own $t))))
  (export "[method]tensor.data" (func (param "self" (borrow $t)) (result (list u8))))))
 (alias export $tensors "tensor" (type $tensor))
 (import "wasi:nn/inference@0.2.0-rc-2024-10-28" (instance $inference
  (alias outer 1 $error (type $e')) (export "error" (type $e (eq $e')))
  (alias outer 1 $tensor (type $t')) (export "tensor" (type $t (eq $t')))
  (export "graph-execution-context" (type $c (sub resource)))
  (export "[method]graph-execution-context.compute" (func (param "self" (borrow $c))
   (param "inputs" (list (tuple string (own $t))))
   (result (result (list (tuple string (own $t))) (error (own $e))))))))
 (alias export $inference "graph-execution-context" (type $context))
 (import "wasi:nn/graph@0.2.0-rc-2024-10-28" (instance $graphs
  (alias outer 1 $error (type $e')) (export "error" (type $e (eq $e')))
  (alias outer 1 $context (type $c')) (export "graph-execution-context" (type $c (eq $c')))
  (export "graph" (type $g (sub resource)))
  (export "load-by-name" (func (param "name" string) (result (result (own $g) (error (own $e))))))
  (export "[method]graph.init-execution-context" (func (param "self" (borrow $g))
   (result (result (own $c) (error (own $e))))))))
 {ALLOCATOR}
 (core func $tensor (canon lower (func $tensors "[constructor]tensor") {OPTIONS}))
 (core func $data (canon lower (func $tensors "[method]tensor.data") {OPTIONS}))
 (core func $drop (canon resource.drop $tensor))
 (core func $compute (canon lower (func $inference "[method]graph-execution-context.compute") {OPTIONS}))
 (core func $load (canon lower (func $graphs "load-by-name") {OPTIONS}))
 (core func $init (canon lower (func $graphs "[method]graph.init-execution-context") {OPTIONS}))
 (core module $m
  (import "a" "memory" (memory 1))
  (import "a" "reset" (func $reset))
  (import "h" "tensor" (func $tensor (param i32 i32 i32 i32 i32) (result i32)))
  (import "h" "data" (func $data (param i32 i32)))
  (import "h" "drop" (func $drop (param i32)))
  (import "h" "compute" (func $compute (param i32 i32 i32 i32)))
  (import "h" "load" (func $load (param i32 i32 i32)))
  (import "h" "init" (func $init (param i32 i32)))
  (global $context (mut i32) (i32.const 0))
  (func $input (param $number i32) (param $size i32) (local $at i32)
   (local.set $at (i32.add (i32.const 512) (i32.mul (local.get $number) (i32.const 12))))
   (i32.store (local.get $at) (i32.add (i32.const 24) (local.get $number)))
   (i32.store offset=4 (local.get $at) (i32.const 1))
   (i32.store offset=8 (local.get $at)
    (call $tensor (i32.const 128) (i32.const 2) (i32.const 1) (i32.const 0x10000) (local.get $size))))
  (func (export "infer") (param $side i32) (param $inputs i32) (result i32) (local $out i32) (local $number i32)
   (call $reset)
   (if (i32.eqz (global.get $context)) (then
    (call $load (i32.const 16) (i32.const 1) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then unreachable))
    (call $init (i32.load (i32.const 260)) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then unreachable))
    (global.set $context (i32.load (i32.const 260)))))
   (i32.store (i32.const 128) (local.get $side))
   (i32.store (i32.const 132) (local.get $side))
   (loop $each
    (call $input (local.get $number) (i32.mul (i32.const 4) (i32.mul (local.get $side) (local.get $side))))
    (local.set $number (i32.add (local.get $number) (i32.const 1)))
    (br_if $each (i32.lt_u (local.get $number) (local.get $inputs))))
   (call $compute (global.get $context) (i32.const 512) (local.get $inputs) (i32.const 256))
   (if (i32.load8_u (i32.const 256)) (then unreachable))
   (local.set $out (i32.load offset=8 (i32.load (i32.const 260))))
   (call $data (local.get $out) (i32.const 264))
   (call $drop (local.get $out))
   (i32.load (i32.const 268))))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
  (export "tensor" (func $tensor)) (export "data" (func $data)) (export "drop" (func $drop))
  (export "compute" (func $compute)) (export "load" (func $load)) (export "init" (func $init))))))
 (func (export "infer") (param "side" u32) (param "inputs" u32) (result u32) (canon lift (core func $i "infer"))))"""
"""`infer` runs the model `m` on `a`, and on `b` with two inputs, each a square of zeros; returns the output's bytes."""


def start(text: str, context: AgentContext) -> Instance:
    """Start a guest with what its context grants."""
    keep_large_blocks()  # as a runner does
    engine = Engine()
    component = engine.load(engine.compile(bytes(wasmtime.wat2wasm(text))))
    return Instance(component, link(component, context, context.authority, ()), Limits(memory_bytes=64 << 20))

"""A guest that has several calls in flight: it waits with the clock of WASI 0.3, or for what it asks the host.

`overlapping` builds it for any type: `later` returns its value after a while, `asked` returns what the host says to it.
Both keep everything of a call in a block of its own, so that calls do not meet.
"""

from __future__ import annotations

import itertools

from edge_agent.runner.engine.shim import abi
from edge_agent.runner.engine.shim.flat import Loader
from edge_agent.runner.engine.shim.scope import Scope, Style
from fleet.wit_types import Primitive, TupleType, WitType
from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

CLOCK = "wasi:clocks/monotonic-clock@0.3.0"
ASK = "acme:numbers/ask@0.1.0"
"""`ask: async func(value: T) -> T`."""

MAX_FLAT_ASYNC = 4

_BUILTINS = {
    "set-new": ("waitable-set.new", "(result i32)"),
    "set-drop": ("waitable-set.drop", "(param i32)"),
    "join": ("waitable.join", "(param i32 i32)"),
    "drop": ("subtask.drop", "(param i32)"),
    "cancel": ("subtask.cancel", "(param i32) (result i32)"),
    "give-up": ("task.cancel", ""),
    "mine": ("context.get i32 0", "(result i32)"),
    "keep": ("context.set i32 0", "(param i32)"),
}


def can_ask(kind: WitType) -> bool:
    """Whether `asked` can be built: the guest puts no core values into memory."""
    count = len(abi.flat(kind))
    return count <= MAX_FLAT_ASYNC or count > abi.MAX_FLAT_PARAMS


def overlapping(kind: WitType, *, stubborn: bool = False, ask: bool = True) -> bytes:
    """The guest for one type.

    Args:
        kind: of the values; without resources.
        stubborn: take no cancellation.
        ask: have `asked`, which imports `ASK`.
    """
    numbers = itertools.count()
    asks = ask and can_ask(kind)
    inner, shown = Scope(Style.IN_INSTANCE, numbers, {}, "own-"), Scope(Style.EXPORT, numbers, {}, "own-")
    plain = Scope(Style.PLAIN, numbers, {})
    text, given = shown.use(kind), plain.use(kind)
    asked_type = inner.use(kind)
    core = abi.flat(kind)
    size = abi.size(TupleType((kind,)))
    spilled = len(core) + 1 > abi.MAX_FLAT_PARAMS
    later_params = ["i32"] if spilled else [*core, "i64"]
    kept = [
        f"({part}.store offset={16 + 8 * at} (local.get $b) (local.get {at}))" for at, part in enumerate(later_params)
    ]
    late = abi.offsets((kind, Primitive.U64))[1]
    ns = f"(i64.load (i32.add (local.get 0) (i32.const {late})))" if spilled else f"(local.get {len(core)})"
    if spilled:
        again = ["(i32.load offset=16 (call $mine))"]
        if len(core) <= abi.MAX_FLAT_PARAMS:
            loader = Loader()
            again = loader.load(kind, again[0])
        else:
            loader = Loader()
    else:
        loader = Loader()
        again = [f"({part}.load offset={16 + 8 * at} (call $mine))" for at, part in enumerate(core)]
    returned = ["i32"] if len(core) > abi.MAX_FLAT_PARAMS else core
    result_loader = Loader()
    area = "(i32.add (call $mine) (i32.const 16))"
    result = [area] if len(core) > abi.MAX_FLAT_PARAMS else result_loader.load(kind, area)
    ask_params = ["i32"] if len(core) > MAX_FLAT_ASYNC else core
    ask_import = (
        f'(import "{ASK}" (instance $ask {" ".join(inner.lines)}'
        f' (export "ask" (func async (param "value" {asked_type}) (result {asked_type})))))'
        if asks
        else ""
    )
    ask_core = (
        f"""(func (export "asked") {"".join(f"(param {p}) " for p in ask_params)}(result i32) (local $b i32)
   (local.set $b (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {24 + size})))
   (call $keep (local.get $b))
   (global.set $open (i32.add (global.get $open) (i32.const 1)))
   (i32.store (local.get $b) (i32.const 1))
   (call $wait (local.get $b) (call $ask {" ".join(f"(local.get {at})" for at in range(len(ask_params)))}
     (i32.add (local.get $b) (i32.const 16)))))"""
        if asks
        else ""
    )
    cancel = (
        "(call $wait-again)"
        if stubborn
        else "(call $join (i32.load offset=8 (call $mine)) (i32.const 0))"
        " (drop (call $cancel (i32.load offset=8 (call $mine)))) (call $drop (i32.load offset=8 (call $mine)))"
        " (call $set-drop (i32.load offset=4 (call $mine))) (call $give-up) (call $close) (i32.const 0)"
    )
    names = [*_BUILTINS, "wait-for", "return", *(["ask"] if asks else [])]
    return wasm(f"""(component
 (import "wasi:clocks/types@0.3.0" (instance $types (type $d u64) (export "duration" (type (eq $d)))))
 (import "{CLOCK}" (instance $c (export "wait-for" (func async (param "how-long" u64)))))
 {ask_import}
 {" ".join(plain.lines)}
 (core module $am {ALLOCATOR})
 (core instance $a (instantiate $am))
 (core func $wait-for (canon lower (func $c "wait-for") async))
 {f'(core func $ask (canon lower (func $ask "ask") async {OPTIONS}))' if asks else ""}
 (core func $return (canon task.return (result {given}) (memory (core memory $a "memory"))))
 {" ".join(f"(core func ${name} (canon {builtin}))" for name, (builtin, _) in _BUILTINS.items())}
 (core module $m
  (import "a" "memory" (memory 1))
  (import "a" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "a" "reset" (func $reset))
  (import "" "wait-for" (func $wait-for (param i64) (result i32)))
  {
        f'(import "" "ask" (func $ask {"".join(f"(param {p}) " for p in ask_params)}(param i32) (result i32)))'
        if asks
        else ""
    }
  (import "" "return" (func $return {"".join(f"(param {p}) " for p in returned)}))
  {" ".join(f'(import "" "{name}" (func ${name} {sig}))' for name, (_, sig) in _BUILTINS.items())}
  (global $open (mut i32) (i32.const 0))
  (func $wait (param $b i32) (param $state i32) (result i32)
   (if (i32.eq (local.get $state) (i32.const 2)) (then (call $answer) (return (i32.const 0))))
   (i32.store offset=4 (local.get $b) (call $set-new))
   (i32.store offset=8 (local.get $b) (i32.shr_u (local.get $state) (i32.const 4)))
   (call $join (i32.load offset=8 (local.get $b)) (i32.load offset=4 (local.get $b)))
   (call $wait-again))
  (func $wait-again (result i32) (i32.or (i32.shl (i32.load offset=4 (call $mine)) (i32.const 4)) (i32.const 2)))
  (func $answer (if (i32.load (call $mine)) (then (call $said)) (else (call $same))) (call $close))
  (func $close
   (global.set $open (i32.sub (global.get $open) (i32.const 1)))
   (if (i32.eqz (global.get $open)) (then (call $reset))))
  (func $same {" ".join(loader.locals)} {" ".join(loader.lines)} (call $return {" ".join(again)}))
  (func $said {" ".join(result_loader.locals)} {" ".join(result_loader.lines)} (call $return {" ".join(result)}))
  (func (export "later") {"".join(f"(param {p}) " for p in later_params)}(result i32) (local $b i32)
   (local.set $b (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {24 + 8 * len(later_params)})))
   (call $keep (local.get $b))
   (global.set $open (i32.add (global.get $open) (i32.const 1)))
   (i32.store (local.get $b) (i32.const 0))
   {" ".join(kept)}
   (call $wait (local.get $b) (call $wait-for {ns})))
  {ask_core}
  (func (export "spin") (result i32) (loop $again (br $again)) unreachable)
  (func (export "break") (result i32) unreachable)
  (func (export "seven") (result i32) (i32.const 7))
  (func (export "callback") (param $event i32) (param $task i32) (param $state i32) (result i32)
   (if (i32.eq (local.get $event) (i32.const 6)) (then (return {cancel})))
   (if (i32.lt_u (local.get $state) (i32.const 2)) (then (return (call $wait-again))))
   (call $join (local.get $task) (i32.const 0))
   (call $drop (local.get $task))
   (call $set-drop (i32.load offset=4 (call $mine)))
   (call $answer)
   (i32.const 0)))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "" (instance
  {" ".join(f'(export "{name}" (func ${name}))' for name in names)}))))
 (func (export "seven") (result u32) (canon lift (core func $i "seven")))
 {" ".join(shown.lines)}
 (func (export "later") async (param "value" {text}) (param "ns" u64) (result {text})
  (canon lift (core func $i "later") async (callback (core func $i "callback")) {OPTIONS}))
 (func (export "spin") async (canon lift (core func $i "spin") async (callback (core func $i "callback"))))
 (func (export "break") async (canon lift (core func $i "break") async (callback (core func $i "callback"))))
 {
        f'''(func (export "asked") async (param "value" {text}) (result {text})
  (canon lift (core func $i "asked") async (callback (core func $i "callback")) {OPTIONS}))'''
        if asks
        else ""
    })""")


def answering() -> bytes:
    """Exports `ASK` for strings: says what it is told, but nothing to what begins with `n`."""
    return wasm(f"""(component
 (core module $am {ALLOCATOR})
 (core instance $a (instantiate $am))
 (core func $return (canon task.return (result string) (memory (core memory $a "memory"))))
 (core func $give-up (canon task.cancel))
 (core func $set-new (canon waitable-set.new))
 (core module $m
  (import "a" "memory" (memory 1))
  (import "" "return" (func $return (param i32 i32)))
  (import "" "give-up" (func $give-up))
  (import "" "set-new" (func $set-new (result i32)))
  (func (export "ask") (param i32 i32) (result i32)
   (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 110))
    (then (return (i32.or (i32.shl (call $set-new) (i32.const 4)) (i32.const 2)))))
   (call $return (local.get 0) (local.get 1))
   (i32.const 0))
  (func (export "callback") (param i32 i32 i32) (result i32) (call $give-up) (i32.const 0)))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "" (instance
  (export "return" (func $return)) (export "give-up" (func $give-up)) (export "set-new" (func $set-new))))))
 (func $ask async (param "value" string) (result string)
  (canon lift (core func $i "ask") async (callback (core func $i "callback")) {OPTIONS}))
 (instance $asks (export "ask" (func $ask)))
 (export "{ASK}" (instance $asks)))""")

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
 (core func $set-new (canon waitable-set.new))
 (core func $wait (canon waitable-set.wait (memory (core memory $a "memory"))))
 (core func $join (canon waitable.join))
 (core module $m
  (import "" "set-new" (func $set-new (result i32)))
  (import "" "wait" (func $wait (param i32 i32) (result i32)))
  (import "" "join" (func $join (param i32 i32)))
  (import "" "memory" (memory 1))
  (import "" "slow" (func $slow (param i32 i32) (result i32)))
  (import "" "named" (func $named (param i32 i32 i32) (result i32)))
  (import "" "quick" (func $quick (param i32) (result i32)))
  (import "" "return" (func $return (param i32)))
  (import "" "answer" (func $answer (param i32 i32 i32)))
  (func $returned (param $state i32) (local $set i32)
   (if (i32.eq (i32.and (local.get $state) (i32.const 15)) (i32.const 2)) (then (return)))
   (local.set $set (call $set-new))
   (call $join (i32.shr_u (local.get $state) (i32.const 4)) (local.get $set))
   (loop $again
    (drop (call $wait (local.get $set) (i32.const 8)))
    (br_if $again (i32.ne (i32.load (i32.const 12)) (i32.const 2)))))
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
  (export "quick" (func $quick)) (export "return" (func $return)) (export "answer" (func $answer))
  (export "set-new" (func $set-new)) (export "wait" (func $wait)) (export "join" (func $join))))))
 (func (export "sum") async (param "x" u32) (param "y" u32) (result u32) (canon lift (core func $i "sum") {_LIFT}))
 (func (export "named") async (param "names" (list string)) (result (result (list u8) (error string)))
  (canon lift (core func $i "named") {_LIFT} {OPTIONS})))""")


PIPE = "acme:numbers/pipe@0.1.0"
"""`open: async func(count: u32) -> tuple<stream<u8>, future<u32>>`: bytes, then their number."""

_PIPE_TYPES = """
 (type $bytes (stream u8))
 (type $total (future u32))"""


def sender() -> bytes:
    """Exports `PIPE`: gives the ends out, then writes `count` bytes and their number while the reader reads."""
    return wasm(f"""(component{_PIPE_TYPES}
 (core module $a (memory (export "memory") 2))
 (core instance $a (instantiate $a))
 (core func $bytes-new (canon stream.new $bytes))
 (core func $bytes-write (canon stream.write $bytes async (memory (core memory $a "memory"))))
 (core func $bytes-drop (canon stream.drop-writable $bytes))
 (core func $total-new (canon future.new $total))
 (core func $total-write (canon future.write $total async (memory (core memory $a "memory"))))
 (core func $total-drop (canon future.drop-writable $total))
 (core func $return (canon task.return (result (tuple $bytes $total))))
 (core func $set-new (canon waitable-set.new))
 (core func $join (canon waitable.join))
 (core module $m
  (import "" "memory" (memory 2))
  (import "" "bytes-new" (func $bytes-new (result i64)))
  (import "" "bytes-write" (func $bytes-write (param i32 i32 i32) (result i32)))
  (import "" "bytes-drop" (func $bytes-drop (param i32)))
  (import "" "total-new" (func $total-new (result i64)))
  (import "" "total-write" (func $total-write (param i32 i32) (result i32)))
  (import "" "total-drop" (func $total-drop (param i32)))
  (import "" "return" (func $return (param i32 i32)))
  (import "" "set-new" (func $set-new (result i32)))
  (import "" "join" (func $join (param i32 i32)))
  (global $set (mut i32) (i32.const 0))
  (global $bytes (mut i32) (i32.const 0))
  (global $total (mut i32) (i32.const 0))
  (global $left (mut i32) (i32.const 0))
  (global $at (mut i32) (i32.const 0))
  (func $wait (result i32) (i32.or (i32.shl (global.get $set) (i32.const 4)) (i32.const 2)))
  (func $more (result i32) (local $done i32)
   (loop $again
    (if (global.get $left) (then
     (local.set $done (call $bytes-write (global.get $bytes) (global.get $at) (global.get $left)))
     (if (i32.eq (local.get $done) (i32.const -1)) (then (return (call $wait))))
     (call $wrote (local.get $done))
     (br $again))))
   (call $bytes-drop (global.get $bytes))
   (i32.store (i32.const 0) (global.get $at))
   (if (i32.eq (call $total-write (global.get $total) (i32.const 0)) (i32.const -1)) (then
    (call $join (global.get $total) (global.get $set))
    (return (call $wait))))
   (call $total-drop (global.get $total))
   (i32.const 0))
  (func $wrote (param $done i32)
   (local.set $done (i32.shr_u (local.get $done) (i32.const 4)))
   (global.set $at (i32.add (global.get $at) (local.get $done)))
   (global.set $left (i32.sub (global.get $left) (local.get $done))))
  (func (export "open") (param $count i32) (result i32) (local $ends i64) (local $total i64)
   (local.set $ends (call $bytes-new))
   (local.set $total (call $total-new))
   (global.set $set (call $set-new))
   (global.set $bytes (i32.wrap_i64 (i64.shr_u (local.get $ends) (i64.const 32))))
   (global.set $total (i32.wrap_i64 (i64.shr_u (local.get $total) (i64.const 32))))
   (global.set $left (local.get $count))
   (call $return (i32.wrap_i64 (local.get $ends)) (i32.wrap_i64 (local.get $total)))
   (call $join (global.get $bytes) (global.get $set))
   (call $more))
  (func (export "callback") (param $event i32) (param $index i32) (param $done i32) (result i32)
   (if (i32.eq (local.get $event) (i32.const 5)) (then (call $total-drop (global.get $total)) (return (i32.const 0))))
   (call $wrote (local.get $done))
   (call $more)))
 (core instance $i (instantiate $m (with "" (instance
  (export "memory" (memory $a "memory")) (export "return" (func $return))
  (export "bytes-new" (func $bytes-new)) (export "bytes-write" (func $bytes-write))
  (export "bytes-drop" (func $bytes-drop)) (export "total-new" (func $total-new))
  (export "total-write" (func $total-write)) (export "total-drop" (func $total-drop))
  (export "set-new" (func $set-new)) (export "join" (func $join))))))
 (func $open async (param "count" u32) (result (tuple $bytes $total))
  (canon lift (core func $i "open") {_LIFT}))
 (instance $pipe (export "open" (func $open)))
 (export "{PIPE}" (instance $pipe)))""")


def receiver() -> bytes:
    """Imports `PIPE`; its `total` reads a stream to the end, and returns what was read plus what the future says."""
    return wasm(f"""(component{_PIPE_TYPES}
 (import "{PIPE}" (instance $p
  (type $b (stream u8)) (type $t (future u32))
  (export "open" (func async (param "count" u32) (result (tuple $b $t))))))
 (core module $a (memory (export "memory") 2))
 (core instance $a (instantiate $a))
 (core func $open (canon lower (func $p "open") async (memory (core memory $a "memory"))))
 (core func $read (canon stream.read $bytes async (memory (core memory $a "memory"))))
 (core func $read-total (canon future.read $total async (memory (core memory $a "memory"))))
 (core func $return (canon task.return (result u32)))
 (core func $set-new (canon waitable-set.new))
 (core func $join (canon waitable.join))
 (core module $m
  (import "" "memory" (memory 2))
  (import "" "open" (func $open (param i32 i32) (result i32)))
  (import "" "read" (func $read (param i32 i32 i32) (result i32)))
  (import "" "read-total" (func $read-total (param i32 i32) (result i32)))
  (import "" "return" (func $return (param i32)))
  (import "" "set-new" (func $set-new (result i32)))
  (import "" "join" (func $join (param i32 i32)))
  (global $set (mut i32) (i32.const 0))
  (global $got (mut i32) (i32.const 0))
  (func $wait (result i32) (i32.or (i32.shl (global.get $set) (i32.const 4)) (i32.const 2)))
  (func $finish (result i32)
   (call $return (i32.add (global.get $got) (i32.load (i32.const 16)))) (i32.const 0))
  (func $took (param $done i32) (result i32)
   (global.set $got (i32.add (global.get $got) (i32.shr_u (local.get $done) (i32.const 4))))
   (i32.and (local.get $done) (i32.const 15)))
  (func $more (result i32) (local $done i32)
   (loop $again
    (local.set $done (call $read (i32.load (i32.const 0)) (i32.const 1024) (i32.const 4096)))
    (if (i32.eq (local.get $done) (i32.const -1)) (then (return (call $wait))))
    (br_if $again (i32.eqz (call $took (local.get $done)))))
   (call $ended))
  (func $ended (result i32)
   (if (i32.eq (call $read-total (i32.load (i32.const 4)) (i32.const 16)) (i32.const -1)) (then
    (call $join (i32.load (i32.const 4)) (global.get $set))
    (return (call $wait))))
   (call $finish))
  (func $opened (result i32)
   (call $join (i32.load (i32.const 0)) (global.get $set))
   (call $more))
  (func (export "total") (param $count i32) (result i32) (local $state i32)
   (global.set $set (call $set-new))
   (global.set $got (i32.const 0))
   (local.set $state (call $open (local.get $count) (i32.const 0)))
   (if (i32.eq (i32.and (local.get $state) (i32.const 15)) (i32.const 2)) (then (return (call $opened))))
   (call $join (i32.shr_u (local.get $state) (i32.const 4)) (global.get $set))
   (call $wait))
  (func (export "callback") (param $event i32) (param $index i32) (param $done i32) (result i32)
   (if (i32.eq (local.get $event) (i32.const 1)) (then
    (if (i32.ne (local.get $done) (i32.const 2)) (then (return (call $wait))))
    (if (i32.load (i32.const 8)) (then (return (call $wait))))
    (i32.store (i32.const 8) (i32.const 1))
    (return (call $opened))))
   (if (i32.eq (local.get $event) (i32.const 4)) (then (return (call $finish))))
   (if (call $took (local.get $done)) (then (return (call $ended))))
   (call $more)))
 (core instance $i (instantiate $m (with "" (instance
  (export "memory" (memory $a "memory")) (export "open" (func $open)) (export "read" (func $read))
  (export "read-total" (func $read-total)) (export "return" (func $return)) (export "set-new" (func $set-new))
  (export "join" (func $join))))))
 (func (export "total") async (param "count" u32) (result u32)
  (canon lift (core func $i "total") {_LIFT})))""")


HANDLES = "acme:numbers/handles@0.1.0"


def handles(*, asynchronous: bool = True) -> bytes:
    """Lends the host one handle in `with-one` and two in `with-two`; another function may be asynchronous."""
    wait = f'(func (export "wait") async (canon lift (core func $i "wait") {_LIFT}))' if asynchronous else ""
    return wasm(f"""(component
 (import "{HANDLES}" (instance $h
  (export "thing" (type $thing (sub resource)))
  (export "make" (func (result (own $thing))))
  (export "one" (func (param "a" (borrow $thing))))
  (export "two" (func (param "a" (borrow $thing)) (param "b" (borrow $thing))))))
 (core func $make (canon lower (func $h "make")))
 (core func $one (canon lower (func $h "one")))
 (core func $two (canon lower (func $h "two")))
 (core module $m
  (import "" "make" (func $make (result i32)))
  (import "" "one" (func $one (param i32)))
  (import "" "two" (func $two (param i32 i32)))
  (func (export "with-one") (call $one (call $make)))
  (func (export "with-two") (call $two (call $make) (call $make)))
  (func (export "wait") (result i32) (i32.const 1))
  (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 1)))
 (core instance $i (instantiate $m (with "" (instance
  (export "make" (func $make)) (export "one" (func $one)) (export "two" (func $two))))))
 (func (export "with-one") (canon lift (core func $i "with-one")))
 (func (export "with-two") (canon lift (core func $i "with-two")))
 {wait})""")


CLOCK = "wasi:clocks/monotonic-clock@0.3.0"


def sleeper() -> bytes:
    """`sleep` waits with the clock of WASI 0.3; `deep` calls itself so often, and then the clock."""
    return wasm(f"""(component
 (import "wasi:clocks/types@0.3.0" (instance $types (type $d u64) (export "duration" (type (eq $d)))))
 (import "{CLOCK}" (instance $c
  (export "now" (func (result u64)))
  (export "wait-for" (func async (param "how-long" u64)))))
 (core func $wait-for (canon lower (func $c "wait-for")))
 (core func $now (canon lower (func $c "now")))
 (core func $return (canon task.return (result u64)))
 (core module $m
  (import "" "wait-for" (func $wait-for (param i64)))
  (import "" "now" (func $now (result i64)))
  (import "" "return" (func $return (param i64)))
  (func (export "sleep") (param i64) (result i32) (local $before i64)
   (local.set $before (call $now))
   (call $wait-for (local.get 0))
   (call $return (i64.sub (call $now) (local.get $before)))
   (i32.const 0))
  (func $dive (param i64) (result i64)
   (if (result i64) (i64.eqz (local.get 0)) (then (call $now))
    (else (i64.add (i64.const 1) (call $dive (i64.sub (local.get 0) (i64.const 1)))))))
  (func (export "deep") (param i64) (result i32) (call $return (call $dive (local.get 0))) (i32.const 0))
  (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
 (core instance $i (instantiate $m (with "" (instance
  (export "wait-for" (func $wait-for)) (export "now" (func $now)) (export "return" (func $return))))))
 (func (export "sleep") async (param "ns" u64) (result u64) (canon lift (core func $i "sleep") {_LIFT}))
 (func (export "deep") async (param "calls" u64) (result u64) (canon lift (core func $i "deep") {_LIFT})))""")


def answerer(*, asynchronous: bool = True) -> bytes:
    """Exports `NUMBERS`: `slow` doubles, `quick` adds one, and `named` has no names."""
    functions = {
        "slow": ('(param "x" u32) (result u32)', "slow", ""),
        "named": ('(param "names" (list string)) (result (result (list u8) (error string)))', "named", f" {OPTIONS}"),
    }
    lifted = "".join(
        f"\n (func ${name} {'async ' if asynchronous else ''}{kind}"
        f' (canon lift (core func $i "{core}{"" if asynchronous else "-now"}")'
        f" {_LIFT if asynchronous else ''}{options}))"
        for name, (kind, core, options) in functions.items()
    )
    return wasm(f"""(component
 (core module $a {ALLOCATOR})
 (core instance $a (instantiate $a))
 (core func $return (canon task.return (result u32)))
 (core func $answer (canon task.return (result (result (list u8) (error string))) (memory (core memory $a "memory"))))
 (core module $m
  (import "" "return" (func $return (param i32)))
  (import "" "answer" (func $answer (param i32 i32 i32)))
  (func (export "slow") (param i32) (result i32) (call $return (i32.mul (local.get 0) (i32.const 2))) (i32.const 0))
  (func (export "slow-now") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "named") (param i32 i32) (result i32)
   (call $answer (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 0))
  (func (export "named-now") (param i32 i32) (result i32) (i32.const 512))
  (func (export "quick") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
 (core instance $i (instantiate $m (with "" (instance
  (export "return" (func $return)) (export "answer" (func $answer))))))
 (func $quick (param "x" u32) (result u32) (canon lift (core func $i "quick"))){lifted}
 (instance $numbers
  (export "slow" (func $slow)) (export "named" (func $named)) (export "quick" (func $quick)))
 (export "{NUMBERS}" (instance $numbers)))""")

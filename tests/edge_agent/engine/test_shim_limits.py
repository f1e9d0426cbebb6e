"""The shim for lists of numbers: nobody notices that it is there, limits and resources included."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from edge_agent.runner.engine.shim.moved import movable_bytes
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import (
    BYTES,
    Err,
    FuncType,
    Ok,
    Variant,
    WitValue,
)
from tests.fakes.components import ALLOCATOR, ECHO_INTERFACE, OPTIONS, echo, wasm
from tests.fakes.shim_guest import CONTEXT_AGENT, ENGINE, component_of, echoing


def test_components_without_lists_of_numbers_are_left_alone() -> None:
    component = component_of(parse_type("record { a: string, b: list<bool>, c: list<char>, d: u16 }"))
    assert (component.moved.imports, component.moved.exports) == ({}, {})
    assert component.moved.memories == component.moved.core_instances == 0


def test_fuel_is_spent_by_the_component_alone() -> None:
    engine = Engine(fuel=True)
    component = engine.load(engine.compile(echo(BYTES)))
    assert component.moved.imports == component.moved.exports == {}
    echoing = HostInterface(ECHO_INTERFACE, {"echo": HostFunction(FuncType((("v", BYTES),), BYTES), lambda v: v)})
    instance = Instance(component, [echoing], Limits(fuel_per_call=1000))
    data = os.urandom(100_000)
    assert instance.call("echo", data) == data
    instance.close()


def test_a_host_function_may_call_the_guest_that_calls_it() -> None:
    """Frames of the shim lie on top of one another then."""
    depth = 0

    def call(value: WitValue) -> WitValue:
        nonlocal depth
        depth += 1
        return instance.call("echo", bytes([depth]) * 300 * depth) and value if depth < 5 else value

    function = HostFunction(FuncType((("v", BYTES),), BYTES), call)
    instance = Instance(component_of(BYTES), [HostInterface(ECHO_INTERFACE, {"echo": function})], Limits())
    for _ in range(20):
        depth = 0
        data = os.urandom(1000)
        assert instance.call("echo", data) == data


def test_the_shim_keeps_no_memory_from_call_to_call() -> None:
    instance, _ = echoing(BYTES)
    data = os.urandom(1 << 20)
    assert all(instance.call("echo", data) == data for _ in range(40))


def test_what_no_call_can_carry_is_refused_before_the_guest_runs() -> None:
    instance, got = echoing(BYTES)
    with pytest.raises(FleetError) as caught:
        instance.call("echo", bytes(movable_bytes(Limits().memory_bytes) + 1))
    assert caught.value.code is Code.VALUE_INVALID
    assert (instance.alive, got) == (True, [])


def test_a_guest_that_moves_more_than_a_call_can_carry_ends() -> None:
    """It copies what it is given, so that the shim towards the host has it twice."""
    limits = Limits(memory_bytes=8 << 20)
    instance, _ = echoing(parse_type("tuple<list<u8>, list<f64>>"), limits)
    with pytest.raises(Trap, match="lists of numbers") as caught:
        instance.call("echo", (bytes(movable_bytes(limits.memory_bytes) // 2 + 4096), [0.0] * (1 << 18)))
    assert caught.value.cause is ExitCause.QUOTA


def test_the_shim_lies_within_the_memory_limit() -> None:
    instance, got = echoing(BYTES, Limits(memory_bytes=1 << 20))
    with pytest.raises(FleetError, match="520192"):
        instance.call("echo", bytes(520_193))
    assert (instance.alive, got) == (True, [])


def test_as_many_bytes_as_the_engine_carries() -> None:
    instance, got = echoing(BYTES, Limits(memory_bytes=256 << 20))
    data = os.urandom(1 << 20) * 31
    assert instance.call("echo", data) == data
    assert got.pop() == data
    with pytest.raises(FleetError, match="more than 67043328"):
        instance.call("echo", data * 3)


@pytest.mark.parametrize("limits", [Limits(memories=0), Limits(instances=1)], ids=str)
def test_limits_are_those_of_the_component_alone(limits: Limits) -> None:
    """It has one memory and two core instances; the shim's own come on top, and exactly those."""
    with pytest.raises(Trap, match="resource limit exceeded"):
        echoing(BYTES, limits)
    echoing(BYTES, Limits(memories=1, instances=2))[0].close()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-9] + b"!" + data[-8:], lambda _: b""])
def test_a_damaged_trailer_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(FleetError) as caught:
        ENGINE.load(change(ENGINE.compile(echo(BYTES))))
    assert caught.value.code is Code.COMPONENT_INVALID


STORE, BATCH = "test:kv/store@0.1.0", "test:kv/batch@0.1.0"


GUEST = wasm(f"""(component
 (import "{STORE}" (instance $store
   (export "bucket" (type $b (sub resource)))
   (type $e' (variant (case "gone") (case "other" string))) (export "error" (type $e (eq $e')))
   (export "open" (func (param "name" string) (result (own $b))))
   (export "[method]bucket.get" (func (param "self" (borrow $b)) (param "key" string)
     (result (result (option (list u8)) (error $e)))))
   (export "[method]bucket.set" (func (param "self" (borrow $b)) (param "key" string) (param "value" (list u8))
     (result (result (error $e)))))
   (export "[method]bucket.size" (func (param "self" (borrow $b)) (result u32)))))
 (alias export $store "bucket" (type $b)) (alias export $store "error" (type $e))
 (import "{BATCH}" (instance $batch
   (alias outer 1 $b (type $b')) (export "bucket" (type $b (eq $b')))
   (alias outer 1 $e (type $e')) (export "error" (type $e (eq $e')))
   (export "swap" (func (param "bucket" (borrow $b)) (param "pairs" (list (tuple string (list u8))))
     (result (result (list (tuple string (list u8))) (error $e)))))))
 (core module $allocator {ALLOCATOR} (data (i32.const 512) "fromto"))
 (core instance $a (instantiate $allocator))
 (core func $open (canon lower (func $store "open") {OPTIONS}))
 (core func $get (canon lower (func $store "[method]bucket.get") {OPTIONS}))
 (core func $set (canon lower (func $store "[method]bucket.set") {OPTIONS}))
 (core func $size (canon lower (func $store "[method]bucket.size")))
 (core func $swap (canon lower (func $batch "swap") {OPTIONS}))
 (core func $drop (canon resource.drop $b))
 (core module $m
  (import "a" "memory" (memory 1))
  (import "a" "reset" (func $reset))
  (import "h" "open" (func $open (param i32 i32) (result i32)))
  (import "h" "get" (func $get (param i32 i32 i32 i32)))
  (import "h" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
  (import "h" "size" (func $size (param i32) (result i32)))
  (import "h" "swap" (func $swap (param i32 i32 i32 i32)))
  (import "h" "drop" (func $drop (param i32)))
  (func (export "copy") (result i32) (local $b i32) (local $n i32)
    (call $reset)
    (local.set $b (call $open (i32.const 512) (i32.const 4)))
    (call $get (local.get $b) (i32.const 512) (i32.const 4) (i32.const 64))
    (if (i32.or (i32.load8_u (i32.const 64)) (i32.eqz (i32.load8_u (i32.const 68)))) (then
      (call $drop (local.get $b)) (return (i32.const -1))))
    (call $set (local.get $b) (i32.const 516) (i32.const 2)
      (i32.load (i32.const 72)) (i32.load (i32.const 76)) (i32.const 96))
    ;; the same bytes once more, as the only pair of a list
    (i32.store (i32.const 128) (i32.const 516)) (i32.store (i32.const 132) (i32.const 2))
    (i32.store (i32.const 136) (i32.load (i32.const 72))) (i32.store (i32.const 140) (i32.load (i32.const 76)))
    (call $swap (local.get $b) (i32.const 128) (i32.const 1) (i32.const 160))
    (call $set (local.get $b) (i32.load (i32.load (i32.const 164))) (i32.load offset=4 (i32.load (i32.const 164)))
      (i32.load offset=8 (i32.load (i32.const 164))) (i32.load offset=12 (i32.load (i32.const 164))) (i32.const 96))
    (local.set $n (call $size (local.get $b)))
    (call $drop (local.get $b)) (local.get $n))
  (func (export "size-of") (param i32 i32 i32) (result i32) (local $n i32)
    (local.set $n (i32.add (local.get 2) (call $size (local.get 0)))) (call $drop (local.get 0)) (local.get $n)))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
   (export "open" (func $open)) (export "get" (func $get)) (export "set" (func $set)) (export "size" (func $size))
   (export "swap" (func $swap)) (export "drop" (func $drop))))))
 (func (export "copy") (result s32) (canon lift (core func $i "copy")))
 (func $size-of (param "bucket" (borrow $b)) (param "more" (list u16)) (result u32)
   (canon lift (core func $i "size-of") {OPTIONS}))
 (component $viewer
  (import "b" (type $b (sub resource)))
  (import "f" (func $f (param "bucket" (borrow $b)) (param "more" (list u16)) (result u32)))
  (export $eb "bucket" (type $b))
  (export "size-of" (func $f) (func (param "bucket" (borrow $eb)) (param "more" (list u16)) (result u32))))
 (instance $viewer (instantiate $viewer (with "b" (type $b)) (with "f" (func $size-of))))
 (export "test:kv/viewer" (instance $viewer)))""")
ERROR = "variant { gone, other(string) }"


class Store:
    """Host side of both interfaces: one bucket's entries, and the handles that are open."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.handles: set[int] = set()

    def open(self, _name: str) -> int:
        self.handles.add(len(self.handles) + 7)
        return len(self.handles) + 6

    def get(self, handle: int, key: str) -> WitValue:
        assert handle in self.handles
        return Err(Variant("gone")) if key not in self.entries else Ok(self.entries[key] or None)

    def set(self, handle: int, key: str, value: bytes) -> WitValue:
        assert handle in self.handles
        self.entries[key] = value
        return Ok(None)

    def size(self, handle: int) -> int:
        assert handle in self.handles
        return len(self.entries)

    def swap(self, handle: int, pairs: list[tuple[str, bytes]]) -> WitValue:
        assert handle in self.handles
        return Ok([(f"{key} swapped", value[::-1]) for key, value in pairs])

    def interfaces(self) -> list[HostInterface]:
        functions: dict[str, tuple[Callable[..., WitValue], str]] = {
            "open": (self.open, "func(name: string) -> own<bucket>"),
            "[method]bucket.get": (
                self.get,
                f"func(self: borrow<bucket>, key: string) -> result<option<list<u8>>, {ERROR}>",
            ),
            "[method]bucket.set": (
                self.set,
                f"func(self: borrow<bucket>, key: string, value: list<u8>) -> result<_, {ERROR}>",
            ),
            "[method]bucket.size": (self.size, "func(self: borrow<bucket>) -> u32"),
        }
        pairs = "list<tuple<string, list<u8>>>"
        swap = parse_signature(f"func(bucket: borrow<bucket>, pairs: {pairs}) -> result<{pairs}, {ERROR}>")
        made = {name: HostFunction(parse_signature(text), call) for name, (call, text) in functions.items()}
        return [
            HostInterface(STORE, made, {"bucket": self.handles.discard}),
            HostInterface(BATCH, {"swap": HostFunction(swap, self.swap)}, uses={"bucket": STORE}),
        ]


def test_methods_of_resources_move_bytes_and_leave_no_handle_behind() -> None:
    component = ENGINE.load(ENGINE.compile(GUEST))
    assert sorted(component.moved.imports) == [
        f"{BATCH}#swap",
        f"{STORE}#[method]bucket.get",
        f"{STORE}#[method]bucket.set",
    ]
    assert component.moved.memories == 2
    store = Store()
    instance = Instance(component, store.interfaces(), Limits(resources=1))
    for size in (1, 2, 15, 16, 17, 1000, 65537, 1 << 20):
        data = os.urandom(size)
        store.entries = {"from": data}
        assert instance.call("copy") == 3
        assert store.entries == {"from": data, "to": data, "to swapped": data[::-1]}
        assert store.handles == set()
    store.entries = {}
    assert instance.call("copy") == -1
    store.entries = {"from": b""}
    assert instance.call("copy") == -1
    assert store.handles == set()


def test_exports_that_use_resources_of_the_host_go_through_the_shim() -> None:
    component = ENGINE.load(ENGINE.compile(GUEST))
    assert component.moved.imports
    store = Store()
    instance = Instance(component, store.interfaces(), Limits())
    store.entries = {"a": b""}
    bucket = store.open("x")
    for count in (0, 3, 70_000):
        assert instance.call("test:kv/viewer#size-of", bucket, range(count % 65536)) == 1 + count % 65536
    assert component.moved.exports == {"test:kv/viewer#size-of": "H"}
    instance.close()


def test_the_shipped_agent_moves_what_it_can() -> None:
    component = ENGINE.load(ENGINE.compile(CONTEXT_AGENT.read_bytes()))
    assert {name.partition("#")[2] for name in component.moved.imports} == {
        "[method]bucket.get",
        "[method]bucket.set",
        "[constructor]tensor",
        "[method]tensor.data",
    }

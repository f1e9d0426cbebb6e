"""What is linked, what is refused, and whose resources are whose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest

from edge_agent.capabilities.lazy import LazyInterfaces
from edge_agent.runner.engine import Component, Engine, HostFunction, HostInterface, Instance, Limits, Trap
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from fleet.wit_types import Err, Ok, WitValue
from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

STORE, ATOMICS = "test:kv/store@0.1.0", "test:kv/atomics@0.1.0"
GUEST = wasm(f"""(component
 (import "{STORE}" (instance $store
   (export "bucket" (type $b (sub resource)))
   (export "open" (func (param "name" string) (result (result (own $b) (error string)))))
   (export "give" (func (param "bucket" (own $b))))
   (export "[method]bucket.size" (func (param "self" (borrow $b)) (result u32)))
   (export "sizes" (func (param "buckets" (list (borrow $b))) (result u32)))))
 (alias export $store "bucket" (type $b))
 (import "{ATOMICS}" (instance $atomics
   (alias outer 1 $b (type $b'))
   (export "bucket" (type $b (eq $b')))
   (export "increment" (func (param "bucket" (borrow $b)) (param "by" u32) (result u32)))))
 (core module $allocator {ALLOCATOR} (data (i32.const 512) "main"))
 (core instance $a (instantiate $allocator))
 (core func $open (canon lower (func $store "open") {OPTIONS}))
 (core func $give (canon lower (func $store "give")))
 (core func $size (canon lower (func $store "[method]bucket.size")))
 (core func $sizes (canon lower (func $store "sizes") {OPTIONS}))
 (core func $increment (canon lower (func $atomics "increment")))
 (core func $drop (canon resource.drop $b))
 (core module $m
  (import "a" "memory" (memory 1))
  (import "h" "open" (func $open (param i32 i32 i32)))
  (import "h" "give" (func $give (param i32)))
  (import "h" "size" (func $size (param i32) (result i32)))
  (import "h" "sizes" (func $sizes (param i32 i32) (result i32)))
  (import "h" "increment" (func $increment (param i32 i32) (result i32)))
  (import "h" "drop" (func $drop (param i32)))
  (func $bucket (result i32)
    (call $open (i32.const 512) (i32.const 4) (i32.const 256))
    (if (i32.load8_u (i32.const 256)) (then unreachable))
    (i32.load (i32.const 260)))
  (func (export "use") (result i32) (local $b i32) (local $n i32)
    (local.set $b (call $bucket))
    (local.set $n (call $size (local.get $b)))
    (local.set $n (i32.add (local.get $n) (call $increment (local.get $b) (i32.const 5))))
    (i32.store (i32.const 128) (local.get $b)) (i32.store (i32.const 132) (local.get $b))
    (local.set $n (i32.add (local.get $n) (call $sizes (i32.const 128) (i32.const 2))))
    (call $drop (local.get $b)) (local.get $n))
  (func (export "keep") (result i32) (call $bucket))
  (func (export "give") (call $give (call $bucket)))
  (func (export "die") (drop (call $bucket)) unreachable)
  (func (export "many") (loop $l (drop (call $bucket)) (br $l)))
  (func (export "pair") (param i32 i32))
  (func (export "pass") (param i32) (result i32) (local.get 0))
  (func (export "look") (param i32) (result i32) (local $n i32)
    (local.set $n (call $size (local.get 0))) (call $drop (local.get 0)) (local.get $n)))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
   (export "open" (func $open)) (export "give" (func $give)) (export "size" (func $size))
   (export "sizes" (func $sizes)) (export "increment" (func $increment)) (export "drop" (func $drop))))))
 (func (export "use") (result u32) (canon lift (core func $i "use")))
 (func (export "keep") (result u32) (canon lift (core func $i "keep")))
 (func (export "give") (canon lift (core func $i "give")))
 (func (export "die") (canon lift (core func $i "die")))
 (func (export "many") (canon lift (core func $i "many")))
 (func (export "pass") (param "bucket" (own $b)) (result (own $b)) (canon lift (core func $i "pass")))
 (func (export "pair") (param "bucket" (own $b)) (param "n" u8) (canon lift (core func $i "pair")))
 (func (export "look") (param "bucket" (borrow $b)) (result u32) (canon lift (core func $i "look"))))""")

ENGINE = Engine()
COMPONENT = ENGINE.load(ENGINE.compile(GUEST))


class Store:
    """Host side of both interfaces: buckets with a size, by number."""

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.dropped: list[int] = []
        self._numbers = itertools.count(10)

    def open(self, name: str) -> Ok[int] | Err[str]:
        number = next(self._numbers)
        self.buckets[number] = len(name)
        return Ok(number)

    def give(self, bucket: int) -> None:
        del self.buckets[bucket]

    def size(self, bucket: int) -> int:
        return self.buckets[bucket]

    def sizes(self, buckets: list[int]) -> int:
        return sum(self.buckets[bucket] for bucket in buckets)

    def increment(self, bucket: int, by: int) -> int:
        self.buckets[bucket] += by
        return self.buckets[bucket]

    def drop(self, bucket: int) -> None:
        del self.buckets[bucket]
        self.dropped.append(bucket)

    def interfaces(self, **changes: str) -> list[HostInterface]:
        """Both interfaces; `changes` replaces signatures."""
        functions: dict[str, tuple[str, Callable[..., WitValue]]] = {
            "open": ("func(name: string) -> result<own<bucket>, string>", self.open),
            "give": ("func(bucket: own<bucket>)", self.give),
            "[method]bucket.size": ("func(self: borrow<bucket>) -> u32", self.size),
            "sizes": ("func(buckets: list<borrow<bucket>>) -> u32", self.sizes),
            "increment": ("func(bucket: borrow<bucket>, by: u32) -> u32", self.increment),
        }
        made = {
            name: HostFunction(parse_signature(changes.get(name, text)), call)
            for name, (text, call) in functions.items()
        }
        increment = made.pop("increment")
        return [
            HostInterface(STORE, made, {"bucket": self.drop}),
            HostInterface(ATOMICS, {"increment": increment}, uses={"bucket": STORE}),
        ]


@pytest.fixture
def store() -> Store:
    return Store()


def start(store: Store, **limits: int) -> Instance:
    return Instance(COMPONENT, store.interfaces(), Limits(**limits))


def test_borrows_are_released_and_a_dropped_resource_is_destroyed(store: Store) -> None:
    instance = start(store)
    for _ in range(100):
        assert instance.call("use") == 4 + 9 + 18
    assert store.buckets == {}
    assert len(store.dropped) == 100
    instance.close()
    assert len(store.dropped) == 100


def test_a_resource_given_back_is_the_hosts(store: Store) -> None:
    instance = start(store)
    instance.call("give")
    instance.close()
    assert store.buckets == {}
    assert store.dropped == []


@pytest.mark.parametrize("function", ["keep", "die"])
def test_resources_still_held_are_destroyed_with_the_agent(store: Store, function: str) -> None:
    instance = start(store)
    if function == "die":
        with pytest.raises(Trap):
            instance.call(function)
    else:
        instance.call(function)
        assert store.dropped == []
        instance.close()
    assert store.dropped == [10]


def test_a_guest_cannot_hold_resources_without_end(store: Store) -> None:
    instance = start(store, resources=5)
    with pytest.raises(Trap, match="holds 5 resources") as caught:
        instance.call("many")
    assert caught.value.cause is ExitCause.QUOTA
    assert sorted(store.dropped) == [10, 11, 12, 13, 14]


def test_the_host_may_pass_its_resources_in_and_get_them_back(store: Store) -> None:
    instance = start(store)
    number = store.open("abc")
    assert isinstance(number, Ok)
    assert instance.call("look", number.value) == 3
    assert instance.call("pass", number.value) == number.value
    instance.close()
    assert store.dropped == []


@pytest.mark.parametrize("number", [-1, 1 << 32, "x", True])
def test_resource_numbers_are_checked(store: Store, number: WitValue) -> None:
    with pytest.raises(FleetError) as caught:
        start(store).call("look", number)
    assert caught.value.code is Code.VALUE_INVALID


def test_a_resource_given_in_a_call_that_was_refused_stays_the_hosts(store: Store) -> None:
    instance = start(store)
    with pytest.raises(FleetError):
        instance.call("pair", 7, 256)
    instance.close()
    assert store.dropped == []


def test_a_resource_given_beyond_the_limit_is_refused(store: Store) -> None:
    with pytest.raises(FleetError, match="holds 0 resources"):
        start(store, resources=0).call("pair", 7, 1)


def test_a_destructor_that_raises_ends_the_agent(store: Store) -> None:
    def fail(bucket: int) -> None:
        store.drop(bucket)
        raise ValueError("broken destructor")

    interfaces = store.interfaces()
    broken = HostInterface(STORE, interfaces[0].functions, {"bucket": fail})
    instance = Instance(COMPONENT, [broken, interfaces[1]], Limits())
    with pytest.raises(Trap, match="broken destructor") as caught:
        instance.call("use")
    assert caught.value.cause is ExitCause.HOST_ERROR


def test_a_destructor_that_raises_does_not_hide_why_the_guest_ended(store: Store) -> None:
    def fail(bucket: int) -> None:
        store.drop(bucket)
        raise ValueError("broken destructor")

    interfaces = store.interfaces()
    broken = HostInterface(STORE, interfaces[0].functions, {"bucket": fail})
    with pytest.raises(Trap) as caught:
        Instance(COMPONENT, [broken, interfaces[1]], Limits()).call("die")
    assert caught.value.cause is ExitCause.UNREACHABLE
    assert "broken destructor" in caught.value.__notes__[0]
    instance = Instance(COMPONENT, [broken, interfaces[1]], Limits())
    instance.call("keep")
    with pytest.raises(ValueError, match="broken destructor"):
        instance.close()
    assert not instance.alive


def refused(component: Component, interfaces: list[HostInterface]) -> FleetError:
    with pytest.raises(FleetError) as caught:
        Instance(component, interfaces, Limits())
    return caught.value


def test_only_what_is_given_is_linked(store: Store) -> None:
    error = refused(COMPONENT, store.interfaces()[:1])
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert error.detail["interface"] == ATOMICS


def test_a_missing_function_is_refused(store: Store) -> None:
    given, atomics = store.interfaces()
    fewer = {name: function for name, function in given.functions.items() if name != "sizes"}
    error = refused(COMPONENT, [HostInterface(STORE, fewer, given.resources), atomics])
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert "'sizes'" in error.private


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        ("open", "func(name: string) -> result<own<bucket>, u32>"),
        ("open", "func(name: list<u8>) -> result<own<bucket>, string>"),
        ("give", "func(bucket: borrow<bucket>)"),
        ("give", "func(bucket: own<other>)"),
        ("give", "func()"),
        ("sizes", "func(buckets: list<borrow<bucket>>)"),
        ("increment", "func(bucket: borrow<bucket>, by: u64) -> u32"),
    ],
)
def test_a_different_signature_is_refused(store: Store, function: str, signature: str) -> None:
    error = refused(COMPONENT, store.interfaces(**{function: signature}))
    assert error.code is Code.COMPONENT_UNSUPPORTED
    assert error.detail["function"] == function


def test_a_resource_the_host_does_not_define_is_refused(store: Store) -> None:
    given, atomics = store.interfaces()
    error = refused(COMPONENT, [HostInterface(STORE, given.functions), atomics])
    assert error.code is Code.COMPONENT_UNSUPPORTED


@pytest.mark.parametrize("uses", [{}, {"bucket": "test:other/store"}])
def test_a_resource_taken_from_another_interface_than_the_hosts_is_refused(
    store: Store, uses: Mapping[str, str]
) -> None:
    given, atomics = store.interfaces()
    error = refused(COMPONENT, [given, HostInterface(ATOMICS, atomics.functions, uses=uses)])
    assert error.code is Code.COMPONENT_UNSUPPORTED
    assert STORE in error.private


def test_a_second_resource_under_the_name_of_a_used_one_is_refused(store: Store) -> None:
    """The guest calls a resource of its own making `bucket`, to have the host take it for the store's."""
    evil = wasm(f"""(component
     (import "{ATOMICS}" (instance (export "bucket" (type $b (sub resource)))
       (export "increment" (func (param "bucket" (borrow $b)) (param "by" u32) (result u32))))))""")
    error = refused(ENGINE.load(ENGINE.compile(evil)), store.interfaces())
    assert error.code is Code.COMPONENT_UNSUPPORTED


def test_interfaces_of_types_only_need_no_grant() -> None:
    types = wasm("""(component (import "test:kv/types" (instance
     (type $t (record (field "a" u8))) (export "t" (type (eq $t))))))""")
    Instance(ENGINE.load(ENGINE.compile(types)), [], Limits()).close()


def test_functions_imported_outside_interfaces() -> None:
    root = wasm("""(component
     (import "now" (func $now (result u64)))
     (core func $now (canon lower (func $now)))
     (core module $m (import "h" "now" (func $now (result i64))) (func (export "f") (result i64) (call $now)))
     (core instance $i (instantiate $m (with "h" (instance (export "now" (func $now))))))
     (func (export "f") (result u64) (canon lift (core func $i "f"))))""")
    component = ENGINE.load(ENGINE.compile(root))
    now = HostFunction(parse_signature("func() -> u64"), lambda: 7)
    assert Instance(component, [HostInterface("", {"now": now})], Limits()).call("f") == 7
    assert refused(component, []).code is Code.IMPORT_NOT_GRANTED


def test_exported_interfaces_are_called_by_interface_and_function() -> None:
    nested = wasm("""(component
     (core module $m (func (export "f") (result i32) (i32.const 7)))
     (core instance $i (instantiate $m))
     (func $f (result u8) (canon lift (core func $i "f")))
     (instance $h (export "f" (func $f)))
     (export "test:kv/handler@0.1.0" (instance $h)))""")
    instance = Instance(ENGINE.load(ENGINE.compile(nested)), [], Limits())
    component = instance._component
    assert component.find("f") == component.find("test:kv/handler@0.1.0#f") == "test:kv/handler@0.1.0#f"
    with pytest.raises(FleetError, match="no function 'g'"):
        component.find("g")
    assert list(instance.exports) == ["test:kv/handler@0.1.0#f"]
    assert instance.call("test:kv/handler@0.1.0#f") == 7


def test_a_bare_name_must_be_unique() -> None:
    twice = wasm("""(component
     (core module $m (func (export "f")))
     (core instance $i (instantiate $m))
     (func $f (canon lift (core func $i "f")))
     (instance $a (export "f" (func $f)))
     (instance $b (export "f" (func $f)))
     (export "test:kv/a" (instance $a)) (export "test:kv/b" (instance $b)))""")
    with pytest.raises(FleetError, match="several functions 'f': test:kv/a#f, test:kv/b#f"):
        ENGINE.load(ENGINE.compile(twice)).find("f")


def test_lazy_interfaces_are_made_for_the_first_agent_and_then_at_the_first_call(store: Store) -> None:
    component = ENGINE.load(ENGINE.compile(GUEST))
    made: list[str] = []

    def lazy(agent: str) -> LazyInterfaces:
        def make() -> list[HostInterface]:
            made.append(agent)
            return store.interfaces()

        return LazyInterfaces("key", make)

    agents = [Instance(component, lazy(name), Limits()) for name in ("a", "b")]
    with closing(agents[0]) as first, closing(agents[1]) as second:
        assert made == ["a"]
        assert second.call("use") == second.call("use") == 4 + 9 + 18
        assert made == ["a", "b"]
        second.call("keep")
        assert first.call("use") == 4 + 9 + 18
    assert made == ["a", "b"]
    assert store.buckets == {}


def test_lazy_interfaces_that_do_not_fit_are_refused_every_time(store: Store) -> None:
    component = ENGINE.load(ENGINE.compile(GUEST))
    for _ in range(2):
        with pytest.raises(FleetError) as caught:
            Instance(component, LazyInterfaces("key", lambda: store.interfaces()[:1]), Limits())
        assert caught.value.code is Code.IMPORT_NOT_GRANTED

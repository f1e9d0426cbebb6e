"""Resources that a guest defines: made, used, handed over and dropped from outside."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import pytest

from edge_agent.runner.engine import (
    Component,
    Engine,
    GuestResource,
    HostFunction,
    HostInterface,
    Instance,
    Limits,
    Trap,
)
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from fleet.wit_types import Numbers, WitValue
from tests.fakes.components import ALLOCATOR, OPTIONS, wasm

HOST, SHOP = "test:shop/host", "test:shop/shop@0.1.0"
GUEST = wasm(f"""(component
 (import "{HOST}" (instance $host (export "dropped" (func (param "n" u32)))))
 (core func $dropped (canon lower (func $host "dropped")))
 (core module $ends (import "h" "dropped" (func $dropped (param i32)))
  (func (export "end") (param i32)
   (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
   (call $dropped (local.get 0))))
 (core instance $ends (instantiate $ends (with "h" (instance (export "dropped" (func $dropped))))))
 (type $cart (resource (rep i32) (dtor (core func $ends "end"))))
 (type $coin (resource (rep i32)))
 (core func $new (canon resource.new $cart))
 (core func $drop (canon resource.drop $cart))
 (core func $rep (canon resource.rep $cart))
 (core func $new-coin (canon resource.new $coin))
 (core module $m
  (import "h" "new" (func $new (param i32) (result i32)))
  (import "h" "drop" (func $drop (param i32)))
  (import "h" "rep" (func $rep (param i32) (result i32)))
  (import "h" "coin" (func $coin (param i32) (result i32)))
  (import "a" "memory" (memory 1))
  (import "a" "reset" (func $reset))
  (func (export "done") (param i32) (call $reset))
  (func (export "fill") (param i32 i32 i32 i32 i32) (result i32)
   (i32.store (i32.const 16) (local.get 1)) (i32.store (i32.const 20) (local.get 2))
   (i32.store (i32.const 24) (local.get 3)) (i32.store (i32.const 28) (local.get 4)) (i32.const 16))
  (func (export "new") (param i32) (result i32) (call $new (local.get 0)))
  (func (export "coin") (result i32) (call $coin (i32.const 1)))
  (func (export "number") (param i32) (result i32) (local.get 0))
  (func (export "same") (param i32 i32) (result i32) (i32.eq (local.get 0) (local.get 1)))
  (func (export "buy") (param i32) (result i32) (local $n i32)
   (local.set $n (call $rep (local.get 0))) (call $drop (local.get 0)) (local.get $n))
  (func (export "pass") (param i32) (result i32) (local.get 0))
  (func (export "pair") (param i32 i32))
  (func (export "two") (result i32)
   (i32.store (i32.const 8) (call $new (i32.const 1))) (i32.store (i32.const 12) (call $new (i32.const 2)))
   (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 2)) (i32.const 0)))
 (core module $allocator {ALLOCATOR})
 (core instance $a (instantiate $allocator))
 (core instance $i (instantiate $m (with "a" (instance $a)) (with "h" (instance
   (export "new" (func $new)) (export "drop" (func $drop)) (export "rep" (func $rep))
   (export "coin" (func $new-coin))))))
 (func $f-new (param "n" u32) (result (own $cart)) (canon lift (core func $i "new")))
 (func $f-coin (result (own $coin)) (canon lift (core func $i "coin")))
 (func $f-number (param "self" (borrow $cart)) (result u32) (canon lift (core func $i "number")))
 (func $f-same (param "a" (borrow $cart)) (param "b" (borrow $cart)) (result bool) (canon lift (core func $i "same")))
 (func $f-buy (param "cart" (own $cart)) (result u32) (canon lift (core func $i "buy")))
 (func $f-pass (param "cart" (own $cart)) (result (own $cart)) (canon lift (core func $i "pass")))
 (func $f-pair (param "cart" (own $cart)) (param "n" u8) (canon lift (core func $i "pair")))
 (func $f-two (result (list (own $cart))) (canon lift (core func $i "two") (memory (core memory $a "memory"))))
 (func $f-fill (param "self" (borrow $cart)) (param "data" (list u8)) (param "weights" (list f32))
  (result (tuple (list u8) (list f32)))
  (canon lift (core func $i "fill") {OPTIONS} (post-return (core func $i "done"))))
 (component $shop
  (import "cart" (type $c (sub resource))) (import "coin" (type $o (sub resource)))
  (import "new" (func $new (param "n" u32) (result (own $c))))
  (import "coin-new" (func $coin (result (own $o))))
  (import "number" (func $number (param "self" (borrow $c)) (result u32)))
  (import "same" (func $same (param "a" (borrow $c)) (param "b" (borrow $c)) (result bool)))
  (import "buy" (func $buy (param "cart" (own $c)) (result u32)))
  (import "pass" (func $pass (param "cart" (own $c)) (result (own $c))))
  (import "pair" (func $pair (param "cart" (own $c)) (param "n" u8)))
  (import "two" (func $two (result (list (own $c)))))
  (import "fill" (func $fill (param "self" (borrow $c)) (param "data" (list u8)) (param "weights" (list f32))
   (result (tuple (list u8) (list f32)))))
  (export $ec "cart" (type $c)) (export $eo "coin" (type $o))
  (export "[constructor]cart" (func $new) (func (param "n" u32) (result (own $ec))))
  (export "[constructor]coin" (func $coin) (func (result (own $eo))))
  (export "[method]cart.number" (func $number) (func (param "self" (borrow $ec)) (result u32)))
  (export "same" (func $same) (func (param "a" (borrow $ec)) (param "b" (borrow $ec)) (result bool)))
  (export "buy" (func $buy) (func (param "cart" (own $ec)) (result u32)))
  (export "pass" (func $pass) (func (param "cart" (own $ec)) (result (own $ec))))
  (export "pair" (func $pair) (func (param "cart" (own $ec)) (param "n" u8)))
  (export "[method]cart.fill" (func $fill) (func (param "self" (borrow $ec)) (param "data" (list u8))
   (param "weights" (list f32)) (result (tuple (list u8) (list f32)))))
  (export "two" (func $two) (func (result (list (own $ec))))))
 (instance $shop (instantiate $shop (with "cart" (type $cart)) (with "coin" (type $coin))
  (with "new" (func $f-new)) (with "coin-new" (func $f-coin)) (with "number" (func $f-number))
  (with "same" (func $f-same)) (with "buy" (func $f-buy)) (with "pass" (func $f-pass)) (with "pair" (func $f-pair))
  (with "two" (func $f-two)) (with "fill" (func $f-fill))))
 (export "{SHOP}" (instance $shop)))""")
PLAIN, COUNTING = Engine(), Engine(fuel=True)
SHIMMED = PLAIN.load(PLAIN.compile(GUEST))
ALONE = COUNTING.load(COUNTING.compile(GUEST))
"""The same component with the shim around it, and without."""

DROPPED = parse_signature("func(n: u32)")


class Shop:
    """One instance, and the numbers of the carts whose destructors ran."""

    def __init__(self, dropped: Callable[[int], None] | None = None, component: Component = SHIMMED) -> None:
        self.dropped: list[int] = []
        function = HostFunction(DROPPED, dropped or self.dropped.append)
        self.instance = Instance(component, [HostInterface(HOST, {"dropped": function})], Limits())

    def call(self, name: str, *arguments: WitValue) -> WitValue:
        return self.instance.call(f"{SHOP}#{name}", *arguments)

    def cart(self, number: int) -> GuestResource:
        made = self.call("[constructor]cart", number)
        assert isinstance(made, GuestResource)
        return made


@pytest.fixture(params=[SHIMMED, ALONE], ids=["shimmed", "alone"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    found = Shop(component=request.param)
    yield found
    found.instance.close()


def test_it_is_made_used_and_dropped(shop: Shop) -> None:
    with shop.cart(7) as cart, shop.cart(8) as other:
        assert cart.kind == f"{SHOP}#cart"
        assert shop.call("[method]cart.number", cart) == 7
        assert shop.call("[method]cart.number", other) == 8
        assert shop.call("same", cart, cart) is True
        assert shop.call("same", cart, other) is False
        assert shop.dropped == []
        assert repr(cart) == f"<{SHOP}#cart, open>"
    assert shop.dropped == [8, 7]
    assert not cart.open
    cart.close()
    assert shop.dropped == [8, 7]


def test_its_methods_move_lists_of_numbers(shop: Shop) -> None:
    with shop.cart(7) as cart:
        for size in (0, 1, 17, 70_000):
            data, weights = os.urandom(size), Numbers("f", range(size))
            assert shop.call("[method]cart.fill", cart, data, weights) == (data, weights)
            assert shop.call("[method]cart.number", cart) == 7
    assert shop.dropped == [7]


def test_the_shim_moves_as_much_as_elsewhere() -> None:
    assert SHIMMED.moved.exports == {f"{SHOP}#[method]cart.fill": "BfBf"}
    assert ALONE.moved.exports == {}
    shop = Shop()
    with shop.cart(7) as cart:
        data = os.urandom(1 << 20) * 7
        assert shop.call("[method]cart.fill", cart, data, []) == (data, [])
    shop.instance.close()


def test_it_may_be_handed_over(shop: Shop) -> None:
    cart = shop.cart(7)
    assert shop.call("buy", cart) == 7
    assert not cart.open
    assert shop.dropped == [7]
    back = shop.call("pass", shop.cart(9))
    assert isinstance(back, GuestResource)
    assert shop.call("[method]cart.number", back) == 9
    back.close()
    assert shop.dropped == [7, 9]


def test_they_come_in_lists(shop: Shop) -> None:
    carts = shop.call("two")
    assert isinstance(carts, list)
    assert [shop.call("[method]cart.number", cart) for cart in carts] == [1, 2]
    for cart in carts:
        cart.close()
    assert shop.dropped == [1, 2]


def test_one_that_nobody_refers_to_is_dropped_with_the_next_call(shop: Shop) -> None:
    shop.cart(7)
    assert shop.dropped == []
    with shop.cart(8):
        assert shop.dropped == [7]


def test_it_ends_with_its_instance(shop: Shop) -> None:
    cart, other = shop.cart(7), shop.cart(8)
    shop.instance.close()
    assert not cart.open
    cart.close()
    with pytest.raises(FleetError) as caught:
        shop.call("[method]cart.number", other)
    assert caught.value.code is Code.AGENT_NOT_RUNNING


def test_a_call_that_was_refused_takes_nothing(shop: Shop) -> None:
    with shop.cart(7) as cart:
        with pytest.raises(FleetError) as caught:
            shop.call("pair", cart, 256)
        assert caught.value.code is Code.VALUE_INVALID
        assert shop.call("[method]cart.number", cart) == 7
    assert shop.dropped == [7]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda shop: 7, "expected borrow<cart>, got int"),
        (
            lambda shop: shop.call("[constructor]coin"),
            "expected test:shop/shop@0.1.0#cart, got test:shop/shop@0.1.0#coin",
        ),
        (lambda shop: Shop().cart(1), "of another instance"),
    ],
)
def test_what_is_no_handle_for_the_function_is_refused(
    shop: Shop, wrong: Callable[[Shop], WitValue], reason: str
) -> None:
    with pytest.raises(FleetError, match=reason) as caught:
        shop.call("[method]cart.number", wrong(shop))
    assert caught.value.code is Code.VALUE_INVALID


def test_a_closed_handle_is_refused(shop: Shop) -> None:
    cart = shop.cart(7)
    cart.close()
    with pytest.raises(FleetError, match="closed"):
        shop.call("buy", cart)


def test_a_destructor_that_traps_ends_the_agent(shop: Shop) -> None:
    cart, other = shop.cart(13), shop.cart(8)
    with pytest.raises(Trap) as caught:
        cart.close()
    assert caught.value.cause is ExitCause.UNREACHABLE
    assert not shop.instance.alive
    assert not other.open
    other.close()


def test_an_interrupt_in_a_destructor_reaches_who_closed() -> None:
    def interrupted(_number: int) -> None:
        raise KeyboardInterrupt

    cart = Shop(interrupted).cart(7)
    with pytest.raises(KeyboardInterrupt):
        cart.close()
    assert not cart.open


def test_a_handle_keeps_its_instance_alive() -> None:
    dropped: list[int] = []
    cart = Shop(dropped.append).cart(7)
    gc.collect()
    cart.close()
    assert dropped == [7]

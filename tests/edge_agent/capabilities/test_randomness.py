"""wasi:random: bytes of the context's source, with a rule and within a cap."""

from __future__ import annotations

import random

import pytest

from edge_agent.capabilities import randomness
from fleet.errors import Code, FleetError
from tests.fakes.agents import Node, functions

BYTES = [
    (randomness.RANDOM, "get-random-bytes"),
    (randomness.INSECURE, "get-insecure-random-bytes"),
]
NUMBERS = [
    (randomness.RANDOM, "get-random-u64"),
    (randomness.INSECURE, "get-insecure-random-u64"),
]
SEED = (randomness.INSECURE_SEED, "insecure-seed")


def call(node: Node, interface: str, function: str, *, granted: bool = True):
    rules = {interface.partition("@")[0]: [{}]} if granted else {}
    return functions(randomness.interfaces(node.agent(rules)), interface)[function]


@pytest.mark.parametrize(("interface", "function"), BYTES)
def test_bytes_are_as_many_as_asked_for(node: Node, interface: str, function: str) -> None:
    draw = call(node, interface, function)
    assert [len(draw(size)) for size in (0, 1, 32, randomness.MAX_BYTES)] == [0, 1, 32, randomness.MAX_BYTES]
    assert draw(32) != draw(32)
    with pytest.raises(FleetError) as refused:
        draw(randomness.MAX_BYTES + 1)
    assert refused.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(("interface", "function"), NUMBERS)
def test_numbers_use_all_bits(node: Node, interface: str, function: str) -> None:
    draw = call(node, interface, function)
    drawn = [draw() for _ in range(100)]
    assert all(0 <= number < 2**64 for number in drawn)
    assert sum(number >> 63 for number in drawn) in range(20, 80)
    assert sum(number & 1 for number in drawn) in range(20, 80)


def test_the_seed_is_two_numbers(node: Node) -> None:
    one, two = call(node, *SEED)()
    assert one != two


def test_bytes_are_those_of_the_source(node: Node) -> None:
    node.entropy = random.Random(11)
    draw = call(node, *BYTES[0])
    assert draw(16) == random.Random(11).randbytes(16)


@pytest.mark.parametrize(("interface", "function"), [*BYTES, *NUMBERS, SEED])
def test_each_needs_its_rule(node: Node, interface: str, function: str) -> None:
    draw = call(node, interface, function, granted=False)
    with pytest.raises(FleetError) as refused:
        draw(*([8] if (interface, function) in BYTES else []))
    assert refused.value.code is Code.CALL_DENIED
    assert refused.value.detail["interface"] == interface


@pytest.mark.parametrize(
    ("interface", "function"),
    [(randomness.RANDOM_3, "get-random-bytes"), (randomness.INSECURE_3, "get-insecure-random-bytes")],
)
def test_in_0_3_a_call_gives_no_more_than_it_may(node: Node, interface: str, function: str) -> None:
    assert len(call(node, interface, function)(32)) == 32
    assert len(call(node, interface, function)((1 << 64) - 1)) == randomness.MAX_BYTES
    with pytest.raises(FleetError) as refused:
        call(node, interface, function, granted=False)(1)
    assert refused.value.code is Code.CALL_DENIED


def test_the_seed_of_0_3(node: Node) -> None:
    assert len(call(node, randomness.INSECURE_SEED_3, "get-insecure-seed")()) == 2

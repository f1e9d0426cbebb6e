"""Asynchronous functions: exports that the host calls, imports that adapters meet, and every way to end."""

from __future__ import annotations

import time

import pytest

from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from fleet.wit_types import Err, Ok
from tests.fakes.asynchronous import NUMBERS, importer, waiter
from tests.fakes.components import ticking

ENGINE = Engine()
LIMITS = Limits(call_seconds=5.0)


def instance_of(component, interfaces=(), limits=LIMITS, engine=ENGINE):
    return Instance(engine.load(engine.compile(component)), list(interfaces), limits)


def numbers(slow=lambda x: x * 10, named=lambda names: Ok(" ".join(names).encode())):
    def function(signature, call):
        return HostFunction(parse_signature(signature), call)

    return HostInterface(
        NUMBERS,
        {
            "slow": function("func(x: u32) -> u32", slow),
            "named": function("func(names: list<string>) -> result<list<u8>, string>", named),
            "quick": function("func(x: u32) -> u32", lambda x: x),
        },
    )


@pytest.fixture
def guest():
    instance = instance_of(waiter())
    with ticking(ENGINE.for_asynchronous):
        yield instance
    instance.close()


def test_an_asynchronous_export_is_called_as_any_other(guest):
    assert guest.call("double", 21) == 42
    assert guest.call("plain", 1) == 2
    assert [guest.call("double", number) for number in range(100)] == [2 * number for number in range(100)]
    assert str(guest.exports["double"]) == "async func(x: u32) -> u32"


def test_one_that_yields_comes_to_its_end(guest):
    assert guest.call("turns", 1000) == 7


@pytest.mark.parametrize("function", ["forever", "yielding"])
def test_its_deadline_holds(guest, function):
    before = time.monotonic()
    with pytest.raises(Trap) as caught:
        guest.call(function, 1, seconds=0.2)
    assert caught.value.cause is ExitCause.DEADLINE
    assert time.monotonic() - before < 1.0
    assert not guest.alive


@pytest.mark.parametrize("function", ["forever", "yielding"])
def test_it_can_be_interrupted(guest, function):
    guest.interrupt()
    with pytest.raises(Trap) as caught:
        guest.call(function, 1)
    assert caught.value.cause is ExitCause.STOPPED


@pytest.mark.parametrize(
    ("function", "cause", "text"),
    [
        ("broken", ExitCause.UNREACHABLE, "unreachable"),
        ("stuck", ExitCause.TRAP, "deadlock"),
        ("silent", ExitCause.TRAP, "failed to produce a result"),
    ],
)
def test_it_traps_as_others_do(guest, function, cause, text):
    with pytest.raises(Trap, match=text) as caught:
        guest.call(function, 1)
    assert caught.value.cause is cause
    with pytest.raises(FleetError) as after:
        guest.call("double", 1)
    assert after.value.code is Code.AGENT_NOT_RUNNING


def test_asynchronous_imports_are_the_hosts_functions():
    guest = instance_of(importer(), [numbers()])
    assert guest.call("sum", 4, 5) == 91
    assert guest.call("named", ["a", "bc", "ü"]) == Ok("a bc ü".encode())
    guest.close()


def test_errors_of_asynchronous_imports_reach_the_guest():
    guest = instance_of(importer(), [numbers(named=lambda _: Err("none of that"))])
    assert guest.call("named", []) == Err("none of that")
    guest.close()


def test_what_the_host_raises_in_an_asynchronous_import_ends_the_agent():
    def slow(_):
        raise OSError("broken pipe")

    guest = instance_of(importer(), [numbers(slow=slow)])
    with pytest.raises(Trap, match="OSError: broken pipe") as caught:
        guest.call("sum", 1, 2)
    assert caught.value.cause is ExitCause.HOST_ERROR


def test_the_host_cannot_call_the_guest_that_calls_it():
    guest = instance_of(importer(), [numbers(slow=lambda x: guest.call("sum", x, x))])
    with pytest.raises(Trap, match="cannot call the asynchronous component") as caught:
        guest.call("sum", 1, 2)
    assert caught.value.cause is ExitCause.HOST_ERROR


def test_fuel_counts_in_asynchronous_functions():
    engine = Engine(fuel=True)
    guest = instance_of(waiter(), limits=Limits(fuel_per_call=10_000), engine=engine)
    assert guest.call("double", 3) == 6
    with pytest.raises(Trap) as caught:
        guest.call("forever", 1)
    assert caught.value.cause is ExitCause.FUEL


def test_memory_limits_hold_in_asynchronous_components():
    with pytest.raises(Trap) as caught:
        instance_of(importer(), [numbers()], Limits(memory_bytes=1000))
    assert caught.value.cause is ExitCause.QUOTA


def test_the_fingerprint_covers_both_engines():
    assert Engine().fingerprint == Engine().fingerprint
    assert Engine().fingerprint != Engine(asynchronous=True).fingerprint

"""Asynchronous functions: exports that the host calls, imports that adapters meet, and every way to end."""

from __future__ import annotations

import time

import pytest

from edge_agent.fusion import Wire
from edge_agent.runner.engine import Engine, HostFunction, HostInterface, Instance, Limits, Trap
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from fleet.wit_types import BorrowType, Err, FuncType, Ok, OwnType
from tests.fakes.asynchronous import HANDLES, NUMBERS, PIPE, handles, importer, receiver, sender, waiter
from tests.fakes.components import ticking, wasm

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
    assert time.monotonic() - before < 60
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


def piped(engine=ENGINE):
    return engine.fuse([("p/receiver", receiver()), ("p/sender", sender())], [Wire(0, PIPE, 1)])


@pytest.mark.parametrize("count", [0, 1, 5_000, 100_000])
def test_streams_and_futures_pass_between_fused_components(count):
    guest = instance_of(piped(), limits=Limits(memories=4))
    assert guest.call("total", count) == 2 * count
    guest.close()


def test_fused_components_have_to_agree_about_streams():
    other = sender().replace(b"\x66\x01\x7d", b"\x66\x01\x7b")  # stream<u16>
    assert other != sender()
    with pytest.raises(FleetError) as caught:
        ENGINE.fuse([("p/receiver", receiver()), ("p/sender", other)], [Wire(0, PIPE, 1)])
    assert caught.value.code is Code.LINK_INVALID
    assert "stream<u16>" in caught.value.private


@pytest.mark.parametrize("component", [sender(), receiver()], ids=["export", "import"])
def test_streams_and_futures_do_not_cross_to_the_host(component):
    """The engine ends the process on a value of theirs, so they are refused before anything runs."""
    with pytest.raises(FleetError, match="a stream in what they import or export") as caught:
        ENGINE.compile(component)
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_asynchronous_imports_outside_interfaces_are_refused():
    component = wasm('(component (import "slow" (func async (param "x" u32) (result u32))))')
    with pytest.raises(FleetError, match="the async import slow, outside interfaces") as caught:
        ENGINE.compile(component)
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_asynchronous_imports_of_fused_components_have_adapters_too():
    user, other = importer(), waiter()
    whole = ENGINE.fuse([("p/a", user), ("p/b", other)], [])
    guest = instance_of(whole, [numbers()], Limits(memories=4))
    assert guest.call("sum", 4, 5) == 91
    guest.close()


def test_two_handles_at_a_time_end_an_asynchronous_agent():
    """What Wasmtime 50 cannot do with asynchronous components, and can with all others."""
    pair = HostInterface(
        HANDLES,
        {
            "make": HostFunction(FuncType((), OwnType("thing")), lambda: 1),
            "one": HostFunction(FuncType((("a", BorrowType("thing")),)), lambda _: None),
            "two": HostFunction(FuncType((("a", BorrowType("thing")), ("b", BorrowType("thing")))), lambda *_: None),
        },
        resources={"thing": lambda _: None},
    )
    guest = instance_of(handles(), [pair])
    guest.call("with-one")
    with pytest.raises(Trap, match="takes two borrowed handles"):
        guest.call("with-two")
    plain = instance_of(handles(asynchronous=False), [pair])
    plain.call("with-two")
    plain.close()

"""Every way a guest can end, each by a guest doing it; and that limits hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edge_agent.capabilities.base import EndAgentError
from edge_agent.runner.engine import (
    Component,
    Engine,
    HostFunction,
    HostInterface,
    Instance,
    Limits,
    Trap,
)
from edge_agent.runner.engine.errors import EngineError
from edge_agent.runner.engine.traps import classify
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_text import parse_signature
from tests.fakes.components import ticking, wasm

HOST = "test:traps/host"
GUEST = wasm(f"""(component
 (import "{HOST}" (instance $host (export "call" (func (param "n" u32) (result u32)))))
 (core func $call (canon lower (func $host "call")))
 (core module $m
  (import "h" "call" (func $call (param i32) (result i32)))
  (memory (export "memory") 1)
  (table 1 funcref)
  (type $nothing (func))
  (global $fuel (mut i32) (i32.const 0))
  (func (export "unreachable") unreachable)
  (func (export "loop") (loop $l (br $l)))
  (func $deep (export "deep") (call $deep))
  (func (export "outside") (drop (i32.load (i32.const 0x7ffffff0))))
  (func (export "divide") (drop (i32.div_u (i32.const 1) (i32.const 0))))
  (func (export "null-call") (call_indirect (type $nothing) (i32.const 0)))
  (func (export "count") (param i32) (result i32)
    (loop $l (global.set $fuel (i32.add (global.get $fuel) (i32.const 1)))
      (br_if $l (i32.lt_u (global.get $fuel) (local.get 0)))) (global.get $fuel))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "grow-or-abort") (param i32)
    (loop $l (if (i32.lt_s (memory.grow (local.get 0)) (i32.const 0)) (then unreachable)) (br $l)))
  (func (export "call-host") (param i32) (result i32) (call $call (local.get 0))))
 (core instance $i (instantiate $m (with "h" (instance (export "call" (func $call))))))
 (func (export "unreachable") (canon lift (core func $i "unreachable")))
 (func (export "loop") (canon lift (core func $i "loop")))
 (func (export "deep") (canon lift (core func $i "deep")))
 (func (export "outside") (canon lift (core func $i "outside")))
 (func (export "divide") (canon lift (core func $i "divide")))
 (func (export "null-call") (canon lift (core func $i "null-call")))
 (func (export "count") (param "n" u32) (result u32) (canon lift (core func $i "count")))
 (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $i "grow")))
 (func (export "grow-or-abort") (param "pages" u32) (canon lift (core func $i "grow-or-abort")))
 (func (export "call-host") (param "n" u32) (result u32) (canon lift (core func $i "call-host"))))""")

ENGINE = Engine()
COMPONENT = ENGINE.load(ENGINE.compile(GUEST))
CALL = parse_signature("func(n: u32) -> u32")
SMALL = Limits(memory_bytes=4 << 20, memories=1, call_seconds=None)


def start(
    call: Callable[[int], object] = lambda n: n, limits: Limits = SMALL, component: Component = COMPONENT
) -> Instance:
    return Instance(component, [HostInterface(HOST, {"call": HostFunction(CALL, call)})], limits)


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        ("unreachable", ExitCause.UNREACHABLE),
        ("deep", ExitCause.STACK_OVERFLOW),
        ("outside", ExitCause.OUT_OF_BOUNDS),
        ("divide", ExitCause.DIVIDE),
        ("null-call", ExitCause.TRAP),
    ],
)
def test_cause_of_a_trap(function: str, cause: ExitCause) -> None:
    instance = start()
    with pytest.raises(Trap) as caught:
        instance.call(function)
    assert caught.value.cause is cause
    assert caught.value.code is Code.AGENT_TRAPPED
    assert "wasm trap" in caught.value.message
    assert "wasm backtrace" in caught.value.backtrace


def test_a_dead_instance_refuses_calls_and_closes_quietly() -> None:
    instance = start()
    with pytest.raises(Trap):
        instance.call("unreachable")
    assert not instance.alive
    with pytest.raises(FleetError) as caught:
        instance.call("count", 1)
    assert caught.value.code is Code.AGENT_NOT_RUNNING
    instance.close()
    instance.close()


def test_endless_loop_ends_at_its_deadline() -> None:
    with ticking(ENGINE), pytest.raises(Trap) as caught:
        start().call("loop", seconds=0.03)
    assert caught.value.cause is ExitCause.DEADLINE
    assert "deadline" in caught.value.message


def test_the_deadline_is_wall_clock_time_not_ticks() -> None:
    """Ticks only make the binding look at the clock; the clock decides."""
    seconds = iter([0.0, 0.0, *[1.0] * 5])
    engine = Engine(clock=lambda: next(seconds, 100.0))
    instance = start(limits=Limits(call_seconds=10.0), component=engine.load(engine.compile(GUEST)))
    with ticking(engine), pytest.raises(Trap) as caught:
        instance.call("loop")
    assert caught.value.cause is ExitCause.DEADLINE
    assert next(seconds, None) is None


def test_the_smaller_limit_holds_and_a_later_call_has_its_own() -> None:
    instance = start(limits=Limits(call_seconds=0.02))
    with ticking(ENGINE):
        assert instance.call("count", 1, seconds=60.0) == 1
        with pytest.raises(Trap):
            instance.call("loop", seconds=60.0)


def test_the_start_has_a_limit_of_its_own() -> None:
    spins = """(component (core module $m (func $s (loop $l (br $l))) (start $s)) (core instance (instantiate $m)))"""
    endless = ENGINE.load(ENGINE.compile(wasm(spins)))
    with ticking(ENGINE):
        with pytest.raises(Trap) as caught:
            Instance(endless, [], Limits(call_seconds=None, start_seconds=0.05))
        assert caught.value.cause is ExitCause.DEADLINE
        instance = start(limits=Limits(call_seconds=None, start_seconds=0.05))
        before = time.monotonic()
        with pytest.raises(Trap):
            instance.call("loop", seconds=0.3)
        assert time.monotonic() - before >= 0.3


@pytest.mark.parametrize("cause", [ExitCause.GUEST_EXIT, ExitCause.DEADLINE, ExitCause.STOPPED])
def test_a_host_function_can_end_the_agent_with_a_cause_of_its_own(cause: ExitCause) -> None:
    def end(_number: int) -> int:
        raise EndAgentError(cause, "as I said")

    instance = start(end)
    with pytest.raises(Trap) as caught:
        instance.call("call-host", 1)
    assert (caught.value.cause, caught.value.message) == (cause, "as I said")
    assert not instance.alive


def test_interrupt_from_another_thread() -> None:
    instance = start()
    timer = threading.Timer(0.02, instance.interrupt)
    timer.start()
    with ticking(ENGINE), pytest.raises(Trap) as caught:
        instance.call("loop")
    timer.join()
    assert caught.value.cause is ExitCause.STOPPED


def test_fuel() -> None:
    engine = Engine(fuel=True)
    component = engine.load(engine.compile(GUEST))
    instance = start(limits=Limits(fuel_per_call=10_000), component=component)
    assert instance.call("count", 100) == 100
    with pytest.raises(Trap) as caught:
        instance.call("count", 1_000_000)
    assert caught.value.cause is ExitCause.FUEL
    assert start(component=component).call("count", 1_000_000) == 1_000_000


def test_fuel_needs_an_engine_that_counts() -> None:
    with pytest.raises(ValueError, match="fuel=True"):
        start(limits=Limits(fuel_per_call=1))


def test_memory_limit_is_seen_by_the_guest() -> None:
    instance = start()
    assert instance.call("grow", 63) == 1
    assert instance.call("grow", 1) == -1


@pytest.mark.parametrize("pages", [1, 16])
def test_abort_after_running_out_of_memory_is_a_quota(pages: int) -> None:
    with pytest.raises(Trap) as caught:
        start().call("grow-or-abort", pages)
    assert caught.value.cause is ExitCause.QUOTA
    assert "of 4194304 bytes" in caught.value.message
    assert "wasm backtrace" in caught.value.backtrace


def test_abort_with_memory_to_spare_is_not_a_quota() -> None:
    instance = start()
    assert instance.call("grow", 20) == 1
    with pytest.raises(Trap) as caught:
        instance.call("unreachable")
    assert caught.value.cause is ExitCause.UNREACHABLE


@pytest.mark.parametrize(
    "limits", [Limits(memory_bytes=1), Limits(memories=0), Limits(tables=0), Limits(instances=0)], ids=str
)
def test_a_component_larger_than_its_limits_does_not_start(limits: Limits) -> None:
    with pytest.raises(Trap) as caught:
        start(limits=limits)
    assert caught.value.cause is ExitCause.QUOTA


class OwnError(Exception):
    pass


def test_a_host_exception_ends_the_agent_and_is_kept() -> None:
    def fail(_n: int) -> int:
        raise OwnError("no such sensor")

    instance = start(fail)
    with pytest.raises(Trap) as caught:
        instance.call("call-host", 1)
    assert caught.value.cause is ExitCause.HOST_ERROR
    assert caught.value.message == "OwnError: no such sensor"
    assert isinstance(caught.value.__cause__, OwnError)
    assert not instance.alive


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_passes_through(kind: type[BaseException]) -> None:
    def fail(_n: int) -> int:
        raise kind

    instance = start(fail)
    with pytest.raises(kind):
        instance.call("call-host", 1)
    assert not instance.alive


def test_a_host_function_may_call_back_into_another_instance() -> None:
    inner = start(lambda n: n + 1)
    outer = start(lambda n: inner.call("call-host", n))
    assert outer.call("call-host", 1) == 2


def test_a_trap_of_the_callee_is_a_host_error_of_the_caller() -> None:
    inner = start()
    outer = start(lambda _n: inner.call("divide"))
    with pytest.raises(Trap) as caught:
        outer.call("call-host", 1)
    assert caught.value.cause is ExitCause.HOST_ERROR
    assert isinstance(caught.value.__cause__, Trap)
    assert caught.value.__cause__.cause is ExitCause.DIVIDE


def test_a_caller_may_live_on_when_its_callee_traps() -> None:
    inner = start()

    def call(_n: int) -> int:
        with pytest.raises(Trap):
            inner.call("divide")
        return 7

    outer = start(call)
    assert outer.call("call-host", 1) == 7
    assert outer.alive


def test_a_trap_inside_a_call_back_into_the_same_instance_ends_it_once() -> None:
    def call(_n: int) -> int:
        with pytest.raises(Trap):
            instance.call("divide")
        assert instance.alive, "its frames are still on the stack"
        return 7

    instance = start(call)
    with pytest.raises(Trap) as caught:
        instance.call("call-host", 1)
    assert caught.value.cause is ExitCause.DIVIDE
    assert not instance.alive


def test_a_host_function_cannot_close_the_instance_it_serves() -> None:
    instance = start(lambda _n: instance.close())
    with pytest.raises(Trap, match="cannot be closed by a host function"):
        instance.call("call-host", 1)


def test_an_instance_belongs_to_one_thread_at_a_time() -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait(n: int) -> int:
        inside.set()
        leave.wait(10)
        return n

    instance = start(wait)
    thread = threading.Thread(target=instance.call, args=("call-host", 1))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(RuntimeError, match="one thread at a time"):
        instance.call("count", 1)
    with pytest.raises(RuntimeError, match="one thread at a time"):
        instance.close()
    leave.set()
    thread.join()
    assert instance.call("count", 1) == 1


def test_exceptions_and_traps_of_many_threads_never_mix() -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        def fail(_n: int) -> int:
            raise OwnError(number)

        for _ in range(150):
            instance = start(fail)
            try:
                instance.call("call-host" if number % 2 else "divide", *([1] if number % 2 else []))
                wrong.append("no trap")
            except Trap as trap:
                own = isinstance(trap.__cause__, OwnError) and trap.__cause__.args == (number,)
                if own != bool(number % 2) or trap.cause is not (ExitCause.HOST_ERROR if own else ExitCause.DIVIDE):
                    wrong.append(f"{number}: {trap}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_exit_status_is_a_guest_exit() -> None:
    """No interface that can exit is linked yet; the engine reports one by its status, whatever the text."""
    assert classify(EngineError("anything", 3)).cause is ExitCause.GUEST_EXIT


def test_a_signal_while_the_clock_is_read_is_kept_for_the_caller() -> None:
    readings = iter([0.0, 0.0])

    def clock() -> float:
        try:
            return next(readings)
        except StopIteration:
            raise KeyboardInterrupt from None

    engine = Engine(clock=clock)
    instance = start(component=engine.load(engine.compile(GUEST)))
    with ticking(engine), pytest.raises(KeyboardInterrupt):
        instance.call("loop")
    assert not instance.alive


def test_a_host_function_without_result_must_not_return_one() -> None:
    text = """(component (import "f" (func $f)) (core func $f (canon lower (func $f)))
     (core module $m (import "h" "f" (func $f)) (func (export "g") (call $f)))
     (core instance $i (instantiate $m (with "h" (instance (export "f" (func $f))))))
     (func (export "g") (canon lift (core func $i "g"))))"""
    host = HostInterface("", {"f": HostFunction(parse_signature("func()"), lambda: 1)})
    instance = Instance(ENGINE.load(ENGINE.compile(wasm(text))), [host], SMALL)
    with pytest.raises(Trap, match="expected no result"):
        instance.call("g")


def test_exports_are_listed_with_their_types() -> None:
    exports = start().exports
    assert str(exports["grow"]) == "func(pages: u32) -> s32"
    assert str(exports["loop"]) == "func()"
    with pytest.raises(FleetError) as caught:
        start().call("no-such")
    assert caught.value.code is Code.EXPORT_NOT_FOUND

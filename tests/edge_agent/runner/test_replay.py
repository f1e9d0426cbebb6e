"""Guests that end for real, and end again from their record alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest

from edge_agent.capabilities.base import HostInterface
from edge_agent.runner.recorder import CONFIDENTIAL, Recorder
from edge_agent.runner.replay import replay
from fleet.crash import CrashReport, GuestCall, HostCall, Recording, decode_report, encode_report
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.oci import digest_of
from tests.fakes.agents import Node
from tests.fakes.components import wasm
from tests.fakes.crashes import crash
from tests.fakes.guests import guest

COMPONENTS = Path(__file__).parents[3] / "components"
RESTLESS = COMPONENTS / "restless-agent/restless_agent.wasm"
CRASHER = COMPONENTS / "crasher-agent/crasher_agent.wasm"
READING = 'handle-data({source: "roof", value: 21.5, timestamp: 7})'
CAPABILITIES = {
    "wasi:logging/logging": [{}],
    "wasi:random/random": [{}],
    "wasi:keyvalue/store": [{"buckets": ["restless"], "ops": ["get", "set"]}],
    "wasi:keyvalue/atomics": [{"buckets": ["restless"], "ops": ["increment"]}],
}

CLOCK_GUEST = """(component
 (import "wasi:clocks/monotonic-clock@0.2.12" (instance $clock (export "now" (func (result u64)))))
 (core func $now (canon lower (func $clock "now")))
 (core module $m
  (import "clock" "now" (func $now (result i64)))
  (func $even unreachable)
  (func $odd (drop (i32.div_u (i32.const 1) (i32.const 0))))
  (func (export "run") (param $rounds i32) (local $sum i64)
   (loop $again
    (local.set $sum (i64.add (local.get $sum) (call $now)))
    (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
   (if (i64.eqz (i64.and (local.get $sum) (i64.const 1))) (then (call $even)) (else (call $odd)))))
 (core instance $i (instantiate $m (with "clock" (instance (export "now" (func $now))))))
 (func (export "run") (param "rounds" u32) (canon lift (core func $i "run"))))"""
"""Ends in one of two ways, which the sum of the times that it reads decides."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "state")
    yield node
    node.close()


def last_call(report: CrashReport) -> CrashReport:
    """The same report, without the calls before the last one."""
    assert report.recording is not None
    recording = replace(report.recording, calls=report.recording.calls[-1:], lost=len(report.recording.calls) - 1)
    return replace(report, recording=recording)


def test_a_sample_component_ends_again_at_the_same_place(node: Node) -> None:
    report = crash(node, CRASHER.read_bytes(), [READING], {"wasi:logging/logging": [{}]})
    assert report.recording is not None
    (call,) = report.recording.calls
    assert call.arguments == ('{source: "roof", value: 21.5, timestamp: 7}',)
    assert call.host_calls[0].arguments == ("warn", '"crasher-agent"', '"crashing on a reading of roof"')
    outcome = replay(report, CRASHER.read_bytes())
    assert (outcome.same, outcome.exact, outcome.calls) == (True, True, 1)
    assert (outcome.cause, outcome.differences, outcome.notes) == ("unreachable", (), ())
    assert outcome.frames[0].offset


@pytest.mark.parametrize("seed", range(1, 5))
def test_chance_and_a_store_are_as_they_were(node: Node, seed: int) -> None:
    node.entropy.seed(seed)
    report = crash(node, RESTLESS.read_bytes(), repeat(READING), CAPABILITIES, memory="16MiB", deadline="300ms")
    assert report.recording is not None
    assert len(report.recording.calls) > 1
    names = {host.function for call in report.recording.calls for host in call.host_calls}
    assert {"wasi:random/random@0.2.12#get-random-u64", "wasi:keyvalue/store@0.2.0-draft2#open"} <= names
    outcome = replay(decode_report(encode_report(report), "report"), RESTLESS.read_bytes())
    assert (outcome.same, outcome.exact, outcome.differences) == (True, True, ())
    assert outcome.calls == len(report.recording.calls)


@pytest.mark.parametrize(("moment", "cause"), [(2, ExitCause.UNREACHABLE), (3, ExitCause.DIVIDE)])
def test_times_are_as_they_were(node: Node, moment: int, cause: ExitCause) -> None:
    node.clock.steady_ns = moment
    component = wasm(CLOCK_GUEST)
    report = crash(node, component, ["run(3)"])
    assert report.cause is cause
    assert replay(report, component).same
    assert report.recording is not None
    (call,) = report.recording.calls
    times = [host.result for host in call.host_calls]
    assert times == [str(moment)] * 3
    other = replace(call, host_calls=(*call.host_calls[:2], replace(call.host_calls[2], result=str(moment + 1))))
    outcome = replay(replace(report, recording=replace(report.recording, calls=(other,))), component)
    assert not outcome.same
    assert outcome.differences[0].startswith("the cause is")


def test_names_of_functions_are_shown_where_the_component_has_them(node: Node) -> None:
    node.clock.steady_ns = 2
    outcome = replay(crash(node, wasm(CLOCK_GUEST), ["run(1)"]), wasm(CLOCK_GUEST))
    assert (outcome.frames[0].module, outcome.frames[0].function) == ("m", "even")


@pytest.mark.parametrize(
    ("call", "limits", "cause"),
    [
        ("loop()", {"fuel_per_call": 10_000}, ExitCause.FUEL),
        ("deep()", {}, ExitCause.STACK_OVERFLOW),
        ("grow-or-abort()", {"memory": "8MiB"}, ExitCause.QUOTA),
        ("trap()", {}, ExitCause.UNREACHABLE),
    ],
)
def test_limits_end_a_guest_again(node: Node, call: str, limits: dict[str, str | int], cause: ExitCause) -> None:
    report = crash(node, guest(), ["count()", "add(1, 2)", call], **limits)
    assert report.cause is cause
    outcome = replay(report, guest())
    assert (outcome.same, outcome.exact, outcome.calls, outcome.differences) == (True, True, 3, ())


def test_a_deadline_is_said_to_be_no_certain_thing(node: Node) -> None:
    report = crash(node, guest(), ["loop()"], deadline="20ms")
    outcome = replay(report, guest())
    assert (outcome.same, outcome.cause) == (True, "deadline")
    assert any("not deterministic" in note for note in outcome.notes)


def test_a_part_of_the_history_is_replayed_as_the_last_call_alone(node: Node) -> None:
    report = crash(node, guest(), ["count()", "count()", "trap()"])
    outcome = replay(last_call(report), guest())
    assert (outcome.same, outcome.exact, outcome.calls) == (True, False, 1)
    assert outcome.notes[0].startswith("the record is not complete")
    assert "2 earlier calls were not kept" in outcome.notes


def test_a_ring_that_is_full_keeps_the_call_that_ended_the_guest(node: Node) -> None:
    node.entropy.seed(1)
    recorder = Recorder(max_entries=12)
    report = crash(node, RESTLESS.read_bytes(), repeat(READING), CAPABILITIES, recorder=recorder, memory="16MiB")
    assert report.recording is not None
    assert report.recording.lost > 0
    outcome = replay(report, RESTLESS.read_bytes())
    assert (outcome.same, outcome.exact, outcome.calls) == (True, False, 1)


def test_what_is_confidential_is_named_and_not_shown(node: Node) -> None:
    def hide(interface: HostInterface) -> HostInterface:
        return replace(interface, confidential=interface.name.startswith("wasi:random"))

    node.entropy.seed(1)
    report = crash(node, RESTLESS.read_bytes(), repeat(READING), CAPABILITIES, change=hide, memory="16MiB")
    assert report.recording is not None
    results = {host.result for call in report.recording.calls for host in call.host_calls if "random" in host.function}
    assert results == {CONFIDENTIAL}
    outcome = replay(report, RESTLESS.read_bytes())
    missing = f"the result of wasi:random/random@0.2.12#get-random-u64 was not kept: {CONFIDENTIAL}"
    assert (outcome.same, outcome.exact, outcome.differences) == (False, False, (missing,))
    assert missing in outcome.notes


def recorded(report: CrashReport, *host_calls: HostCall) -> CrashReport:
    return replace(report, recording=Recording(GuestCall(""), (GuestCall("run", ("2",), host_calls),)))


NOW = HostCall("wasi:clocks/monotonic-clock@0.2.12#now", (), "1")


@pytest.mark.parametrize(
    ("host_calls", "difference"),
    [
        ((NOW,), "the guest calls wasi:clocks/monotonic-clock@0.2.12#now, which it did not then"),
        ((replace(NOW, function="a:b/c#d"), NOW), "and called a:b/c#d then"),
        ((NOW, replace(NOW, result="<too large>")), "was not kept: <too large>"),
        ((NOW, NOW, NOW), "before 1 more host calls"),
        ((NOW, replace(NOW, result="no time", raised="OSError")), "the cause is 'host-error', and was 'unreachable'"),
        ((NOW, replace(NOW, raised="EndAgentError", cause="stopped")), "the cause is 'stopped'"),
        ((NOW, replace(NOW, result="2")), "the cause is 'divide'"),
    ],
)
def test_a_guest_that_does_something_else_is_told_where(
    node: Node, host_calls: tuple[HostCall, ...], difference: str
) -> None:
    node.clock.steady_ns = 1
    report = crash(node, wasm(CLOCK_GUEST), ["run(2)"])
    outcome = replay(recorded(report, *host_calls), wasm(CLOCK_GUEST))
    assert not outcome.same
    assert difference in outcome.differences[0]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FleetError(Code.LIMIT_EXCEEDED, "too much: of it", limit=3), ExitCause.HOST_ERROR),
        (OSError("the disk is gone"), ExitCause.HOST_ERROR),
    ],
)
def test_what_a_host_function_raised_is_raised_again(node: Node, error: Exception, cause: ExitCause) -> None:
    def fail(interface: HostInterface) -> HostInterface:
        def now() -> int:
            raise error

        functions = {name: replace(function, call=now) for name, function in interface.functions.items()}
        return replace(interface, functions=functions)

    report = crash(node, wasm(CLOCK_GUEST), ["run(2)"], change=fail)
    outcome = replay(report, wasm(CLOCK_GUEST))
    assert (outcome.same, outcome.exact, outcome.message) == (True, True, report.message)


def test_a_guest_that_goes_on_is_no_crash(node: Node) -> None:
    report = crash(node, guest(), ["trap()"])
    assert report.recording is not None
    calls = (GuestCall("count"),)
    outcome = replay(replace(report, recording=replace(report.recording, calls=calls)), guest())
    assert (outcome.same, outcome.cause) == (False, "")
    assert "did not end" in outcome.differences[0]


def test_an_earlier_end_is_told(node: Node) -> None:
    report = crash(node, guest(), ["count()", "trap()"])
    assert report.recording is not None
    calls = report.recording.calls[::-1]
    outcome = replay(replace(report, recording=replace(report.recording, calls=calls)), guest())
    assert "the guest ended in call 1 of 2" in outcome.differences


def test_another_engine_is_named(node: Node) -> None:
    report = replace(crash(node, guest(), ["trap()"]), engine="wasmtime 1.0")
    assert any(note.startswith("the node ran wasmtime 1.0") for note in replay(report, guest()).notes)


def test_another_component_is_refused(node: Node) -> None:
    report = crash(node, guest(), ["trap()"])
    with pytest.raises(FleetError) as caught:
        replay(report, wasm(CLOCK_GUEST))
    assert caught.value.code is Code.DIGEST_MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        {"recording": None},
        {"recording": Recording(GuestCall(""), (GuestCall("vanish"),))},
        {"recording": Recording(GuestCall(""), (GuestCall("add", ("1", "<too large>")),))},
        {"recording": Recording(GuestCall(""), (GuestCall("add", ("1",)),))},
    ],
)
def test_a_report_that_does_not_say_enough_is_refused(node: Node, change: dict[str, Recording | None]) -> None:
    report = replace(crash(node, guest(), ["trap()"]), **change)
    with pytest.raises(FleetError) as caught:
        replay(report, guest())
    assert caught.value.code is Code.CRASH_INVALID


def test_a_guest_that_ends_while_it_starts(node: Node) -> None:
    component = wasm("(component (core module $m (func $s unreachable) (start $s)) (core instance (instantiate $m)))")
    report = crash(node, component, [])
    assert digest_of(component) == report.component
    outcome = replay(report, component)
    assert (outcome.same, outcome.exact, outcome.calls) == (True, True, 0)

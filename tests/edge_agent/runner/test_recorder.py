from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.capabilities.base import EndAgentError, HostFunction, HostInterface
from edge_agent.runner.kept_values import numbered, write_value
from edge_agent.runner.recorder import CONFIDENTIAL, MAX_RECORDING, Recorder
from fleet.crash import Recording, decode_recording
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wave import parse_value
from fleet.wit_text import parse_type
from fleet.wit_types import BYTES, BorrowType, Err, FuncType, ListType, Ok, OptionType, OwnType, Primitive, RecordType
from tests.fakes.wit_strategies import TYPES, values

U32 = Primitive.U32
RUN = FuncType((("data", BYTES),))
EXPORTS = {"run": RUN, "nothing": FuncType()}


def interface(call, signature, **flags) -> HostInterface:
    return HostInterface("a:b/c", {"f": HostFunction(signature, call)}, **flags)


def wrapped(recorder: Recorder, call, signature, **flags):
    (recorded,) = recorder.wrap([interface(call, signature, **flags)])
    return recorded.functions["f"].call


def read(recorder: Recorder) -> Recording:
    return decode_recording(recorder.recording(EXPORTS))


ACTIONS = st.lists(
    st.tuples(st.just("call"), st.binary(max_size=600)) | st.tuples(st.just("host"), st.binary(max_size=600)),
    max_size=60,
)


@settings(max_examples=200)
@given(ACTIONS, st.integers(3, 20), st.integers(1_000, 6_000))
def test_a_record_stays_within_its_bounds_and_keeps_the_newest_in_order(
    actions: list[tuple[str, bytes]], max_entries: int, max_bytes: int
) -> None:
    recorder = Recorder(max_entries, max_bytes)
    host = wrapped(recorder, lambda data: data, FuncType((("data", BYTES),), BYTES))
    calls: list[tuple[bytes, deque[bytes]]] = [(b"", deque())]
    for kind, data in actions:
        if kind == "call":
            recorder.end(recorder.begin("run", (data,)))
            calls.append((data, deque()))
        else:
            assert host(data) == data
            calls[-1][1].append(data)
        assert recorder.entries <= max_entries
        assert recorder.bytes <= max_bytes
    recording = read(recorder)
    assert recording.lost + len(recording.calls) == len(calls) - 1
    whole = [(recording.start, calls[0]), *zip(recording.calls, calls[1 + recording.lost :], strict=True)]
    for call, (_, made) in whole:
        assert call.lost + len(call.host_calls) == len(made)
        for host_call, data in zip(call.host_calls, list(made)[call.lost :], strict=True):
            if not host_call.result.startswith("<"):
                assert parse_value(host_call.result, BYTES) == data
                assert host_call.arguments[0].startswith(("<", host_call.result))
    small = all(len(data) <= 10 for _, data in actions)
    everything = len(actions) < max_entries and len(actions) * 300 < max_bytes // 2
    if small and everything:
        assert recording.complete


@given(st.data())
def test_values_of_every_type_are_read_back(data: st.DataObject) -> None:
    kind = data.draw(TYPES)
    value = data.draw(values(kind))
    recorder = Recorder()
    wrapped(recorder, lambda: value, FuncType((), kind))()
    (call,) = read(recorder).start.host_calls
    assert call.result == write_value(value, kind)


def test_handles_are_numbers() -> None:
    kind = parse_type("tuple<option<list<u8>>, result<u8, string>>")
    assert numbered(kind) == kind
    assert numbered(OptionType(ListType(OwnType("bucket")))) == OptionType(ListType(U32))
    recorder = Recorder()
    wrapped(recorder, lambda _: Ok(7), FuncType((("self", BorrowType("bucket")),), parse_type("result<u32>")))(3)
    (call,) = read(recorder).start.host_calls
    assert (call.function, call.arguments, call.result) == ("a:b/c#f", ("3",), "ok(7)")


def test_what_the_host_changes_later_is_kept_as_it_was() -> None:
    numbers = [1, 2]
    record = {"items": numbers}
    recorder = Recorder()
    wrapped(recorder, lambda: record, FuncType((), RecordType((("items", ListType(U32)),))))()
    numbers.append(3)
    (call,) = read(recorder).start.host_calls
    assert call.result == "{items: [1, 2]}"


@pytest.mark.parametrize(
    ("value", "kind", "note"),
    [
        (b"x" * 40_000, "list<u8>", "<40000 bytes, sha256:"),
        (Ok(b"x" * 40_000), "result<list<u8>>", "<40000 bytes, sha256:"),
        (Err("x" * 40_000), "result<_, string>", "<40000 characters, sha256:"),
        ([1.0] * 40_000, "list<f32>", "<too large>"),
        (["x" * 1_000] * 100, "list<string>", "<too large>"),
        ({"a", "b"}, "list<u8>", "<no list<u8>>"),
        (object(), "u8", "<unknown>"),
    ],
)
def test_what_is_not_kept_is_described(value: object, kind: str, note: str) -> None:
    recorder = Recorder()
    wrapped(recorder, lambda: value, FuncType((), parse_type(kind)))()
    recording = read(recorder)
    assert recording.start.host_calls[0].result.startswith(note)
    assert not recording.complete


def test_bytes_like_objects_are_kept_as_they_were() -> None:
    recorder = Recorder()
    kind = FuncType((("a", BYTES), ("b", BYTES)))
    buffer = bytearray(b"\1")
    wrapped(recorder, lambda *_: None, kind)(buffer, memoryview(b"\2"))
    buffer[0] = 9
    assert read(recorder).start.host_calls[0].arguments == ("[1]", "[2]")


@pytest.mark.parametrize(
    ("error", "result", "raised", "cause"),
    [
        (EndAgentError(ExitCause.GUEST_EXIT, "status 1"), "status 1", "EndAgentError", "guest-exit"),
        (FleetError(Code.LIMIT_EXCEEDED, "much", of=3), "LIMIT_EXCEEDED: much [of=3]", "FleetError", ""),
        (OSError("x" * 5_000), "x" * 1_024, "OSError", ""),
    ],
)
def test_what_a_function_raises_is_kept_and_raised(error: Exception, result: str, raised: str, cause: str) -> None:
    def fail() -> None:
        raise error

    recorder = Recorder()
    with pytest.raises(type(error)):
        wrapped(recorder, fail, FuncType())()
    (call,) = read(recorder).start.host_calls
    assert (call.result, call.raised, call.cause) == (result, raised, cause)


def test_confidential_functions_leave_nothing() -> None:
    def secret(name: str) -> str:
        if name == "none":
            raise OSError("no secret")
        return "hunter2"

    kind = FuncType((("name", Primitive.STRING),), Primitive.STRING)
    recorder = Recorder()
    call = wrapped(recorder, secret, kind, confidential=True)
    assert call("password") == "hunter2"
    with pytest.raises(OSError, match="no secret"):
        call("none")
    one, two = read(recorder).start.host_calls
    assert (one.arguments, one.result, one.raised) == ((CONFIDENTIAL,), CONFIDENTIAL, "")
    assert (two.arguments, two.result, two.raised) == ((CONFIDENTIAL,), CONFIDENTIAL, "OSError")
    for text in (b"hunter2", b"password", b"no secret"):
        assert text not in recorder.recording(EXPORTS)


def test_a_call_that_never_reached_the_guest_is_forgotten() -> None:
    recorder = Recorder()
    recorder.end(recorder.begin("nothing", ()))
    recorder.end(recorder.begin("vanish", (1, 2)), ran=False)
    assert [call.function for call in read(recorder).calls] == ["nothing"]


def test_calls_at_one_time_are_said_to_have_no_order() -> None:
    recorder = Recorder()
    one, two = recorder.begin("nothing", ()), recorder.begin("nothing", ())
    recorder.end(two)
    recorder.end(one)
    assert read(recorder).overlapping


def test_a_start_that_said_much_gives_way_to_the_calls() -> None:
    recorder = Recorder(max_bytes=10_000)
    host = wrapped(recorder, lambda: "x" * 1_000, FuncType((), Primitive.STRING))
    for _ in range(8):
        host()
    recorder.begin("nothing", ())
    recording = read(recorder)
    assert recording.start.lost == 8
    assert [call.function for call in recording.calls] == ["nothing"]


def test_a_record_that_is_long_when_written_is_cut() -> None:
    recorder = Recorder()
    host = wrapped(recorder, lambda: "\u2028" * 20_000, FuncType((), Primitive.STRING))
    recorder.begin("nothing", ())
    for _ in range(10):
        host()
    data = recorder.recording(EXPORTS)
    assert len(data) <= MAX_RECORDING
    (call,) = decode_recording(data).calls
    assert 0 < call.lost < 10
    assert call.lost + len(call.host_calls) == 10

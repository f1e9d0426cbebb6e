"""wasi:io: waiting for moments, and streams that never fail."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.capabilities import clocks, interfaces_for, io_streams, wasi_io
from edge_agent.capabilities.base import AgentContext, EndAgentError, Table
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok, Variant
from tests.fakes.agents import Node, functions

CLOSED = Err(Variant("closed"))
SECOND = 1_000_000_000


def poll(context: AgentContext):
    return functions(wasi_io.interfaces(context), wasi_io.POLL)


def clock(context: AgentContext):
    return functions(clocks.interfaces(context), clocks.MONOTONIC_CLOCK)


def streams(context: AgentContext):
    return functions(wasi_io.interfaces(context), wasi_io.STREAMS)


def output(context: AgentContext) -> tuple[dict, int, list[bytes]]:
    written: list[bytes] = []
    handle = context.shared(wasi_io.IoHandles).outputs.insert(io_streams.Sink(written.append))
    return (
        {name.partition(".")[2]: call for name, call in streams(context).items() if "output" in name},
        handle,
        written,
    )


def test_a_pollable_is_ready_from_its_moment_on(node: Node) -> None:
    context = node.agent({})
    ready = poll(context)["[method]pollable.ready"]
    handle = clock(context)["subscribe-duration"](SECOND)
    assert not ready(handle)
    node.clock.advance(0.999)
    assert not ready(handle)
    node.clock.advance(0.001)
    assert ready(handle)
    past = clock(context)["subscribe-instant"](0)
    assert ready(past)


def test_block_waits_until_the_moment(node: Node) -> None:
    context = node.agent({})
    before = node.clock.steady_ns
    poll(context)["[method]pollable.block"](clock(context)["subscribe-duration"](3 * SECOND))
    assert node.clock.steady_ns == before + 3 * SECOND


def test_a_wait_that_ends_early_goes_on(node: Node) -> None:
    steps = []

    def wait(nanoseconds: int) -> None:
        steps.append(nanoseconds)
        node.clock.advance(nanoseconds / SECOND / 2 if nanoseconds > 1000 else nanoseconds / SECOND)

    context = replace(node.agent({}), wait=wait)
    poll(context)["[method]pollable.block"](clock(context)["subscribe-duration"](SECOND))
    assert steps[:2] == [SECOND, SECOND // 2]
    assert poll(context)["[method]pollable.ready"](clock(context)["subscribe-instant"](node.clock.steady_ns))


def test_what_ends_a_wait_ends_the_call(node: Node) -> None:
    def wait(_nanoseconds: int) -> None:
        raise EndAgentError(ExitCause.DEADLINE, "over")

    context = replace(node.agent({}), wait=wait)
    handle = clock(context)["subscribe-duration"](2**64 - 1)
    with pytest.raises(EndAgentError):
        poll(context)["poll"]([handle])


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
def test_poll_waits_for_the_first_and_names_all_that_are_ready(moments: list[int], now: int) -> None:
    node = Node(None)
    node.clock.steady_ns = now
    context = node.agent({})
    subscribe = clock(context)["subscribe-instant"]
    ready = poll(context)["poll"]([subscribe(moment) for moment in moments])
    assert node.clock.steady_ns == max(now, min(moments))
    assert ready == [place for place, moment in enumerate(moments) if moment <= node.clock.steady_ns]
    assert ready


def test_polling_nothing_traps_and_a_huge_list_is_refused(node: Node) -> None:
    context = node.agent({})
    with pytest.raises(EndAgentError) as trapped:
        poll(context)["poll"]([])
    assert trapped.value.cause is ExitCause.TRAP
    handle = clock(context)["subscribe-instant"](0)
    with pytest.raises(FleetError) as refused:
        poll(context)["poll"]([handle] * (wasi_io.MAX_POLLED + 1))
    assert refused.value.code is Code.LIMIT_EXCEEDED


def test_pollables_are_counted_until_they_are_dropped(node: Node) -> None:
    context = node.agent({})
    offered = {interface.name: interface for interface in wasi_io.interfaces(context)}
    subscribe = clock(context)["subscribe-duration"]
    handles = [subscribe(0) for _ in range(wasi_io.MAX_POLLABLES)]
    with pytest.raises(FleetError) as refused:
        subscribe(0)
    assert refused.value.code is Code.LIMIT_EXCEEDED
    offered[wasi_io.POLL].resources["pollable"](handles[0])
    subscribe(0)


def test_input_is_at_its_end(node: Node) -> None:
    context = node.agent({})
    calls = streams(context)
    handle = context.shared(wasi_io.IoHandles).inputs.insert(io_streams.EmptyInput())
    for name in ("read", "blocking-read", "skip", "blocking-skip"):
        for length in (0, 1, 2**64 - 1):
            assert calls[f"[method]input-stream.{name}"](handle, length) == CLOSED
    assert poll(context)["poll"]([calls["[method]input-stream.subscribe"](handle)]) == [0]


@pytest.mark.parametrize("name", ["write", "blocking-write-and-flush"])
def test_output_is_passed_on(node: Node, name: str) -> None:
    context = node.agent({})
    calls, handle, written = output(context)
    assert calls["check-write"](handle) == Ok(io_streams.MAX_WRITE)
    assert calls[name](handle, b"text") == Ok(None)
    assert calls[name](handle, bytes(io_streams.MAX_WRITE)) == Ok(None)
    assert written == [b"text", bytes(io_streams.MAX_WRITE)]
    assert calls["flush"](handle) == calls["blocking-flush"](handle) == Ok(None)
    assert poll(context)["poll"]([calls["subscribe"](handle)]) == [0]
    with pytest.raises(FleetError) as refused:
        calls[name](handle, bytes(io_streams.MAX_WRITE + 1))
    assert refused.value.code is Code.LIMIT_EXCEEDED
    assert len(written) == 2


@pytest.mark.parametrize("name", ["write-zeroes", "blocking-write-zeroes-and-flush"])
def test_zeroes_are_counted_before_they_are_made(node: Node, name: str) -> None:
    calls, handle, written = output(node.agent({}))
    assert calls[name](handle, 3) == Ok(None)
    assert written == [bytes(3)]
    with pytest.raises(FleetError):
        calls[name](handle, 2**64 - 1)


@pytest.mark.parametrize("name", ["splice", "blocking-splice"])
def test_nothing_can_be_spliced_from_an_input_at_its_end(node: Node, name: str) -> None:
    context = node.agent({})
    calls, handle, written = output(context)
    source = context.shared(wasi_io.IoHandles).inputs.insert(io_streams.EmptyInput())
    assert calls[name](handle, source, 10) == CLOSED
    assert written == []


def test_handles_are_shared_between_modules_and_not_between_agents(node: Node) -> None:
    one, two = node.agent({}), node.agent({})
    assert one.shared(wasi_io.IoHandles) is one.shared(wasi_io.IoHandles)
    assert one.shared(wasi_io.IoHandles) is not two.shared(wasi_io.IoHandles)
    assert isinstance(one.shared(wasi_io.IoHandles).pollables, Table)


def test_two_versions_of_one_track_use_the_resources_of_their_own(node: Node) -> None:
    imports = [
        f"wasi:{name}@{version}"
        for version in ("0.2.9", "0.2.12", "0.2.0")
        for name in ("io/error", "io/poll", "io/streams", "cli/stdout", "clocks/monotonic-clock")
    ]
    linked = {interface.name: interface for interface in interfaces_for(imports, node.agent({}))}
    for version in ("0.2.9", "0.2.12", "0.2.0"):
        assert linked[f"wasi:cli/stdout@{version}"].uses == {"output-stream": f"wasi:io/streams@{version}"}
        assert linked[f"wasi:clocks/monotonic-clock@{version}"].uses == {"pollable": f"wasi:io/poll@{version}"}
    (clock, _) = interfaces_for(["wasi:clocks/monotonic-clock@0.2.1", "wasi:io/poll@0.2.5"], node.agent({}))
    assert clock.uses == {"pollable": "wasi:io/poll@0.2.5"}


class Pipe:
    """A stream of both directions that a test fills and drains by hand."""

    def __init__(self, contents: bytes = b"", room: int = 8, end: Exception | None = None) -> None:
        self.contents = bytearray(contents)
        self.space = room
        self.end = end

    def read(self, length: int) -> bytes:
        if not self.contents and self.end is not None:
            raise self.end
        taken = bytes(self.contents[:length])
        del self.contents[:length]
        return taken

    def ready(self) -> bool:
        return bool(self.contents) or self.end is not None

    def room(self) -> int:
        if self.end is not None:
            raise self.end
        return self.space - len(self.contents)

    def write(self, contents: bytes) -> None:
        assert len(contents) <= self.room()
        self.contents += contents


def waiting(node: Node, *steps) -> AgentContext:
    """An agent for which one step happens at each wait."""
    todo = list(steps)

    def wait(nanoseconds: int) -> None:
        assert 0 < nanoseconds <= wasi_io.LONGEST_WAIT_NS
        todo.pop(0)()

    return replace(node.agent({}), wait=wait)


def test_a_blocking_read_waits_for_bytes_and_for_the_end(node: Node) -> None:
    pipe = Pipe()
    context = waiting(node, lambda: None, lambda: pipe.contents.extend(b"abc"))
    calls = streams(context)
    handle = context.shared(wasi_io.IoHandles).inputs.insert(pipe)
    assert calls["[method]input-stream.read"](handle, 10) == Ok(b"")
    assert calls["[method]input-stream.blocking-read"](handle, 2) == Ok(b"ab")
    assert calls["[method]input-stream.blocking-skip"](handle, 2) == Ok(1)
    pipe.end = io_streams.StreamClosedError()
    assert calls["[method]input-stream.blocking-read"](handle, 2) == CLOSED


def test_a_blocking_write_waits_for_room(node: Node) -> None:
    pipe = Pipe(room=4)
    context = waiting(node, lambda: pipe.read(4), lambda: pipe.read(3))
    calls = streams(context)
    handle = context.shared(wasi_io.IoHandles).outputs.insert(pipe)
    assert calls["[method]output-stream.check-write"](handle) == Ok(4)
    assert calls["[method]output-stream.blocking-write-and-flush"](handle, b"abcdefghi") == Ok(None)
    assert pipe.contents == b"hi"
    with pytest.raises(FleetError) as refused:
        calls["[method]output-stream.write"](handle, b"abc")
    assert refused.value.code is Code.LIMIT_EXCEEDED


def test_poll_looks_at_conditions_and_moments_together(node: Node) -> None:
    pipe = Pipe()
    context = waiting(node, lambda: pipe.contents.extend(b"x"))
    calls = streams(context)
    handles = context.shared(wasi_io.IoHandles)
    moments = clock(context)["subscribe-duration"](3600 * SECOND)
    readable = calls["[method]input-stream.subscribe"](handles.inputs.insert(pipe))
    assert poll(context)["poll"]([moments, readable]) == [1]
    writable = calls["[method]output-stream.subscribe"](handles.outputs.insert(Pipe()))
    assert poll(context)["[method]pollable.ready"](writable)


def test_a_failure_is_an_error_that_can_be_asked(node: Node) -> None:
    context = node.agent({})
    handles = context.shared(wasi_io.IoHandles)
    broken = Pipe(end=io_streams.StreamFailedError("the line is cut", "kind"))
    answer = streams(context)["[method]output-stream.flush"](handles.outputs.insert(broken))
    assert answer.value.case == "last-operation-failed"
    calls = functions(wasi_io.interfaces(context), wasi_io.ERROR)
    assert calls["[method]error.to-debug-string"](answer.value.payload) == "the line is cut"
    assert handles.errors.get(answer.value.payload).kind == "kind"
    writable = streams(context)["[method]output-stream.subscribe"](handles.outputs.insert(broken))
    assert poll(context)["[method]pollable.ready"](writable), "there is a failure to be told"


def test_a_splice_moves_what_there_is_and_what_fits(node: Node) -> None:
    source, sink = Pipe(b"abcdef"), Pipe(room=4)
    context = waiting(node, lambda: sink.read(4))
    calls = streams(context)
    handles = context.shared(wasi_io.IoHandles)
    origin, handle = handles.inputs.insert(source), handles.outputs.insert(sink)
    assert calls["[method]output-stream.splice"](handle, origin, 100) == Ok(4)
    assert calls["[method]output-stream.blocking-splice"](handle, origin, 1) == Ok(1)
    assert (bytes(source.contents), bytes(sink.contents)) == (b"f", b"e")

"""`wasi:io` 0.2: streams, and waiting for moments and events.

Owns: what a guest holds of this package (`IoHandles`), which other capabilities hand entries out from, and every
function that a guest may wait in. Each wait ends with the deadline of the call (`AgentContext.wait`).

- A pollable is a moment of the monotonic clock, or a condition that its owner can tell at once. Whoever makes a
  condition come true in another thread calls `AgentContext.wake` afterwards.
- Streams are those of `io_streams`: none ever blocks. Blocking functions wait here until one is ready.
- What becomes of bytes that an output stream has taken, and how many it keeps, is the business of the module that
  handed it out: a flush has nothing to wait for.
- A stream that failed gives the guest an error resource, whose kind other interfaces may tell (`StreamFailedError`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from edge_agent.capabilities.base import EndAgentError, HostInterface, Table, bind, declare_functions, declare_types
from edge_agent.capabilities.io_streams import (
    MAX_WRITE,
    InputStream,
    OutputStream,
    StreamClosedError,
    StreamFailedError,
)
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok, OwnType, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext
    from fleet.wit_types import WitType

T = TypeVar("T")

ERROR = "wasi:io/error@0.2.12"
POLL = "wasi:io/poll@0.2.12"
STREAMS = "wasi:io/streams@0.2.12"

ALWAYS = 0
"""Moment of a pollable that is ready from the start."""

MAX_READ = 64 * 1024
"""Bytes of one read; a guest that asks for more gets fewer, as the interface allows."""

MAX_POLLED = 1024
"""Pollables of one `poll`."""

MAX_POLLABLES = 512
"""Pollables that an agent may hold."""

MAX_STREAMS = 64
"""Streams of each direction that an agent may hold."""

MAX_ERRORS = 256
"""Error handles that an agent may hold."""

LONGEST_WAIT_NS = 250_000_000
"""A guest that waits for a condition has it looked at so often even if nobody wakes it."""

_RESOURCES: dict[str, WitType] = {
    "error": OwnType("error"),
    "pollable": OwnType("pollable"),
    "input-stream": OwnType("input-stream"),
    "output-stream": OwnType("output-stream"),
}

_ERROR_SIGNATURES = declare_functions({}, {"[method]error.to-debug-string": "func(self: borrow<error>) -> string"})
_POLL_SIGNATURES = declare_functions(
    {},
    {
        "[method]pollable.ready": "func(self: borrow<pollable>) -> bool",
        "[method]pollable.block": "func(self: borrow<pollable>)",
        "poll": "func(in: list<borrow<pollable>>) -> list<u32>",
    },
)
_READ = "func(self: borrow<input-stream>, len: u64) -> result<list<u8>, stream-error>"
_SKIP = "func(self: borrow<input-stream>, len: u64) -> result<u64, stream-error>"
_WRITE = "func(self: borrow<output-stream>, contents: list<u8>) -> result<_, stream-error>"
_FLUSH = "func(self: borrow<output-stream>) -> result<_, stream-error>"
_ZEROES = "func(self: borrow<output-stream>, len: u64) -> result<_, stream-error>"
_SPLICE = "func(self: borrow<output-stream>, src: borrow<input-stream>, len: u64) -> result<u64, stream-error>"
_STREAM_SIGNATURES = declare_functions(
    declare_types({"stream-error": "variant { last-operation-failed(error), closed }"}, _RESOURCES),
    {
        "[method]input-stream.read": _READ,
        "[method]input-stream.blocking-read": _READ,
        "[method]input-stream.skip": _SKIP,
        "[method]input-stream.blocking-skip": _SKIP,
        "[method]input-stream.subscribe": "func(self: borrow<input-stream>) -> pollable",
        "[method]output-stream.check-write": "func(self: borrow<output-stream>) -> result<u64, stream-error>",
        "[method]output-stream.write": _WRITE,
        "[method]output-stream.blocking-write-and-flush": _WRITE,
        "[method]output-stream.flush": _FLUSH,
        "[method]output-stream.blocking-flush": _FLUSH,
        "[method]output-stream.subscribe": "func(self: borrow<output-stream>) -> pollable",
        "[method]output-stream.write-zeroes": _ZEROES,
        "[method]output-stream.blocking-write-zeroes-and-flush": _ZEROES,
        "[method]output-stream.splice": _SPLICE,
        "[method]output-stream.blocking-splice": _SPLICE,
    },
)


Pollable: TypeAlias = "int | Callable[[], bool]"
"""A moment in nanoseconds of the context's monotonic clock, or a condition."""


class IoHandles:
    """What one agent's guest holds of this package: `context.shared(IoHandles)`."""

    def __init__(self, _context: AgentContext) -> None:
        self.pollables: Table[Pollable] = Table("pollables", MAX_POLLABLES)
        self.inputs: Table[InputStream] = Table("input streams", MAX_STREAMS)
        self.outputs: Table[OutputStream] = Table("output streams", MAX_STREAMS)
        self.errors: Table[StreamFailedError] = Table("errors", MAX_ERRORS)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The three interfaces for one agent. None of them needs a grant: they reach only what other modules hand out."""
    handles = context.shared(IoHandles)
    poll = _Poll(context, handles.pollables)
    streams = _Streams(handles, poll)
    return (
        HostInterface(
            ERROR,
            bind(
                _ERROR_SIGNATURES,
                {"[method]error.to-debug-string": lambda number: str(handles.errors.get(number))},
            ),
            resources={"error": handles.errors.drop},
        ),
        HostInterface(
            POLL,
            bind(
                _POLL_SIGNATURES,
                {
                    "[method]pollable.ready": poll.ready,
                    "[method]pollable.block": poll.block,
                    "poll": poll.poll,
                },
            ),
            resources={"pollable": handles.pollables.drop},
        ),
        HostInterface(
            STREAMS,
            bind(
                _STREAM_SIGNATURES,
                {
                    "[method]input-stream.read": streams.read,
                    "[method]input-stream.blocking-read": streams.blocking_read,
                    "[method]input-stream.skip": streams.skip,
                    "[method]input-stream.blocking-skip": streams.blocking_skip,
                    "[method]input-stream.subscribe": streams.subscribe_input,
                    "[method]output-stream.check-write": streams.check_write,
                    "[method]output-stream.write": streams.write,
                    "[method]output-stream.blocking-write-and-flush": streams.blocking_write,
                    "[method]output-stream.flush": streams.flush,
                    "[method]output-stream.blocking-flush": streams.flush,
                    "[method]output-stream.subscribe": streams.subscribe_output,
                    "[method]output-stream.write-zeroes": streams.write_zeroes,
                    "[method]output-stream.blocking-write-zeroes-and-flush": streams.blocking_write_zeroes,
                    "[method]output-stream.splice": streams.splice,
                    "[method]output-stream.blocking-splice": streams.blocking_splice,
                },
            ),
            resources={"input-stream": handles.inputs.drop, "output-stream": handles.outputs.drop},
            uses={"error": ERROR, "pollable": POLL},
        ),
    )


class _Poll:
    def __init__(self, context: AgentContext, pollables: Table[Pollable]) -> None:
        self._now = context.clock.monotonic_ns
        self._wait = context.wait
        self._pollables = pollables

    def ready(self, handle: int) -> bool:
        """Whether the moment has come, or the condition holds."""
        return _is_ready(self._pollables.get(handle), self._now())

    def block(self, handle: int) -> None:
        """Wait for one pollable."""
        self.wait_for((self._pollables.get(handle),))

    def poll(self, handles: Sequence[int]) -> list[int]:
        """Wait for the first of several, and say which are ready. An empty list traps, as the text demands."""
        if not handles:
            raise EndAgentError(ExitCause.TRAP, "the guest polls an empty list")
        if len(handles) > MAX_POLLED:
            raise FleetError(Code.LIMIT_EXCEEDED, f"one poll may have {MAX_POLLED} pollables, not {len(handles)}")
        return self.wait_for([self._pollables.get(handle) for handle in handles])

    def wait_for(self, pollables: Sequence[Pollable]) -> list[int]:
        """Return the positions of those that are ready, once one is. A wait may end a little early."""
        moments = [pollable for pollable in pollables if isinstance(pollable, int)]
        only_moments = len(moments) == len(pollables)
        while True:
            now = self._now()
            ready = [position for position, pollable in enumerate(pollables) if _is_ready(pollable, now)]
            if ready:
                return ready
            wait = min(moments) - now if moments else LONGEST_WAIT_NS
            self._wait(wait if only_moments else min(wait, LONGEST_WAIT_NS))


def _is_ready(pollable: Pollable, now: int) -> bool:
    return pollable <= now if isinstance(pollable, int) else pollable()


class _Streams:
    def __init__(self, handles: IoHandles, poll: _Poll) -> None:
        self._handles = handles
        self._poll = poll

    def subscribe_input(self, handle: int) -> int:
        """A pollable that is ready when the stream is."""
        return self._handles.pollables.insert(self._handles.inputs.get(handle).ready)

    def subscribe_output(self, handle: int) -> int:
        """A pollable that is ready when the stream takes bytes, or has something to say."""
        stream = self._handles.outputs.get(handle)
        return self._handles.pollables.insert(lambda: _has_room(stream))

    def read(self, handle: int, length: int) -> Ok[bytes] | Err[Variant[int]]:
        """Take what is there."""
        stream = self._handles.inputs.get(handle)
        return self._answer(lambda: stream.read(min(length, MAX_READ)))

    def blocking_read(self, handle: int, length: int) -> Ok[bytes] | Err[Variant[int]]:
        """Take what is there, after waiting for it."""
        self._poll.wait_for((self._handles.inputs.get(handle).ready,))
        return self.read(handle, length)

    def skip(self, handle: int, length: int) -> Ok[int] | Err[Variant[int]]:
        """Take what is there, and say only how much that was."""
        stream = self._handles.inputs.get(handle)
        return self._answer(lambda: len(stream.read(min(length, MAX_READ))))

    def blocking_skip(self, handle: int, length: int) -> Ok[int] | Err[Variant[int]]:
        """The same, after waiting for it."""
        self._poll.wait_for((self._handles.inputs.get(handle).ready,))
        return self.skip(handle, length)

    def check_write(self, handle: int) -> Ok[int] | Err[Variant[int]]:
        """How much may be written at once."""
        return self._answer(self._handles.outputs.get(handle).room)

    def write(self, handle: int, contents: bytes) -> Ok[None] | Err[Variant[int]]:
        """Pass the bytes on. More than the stream has permitted ends the agent, as the text demands."""
        stream = self._handles.outputs.get(handle)
        return self._answer(lambda: _put(stream, contents))

    def blocking_write(self, handle: int, contents: bytes) -> Ok[None] | Err[Variant[int]]:
        """Pass the bytes on as there is room for them; more than `MAX_WRITE` ends the agent, as the text demands."""
        if len(contents) > MAX_WRITE:
            raise _too_much(len(contents), MAX_WRITE)
        stream = self._handles.outputs.get(handle)
        return self._answer(lambda: self._put_all(stream, contents))

    def write_zeroes(self, handle: int, count: int) -> Ok[None] | Err[Variant[int]]:
        """Write so many zero bytes."""
        stream = self._handles.outputs.get(handle)
        return self._answer(lambda: _put_zeroes(stream, count))

    def blocking_write_zeroes(self, handle: int, count: int) -> Ok[None] | Err[Variant[int]]:
        """Write so many zero bytes, no more than `MAX_WRITE`, as there is room for them."""
        if count > MAX_WRITE:
            raise _too_much(count, MAX_WRITE)
        return self.blocking_write(handle, bytes(count))

    def flush(self, handle: int) -> Ok[None] | Err[Variant[int]]:
        """Nothing is held back by a stream; one that failed says so."""
        stream = self._handles.outputs.get(handle)
        return self._answer(lambda: _check(stream))

    def splice(self, handle: int, source: int, length: int) -> Ok[int] | Err[Variant[int]]:
        """Move bytes that are there from an input, as far as there is room; returns how many."""
        stream, origin = self._handles.outputs.get(handle), self._handles.inputs.get(source)
        return self._answer(lambda: _move(stream, origin, length))

    def blocking_splice(self, handle: int, source: int, length: int) -> Ok[int] | Err[Variant[int]]:
        """The same, after waiting for room and for bytes."""
        stream = self._handles.outputs.get(handle)
        self._poll.wait_for((lambda: _has_room(stream),))
        self._poll.wait_for((self._handles.inputs.get(source).ready,))
        return self.splice(handle, source, length)

    def _put_all(self, stream: OutputStream, contents: bytes) -> None:
        rest = contents
        while rest:
            self._poll.wait_for((lambda: _has_room(stream),))
            room = stream.room()
            stream.write(rest[:room])
            rest = rest[room:]
        _check(stream)

    def _answer(self, operation: Callable[[], T]) -> Ok[T] | Err[Variant[int]]:
        try:
            return Ok(operation())
        except StreamClosedError:
            return Err(Variant("closed"))
        except StreamFailedError as error:
            return Err(Variant("last-operation-failed", self._handles.errors.insert(error)))


def _has_room(stream: OutputStream) -> bool:
    try:
        return stream.room() > 0
    except (StreamClosedError, StreamFailedError):
        return True


def _check(stream: OutputStream) -> None:
    stream.room()


def _put(stream: OutputStream, contents: bytes) -> None:
    room = stream.room()
    if len(contents) > room:
        raise _too_much(len(contents), room)
    stream.write(contents)


def _put_zeroes(stream: OutputStream, count: int) -> None:
    room = stream.room()
    if count > room:
        raise _too_much(count, room)
    stream.write(bytes(count))


def _move(stream: OutputStream, origin: InputStream, length: int) -> int:
    room = min(stream.room(), length, MAX_READ)
    contents = origin.read(room)
    if contents:
        stream.write(contents)
    return len(contents)


def _too_much(size: int, most: int) -> FleetError:
    return FleetError(Code.LIMIT_EXCEEDED, f"this write may have {most} bytes, not {size}")

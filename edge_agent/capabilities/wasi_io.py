"""`wasi:io` 0.2: streams, and waiting for moments.

Owns: what a guest holds of this package (`IoHandles`), from which clocks and standard streams hand out entries, and
every function that a guest may wait in. Each wait ends with the deadline of the call (`AgentContext.wait`).

- A pollable is a moment of the monotonic clock: nothing else can be waited for, since no stream here ever blocks.
- An input stream is at its end from the start.
- An output stream takes up to `MAX_WRITE` bytes at a time and is always ready: what becomes of the bytes, and how
  many of them are kept, is the business of the module that handed the stream out.
- No error resource is ever made, since no stream fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_agent.capabilities.base import EndAgentError, HostInterface, Table, bind, declare_functions, declare_types
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.wit_types import Err, Ok, OwnType, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext
    from fleet.wit_types import WitType

ERROR = "wasi:io/error@0.2.12"
POLL = "wasi:io/poll@0.2.12"
STREAMS = "wasi:io/streams@0.2.12"

ALWAYS = 0
"""Moment of a pollable that is ready from the start."""

MAX_WRITE = 4096
"""Bytes of one write: what the interface allows for a blocking one, here for each."""

MAX_POLLED = 1024
"""Pollables of one `poll`."""

MAX_POLLABLES = 512
"""Pollables that an agent may hold."""

MAX_STREAMS = 64
"""Streams of each direction that an agent may hold."""

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


class IoHandles:
    """What one agent's guest holds of this package: `context.shared(IoHandles)`.

    Attributes:
        pollables: moment from which each is ready, in nanoseconds of the context's monotonic clock.
        inputs: input streams, all at their end.
        outputs: what takes the bytes of each output stream.
    """

    def __init__(self, _context: AgentContext) -> None:
        self.pollables: Table[int] = Table("pollables", MAX_POLLABLES)
        self.inputs: Table[None] = Table("input streams", MAX_STREAMS)
        self.outputs: Table[Callable[[bytes], None]] = Table("output streams", MAX_STREAMS)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The three interfaces for one agent. None of them needs a grant: they reach only what other modules hand out."""
    handles = context.shared(IoHandles)
    poll = _Poll(context, handles.pollables)
    streams = _Streams(handles)
    return (
        HostInterface(
            ERROR,
            bind(_ERROR_SIGNATURES, {"[method]error.to-debug-string": _no_error}),
            resources={"error": _no_error},
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
                    "[method]input-stream.read": _at_end,
                    "[method]input-stream.blocking-read": _at_end,
                    "[method]input-stream.skip": _at_end,
                    "[method]input-stream.blocking-skip": _at_end,
                    "[method]input-stream.subscribe": streams.subscribe,
                    "[method]output-stream.check-write": streams.check_write,
                    "[method]output-stream.write": streams.write,
                    "[method]output-stream.blocking-write-and-flush": streams.write,
                    "[method]output-stream.flush": streams.flush,
                    "[method]output-stream.blocking-flush": streams.flush,
                    "[method]output-stream.subscribe": streams.subscribe,
                    "[method]output-stream.write-zeroes": streams.write_zeroes,
                    "[method]output-stream.blocking-write-zeroes-and-flush": streams.write_zeroes,
                    # Whatever is spliced comes from an input stream.
                    "[method]output-stream.splice": _at_end,
                    "[method]output-stream.blocking-splice": _at_end,
                },
            ),
            resources={"input-stream": handles.inputs.drop, "output-stream": handles.outputs.drop},
            uses={"error": ERROR, "pollable": POLL},
        ),
    )


class _Poll:
    def __init__(self, context: AgentContext, pollables: Table[int]) -> None:
        self._now = context.clock.monotonic_ns
        self._wait = context.wait
        self._pollables = pollables

    def ready(self, handle: int) -> bool:
        """Whether the moment has come."""
        return self._pollables.get(handle) <= self._now()

    def block(self, handle: int) -> None:
        """Wait for the moment."""
        self._wait_until(self._pollables.get(handle))

    def poll(self, handles: Sequence[int]) -> list[int]:
        """Wait for the first of several moments, and say which have come. An empty list traps, as the text demands."""
        if not handles:
            raise EndAgentError(ExitCause.TRAP, "the guest polls an empty list")
        if len(handles) > MAX_POLLED:
            raise FleetError(Code.LIMIT_EXCEEDED, f"one poll may have {MAX_POLLED} pollables, not {len(handles)}")
        moments = [self._pollables.get(handle) for handle in handles]
        now = self._wait_until(min(moments))
        return [position for position, moment in enumerate(moments) if moment <= now]

    def _wait_until(self, moment: int) -> int:
        """Return the time at which the moment has come. A wait may end a little early."""
        while (now := self._now()) < moment:
            self._wait(moment - now)
        return now


class _Streams:
    def __init__(self, handles: IoHandles) -> None:
        self._handles = handles

    def subscribe(self, _handle: int) -> int:
        """A pollable that is ready: an input at its end and an output that takes everything never make one wait."""
        return self._handles.pollables.insert(ALWAYS)

    def check_write(self, _handle: int) -> Ok[int]:
        """How much may be written at once."""
        return Ok(MAX_WRITE)

    def write(self, handle: int, contents: bytes) -> Ok[None]:
        """Pass the bytes on. More than the stream has permitted ends the agent, as the text demands."""
        if len(contents) > MAX_WRITE:
            raise _too_much(len(contents))
        self._handles.outputs.get(handle)(contents)
        return Ok(None)

    def write_zeroes(self, handle: int, count: int) -> Ok[None]:
        """Write so many zero bytes."""
        if count > MAX_WRITE:
            raise _too_much(count)
        return self.write(handle, bytes(count))

    def flush(self, _handle: int) -> Ok[None]:
        """Nothing is held back by a stream."""
        return Ok(None)


def _at_end(*_: int) -> Err[Variant[None]]:
    return Err(Variant("closed"))


def _too_much(size: int) -> FleetError:
    return FleetError(Code.LIMIT_EXCEEDED, f"one write may have {MAX_WRITE} bytes, not {size}")


def _no_error(number: int) -> NoReturn:
    raise RuntimeError(f"error {number} was never made")

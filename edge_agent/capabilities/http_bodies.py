"""Functions of bodies, futures and options of `wasi:http/types`.

Owns: what a guest does with a body it reads or writes, with an answer that has still to come, and with the place where
the answer to an incoming request goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.http_client import Timeouts
from edge_agent.capabilities.http_fields import Fields
from edge_agent.capabilities.http_policy import HttpError
from edge_agent.capabilities.http_types import (
    FutureTrailers,
    HttpHandles,
    IncomingMessage,
    OutgoingMessage,
    RequestOptions,
    Result,
)
from edge_agent.capabilities.wasi_io import IoHandles
from fleet.wit_types import Err, Ok, Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.http_body import Inflow

ErrorCode = Variant[object]

_SECOND_NS = 1_000_000_000


class BodyFunctions:
    """Functions of bodies and futures, for one agent."""

    def __init__(self, context: AgentContext) -> None:
        self._handles = context.shared(HttpHandles)
        self._io = context.shared(IoHandles)

    def error_code(self, error: int) -> ErrorCode | None:
        """What kind of failure of HTTP a stream's error is, if it is one."""
        kind = self._io.errors.get(error).kind
        return kind if isinstance(kind, Variant) else None

    def read(self, handle: int) -> Ok[int] | Err[None]:
        """Stream of an incoming body, once."""
        body = self._handles.bodies_in.get(handle)
        if body.streamed:
            return Err(None)
        number = self._io.inputs.insert(body.flow)
        body.streamed = True
        return Ok(number)

    def finish_reading(self, handle: int) -> int:
        """Be done with an incoming body: what was not read goes by."""
        flow = self._handles.bodies_in.take(handle).flow
        if not flow.over():
            flow.discard()
        return self._handles.trailers.insert(FutureTrailers(flow))

    def drop_incoming(self, handle: int) -> None:
        """Destructor: without `finish`, nobody wants the rest."""
        flow = self._handles.bodies_in.take(handle).flow
        if not flow.over():
            flow.cancel()

    def trailers_come(self, handle: int) -> int:
        """A pollable that is ready when the trailers are there."""
        return self._io.pollables.insert(self._handles.trailers.get(handle).flow.over)

    def trailers(self, handle: int) -> Ok[Ok[int | None] | Err[ErrorCode]] | Err[None] | None:
        """The trailers, once they are there; an error the second time."""
        future = self._handles.trailers.get(handle)
        if future.taken:
            return Err(None)
        if not future.flow.over():
            return None
        future.taken = True
        return Ok(self._trailers(future.flow))

    def _trailers(self, flow: Inflow) -> Ok[int | None] | Err[ErrorCode]:
        try:
            entries = flow.trailers()
        except HttpError as error:
            return Err(error.code)
        return Ok(self._handles.fields.insert(Fields(entries, mutable=False)) if entries else None)

    def write(self, handle: int) -> Ok[int] | Err[None]:
        """Stream of an outgoing body, once."""
        body = self._handles.bodies_out.get(handle)
        if body.streamed:
            return Err(None)
        number = self._io.outputs.insert(body.flow)
        body.streamed = True
        return Ok(number)

    def finish_writing(self, handle: int, trailers: int | None) -> Ok[None] | Err[ErrorCode]:
        """Say that an outgoing body is whole."""
        flow = self._handles.bodies_out.take(handle).flow
        entries = [] if trailers is None else self._handles.fields.take(trailers).entries
        try:
            flow.finish(entries)
        except HttpError as error:
            return Err(error.code)
        return Ok(None)

    def drop_outgoing(self, handle: int) -> None:
        """Destructor: without `finish` the body is not whole."""
        self._handles.bodies_out.take(handle).flow.abandon()

    def response_comes(self, handle: int) -> int:
        """A pollable that is ready when the answer is there."""
        return self._io.pollables.insert(self._handles.responses.get(handle).sending.ready)

    def response(self, handle: int) -> Ok[Ok[int] | Err[ErrorCode]] | Err[None] | None:
        """The answer, once it is there; an error the second time."""
        future = self._handles.responses.get(handle)
        if future.taken:
            return Err(None)
        if not future.sending.ready():
            return None
        outcome = future.sending.outcome()
        if isinstance(outcome, HttpError):
            future.taken = True
            future.sending.cancel()
            return Ok(Err(outcome.code))
        message = IncomingMessage(Fields(outcome.headers, mutable=False), outcome.body, status=outcome.status)
        number = self._handles.responses_in.insert(message)
        future.taken = True
        return Ok(Ok(number))

    def drop_response(self, handle: int) -> None:
        """Destructor."""
        self._handles.responses.take(handle).drop()

    def answer(self, place: int, response: Ok[int] | Err[ErrorCode]) -> None:
        """Answer an incoming request."""
        put: Callable[[OutgoingMessage | HttpError], None] = self._handles.places.take(place)
        if isinstance(response, Ok):
            put(self._handles.responses_out.take(response.value))
        else:
            put(HttpError(response.value.case, response.value.payload))


class OptionFunctions:
    """Functions of the resource `request-options`."""

    def __init__(self, handles: HttpHandles) -> None:
        self._options = handles.options

    def new(self) -> int:
        """Nothing asked for."""
        return self._options.insert(RequestOptions())

    def getter(self, name: str) -> Callable[[int], int | None]:
        """The function that tells one timeout."""
        return lambda handle: self._options.get(handle).timeouts.get(name)

    def setter(self, name: str) -> Callable[[int, int | None], Result]:
        """The function that sets one timeout, in nanoseconds."""

        def set_timeout(handle: int, duration: int | None) -> Result:
            self._options.get(handle).timeouts[name] = duration
            return Ok(None)

        return set_timeout

    def take(self, handle: int | None) -> Timeouts:
        """What a request shall wait; the host's own values where the guest has none."""
        if handle is None:
            return Timeouts()
        asked = self._options.take(handle).timeouts
        usual = Timeouts()
        return Timeouts(
            _seconds(asked.get("connect-timeout"), usual.connect),
            _seconds(asked.get("first-byte-timeout"), usual.first_byte),
            _seconds(asked.get("between-bytes-timeout"), usual.between_bytes),
        )


def _seconds(duration: int | None, usual: float) -> float:
    return usual if duration is None else duration / _SECOND_NS

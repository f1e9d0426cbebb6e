"""Resources of `wasi:http/types`: messages, bodies and futures that a guest holds by number.

Owns: `HttpHandles`, the tables of one agent, and the functions of its messages. `http_bodies` has those of bodies and
futures; requests are sent by `http_client` and come in by `http_server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from edge_agent.capabilities.base import Table
from edge_agent.capabilities.http_body import Inflow, Outflow
from edge_agent.capabilities.http_fields import Fields, FieldsError
from edge_agent.capabilities.http_policy import (
    is_method,
    is_path,
    method_text,
    method_variant,
    read_authority,
)
from fleet.wit_types import Err, Ok, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.http_client import Sending
    from edge_agent.capabilities.http_policy import HttpError

T = TypeVar("T")

MAX_FIELDS = 512
"""Lists of fields that an agent may hold."""

MAX_MESSAGES = 128
"""Messages, bodies and futures of each kind that an agent may hold."""

Result = Ok[None] | Err[None]

_FAILED: Err[None] = Err(None)
_DONE: Ok[None] = Ok(None)


@dataclass(slots=True)
class IncomingMessage:
    """A request or a response that came in; what does not apply is empty.

    Attributes:
        consumed: whether the body was given out.
    """

    headers: Fields
    body: Inflow
    status: int = 0
    method: str = ""
    path: str | None = None
    scheme: str | None = None
    authority: str | None = None
    consumed: bool = False

    def drop(self) -> None:
        """The guest lets go; a body that it did not take is of no use to anybody."""
        if not self.consumed:
            self.body.cancel()


@dataclass(frozen=True, slots=True)
class AttachedSecret:
    """A header that the host adds when it sends a request.

    Attributes:
        name: of the secret, as grants name it.
        prefix: what comes before its value.
        value: overwritten when the agent ends; an empty one is never sent.
    """

    name: str
    header: str
    prefix: bytes
    value: bytearray = field(repr=False)


@dataclass(slots=True)
class OutgoingMessage:
    """A request or a response in the making.

    Attributes:
        length: what its headers declare.
        body: None until the guest asks for it.
        secrets: headers that the guest does not see (`edge_agent.capabilities.secrets`).
    """

    headers: Fields
    length: int | None
    status: int = 200
    method: str = "GET"
    path: str | None = None
    scheme: str | None = None
    authority: str | None = None
    body: Outflow | None = None
    secrets: list[AttachedSecret] = field(default_factory=list)


@dataclass(slots=True)
class IncomingBody:
    """The body of an incoming message; `streamed` once its stream was given out."""

    flow: Inflow
    streamed: bool = False


@dataclass(slots=True)
class OutgoingBody:
    """The body of an outgoing message; `streamed` once its stream was given out."""

    flow: Outflow
    streamed: bool = False


@dataclass(slots=True)
class FutureTrailers:
    """The end of an incoming body; `taken` once a guest has it."""

    flow: Inflow
    taken: bool = False


@dataclass(slots=True)
class FutureResponse:
    """The answer to a request; `taken` once a guest has it."""

    sending: Sending
    taken: bool = False

    def drop(self) -> None:
        """The guest lets go: what it did not take nobody will."""
        if not self.taken:
            self.sending.cancel()


@dataclass(slots=True)
class RequestOptions:
    """Nanoseconds that a guest wants to wait for what."""

    timeouts: dict[str, int | None] = field(default_factory=dict)


class HttpHandles:
    """What one agent's guest holds of this package: `context.shared(HttpHandles)`."""

    def __init__(self, context: AgentContext) -> None:
        self.wake = context.wake
        self.fields: Table[Fields] = Table("lists of fields", MAX_FIELDS)
        self.requests_in: Table[IncomingMessage] = Table("incoming requests", MAX_MESSAGES)
        self.requests_out: Table[OutgoingMessage] = Table("outgoing requests", MAX_MESSAGES)
        self.responses_in: Table[IncomingMessage] = Table("incoming responses", MAX_MESSAGES)
        self.responses_out: Table[OutgoingMessage] = Table("outgoing responses", MAX_MESSAGES)
        self.bodies_in: Table[IncomingBody] = Table("incoming bodies", MAX_MESSAGES)
        self.bodies_out: Table[OutgoingBody] = Table("outgoing bodies", MAX_MESSAGES)
        self.trailers: Table[FutureTrailers] = Table("future trailers", MAX_MESSAGES)
        self.responses: Table[FutureResponse] = Table("future responses", MAX_MESSAGES)
        self.options: Table[RequestOptions] = Table("request options", MAX_MESSAGES)
        self.places: Table[Callable[[OutgoingMessage | HttpError], None]] = Table("response places", MAX_MESSAGES)


class FieldFunctions:
    """Functions of the resource `fields`."""

    def __init__(self, handles: HttpHandles) -> None:
        self._fields = handles.fields

    def new(self) -> int:
        """An empty list."""
        return self._fields.insert(Fields())

    def from_list(self, entries: Sequence[tuple[str, bytes]]) -> Ok[int] | Err[Variant[None]]:
        """A list with these entries."""
        return _changed(lambda: self._fields.insert(Fields.of(entries)))

    def get(self, handle: int, name: str) -> list[bytes]:
        """All values of a name."""
        return self._fields.get(handle).get(name)

    def has(self, handle: int, name: str) -> bool:
        """Whether there is a value."""
        return bool(self._fields.get(handle).get(name))

    def set(self, handle: int, name: str, values: Sequence[bytes]) -> Ok[None] | Err[Variant[None]]:
        """Replace all values of a name."""
        return _changed(lambda: self._fields.get(handle).set(name, values))

    def append(self, handle: int, name: str, value: bytes) -> Ok[None] | Err[Variant[None]]:
        """Add a value."""
        return _changed(lambda: self._fields.get(handle).append(name, value))

    def delete(self, handle: int, name: str) -> Ok[None] | Err[Variant[None]]:
        """Take a name away."""
        return _changed(lambda: self._fields.get(handle).delete(name))

    def entries(self, handle: int) -> list[tuple[str, bytes]]:
        """Everything, in order."""
        return list(self._fields.get(handle).entries)

    def clone(self, handle: int) -> int:
        """A copy that can be changed."""
        return self._fields.insert(Fields(self._fields.get(handle).entries))


class IncomingFunctions:
    """Functions of requests and responses that came in."""

    def __init__(self, handles: HttpHandles, messages: Table[IncomingMessage]) -> None:
        self._handles = handles
        self._messages = messages

    def status(self, handle: int) -> int:
        """Three digits."""
        return self._messages.get(handle).status

    def method(self, handle: int) -> Variant[str]:
        """What is wanted."""
        return method_variant(self._messages.get(handle).method)

    def path(self, handle: int) -> str | None:
        """Path and query."""
        return self._messages.get(handle).path

    def scheme(self, handle: int) -> Variant[str] | None:
        """How the request came."""
        return _scheme_variant(self._messages.get(handle).scheme)

    def authority(self, handle: int) -> str | None:
        """Who was asked."""
        return self._messages.get(handle).authority

    def headers(self, handle: int) -> int:
        """The headers, not to be changed."""
        return self._handles.fields.insert(self._messages.get(handle).headers.frozen())

    def consume(self, handle: int) -> Ok[int] | Err[None]:
        """The body, once."""
        message = self._messages.get(handle)
        if message.consumed:
            return _FAILED
        number = self._handles.bodies_in.insert(IncomingBody(message.body))
        message.consumed = True
        return Ok(number)

    def drop(self, handle: int) -> None:
        """Destructor."""
        self._messages.take(handle).drop()


class OutgoingFunctions:
    """Functions of requests and responses in the making.

    Args:
        handles: of the agent.
        messages: the table of one kind.
        too_large: case of the error for a body of another size than it may have.
    """

    def __init__(self, handles: HttpHandles, messages: Table[OutgoingMessage], too_large: str) -> None:
        self._handles = handles
        self._messages = messages
        self._too_large = too_large

    def new(self, headers: int) -> int:
        """A message with these headers, which nobody can change any more."""
        fields = self._handles.fields.take(headers).frozen()
        try:
            length = fields.length()
        except FieldsError:
            # The constructor has no error: a length that is none is left out, and the body is framed without it.
            fields = Fields(
                ((name, value) for name, value in fields.entries if name.lower() != "content-length"), mutable=False
            )
            length = None
        return self._messages.insert(OutgoingMessage(fields, length))

    def headers(self, handle: int) -> int:
        """The headers, not to be changed."""
        return self._handles.fields.insert(self._messages.get(handle).headers)

    def body(self, handle: int) -> Ok[int] | Err[None]:
        """The body, once."""
        message = self._messages.get(handle)
        if message.body is not None:
            return _FAILED
        flow = Outflow(self._handles.wake, message.length, self._too_large)
        number = self._handles.bodies_out.insert(OutgoingBody(flow))
        message.body = flow
        return Ok(number)

    def status(self, handle: int) -> int:
        """Three digits."""
        return self._messages.get(handle).status

    def set_status(self, handle: int, status: int) -> Result:
        """Three digits; 1xx is no final answer (RFC 9110, section 15)."""
        if not 200 <= status <= 599:
            return _FAILED
        self._messages.get(handle).status = status
        return _DONE

    def method(self, handle: int) -> Variant[str]:
        """What is wanted."""
        return method_variant(self._messages.get(handle).method)

    def set_method(self, handle: int, method: Variant[str]) -> Result:
        """Want something."""
        text = method_text(method)
        if not is_method(text):
            return _FAILED
        self._messages.get(handle).method = text
        return _DONE

    def path(self, handle: int) -> str | None:
        """Path and query."""
        return self._messages.get(handle).path

    def set_path(self, handle: int, path: str | None) -> Result:
        """Path and query; the empty one is `/`."""
        if path and not is_path(path):
            return _FAILED
        self._messages.get(handle).path = path
        return _DONE

    def scheme(self, handle: int) -> Variant[str] | None:
        """How to reach the server."""
        return _scheme_variant(self._messages.get(handle).scheme)

    def set_scheme(self, handle: int, scheme: Variant[str] | None) -> Result:
        """How to reach the server."""
        self._messages.get(handle).scheme = None if scheme is None else scheme.payload or scheme.case.lower()
        return _DONE

    def authority(self, handle: int) -> str | None:
        """Host and port."""
        return self._messages.get(handle).authority

    def set_authority(self, handle: int, authority: str | None) -> Result:
        """Host and port."""
        if authority is not None and read_authority(authority) is None:
            return _FAILED
        self._messages.get(handle).authority = authority
        return _DONE

    def drop(self, handle: int) -> None:
        """Destructor. A body that the guest still holds goes nowhere."""
        body = self._messages.take(handle).body
        if body is not None:
            body.shut()


def _scheme_variant(scheme: str | None) -> Variant[str] | None:
    if scheme is None:
        return None
    return Variant(scheme.upper()) if scheme in ("http", "https") else Variant("other", scheme)


def _changed(change: Callable[[], T]) -> Ok[T] | Err[Variant[None]]:
    try:
        return Ok(change())
    except FieldsError as error:
        return Err(Variant(str(error)))

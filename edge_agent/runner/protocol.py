"""Messages between supervisor, zygote, runners and compile workers, and their frames.

Owns: one frozen dataclass per message, `encode`, `decode` and `FrameBuffer`. Pure: sockets are in
`edge_agent.runner.connection` (blocking, in the children) and `edge_agent.runner.channel` (asyncio, in the supervisor).

A frame is a length (4 bytes, big-endian, of what follows) and one JSON object in exactly the form that `dump_json`
writes, so that one message has one encoding: white space, duplicate keys, NaN, lone surrogates and unknown fields are
refused. The field `type` is the name of the class. `FDS` is the number of file descriptors that travel with a message.

The supervisor reads what runners send, and a runner may be in the hands of its guest: every field is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar, get_args

from fleet.documents import Reader, dump_json
from fleet.errors import Code, FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAME = 8 << 20
"""Bytes of one frame without its length; a result or log batch that is larger is refused by the sender."""

MAX_ITEMS = 4096
"""Items of any list or mapping inside a message."""

_MAX_INT = (1 << 63) - 1
_LENGTH = 4


class Role(StrEnum):
    """What a forked child becomes."""

    RUNNER = "runner"
    COMPILER = "compiler"


@dataclass(frozen=True, slots=True)
class Fault:
    """A `FleetError` on its way to another process of the same node."""

    code: Code
    message: str
    detail: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: FleetError) -> Fault:
        """Describe an error."""
        return cls(error.code, error.private, {key: str(value) for key, value in error.detail.items()})

    def error(self) -> FleetError:
        """Return the error again."""
        return FleetError(self.code, self.message, **self.detail)


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of one agent since its start."""

    calls: int = 0
    errors: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line that an agent logged; `at_ms` is milliseconds since the Unix epoch."""

    agent: str
    at_ms: int
    level: str
    context: str
    message: str


@dataclass(frozen=True, slots=True)
class _Message:
    FDS: ClassVar[int] = 0


# --- supervisor <-> zygote ---


@dataclass(frozen=True, slots=True)
class Hello(_Message):
    """First message of a zygote: it takes requests."""

    pid: int


@dataclass(frozen=True, slots=True)
class Fork(_Message):
    """Fork a child; the descriptor is its control socket. `child` is the supervisor's number for it."""

    FDS: ClassVar[int] = 1
    child: int
    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class Forked(_Message):
    """The child runs."""

    child: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed(_Message):
    """The system has no room for another process."""

    child: int
    message: str


@dataclass(frozen=True, slots=True)
class Kill(_Message):
    """End a child with SIGKILL; one that has ended already is ignored."""

    child: int


@dataclass(frozen=True, slots=True)
class ChildExited(_Message):
    """A child ended: exit status `status`, or killed by signal number `signal` (0 when it was not)."""

    child: int
    status: int
    signal: int


# --- supervisor <-> compile worker ---


@dataclass(frozen=True, slots=True)
class Describe(_Message):
    """Ask what the engine compiles to."""


@dataclass(frozen=True, slots=True)
class EngineDescribed(_Message):
    """Version, configuration and processor of the engine as one hash, without and with counting of fuel."""

    plain: str
    fuel: str


@dataclass(frozen=True, slots=True)
class Compile(_Message):
    """Compile the component in the descriptor, if its digest is this one; `fuel` is 1 for an engine that counts it."""

    FDS: ClassVar[int] = 1
    digest: str
    fuel: int


@dataclass(frozen=True, slots=True)
class Compiled(_Message):
    """The descriptor is a sealed memory file with the machine code."""

    FDS: ClassVar[int] = 1
    size: int


@dataclass(frozen=True, slots=True)
class CompileFailed(_Message):
    """The component does not compile."""

    fault: Fault


# --- supervisor <-> runner ---


@dataclass(frozen=True, slots=True)
class StartAgent(_Message):
    """Start an agent; the descriptor is the sealed memory file with its machine code."""

    FDS: ClassVar[int] = 1
    agent: str
    authority: str
    deny_stubs: tuple[str, ...]
    config: Mapping[str, str]
    models: Mapping[str, str]
    state_dir: str


@dataclass(frozen=True, slots=True)
class AgentStarted(_Message):
    """The instance exists and can be called."""

    agent: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class StartFailed(_Message):
    """The agent does not run."""

    agent: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class CallAgent(_Message):
    """Call an exported function; `call` is the supervisor's number for it."""

    call: int
    agent: str
    invocation: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class CallDone(_Message):
    """The call returned `output` (WAVE text, empty for no result)."""

    call: int
    agent: str
    output: str
    duration_us: int
    counters: Counters


@dataclass(frozen=True, slots=True)
class CallFailed(_Message):
    """The call did not return."""

    call: int
    agent: str
    fault: Fault
    counters: Counters


@dataclass(frozen=True, slots=True)
class StopAgent(_Message):
    """End an agent after the call that runs, or after `grace_ms`."""

    agent: str
    grace_ms: int


@dataclass(frozen=True, slots=True)
class AgentStopped(_Message):
    """Answer to `StopAgent`: the agent is gone, or never was."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentEnded(_Message):
    """The agent ended by itself; `backtrace` is the engine's, for the log."""

    agent: str
    cause: ExitCause
    message: str
    backtrace: str


@dataclass(frozen=True, slots=True)
class Logged(_Message):
    """What agents logged, oldest first; `dropped` lines were lost because the supervisor was slow."""

    entries: tuple[LogEntry, ...]
    dropped: int


Message: TypeAlias = (
    Hello
    | Fork
    | Forked
    | ForkFailed
    | Kill
    | ChildExited
    | Describe
    | EngineDescribed
    | Compile
    | Compiled
    | CompileFailed
    | StartAgent
    | AgentStarted
    | StartFailed
    | CallAgent
    | CallDone
    | CallFailed
    | StopAgent
    | AgentStopped
    | AgentEnded
    | Logged
)

KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}
"""Message classes by name."""


E = TypeVar("E", bound=StrEnum)


def _member(reader: Reader, key: str, kind: type[E]) -> E:
    text = reader.text(key)
    try:
        return kind(text)
    except ValueError as error:
        raise FleetError(reader.code, f"{text!r} is not a {kind.__name__}", place=reader.at(key)) from error


def _natural(reader: Reader, key: str) -> int:
    return reader.integer(key, 0, _MAX_INT)


def _entries(reader: Reader, key: str) -> tuple[LogEntry, ...]:
    entries: list[LogEntry] = []
    for value, place in reader.items(key, MAX_ITEMS):
        with Reader(value, reader.code, place) as item:
            entries.append(LogEntry(**_read_fields(LogEntry, item)))
    return tuple(entries)


# Field readers by annotation: a new kind of field fails at import, not at the first message that has it.
_FIELD_READERS: dict[str, Callable[[Reader, str], object]] = {
    "str": Reader.text,
    "int": _natural,
    "tuple[str, ...]": lambda reader, key: reader.texts(key, MAX_ITEMS),
    "Mapping[str, str]": lambda reader, key: reader.mapping(key, MAX_ITEMS),
    "tuple[LogEntry, ...]": _entries,
    "Code": lambda reader, key: _member(reader, key, Code),
    "ExitCause": lambda reader, key: _member(reader, key, ExitCause),
    "Role": lambda reader, key: _member(reader, key, Role),
    "Fault": lambda reader, key: reader.section(key, lambda inner: Fault(**_read_fields(Fault, inner))),
    "Counters": lambda reader, key: reader.section(key, lambda inner: Counters(**_read_fields(Counters, inner))),
}
_LAYOUT: dict[type, dict[str, Callable[[Reader, str], object]]] = {
    kind: {item.name: _FIELD_READERS[str(item.type)] for item in fields(kind)}
    for kind in (*KINDS.values(), Fault, Counters, LogEntry)
}


def _read_fields(kind: type, reader: Reader) -> dict[str, Any]:
    return {name: read(reader, name) for name, read in _LAYOUT[kind].items()}


def _plain(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return {name: _plain(getattr(value, name)) for name in _LAYOUT[type(value)]}


def encode(message: Message) -> bytes:
    """Write a message as one frame.

    Raises:
        FleetError: LIMIT_EXCEEDED above `MAX_FRAME` bytes, MESSAGE_INVALID for text that is not Unicode.
    """
    value = {"type": type(message).__name__}
    value |= {name: _plain(getattr(message, name)) for name in _LAYOUT[type(message)]}  # type: ignore[misc]
    try:
        payload = dump_json(value)
    except UnicodeEncodeError as error:
        raise FleetError(Code.MESSAGE_INVALID, f"{type(message).__name__} holds a lone surrogate") from error
    if len(payload) > MAX_FRAME:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{type(message).__name__} has {len(payload)} bytes", limit=MAX_FRAME)
    return len(payload).to_bytes(_LENGTH, "big") + payload


def decode(payload: bytes) -> Message:
    """Read the payload of one frame.

    Raises:
        FleetError: MESSAGE_INVALID for anything that `encode` does not write.
    """
    try:
        value = json.loads(payload)
        canonical = dump_json(value) == payload
    except (ValueError, RecursionError) as error:
        raise FleetError(Code.MESSAGE_INVALID, "the message is not JSON") from error
    if not canonical:
        raise FleetError(Code.MESSAGE_INVALID, "the message is not in its one encoding")
    with Reader(value, Code.MESSAGE_INVALID, "message") as top:
        name = top.text("type")
        kind = KINDS.get(name)
        if kind is None:
            top.fail("type", f"unknown message {name!r}")
        return kind(**_read_fields(kind, top))


class FrameBuffer:
    """Cuts a stream of bytes into payloads."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they arrived."""
        self._data += data

    def next(self) -> bytes | None:
        """Return the payload of the next complete frame, or None.

        Raises:
            FleetError: MESSAGE_INVALID when the length is zero or above `MAX_FRAME`; the stream is then useless.
        """
        if len(self._data) < _LENGTH:
            return None
        size = int.from_bytes(self._data[:_LENGTH], "big")
        if not 0 < size <= MAX_FRAME:
            raise FleetError(Code.MESSAGE_INVALID, f"a frame of {size} bytes", limit=MAX_FRAME)
        if len(self._data) < _LENGTH + size:
            return None
        payload = bytes(self._data[_LENGTH : _LENGTH + size])
        del self._data[: _LENGTH + size]
        return payload

    @property
    def empty(self) -> bool:
        """Whether no part of a frame waits for its rest."""
        return not self._data

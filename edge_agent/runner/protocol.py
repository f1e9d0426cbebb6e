"""Frames of messages between supervisor, zygote, runners and compile workers.

Owns: `encode`, `decode` and `FrameBuffer`. Pure: sockets are in `edge_agent.runner.connection` (blocking, in the
children) and `edge_agent.runner.channel` (asyncio, in the supervisor).

A frame is a length (4 bytes, big-endian, of what follows) and one JSON object in exactly the form that `dump_json`
writes, so that one message has one encoding: white space, duplicate keys, NaN, lone surrogates and unknown fields are
refused. The field `type` is the name of the class.

The supervisor reads what runners send, and a runner may be in the hands of its guest: every field is checked here.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from edge_agent.fusion import Wire
from edge_agent.health import Health
from edge_agent.runner.message_values import HostCalls, LogEntry, Measures, ModelEntry, PartEntry, Role, SecretEntry
from edge_agent.runner.messages import (
    KINDS,
    AgentEnded,
    Counters,
    Fault,
    Message,
    StartAgent,
)
from edge_agent.runtime import BusMessage, SensorState
from fleet.documents import Reader, dump_json
from fleet.errors import Code, FleetError
from fleet.health import MAX_INTERFACES, HealthPolicy
from fleet.model import ExitCause, QueuePolicy
from fleet.sealing import SecretKind
from fleet.wit import is_interface

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAME = 8 << 20
"""Bytes of one frame without its length; a result or log batch that is larger is refused by the sender."""

MAX_MESSAGE = 1 << 20
"""Bytes of one message of the bus."""

MAX_ITEMS = 4096
"""Items of any list or mapping inside a message."""

_MAX_INT = (1 << 63) - 1
_LENGTH = 4

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def _member(reader: Reader, key: str, kind: type[E]) -> E:
    text = reader.text(key)
    try:
        return kind(text)
    except ValueError as error:
        raise FleetError(reader.code, f"{text!r} is not a {kind.__name__}", place=reader.at(key)) from error


def _natural(reader: Reader, key: str) -> int:
    return reader.integer(key, 0, _MAX_INT)


def _bytes(reader: Reader, key: str) -> bytes:
    text = reader.text(key)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FleetError(reader.code, "is not base64", place=reader.at(key)) from error
    if base64.b64encode(data).decode() != text:  # bits that belong to no byte
        reader.fail(key, "is not in its one base64 form")
    return data


def _entries(kind: type[T]) -> Callable[[Reader, str], tuple[T, ...]]:
    def read(reader: Reader, key: str) -> tuple[T, ...]:
        entries: list[T] = []
        for value, place in reader.items(key, MAX_ITEMS):
            with Reader(value, reader.code, place) as item:
                entries.append(kind(**_read_fields(kind, item)))
        return tuple(entries)

    return read


def _bus_message(reader: Reader) -> BusMessage:
    message = BusMessage(**_read_fields(BusMessage, reader))
    if len(message.data) > MAX_MESSAGE or len(message.metadata) % 2:
        reader.fail("data", f"a message has {MAX_MESSAGE} bytes at most, and a value for each name of its metadata")
    return message


def _measures(reader: Reader) -> Measures:
    """Read what goes on to the coordinator, which refuses the whole report of a node for one field."""
    measures = Measures(**_read_fields(Measures, reader))
    names = {entry.interface for entry in measures.host_calls}
    if len(names) < len(measures.host_calls) or len(names) > MAX_INTERFACES or not all(map(is_interface, names)):
        reader.fail("host_calls", f"expected interfaces, each once, {MAX_INTERFACES} at most")
    return measures


# Field readers by annotation: a new kind of field fails at import, not at the first message that has it.
_FIELD_READERS: dict[str, Callable[[Reader, str], object]] = {
    "str": Reader.text,
    "int": _natural,
    "bytes": _bytes,
    "tuple[str, ...]": lambda reader, key: reader.texts(key, MAX_ITEMS),
    "Mapping[str, str]": lambda reader, key: reader.mapping(key, MAX_ITEMS),
    "tuple[HostCalls, ...]": _entries(HostCalls),
    "tuple[LogEntry, ...]": _entries(LogEntry),
    "tuple[ModelEntry, ...]": _entries(ModelEntry),
    "tuple[PartEntry, ...]": _entries(PartEntry),
    "tuple[SecretEntry, ...]": _entries(SecretEntry),
    "SecretKind": lambda reader, key: _member(reader, key, SecretKind),
    "tuple[Wire, ...]": _entries(Wire),
    "tuple[SensorState, ...]": _entries(SensorState),
    "Health": lambda reader, key: _member(reader, key, Health),
    "HealthPolicy": lambda reader, key: reader.section(
        key, lambda inner: HealthPolicy(**_read_fields(HealthPolicy, inner))
    ),
    "Measures": lambda reader, key: reader.section(key, _measures),
    "BusMessage": lambda reader, key: reader.section(key, _bus_message),
    "Code": lambda reader, key: _member(reader, key, Code),
    "ExitCause": lambda reader, key: _member(reader, key, ExitCause),
    "AgentEnded": lambda reader, key: reader.section(key, lambda inner: AgentEnded(**_read_fields(AgentEnded, inner))),
    "StartAgent": lambda reader, key: reader.section(key, lambda inner: StartAgent(**_read_fields(StartAgent, inner))),
    "QueuePolicy": lambda reader, key: _member(reader, key, QueuePolicy),
    "Role": lambda reader, key: _member(reader, key, Role),
    "Fault": lambda reader, key: reader.section(key, lambda inner: Fault(**_read_fields(Fault, inner))),
    "Counters": lambda reader, key: reader.section(key, lambda inner: Counters(**_read_fields(Counters, inner))),
}
_VALUES = (
    Fault,
    Counters,
    HostCalls,
    Measures,
    HealthPolicy,
    LogEntry,
    ModelEntry,
    PartEntry,
    SecretEntry,
    Wire,
    BusMessage,
    SensorState,
)
"""What is written inside messages."""

_LAYOUT: dict[type, dict[str, Callable[[Reader, str], object]]] = {
    kind: {item.name: _FIELD_READERS[str(item.type)] for item in fields(kind)} for kind in (*KINDS.values(), *_VALUES)
}


def _read_fields(kind: type, reader: Reader) -> dict[str, Any]:
    return {name: read(reader, name) for name, read in _LAYOUT[kind].items()}


def _plain(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
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

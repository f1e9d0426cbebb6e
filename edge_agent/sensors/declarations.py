"""What an operator declares in `sensors.yaml`: the sources of one node.

Owns: the document, its bounds and its dataclasses. The file lies in the node's data directory and belongs to the
node's operator: no coordinator and no agent can add a source. Never opens anything.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import Reader, load_yaml
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.triggers import take_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.documents import Value

SCHEMA = "fleet.sensors/v1"

MAX_SOURCES = 64
"""Sources of one node."""

MAX_PATH = 4096
"""Characters of a path, a topic or a host name."""

MIN_EVERY_MS = 100
MAX_EVERY_MS = 86_400_000
DEFAULT_EVERY_MS = 1_000
DEFAULT_MAX_AGE_MS = 60_000
MAX_AGE_MS = 30 * 86_400_000
MAX_RATE = 1_000
DEFAULT_RATE = 10
"""Readings per second that are taken of one source, unless it says otherwise."""

MEASURES = ("cpu", "memory", "temperature", "disk", "load", "received", "sent")
"""What a node can measure of itself: per cent of processor, memory and disk in use, degrees Celsius, the load average
of the last minute, and bytes per second over all network interfaces."""

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)

_UNIT = re.compile(r'[^"\\\x00-\x1f\x7f]{1,32}')
_POINTER = re.compile(r"(/([^~/]|~[01])*)*")


@dataclass(frozen=True, slots=True)
class Form:
    """How a number is written in what a source gives.

    Attributes:
        pointer: JSON Pointer (RFC 6901) to it; None: the text is no JSON.
        column: its column in a line of comma-separated values, from 1; None: the whole text is the number.
        separator: what separates columns.
        factor: multiplies the number as it is written.
    """

    pointer: str | None = None
    column: int | None = None
    separator: str = ","
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class HostSource:
    """The machine itself; `path` is the file system that `disk` means."""

    measure: str
    every_ms: int
    path: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """A regular file that is read again and again; `last_line`: its newest line, when that has changed."""

    path: str
    every_ms: int
    last_line: bool


@dataclass(frozen=True, slots=True)
class StreamSource:
    """Lines from a terminal device, a named pipe or a Unix socket; `baud` is for a device."""

    path: str
    baud: int


@dataclass(frozen=True, slots=True)
class MqttSource:
    """Messages of a topic of an MQTT 5 broker.

    Attributes:
        tls: whether the connection is encrypted, and the broker verified.
        authorities: file with the certificates that verify it; "" for the system's.
        credentials: file with a user name and a password, a line each, readable by its owner only; "" for none.
    """

    host: str
    port: int
    topic: str
    tls: bool
    authorities: str
    credentials: str


Origin = HostSource | FileSource | StreamSource | MqttSource


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a node.

    Attributes:
        name: what grants and triggers call it.
        kind: `host`, `file`, `stream` or `mqtt`.
        unit: unit of its values; "" when none is declared.
        low: smallest value that it can have; readings below are out of range. Likewise `high`.
        max_age_ms: a reading that is older is stale.
        rate: readings per second that are taken; more are counted and passed over.
    """

    name: str
    kind: str
    origin: Origin
    form: Form = Form()
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    max_age_ms: int = DEFAULT_MAX_AGE_MS
    rate: int = DEFAULT_RATE


def parse_sources(data: bytes, name: str = "sensors.yaml") -> tuple[Source, ...]:
    """Read the sources of a node.

    Raises:
        FleetError: CONFIG_INVALID with the place; LIMIT_EXCEEDED for a document that is too large.
    """
    with Reader(load_yaml(data, Code.CONFIG_INVALID, name), Code.CONFIG_INVALID, name) as reader:
        if reader.text("schema") != SCHEMA:
            reader.fail("schema", f"expected {SCHEMA}")
        sources = [_parse_source(item, place) for item, place in reader.items("sources", MAX_SOURCES)]
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            reader.fail("sources", f"{next(name for name in names if names.count(name) > 1)!r} is declared twice")
    return tuple(sources)


def _parse_source(value: Value, place: str) -> Source:
    with Reader(value, Code.CONFIG_INVALID, place) as reader:
        name = reader.text("name")
        if not is_name(name):
            reader.fail("name", f"{name[:64]!r} is no name such as roof-temperature")
        kinds = [kind for kind in _KINDS if reader.has(kind)]
        if len(kinds) != 1:
            raise FleetError(Code.CONFIG_INVALID, f"expected exactly one of {', '.join(_KINDS)}", place=place)
        origin = reader.section(kinds[0], _KINDS[kinds[0]])
        unit = reader.text("unit", "")
        if unit and _UNIT.fullmatch(unit) is None:
            reader.fail("unit", "expected up to 32 printable characters, no quotation mark and no backslash")
        low, high = _number(reader, "low", -math.inf), _number(reader, "high", math.inf)
        if low > high:
            reader.fail("low", "is above high")
        return Source(
            name=name,
            kind=kinds[0],
            origin=origin,
            form=_parse_form(reader),
            unit=unit,
            low=low,
            high=high,
            max_age_ms=take_duration(reader, "max_age", MIN_EVERY_MS, MAX_AGE_MS, DEFAULT_MAX_AGE_MS),
            rate=reader.integer("rate", 1, MAX_RATE, DEFAULT_RATE),
        )


def _parse_form(reader: Reader) -> Form:
    pointer = reader.text("pointer") if reader.has("pointer") else None
    if pointer is not None and (len(pointer) > MAX_PATH or _POINTER.fullmatch(pointer) is None):
        reader.fail("pointer", "expected a JSON Pointer such as /sensors/0/value")
    column = reader.integer("column", 1, 1000) if reader.has("column") else None
    if pointer is not None and column is not None:
        reader.fail("column", "stands beside pointer: a value is in JSON or in a column")
    separator = reader.text("separator", ",")
    if len(separator) != 1 or separator in '"\r\n':
        reader.fail("separator", "expected one character")
    return Form(pointer, column, separator, _number(reader, "factor", 1.0))


def _parse_host(reader: Reader) -> HostSource:
    measure = reader.text("measure")
    if measure not in MEASURES:
        reader.fail("measure", f"{measure[:64]!r} is none of {', '.join(MEASURES)}")
    return HostSource(measure, _every(reader), _path(reader, "path", "/"))


def _parse_file(reader: Reader) -> FileSource:
    return FileSource(_path(reader, "path"), _every(reader), reader.flag("last_line", default=False))


def _parse_stream(reader: Reader) -> StreamSource:
    baud = reader.integer("baud", BAUDS[0], BAUDS[-1], 9600)
    if baud not in BAUDS:
        reader.fail("baud", f"{baud} is none of {', '.join(map(str, BAUDS))}")
    return StreamSource(_path(reader, "path"), baud)


def _parse_mqtt(reader: Reader) -> MqttSource:
    host, topic = reader.text("host"), reader.text("topic")
    if not 0 < len(host) <= MAX_PATH or not host.isprintable() or " " in host:
        reader.fail("host", "expected the name or address of a broker")
    if not 0 < len(topic) <= MAX_PATH or not topic.isprintable():
        reader.fail("topic", "expected a topic")
    tls = reader.flag("tls", default=False)
    authorities = _path(reader, "authorities", "")
    if authorities and not tls:
        reader.fail("authorities", "verify a broker over TLS only: add `tls: true`")
    port = reader.integer("port", 1, 65535, 8883 if tls else 1883)
    return MqttSource(host, port, topic, tls, authorities, _path(reader, "credentials", ""))


_KINDS: dict[str, Callable[[Reader], Origin]] = {
    "host": _parse_host,
    "file": _parse_file,
    "stream": _parse_stream,
    "mqtt": _parse_mqtt,
}


def _every(reader: Reader) -> int:
    return take_duration(reader, "every", MIN_EVERY_MS, MAX_EVERY_MS, DEFAULT_EVERY_MS)


def _path(reader: Reader, key: str, default: str | None = None) -> str:
    path = reader.text(key, default)
    if path == default:
        return path
    if not path.startswith("/") or len(path) > MAX_PATH or "\0" in path:
        reader.fail(key, "expected an absolute path")
    return path


def _number(reader: Reader, key: str, default: float) -> float:
    if not reader.has(key):
        return default
    value = reader.take(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        reader.fail(key, "expected a number")
    try:
        return float(value)
    except OverflowError:
        reader.fail(key, "is too large a number")

"""Strict loading of the YAML and JSON documents that people and programs sign.

Owns: the rules that make one text mean one thing: UTF-8, a size cap, no duplicate keys, no anchors, aliases or tags
in YAML, no duplicate keys, NaN or trailing text in JSON; and `Reader`, which takes a mapping apart field by field and
refuses what it does not know. Every fault is a `FleetError` with the code of the caller and the offending place.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

import yaml

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
T = TypeVar("T")

MAX_DOCUMENT = 256 * 1024
"""Bytes of one YAML or JSON document."""

MAX_DEPTH = 32
"""Nesting of one document; deeper is refused before Python's own recursion limit is near."""


def _text(data: bytes, code: Code, name: str, limit: int = MAX_DOCUMENT) -> str:
    if len(data) > limit:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{name} has {len(data)} bytes, the limit is {limit}", place=name)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FleetError(code, f"{name} is not UTF-8", place=f"{name}: byte {error.start}") from error


_UNSEEN = re.compile(
    "[\x85\u2028\u2029\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]|(?<!^)\ufeff"
)
"""What makes a text mean other than it looks: line breaks of YAML 1.1 that are ordinary characters in YAML 1.2 and in
JSON, and characters that turn the direction of writing or take no room (Unicode UAX #9 and UTS #39, section 4)."""


def is_plain(text: str) -> bool:
    """Whether a text is one line that means what it shows: printable, and nothing in it is hidden."""
    return text.isprintable() and _UNSEEN.search(text) is None


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without duplicate keys, anchors, aliases or explicit tags, and with the JSON schema of YAML 1.2.

    Under YAML 1.1 `no` is false, `1:30` is ninety and a date is an object; here they are text, as in YAML 1.2, so that
    a document means the same to every reader.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not allowed", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "tags are not allowed", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels deep", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Value]:  # type: ignore[override]  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "keys must be text", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key_node.value!r}", key_node.start_mark
                )
            seen.add(key_node.value)
        mapping: dict[str, Value] = super().construct_mapping(node, deep)  # type: ignore[assignment]
        return mapping


# A mapping of its own keeps the resolvers of SafeLoader out.
_StrictLoader.yaml_implicit_resolvers = {}
# YAML 1.2.2, section 10.2 (JSON schema), and an absent value or ~ as null. Order matters: a float may look like an int.
for _kind, _pattern, _first in (
    ("null", r"(?:~|null|)", ["~", "n", ""]),
    ("bool", r"(?:true|false)", ["t", "f"]),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"{_pattern}\Z"), _first)


def _check(value: Value, depth: int) -> None:
    """Refuse what escapes can smuggle in: half characters, which no encoder takes, and numbers beyond a double."""
    if depth < 0:
        raise ValueError(f"more than {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check(item, depth - 1)


def load_yaml(data: bytes, code: Code, name: str) -> Value:
    """Parse one YAML document.

    Args:
        data: the bytes; what was signed is what is parsed.
        code: code of the error for anything malformed.
        name: file name or target path for error places.

    Raises:
        FleetError: `code` with `place=name:line:column`; LIMIT_EXCEEDED above `MAX_DOCUMENT` bytes.
    """
    text = _text(data, code, name)
    odd = _UNSEEN.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise FleetError(code, f"U+{ord(odd[0]):04X} must be written as an escape", place=f"{name}:{line}")
    try:
        value: Value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that accepts less
        _check(value, MAX_DEPTH - 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
        raise FleetError(code, f"not valid YAML: {error.problem}", place=place) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FleetError(code, f"not valid YAML: {getattr(error, 'reason', error)}", place=name) from error
    return value


def line_of(data: bytes, *path: str | int) -> int:
    """Return the line, from 1, at which a value of a YAML document begins; that of what surrounds it where it is not.

    Args:
        data: a document that `load_yaml` has read.
        path: keys and indexes that lead to the value.
    """
    node = yaml.compose(data.decode(), Loader=_StrictLoader)
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = [(node.value[step], node.value[step])]
        else:
            found = []
        if not found:
            break
        key, node = found[0]
        line = key.start_mark.line + 1
    return line


def _unique(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def load_json(data: bytes, code: Code, name: str, limit: int = MAX_DOCUMENT) -> Value:
    """Parse one JSON document (RFC 8259) without duplicate keys, NaN or infinities.

    Raises:
        FleetError: `code` with the place; LIMIT_EXCEEDED above `limit` bytes.
    """
    text = _text(data, code, name, limit)
    try:
        value: Value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        _check(value, MAX_DEPTH - 1)
    except json.JSONDecodeError as error:
        place = f"{name}:{error.lineno}:{error.colno}"
        raise FleetError(code, f"not valid JSON: {error.msg}", place=place) from error
    except (ValueError, RecursionError) as error:
        raise FleetError(code, f"not valid JSON: {error}", place=name) from error
    return value


def dump_json(value: object) -> bytes:
    """Compact JSON with sorted keys: the form that this project signs and hashes (verify bytes, then parse them)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


class Reader:
    """Takes one mapping apart; `close` refuses every key that was not asked for.

    Use it as a context manager::

        with Reader(value, Code.GRANT_INVALID, "grant.yaml") as top:
            agent = top.text("agent")
            limits = top.section("limits", parse_limits)

    Every fault names the path inside the document, for example `grant.yaml: caps.wasi:nn/graph[0].models`.
    """

    def __init__(self, value: Value, code: Code, place: str) -> None:
        self.code = code
        self.place = place
        if not isinstance(value, dict):
            raise FleetError(code, "expected a mapping", place=place)
        self._value = value
        self._taken: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def close(self) -> None:
        """Refuse unknown keys.

        Raises:
            FleetError: the code of the document, naming the first unknown key.
        """
        unknown = sorted(self._value.keys() - self._taken)
        if unknown:
            self.fail(unknown[0], f"unknown key {unknown[0]!r}")

    def matching(self, key: str, is_valid: Callable[[str], bool]) -> str:
        """Take a text that `is_valid` accepts."""
        text = self.text(key)
        if not is_valid(text):
            self.fail(key, "malformed")
        return text

    def at(self, key: str) -> str:
        """Place of a key for error messages."""
        separator = ": " if ": " not in self.place else "."
        return f"{self.place}{separator}{key}"

    def fail(self, key: str, message: str) -> NoReturn:
        """Raise the document's error at a key."""
        raise FleetError(self.code, message, place=self.at(key))

    def has(self, key: str) -> bool:
        """Whether an optional key is present."""
        return key in self._value

    def names(self) -> tuple[str, ...]:
        """Return every key, in the order of the document; for mappings whose keys are data."""
        return tuple(self._value)

    def take(self, key: str) -> Value:
        """Return the raw value of a mandatory key."""
        self._taken.add(key)
        if key not in self._value:
            self.fail(key, f"missing key {key!r}")
        return self._value[key]

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        if default is not None and not self.has(key):
            return default
        value = self.take(key)
        if not isinstance(value, str):
            self.fail(key, "expected text")
        return value

    def integer(self, key: str, minimum: int, maximum: int, default: int | None = None) -> int:
        """Return an integer within bounds (inclusive)."""
        if default is not None and not self.has(key):
            return default
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, "expected a whole number")
        if not minimum <= value <= maximum:
            self.fail(key, f"{value} is not between {minimum} and {maximum}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        if not self.has(key):
            return default
        value = self.take(key)
        if not isinstance(value, bool):
            self.fail(key, "expected true or false")
        return value

    def items(self, key: str, maximum: int) -> Iterator[tuple[Value, str]]:
        """Return (value, place) of each item of a list; an absent key is an empty list."""
        value = self.take(key) if self.has(key) else []
        if not isinstance(value, list):
            self.fail(key, "expected a list")
        if len(value) > maximum:
            self.fail(key, f"{len(value)} items, the limit is {maximum}")
        return ((item, f"{self.at(key)}[{i}]") for i, item in enumerate(value))

    def texts(self, key: str, maximum: int) -> tuple[str, ...]:
        """Return a list of strings; an absent key is an empty list."""
        result: list[str] = []
        for item, place in self.items(key, maximum):
            if not isinstance(item, str):
                raise FleetError(self.code, "expected text", place=place)
            result.append(item)
        return tuple(result)

    def mapping(self, key: str, maximum: int) -> Mapping[str, str]:
        """Return a mapping of text to text; an absent key is an empty mapping."""
        value = self.take(key) if self.has(key) else {}
        if not isinstance(value, dict):
            self.fail(key, "expected a mapping")
        if len(value) > maximum:
            self.fail(key, f"{len(value)} items, the limit is {maximum}")
        result: dict[str, str] = {}
        for name, item in value.items():
            if not isinstance(item, str):
                raise FleetError(self.code, "expected text", place=f"{self.at(key)}.{name}")
            result[name] = item
        return result

    def section(self, key: str, parse: Callable[[Reader], T]) -> T:
        """Parse a nested mapping and refuse its unknown keys."""
        with Reader(self.take(key), self.code, self.at(key)) as inner:
            return parse(inner)

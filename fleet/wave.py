"""WAVE, the text form of WIT values and calls, as `wasmtime run --invoke` reads it.

Owns: `parse_value`, `parse_call`; `fleet.wave_print` writes. Both directions are driven by the type tree of
`fleet.wit_types`, so a text is read as what the component declares and never guessed. Rules come from the WAVE
specification (github.com/bytecodealliance/wasm-tools, crates/wasm-wave): `//` comments, trailing commas, `%label` for
labels that are keywords, optional record fields left out when `none`, `some` and `ok` left out where that is
unambiguous. Resources have no text form. Triple-quoted strings are not read: a call stands on one line.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fleet.errors import Code, FleetError
from fleet.wit_types import (
    BYTES,
    INTEGER_RANGES,
    EnumType,
    Err,
    FlagsType,
    FuncType,
    ListType,
    Ok,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    Some,
    TupleType,
    Variant,
    VariantType,
    WitType,
    WitValue,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_TEXT = 1 << 20
"""Longest text read, in characters."""

_SPACE = re.compile(r"(?:[ \t\r\n]|//[^\n]*)*")
_LABEL = re.compile(r"%?[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
_FUNCTION = re.compile(r"[^\s(){}\"']+")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)(?![0-9.eE])")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9.])|(?:-?inf|nan)(?![A-Za-z0-9-])")
_UNICODE_ESCAPE = re.compile(r"u\{([0-9a-fA-F]{1,6})\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Call:
    """One function call read from text: the function as it was written, and its arguments."""

    function: str
    arguments: tuple[WitValue, ...]


def parse_value(text: str, kind: WitType) -> WitValue:
    """Read one value of the given type.

    Raises:
        FleetError: WAVE_INVALID with the position in `place` when the text is not a value of the type.
    """
    reader = _Reader(text)
    value = reader.value(kind)
    reader.end()
    return value


def parse_call(text: str, resolve: Callable[[str], FuncType]) -> Call:
    """Read one call, for example `handle-data({source: "a", value: 1.5, timestamp: 3})`.

    Args:
        text: the call.
        resolve: gives the type of a function name; may raise its own error for an unknown one.

    Raises:
        FleetError: WAVE_INVALID with the position in `place` when the text is not a call of the function.
    """
    reader = _Reader(text)
    function = reader.function()
    arguments = reader.arguments(resolve(function))
    reader.end()
    return Call(function, arguments)


class _Reader:
    """Recursive descent over one text; the type says what to expect, so its depth is the type's depth."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise FleetError(Code.WAVE_INVALID, f"the text is longer than {MAX_TEXT} characters")
        self._text = text
        self._at = 0

    def function(self) -> str:
        return self._match(_FUNCTION, "a function name")

    def arguments(self, kind: FuncType) -> tuple[WitValue, ...]:
        return self._fixed([part for _, part in kind.params], f"arguments of {kind}")

    def end(self) -> None:
        self._space()
        if self._at != len(self._text):
            raise self._error("unexpected text after the end")

    def value(self, kind: WitType) -> WitValue:
        match kind:
            case Primitive():
                return self._primitive(kind)
            case ListType():
                values = self._items("[", "]", lambda: self.value(kind.element))
                return bytes(values) if kind == BYTES else values  # type: ignore[arg-type]
            case RecordType():
                return self._record(kind)
            case TupleType():
                return self._fixed(list(kind.items), str(kind))
            case VariantType():
                return self._variant(kind)
            case EnumType():
                return self._one_of(kind.cases, kind)
            case FlagsType():
                return self._flags(kind)
            case OptionType():
                return self._option(kind)
            case ResultType():
                return self._result(kind)
            case _:
                raise self._error(f"{kind} is a resource, which has no text form")

    def _primitive(self, kind: Primitive) -> WitValue:
        match kind:
            case Primitive.BOOL:
                return self._one_of(("true", "false"), kind) == "true"
            case Primitive.F32 | Primitive.F64:
                return self._float(kind)
            case Primitive.CHAR:
                return self._char()
            case Primitive.STRING:
                return self._string()
        number = int(self._match(_INTEGER, f"an integer of type {kind}"))
        low, high = INTEGER_RANGES[kind]
        if not low <= number <= high:
            raise self._error(f"{number} is outside {low}..{high} of {kind}")
        return number

    def _float(self, kind: Primitive) -> float:
        number = float(self._match(_FLOAT, f"a number of type {kind}"))
        if kind is Primitive.F64:
            return number
        try:
            rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
        except OverflowError:
            raise self._error(f"{number} is outside the range of f32") from None
        return rounded

    def _char(self) -> str:
        self._expect("'")
        char = self._character("'")
        if not self._text.startswith("'", self._at):
            raise self._error("expected ' after one character")
        self._at += 1
        return char

    def _string(self) -> str:
        self._expect('"')
        found: list[str] = []
        while not self._text.startswith('"', self._at):
            found.append(self._character('"'))
        self._at += 1
        return "".join(found)

    def _character(self, quote: str) -> str:
        """One character or escape of a quoted text."""
        char = self._text[self._at : self._at + 1]
        if char in ("", "\n", quote):
            raise self._error("expected a character")
        self._at += 1
        if char != "\\":
            return char
        escape = self._text[self._at : self._at + 1]
        if escape in _ESCAPES:
            self._at += 1
            return _ESCAPES[escape]
        match = _UNICODE_ESCAPE.match(self._text, self._at)
        number = int(match[1], 16) if match else -1
        if match is None or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise self._error("invalid escape")
        self._at = match.end()
        return chr(number)

    def _record(self, kind: RecordType) -> dict[str, WitValue]:
        types = dict(kind.fields)
        found: dict[str, WitValue] = {}

        def field() -> None:
            name = self._label(f"a field of {kind}").removeprefix("%")
            if name not in types:
                raise self._error(f"'{name}' is not a field of {kind}")
            if name in found:
                raise self._error(f"field '{name}' is given twice")
            self._expect(":")
            found[name] = self.value(types[name])

        if self._take("{:"):
            self._expect("}")
        else:
            self._items("{", "}", field)
        for name, part in kind.fields:
            if name not in found and not isinstance(part, OptionType):
                raise self._error(f"field '{name}' of {kind} is missing")
        return {name: found.get(name) for name in types}

    def _variant(self, kind: VariantType) -> Variant[WitValue]:
        cases = dict(kind.cases)
        name = self._one_of(tuple(cases), kind)
        payload = cases[name]
        return Variant(name) if payload is None else Variant(name, self._payload(payload))

    def _flags(self, kind: FlagsType) -> frozenset[str]:
        names = self._items("{", "}", lambda: self._one_of(kind.names, kind))
        if len(set(names)) != len(names):
            raise self._error("a flag is given twice")
        return frozenset(names)

    def _option(self, kind: OptionType) -> WitValue:
        nested = isinstance(kind.payload, OptionType)
        match self._keyword("some", "none"):
            case "none":
                return None
            case "some":
                value = self._payload(kind.payload)
                return Some(value) if nested else value
        if isinstance(kind.payload, OptionType | ResultType):
            raise self._error(f"expected some(...) or none of {kind}")
        return self.value(kind.payload)

    def _result(self, kind: ResultType) -> Ok[WitValue] | Err[WitValue]:
        match self._keyword("ok", "err"):
            case "ok":
                return Ok(None if kind.ok is None else self._payload(kind.ok))
            case "err":
                return Err(None if kind.err is None else self._payload(kind.err))
        if kind.ok is None or isinstance(kind.ok, OptionType | ResultType):
            raise self._error(f"expected ok or err of {kind}")
        return Ok(self.value(kind.ok))

    def _payload(self, kind: WitType) -> WitValue:
        self._expect("(")
        value = self.value(kind)
        self._expect(")")
        return value

    def _fixed(self, kinds: list[WitType], what: str) -> tuple[WitValue, ...]:
        left = iter(kinds)

        def item() -> WitValue:
            kind = next(left, None)
            if kind is None:
                raise self._error(f"too many values for {what}")
            return self.value(kind)

        values = tuple(self._items("(", ")", item))
        if len(values) != len(kinds):
            raise self._error(f"too few values for {what}")
        return values

    def _items(self, opening: str, closing: str, item: Callable[[], T]) -> list[T]:
        self._expect(opening)
        found: list[T] = []
        while not self._take(closing):
            found.append(item())
            if not self._take(","):
                self._expect(closing)
                break
        return found

    def _one_of(self, names: tuple[str, ...], kind: WitType) -> str:
        label = self._label(f"a value of {kind}").removeprefix("%")
        if label not in names:
            raise self._error(f"'{label}' is not a value of {kind}")
        return label

    def _keyword(self, *words: str) -> str | None:
        """Take one of the words if it comes next; a label written with % is never a keyword."""
        self._space()
        match = _LABEL.match(self._text, self._at)
        if match is None or match[0] not in words:
            return None
        self._at = match.end()
        return match[0]

    def _label(self, what: str) -> str:
        return self._match(_LABEL, what)

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        self._space()
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(f"expected {what}")
        self._at = match.end()
        return match[0]

    def _take(self, punctuation: str) -> bool:
        self._space()
        if not self._text.startswith(punctuation, self._at):
            return False
        self._at += len(punctuation)
        return True

    def _expect(self, punctuation: str) -> None:
        if not self._take(punctuation):
            raise self._error(f"expected {punctuation}")

    def _space(self) -> None:
        # The pattern matches the empty text too, so there always is a match.
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]

    def _error(self, reason: str) -> FleetError:
        return FleetError(Code.WAVE_INVALID, reason, place=f"character {self._at + 1}")

"""Writes WIT values and calls as WAVE text, the inverse of `fleet.wave`.

Owns: `print_value`, `print_call`. The form is canonical: `some` and `ok` are always written, every record field is
present, text is escaped only where it must be, so that equal values have equal texts.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.wit_types import (
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
    TupleType,
    Variant,
    VariantType,
    WitType,
    WitValue,
)

if TYPE_CHECKING:
    from fleet.wave import Call

_ESCAPED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_KEYWORDS = frozenset({"true", "false", "inf", "nan", "some", "none", "ok", "err"})


def print_value(value: WitValue, kind: WitType) -> str:
    """Write one value so that `parse_value` reads the same value back.

    Raises:
        FleetError: VALUE_INVALID when the value does not fit the type.
    """
    try:
        return _print(value, kind)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise FleetError(Code.VALUE_INVALID, f"{value!r} is not a value of type {kind}") from error


def print_call(call: Call, kind: FuncType) -> str:
    """Write one call so that `parse_call` reads the same call back.

    Raises:
        FleetError: VALUE_INVALID when the arguments do not fit the function.
    """
    if len(call.arguments) != len(kind.params):
        raise FleetError(Code.VALUE_INVALID, f"{call.function} takes {len(kind.params)} arguments: {kind}")
    pairs = zip(call.arguments, kind.params, strict=True)
    return f"{call.function}({', '.join(print_value(value, part) for value, (_, part) in pairs)})"


def _print(value: object, kind: WitType) -> str:
    match kind:
        case Primitive():
            return _print_primitive(value, kind)
        case ListType():
            if isinstance(value, str):
                raise TypeError
            return f"[{', '.join(_print(item, kind.element) for item in value)}]"  # type: ignore[attr-defined]
        case RecordType():
            return _print_record(value, kind)
        case TupleType():
            if not isinstance(value, tuple) or len(value) != len(kind.items):
                raise TypeError
            return f"({', '.join(_print(item, part) for item, part in zip(value, kind.items, strict=True))})"
        case VariantType():
            if not isinstance(value, Variant):
                raise TypeError
            return _tagged(_escape_label(value.case), value.payload, dict(kind.cases)[value.case])
        case EnumType():
            return _print_label(value, kind.cases)
        case FlagsType():
            names = set(value)  # type: ignore[call-overload]
            labels = [_escape_label(name) for name in kind.names if name in names]
            if len(labels) != len(names):
                raise ValueError
            return f"{{{', '.join(labels)}}}"
        case OptionType():
            if value is None:
                return "none"
            nested = isinstance(kind.payload, OptionType)
            return _tagged("some", value.value if nested else value, kind.payload)  # type: ignore[attr-defined]
        case ResultType():
            if isinstance(value, Ok):
                return _tagged("ok", value.value, kind.ok)
            if isinstance(value, Err):
                return _tagged("err", value.value, kind.err)
            raise TypeError
        case _:
            raise TypeError


def _print_primitive(value: object, kind: Primitive) -> str:
    match kind:
        case Primitive.BOOL if isinstance(value, bool):
            return "true" if value else "false"
        case Primitive.STRING if isinstance(value, str):
            return f'"{_escape_text(value, chr(34))}"'
        case Primitive.CHAR if isinstance(value, str) and len(value) == 1:
            return f"'{_escape_text(value, chr(39))}'"
        case Primitive.F32 | Primitive.F64 if isinstance(value, float | int) and not isinstance(value, bool):
            number = float(value)
            return str(int(number)) if number.is_integer() and 0 < abs(number) < 1 << 53 else repr(number)
    low, high = INTEGER_RANGES[kind]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError
    return str(value)


def _print_record(value: object, kind: RecordType) -> str:
    if not isinstance(value, dict) or len(value) != len(kind.fields):
        raise TypeError
    # A record whose options are all none may be written empty, and an empty pair of braces is flags: hence {:}.
    inner = ", ".join(f"{_escape_label(name)}: {_print(value[name], part)}" for name, part in kind.fields)
    return f"{{{inner or ':'}}}"


def _tagged(label: str, payload: object, kind: WitType | None) -> str:
    if kind is not None:
        return f"{label}({_print(payload, kind)})"
    if payload is not None:
        raise ValueError
    return label


def _print_label(value: object, labels: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in labels:
        raise ValueError
    return _escape_label(value)


def _escape_label(label: str) -> str:
    return f"%{label}" if label in _KEYWORDS else label


def _escape_text(text: str, quote: str) -> str:
    return "".join(_escape_character(char, quote) for char in text)


def _escape_character(char: str, quote: str) -> str:
    if char in _ESCAPED:
        return _ESCAPED[char]
    if char == quote:
        return f"\\{char}"
    category = unicodedata.category(char)
    if category == "Cs":
        raise ValueError
    return f"\\u{{{ord(char):x}}}" if category.startswith(("C", "Z")) and char != " " else char

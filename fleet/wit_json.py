"""WIT values and calls as JSON, for callers that speak JSON rather than WAVE.

Owns: `value_to_json`, `value_from_json`, `parse_json_call`, `print_json_result`. Both directions are driven by the type
tree of `fleet.wit_types`, and every choice is tagged, so that a value has one JSON form and comes back unchanged:

| WIT                        | JSON                                                                       |
|----------------------------|----------------------------------------------------------------------------|
| bool                       | `true`, `false`                                                            |
| s8 ... u32                 | number                                                                     |
| s64, u64                   | number; beyond 2^53 - 1, where other readers of JSON round, a string       |
| f32, f64                   | number; `"nan"`, `"inf"`, `"-inf"`                                         |
| char, string               | string                                                                     |
| list<u8>                   | string in base64 (RFC 4648, section 4)                                     |
| list<T>, tuple             | array                                                                      |
| record                     | object with exactly the fields; a field that is an option may be left out  |
| variant                    | `"case"` without a payload, `{"case": payload}` with one                   |
| enum                       | string                                                                     |
| flags                      | array of names                                                             |
| option<T>                  | `null` or the value; where T is an option as well, `null` or `{"some": x}` |
| result<T, E>               | `{"ok": x}` or `{"err": x}`, x `null` where the side has no type           |

Resources have no JSON form.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from array import array
from typing import TYPE_CHECKING, NoReturn

from fleet.documents import Value, load_json
from fleet.errors import Code, FleetError
from fleet.wave import Call
from fleet.wave_print import print_value
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

MAX_JSON = 1 << 20
"""Bytes of one call."""

MAX_EXACT = (1 << 53) - 1
"""Largest integer that every reader of JSON keeps (RFC 8259, section 6)."""

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def value_to_json(value: WitValue, kind: WitType) -> Value:
    """Return the JSON form of a value.

    Raises:
        FleetError: VALUE_INVALID when the value does not fit the type.
    """
    print_value(value, kind)  # says whether it fits, by the same rules as everywhere
    return _encode(value, kind)


def value_from_json(value: Value, kind: WitType, place: str = "$") -> WitValue:
    """Return the value that a JSON form stands for.

    Args:
        value: parsed JSON.
        kind: what it is a form of.
        place: path of `value` within its document, for errors.

    Raises:
        FleetError: VALUE_INVALID with the path in `place`.
    """
    match kind:
        case Primitive():
            return _primitive(value, kind, place)
        case ListType():
            if kind == BYTES:
                return _bytes(value, place)
            return [value_from_json(item, kind.element, f"{place}[{i}]") for i, item in enumerate(_array(value, place))]
        case TupleType():
            items = _array(value, place)
            if len(items) != len(kind.items):
                _fail(place, f"expected {len(kind.items)} items, got {len(items)}")
            pairs = enumerate(zip(items, kind.items, strict=True))
            return tuple(value_from_json(item, part, f"{place}[{i}]") for i, (item, part) in pairs)
        case RecordType():
            return _record(value, kind, place)
        case VariantType():
            return _variant(value, kind, place)
        case EnumType():
            return _name(value, kind.cases, place)
        case FlagsType():
            names = [_name(item, kind.names, f"{place}[{i}]") for i, item in enumerate(_array(value, place))]
            if len(set(names)) != len(names):
                _fail(place, "a name appears twice")
            return frozenset(names)
        case OptionType():
            if value is None:
                return None
            if not isinstance(kind.payload, OptionType):
                return value_from_json(value, kind.payload, place)
            _, payload = _tagged(value, ("some",), place)
            return Some(value_from_json(payload, kind.payload, f"{place}.some"))
        case ResultType():
            side, payload = _tagged(value, ("ok", "err"), place)
            inner = _payload(payload, kind.ok if side == "ok" else kind.err, f"{place}.{side}")
            return Ok(inner) if side == "ok" else Err(inner)
    raise FleetError(Code.VALUE_INVALID, f"{kind} has no JSON form", place=place)


def parse_json_call(text: str, resolve: Callable[[str], FuncType]) -> Call:
    """Read a call: an object with `function`, as WAVE names it, and the array `arguments`.

    Raises:
        FleetError: VALUE_INVALID with the place; LIMIT_EXCEEDED; whatever `resolve` raises.
    """
    document = load_json(text.encode("utf-8", "surrogatepass"), Code.VALUE_INVALID, "call", MAX_JSON)
    if not isinstance(document, dict) or document.keys() != {"function", "arguments"}:
        _fail("call", "expected an object with `function` and `arguments`")
    function = document["function"]
    if not isinstance(function, str):
        _fail("call.function", "expected a string")
    kind = resolve(function)
    given = _array(document["arguments"], "call.arguments")
    if len(given) != len(kind.params):
        _fail("call.arguments", f"{function} takes {len(kind.params)} arguments: {kind}")
    pairs = zip(given, kind.params, strict=True)
    return Call(function, tuple(value_from_json(item, part, f"call.{name}") for item, (name, part) in pairs))


def print_json_call(function: str, arguments: Value) -> str:
    """Write a call whose arguments are in JSON form already."""
    return json.dumps({"function": function, "arguments": arguments}, ensure_ascii=False, allow_nan=False)


def print_json_result(value: WitValue, kind: WitType | None) -> str:
    """Write a result; "null" for a function without one."""
    return "null" if kind is None else json.dumps(value_to_json(value, kind), ensure_ascii=False, allow_nan=False)


def _encode(value: WitValue, kind: WitType | None) -> Value:  # the value has been checked
    match kind, value:
        case (None, _):
            return None
        case (Primitive.F32 | Primitive.F64, float() | int()):
            return _float_to_json(float(value), kind)
        case (Primitive.S64 | Primitive.U64, int()):
            return value if abs(value) <= MAX_EXACT else str(value)
        case (Primitive(), bool() | int() | str()):
            return value
        case (ListType(), _) if kind == BYTES:
            return base64.b64encode(bytes(value)).decode("ascii")  # type: ignore[call-overload]
        case (ListType(), _):
            items = value.tolist() if isinstance(value, array) else value
            return [_encode(item, kind.element) for item in items]  # type: ignore[attr-defined]
        case (TupleType(), tuple()):
            return [_encode(item, part) for item, part in zip(value, kind.items, strict=True)]
        case (RecordType(), dict()):
            return {name: _encode(value[name], part) for name, part in kind.fields}
        case (VariantType(), Variant()):
            part = dict(kind.cases)[value.case]
            return value.case if part is None else {value.case: _encode(value.payload, part)}
        case (FlagsType(), _):
            return [name for name in kind.names if name in value]  # type: ignore[operator]
        case (OptionType(), Some()):
            return {"some": _encode(value.value, kind.payload)}
        case (OptionType(), _):
            return None if value is None else _encode(value, kind.payload)
        case (ResultType(), Ok()):
            return {"ok": _encode(value.value, kind.ok)}
        case (ResultType(), Err()):
            return {"err": _encode(value.value, kind.err)}
    return str(value)  # an enum


def _float_to_json(value: float, kind: WitType) -> Value:
    if kind is Primitive.F32 and math.isfinite(value):
        (value,) = struct.unpack("<f", struct.pack("<f", value))
    if math.isnan(value):
        return "nan"
    return value if math.isfinite(value) else "inf" if value > 0 else "-inf"


def _primitive(value: Value, kind: Primitive, place: str) -> WitValue:
    match kind:
        case Primitive.BOOL:
            if not isinstance(value, bool):
                _fail(place, "expected true or false")
            return value
        case Primitive.STRING:
            if not isinstance(value, str):
                _fail(place, "expected a string")
            return value
        case Primitive.CHAR:
            if not isinstance(value, str) or len(value) != 1:
                _fail(place, "expected a string of one character")
            return value
        case Primitive.F32 | Primitive.F64:
            return _float(value, kind, place)
    return _integer(value, kind, place)


def _integer(value: Value, kind: Primitive, place: str) -> int:
    if isinstance(value, str) and kind in (Primitive.S64, Primitive.U64) and value.lstrip("-").isdecimal():
        value = int(value) if len(value) <= 20 else None
    if not isinstance(value, int) or isinstance(value, bool):
        _fail(place, f"expected an integer for {kind}")
    low, high = INTEGER_RANGES[kind]
    if not low <= value <= high:
        _fail(place, f"{value} is not within {kind}")
    return value


def _float(value: Value, kind: Primitive, place: str) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(place, f'expected a number for {kind}, or "nan", "inf", "-inf"')
    try:
        number = float(value)
        if kind is Primitive.F32:
            (number,) = struct.unpack("<f", struct.pack("<f", number))
    except OverflowError:
        _fail(place, f"the number is not within {kind}")
    return number


def _bytes(value: Value, place: str) -> bytes:
    if not isinstance(value, str):
        _fail(place, "expected a string in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        _fail(place, f"not base64: {error}")


def _record(value: Value, kind: RecordType, place: str) -> dict[str, WitValue]:
    if not isinstance(value, dict):
        _fail(place, f"expected an object: {kind}")
    names = [name for name, _ in kind.fields]
    for name in value:
        if name not in names:
            _fail(f"{place}.{name[:64]}", f"no field of {kind}")
    result: dict[str, WitValue] = {}
    for name, part in kind.fields:
        if name not in value and not isinstance(part, OptionType):
            _fail(f"{place}.{name}", "the field is missing")
        result[name] = value_from_json(value.get(name), part, f"{place}.{name}")
    return result


def _variant(value: Value, kind: VariantType, place: str) -> Variant[WitValue]:
    cases = dict(kind.cases)
    if isinstance(value, str):
        case = _name(value, tuple(cases), place)
        if cases[case] is not None:
            _fail(place, f'{case} has a payload: {{"{case}": ...}}')
        return Variant(case)
    case, payload = _tagged(value, tuple(cases), place)
    part = cases[case]
    if part is None:
        _fail(place, f'{case} has no payload: "{case}"')
    return Variant(case, value_from_json(payload, part, f"{place}.{case}"))


def _payload(value: Value, kind: WitType | None, place: str) -> WitValue:
    if kind is not None:
        return value_from_json(value, kind, place)
    if value is not None:
        _fail(place, "expected null")
    return None


def _tagged(value: Value, tags: tuple[str, ...], place: str) -> tuple[str, Value]:
    if not isinstance(value, dict) or len(value) != 1:
        _fail(place, f"expected an object with one of the keys {', '.join(tags)}")
    ((tag, payload),) = value.items()
    return _name(tag, tags, place), payload


def _name(value: Value, names: tuple[str, ...], place: str) -> str:
    if not isinstance(value, str) or value not in names:
        _fail(place, f"expected one of {', '.join(names)}")
    return value


def _array(value: Value, place: str) -> list[Value]:
    if not isinstance(value, list):
        _fail(place, "expected an array")
    return value


def _fail(place: str, message: str) -> NoReturn:
    raise FleetError(Code.VALUE_INVALID, message, place=place)

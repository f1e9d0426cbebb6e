"""WIT text and the type tree: each is the inverse of the other."""

from __future__ import annotations

import pytest
from hypothesis import given

from fleet.wit_text import parse_signature, parse_type
from fleet.wit_types import (
    BYTES,
    BorrowType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    VariantType,
    WitType,
)
from tests.fakes.wit_strategies import TYPES

ERROR = parse_type("variant { no-such-store, access-denied, other(string) }")


@given(TYPES)
def test_text_of_a_type_reads_back(kind: WitType) -> None:
    assert parse_type(str(kind)) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("list<u8>", BYTES),
        ("option<list<u8>>", OptionType(BYTES)),
        ("result", ResultType()),
        ("result<u32>", ResultType(Primitive.U32)),
        ("result<_, error>", ResultType(None, ERROR)),
        ("own<bucket>", OwnType("bucket")),
        ("record { a: u8, %list: string, }", RecordType((("a", Primitive.U8), ("list", Primitive.STRING)))),
        ("record {}", RecordType(())),
        ("error", ERROR),
    ],
)
def test_types_read_as_in_wit_files(text: str, kind: WitType) -> None:
    assert parse_type(text, {"error": ERROR}) == kind


def test_signatures_read_as_in_wit_files() -> None:
    text = "func(self: borrow<bucket>, keys: list<string>) -> result<option<list<u8>>, error>"
    read = parse_signature(text, {"error": ERROR})
    params = (("self", BorrowType("bucket")), ("keys", ListType(Primitive.STRING)))
    assert read == FuncType(params, ResultType(OptionType(BYTES), ERROR))
    assert parse_signature(str(read)) == read
    assert parse_signature("func()") == FuncType()


def test_accepts_ignores_parameter_names_and_nothing_else() -> None:
    function = parse_signature("func(a: u8, b: string) -> bool")
    assert function.accepts(parse_signature("func(x: u8, y: string) -> bool"))
    for other in ("func(a: u8) -> bool", "func(a: u8, b: string)", "func(b: string, a: u8) -> bool"):
        assert not function.accepts(parse_signature(other))


@pytest.mark.parametrize(
    "text",
    ["", "u7", "list", "list<u8", "list<u8>>", "variant { a(u8 }", "record { a }", "u8 u8", "own<>", "$", "tuple<u8"],
)
def test_mistakes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="of WIT text"):
        parse_type(text)


def test_signature_must_be_a_function() -> None:
    with pytest.raises(ValueError, match="expected 'func'"):
        parse_signature("u8")


def test_variant_notation() -> None:
    kind = VariantType((("a", None), ("b", Primitive.U8)))
    assert str(kind) == "variant { a, b(u8) }"

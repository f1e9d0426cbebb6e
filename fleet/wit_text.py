"""Reads WIT types and function signatures written as text, as they stand in a `.wit` file.

Owns: `parse_type` and `parse_signature`, the inverse of `str()` on the classes of `fleet.wit_types`. Names of types
declared elsewhere are looked up in a mapping given by the caller. Never reads a whole WIT document: packages, worlds
and `use` are resolved by build tools. Signatures are part of the program, so a mistake in one is a `ValueError`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from fleet.wit_types import (
    BorrowType,
    EnumType,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_TOKEN = re.compile(
    r"\s*(?:(?P<punctuation>->|[<>{}(),:_])|%?(?P<name>[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)|(?P<end>$))"
)


def parse_type(text: str, types: Mapping[str, WitType] | None = None) -> WitType:
    """Read one type, for example `result<option<list<u8>>, error>`.

    Args:
        text: the type in WIT notation.
        types: meaning of names that are not WIT keywords; a resource `r` used by value is `OwnType("r")`.

    Raises:
        ValueError: the text is not one type, or names an unknown one.
    """
    reader = _Reader(text, types or {})
    found = reader.type()
    reader.end()
    return found


def parse_signature(text: str, types: Mapping[str, WitType] | None = None) -> FuncType:
    """Read one function type, for example `func(self: borrow<bucket>, key: string) -> result<_, error>`.

    Raises:
        ValueError: the text is not one function type, or names an unknown type.
    """
    reader = _Reader(text, types or {})
    found = reader.signature()
    reader.end()
    return found


class _Reader:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, types: Mapping[str, WitType]) -> None:
        self._text = text
        self._types = types
        self._tokens = self._split()
        self._at = 0

    def _split(self) -> list[tuple[str, str]]:
        """Kind and text of every token; the last one is the end."""
        found: list[tuple[str, str]] = []
        position = 0
        while not found or found[-1][0] != "end":
            match = _TOKEN.match(self._text, position)
            if match is None or match.lastgroup is None:
                raise ValueError(f"unexpected character at {position} of WIT text {self._text!r}")
            found.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        return found

    def signature(self) -> FuncType:
        if self._name() != "func":
            raise self._error("expected 'func'")
        params = self._between("(", ")", self._field)
        return FuncType(params, self.type() if self._take("->") else None)

    def type(self) -> WitType:
        word = self._name()
        if word in self._types:
            return self._types[word]
        match word:
            case "list":
                return ListType(self._one())
            case "option":
                return OptionType(self._one())
            case "tuple":
                return TupleType(self._between("<", ">", self.type))
            case "result":
                return self._result()
            case "own":
                return OwnType(self._resource())
            case "borrow":
                return BorrowType(self._resource())
            case "record":
                return RecordType(self._between("{", "}", self._field))
            case "variant":
                return VariantType(self._between("{", "}", self._case))
            case "enum":
                return EnumType(self._between("{", "}", self._name))
            case "flags":
                return FlagsType(self._between("{", "}", self._name))
        try:
            return Primitive(word)
        except ValueError:
            raise self._error(f"unknown type '{word}'") from None

    def end(self) -> None:
        if self._tokens[self._at][0] != "end":
            raise self._error("unexpected text after the end")

    def _result(self) -> ResultType:
        if not self._take("<"):
            return ResultType()
        ok = None if self._take("_") else self.type()
        err = self.type() if self._take(",") else None
        self._expect(">")
        return ResultType(ok, err)

    def _one(self) -> WitType:
        self._expect("<")
        found = self.type()
        self._expect(">")
        return found

    def _resource(self) -> str:
        self._expect("<")
        name = self._name()
        self._expect(">")
        return name

    def _field(self) -> tuple[str, WitType]:
        name = self._name()
        self._expect(":")
        return name, self.type()

    def _case(self) -> tuple[str, WitType | None]:
        name = self._name()
        if not self._take("("):
            return name, None
        payload = self.type()
        self._expect(")")
        return name, payload

    def _between(self, opening: str, closing: str, item: Callable[[], T]) -> tuple[T, ...]:
        self._expect(opening)
        found: list[T] = []
        while not self._take(closing):
            found.append(item())
            if not self._take(","):
                self._expect(closing)
                break
        return tuple(found)

    def _name(self) -> str:
        kind, text = self._tokens[self._at]
        if kind != "name":
            raise self._error("expected a name")
        self._at += 1
        return text

    def _take(self, punctuation: str) -> bool:
        if self._tokens[self._at] != ("punctuation", punctuation):
            return False
        self._at += 1
        return True

    def _expect(self, punctuation: str) -> None:
        if not self._take(punctuation):
            raise self._error(f"expected '{punctuation}'")

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"{reason} at token {self._at + 1} of WIT text {self._text!r}")

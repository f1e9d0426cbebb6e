"""Names and signatures of `wasi:keyvalue` in its two published versions.

Owns: `Edition`, one per version. Never does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import declare_functions, declare_types
from fleet.wit_types import OwnType, Primitive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.wit_types import FuncType, WitType

STORE = "wasi:keyvalue/store"
ATOMICS = "wasi:keyvalue/atomics"
BATCH = "wasi:keyvalue/batch"

_ERROR = {"error": "variant { no-such-store, access-denied, other(string) }"}

_STORE_FUNCTIONS = {
    "open": "func(identifier: string) -> result<bucket, error>",
    "[method]bucket.get": "func(self: borrow<bucket>, key: string) -> result<option<list<u8>>, error>",
    "[method]bucket.set": "func(self: borrow<bucket>, key: string, value: list<u8>) -> result<_, error>",
    "[method]bucket.delete": "func(self: borrow<bucket>, key: string) -> result<_, error>",
    "[method]bucket.exists": "func(self: borrow<bucket>, key: string) -> result<bool, error>",
    "[method]bucket.list-keys": "func(self: borrow<bucket>, cursor: option<cursor>) -> result<key-response, error>",
}
_INCREMENT = {"increment": "func(bucket: borrow<bucket>, key: string, delta: number) -> result<number, error>"}
_SWAP_FUNCTIONS = {
    "[static]cas.new": "func(bucket: borrow<bucket>, key: string) -> result<cas, error>",
    "[method]cas.current": "func(self: borrow<cas>) -> result<option<list<u8>>, error>",
    "swap": "func(cas: cas, value: list<u8>) -> result<_, cas-error>",
}
_BATCH_FUNCTIONS = {
    "get-many": "func(bucket: borrow<bucket>, keys: list<string>)"
    " -> result<list<option<tuple<string, list<u8>>>>, error>",
    "set-many": "func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>",
    "delete-many": "func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>",
}


@dataclass(frozen=True, slots=True)
class Edition:
    """What one published version of the package says.

    Attributes:
        cursor: type of the cursor of `list-keys`.
        number: type that `increment` works on.
        store: signatures of that interface's functions; likewise `atomics` and `batch`.
    """

    version: str
    cursor: Primitive
    number: Primitive
    store: Mapping[str, FuncType]
    atomics: Mapping[str, FuncType]
    batch: Mapping[str, FuncType]

    def name(self, interface: str) -> str:
        """Name of an interface with this version."""
        return f"{interface}@{self.version}"


def _edition(version: str, cursor: Primitive, number: Primitive, atomics: Mapping[str, str]) -> Edition:
    known: dict[str, WitType] = {
        "bucket": OwnType("bucket"),
        "cas": OwnType("cas"),
        "cursor": cursor,
        "number": number,
    }
    types = declare_types(
        _ERROR
        | {
            "key-response": "record { keys: list<string>, cursor: option<cursor> }",
            "cas-error": "variant { store-error(error), cas-failed(cas) }",
        },
        known,
    )
    return Edition(
        version,
        cursor,
        number,
        declare_functions(types, _STORE_FUNCTIONS),
        declare_functions(types, atomics),
        declare_functions(types, _BATCH_FUNCTIONS),
    )


EDITION_DRAFT = _edition("0.2.0-draft", Primitive.U64, Primitive.U64, _INCREMENT)
EDITION_DRAFT2 = _edition("0.2.0-draft2", Primitive.STRING, Primitive.S64, _INCREMENT | _SWAP_FUNCTIONS)

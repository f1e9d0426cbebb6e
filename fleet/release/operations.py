"""How operations are written into a staged change, and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.names import is_digest, is_name
from fleet.release.changes import AddDocument, ChangeKeys, EnterProduction, RemoveDocument, RemoveRole, Renew
from fleet.release.keys import MAX_ROLE_KEYS, NamedKey
from fleet.signing import PublicKey, decode_base64, encode_base64
from fleet.targets import role_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.documents import Value
    from fleet.release.changes import Operation

MAX_OPERATIONS = 256
"""Operations of one change."""


def encode_operation(operation: Operation) -> dict[str, Any]:
    """Write one operation as JSON."""
    match operation:
        case AddDocument(path, data, custom, replaces):
            return {
                "operation": "add-document",
                "path": path,
                "data": encode_base64(data),
                "custom": dict(custom),
                "replaces": replaces,
            }
        case RemoveDocument(path):
            return {"operation": "remove-document", "path": path}
        case ChangeKeys(role, add, remove, threshold):
            return {
                "operation": "change-keys",
                "role": role,
                "add": [{"key": key.public.hex, "name": key.name} for key in add],
                "remove": [key.hex for key in remove],
                "threshold": threshold or 0,
            }
        case Renew(role):
            return {"operation": "renew", "role": role}
        case RemoveRole(role):
            return {"operation": "remove-role", "role": role}
        case _:  # EnterProduction: nothing else is left
            return {"operation": "enter-production"}


def parse_operation(value: Value, place: str) -> Operation:
    """Read one operation.

    Raises:
        FleetError: STAGED_INVALID with the place.
    """
    parsers: dict[str, Callable[[Reader], Operation]] = {
        "add-document": _add_document,
        "remove-document": lambda reader: RemoveDocument(_path(reader)),
        "change-keys": _change_keys,
        "renew": lambda reader: Renew(reader.text("role")),
        "remove-role": lambda reader: RemoveRole(reader.text("role")),
        "enter-production": lambda _: EnterProduction(),
    }
    with Reader(value, Code.STAGED_INVALID, place) as reader:
        kind = reader.text("operation")
        if kind not in parsers:
            reader.fail("operation", f"unknown operation {kind!r}: of a newer release of fleetctl, perhaps")
        return parsers[kind](reader)


def _path(reader: Reader) -> str:
    path = reader.text("path")
    if role_of(path) is None:
        reader.fail("path", "no role may sign this path")
    return path


def _add_document(reader: Reader) -> AddDocument:
    path, replaces, custom = _path(reader), reader.text("replaces"), reader.take("custom")
    if replaces and not is_digest(replaces):
        reader.fail("replaces", "expected a digest")
    if not isinstance(custom, dict):
        reader.fail("custom", "expected a mapping")
    try:
        return AddDocument(path, decode_base64(reader.text("data")), custom, replaces)
    except ValueError as error:
        raise FleetError(reader.code, str(error), place=reader.at("data")) from error


def _change_keys(reader: Reader) -> ChangeKeys:
    add = tuple(_named_key(item, where) for item, where in reader.items("add", MAX_ROLE_KEYS))
    remove = tuple(_public(text, reader.at("remove")) for text in reader.texts("remove", MAX_ROLE_KEYS))
    threshold = reader.integer("threshold", 0, MAX_ROLE_KEYS)
    return ChangeKeys(reader.text("role"), add, remove, threshold or None)


def _named_key(value: Value, place: str) -> NamedKey:
    with Reader(value, Code.STAGED_INVALID, place) as reader:
        name = reader.text("name")
        if name and not is_name(name):
            reader.fail("name", "not a name")
        return NamedKey(_public(reader.text("key"), place), name)


def _public(text: str, place: str) -> PublicKey:
    try:
        return PublicKey.from_hex(text)
    except FleetError as error:
        raise FleetError(Code.STAGED_INVALID, error.private, place=place) from error

"""Reads what a component binary imports and exports, without an engine.

Owns: the few parts of the component binary format (component-model `Binary.md`) that carry the top-level names. It
never validates code or types: the engine does that at compile time, and the names read here are compared with the
engine's on the node. fleetctl and the coordinator use it to decide before anything reaches a node.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_COMPONENT = 256 * 1024 * 1024
"""Bytes of one component; the largest Python guests have about 40 MiB."""

MAX_SECTIONS = 100_000
"""Sections of one component, nested ones not counted."""

MAX_NAMES = 1_000
"""Top-level imports, and exports, of one component."""

MAX_NAME_BYTES = 1_024
"""UTF-8 bytes of one import or export name."""

_MAGIC = b"\0asm"
_MODULE_VERSION = b"\x01\0\0\0"
_COMPONENT_VERSION = b"\x0d\0\x01\0"
_TYPE = 3
"""The sort of types in `sort` and `externdesc`."""
_ATTRIBUTES = 3
"""Kinds of name attributes: what a name implements, its version suffix, its external id."""


class _Section(IntEnum):
    """Section ids; everything between CUSTOM and START is skipped by its size."""

    CUSTOM = 0
    IMPORT = 10
    EXPORT = 11
    VALUE = 12


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """Top-level names of a component, in the order of the binary.

    Interface names carry their version (`wasi:keyvalue/store@0.2.0-draft2`); plain names stay as they are.

    Attributes:
        imports: interfaces, functions, components and modules that the component asks for: what admission decides on.
        exports: everything that it offers.
        type_imports: types that it imports, by plain name, as a world with a `use` at its top does. A type gives no
            authority without a function, and an engine asks its host for none but resource types.
    """

    imports: tuple[str, ...]
    exports: tuple[str, ...]
    type_imports: tuple[str, ...] = ()


class _Bytes:
    """A bounds-checked cursor over a part of the binary."""

    def __init__(self, data: memoryview, start: int, end: int) -> None:
        self._data = data
        self._end = end
        self.at = start

    @property
    def done(self) -> bool:
        return self.at == self._end

    def fail(self, message: str) -> NoReturn:
        raise FleetError(Code.COMPONENT_INVALID, message, place=f"byte {self.at}")

    def take(self, count: int) -> bytes:
        if count > self._end - self.at:
            self.fail("the binary ends too early")
        self.at += count
        return bytes(self._data[self.at - count : self.at])

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Read a u32 in LEB128: at most five bytes, the last with no bits above 32 (core spec, 5.2.2)."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value >= 1 << 32 or (shift == 28 and byte >= 0x80):
                self.fail("a number does not fit 32 bits")
            if byte < 0x80:
                return value
            shift += 7

    def part(self) -> _Bytes:
        """Read a size and return the cursor over that many bytes."""
        size = self.number()
        if size > self._end - self.at:
            self.fail("a section ends after the binary")
        start, self.at = self.at, self.at + size
        return _Bytes(self._data, start, self.at)

    def text(self) -> str:
        size = self.number()
        if size > MAX_NAME_BYTES:
            self.fail(f"a name of {size} bytes, the limit is {MAX_NAME_BYTES}")
        raw = self.take(size)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FleetError(Code.COMPONENT_INVALID, "a name is not UTF-8", place=f"byte {self.at}") from error


def read_component(data: bytes) -> ComponentInfo:
    """Read the top-level imports and exports.

    Raises:
        FleetError: COMPONENT_INVALID when the bytes are no component (a core module is named as such) or break the
            binary format where it is read; LIMIT_EXCEEDED above `MAX_COMPONENT`, `MAX_SECTIONS` or `MAX_NAMES`.
    """
    if len(data) > MAX_COMPONENT:
        raise FleetError(Code.LIMIT_EXCEEDED, f"component has {len(data)} bytes, the limit is {MAX_COMPONENT}")
    _check_preamble(data[:8])
    imports: dict[str, int] = {}
    exports: dict[str, int] = {}
    cursor = _Bytes(memoryview(data), 8, len(data))
    for _ in range(MAX_SECTIONS):
        if cursor.done:
            types = tuple(name for name, sort in imports.items() if sort == _TYPE)
            return ComponentInfo(tuple(name for name in imports if name not in types), tuple(exports), types)
        section = cursor.byte()
        if section > _Section.VALUE:
            cursor.fail(f"unknown section {section}")
        body = cursor.part()
        if section == _Section.IMPORT:
            _read_names(body, imports, _skip_extern_type)
        elif section == _Section.EXPORT:
            _read_names(body, exports, _skip_export)
    raise FleetError(Code.LIMIT_EXCEEDED, f"component has more than {MAX_SECTIONS} sections")


def _check_preamble(preamble: bytes) -> None:
    if preamble[:4] != _MAGIC or len(preamble) < len(_MAGIC) + len(_COMPONENT_VERSION):
        raise FleetError(Code.COMPONENT_INVALID, "not a WebAssembly binary", place="byte 0")
    version = preamble[4:]
    if version == _MODULE_VERSION:
        raise FleetError(Code.COMPONENT_INVALID, "this is a core module, not a component", place="byte 4")
    if version != _COMPONENT_VERSION:
        raise FleetError(
            Code.COMPONENT_INVALID, f"version {version.hex()} is not that of a component (0d000100)", place="byte 4"
        )


def _read_names(body: _Bytes, names: dict[str, int], skip: Callable[[_Bytes], int]) -> None:
    """Read a vector of names into `names`, each with its sort, which `skip` returns after skipping the rest."""
    count = body.number()
    if len(names) + count > MAX_NAMES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"component has more than {MAX_NAMES} imports or exports")
    for _ in range(count):
        name = _extern_name(body)
        if name in names:
            body.fail(f"{name!r} appears twice")
        names[name] = skip(body)
    if not body.done:
        body.fail("bytes after the last name of a section")


def _extern_name(body: _Bytes) -> str:
    """Read a name: 0x00 and the older 0x01 are followed by the name, 0x02 by the name and its attributes."""
    form = _choice(body, 3, "name")
    name = body.text()
    if form == 2:
        count = body.number()
        if count > _ATTRIBUTES:
            body.fail("a name has an attribute twice")
        for _ in range(count):
            attribute = _choice(body, _ATTRIBUTES, "name attribute")
            value = body.text()
            # A canonical name ends in the semver track (`@0.2`); the suffix (`.12`) makes the version whole again.
            if attribute == 1:
                name += value
    return name


def _choice(body: _Bytes, count: int, what: str) -> int:
    value = body.byte()
    if value >= count:
        body.fail(f"unknown {what} 0x{value:02x}")
    return value


def _skip_export(body: _Bytes) -> int:
    """Skip `sortidx`, which is what is exported and its index, and an optional type; a core sort has a second byte."""
    sort = _choice(body, 6, "sort")
    if sort == 0:
        body.byte()
    body.number()
    if _choice(body, 2, "optional type"):
        _skip_extern_type(body)
    return sort


def _skip_extern_type(body: _Bytes) -> int:
    """Skip `externdesc`: the type of an import, or the one ascribed to an export."""
    sort = _choice(body, 6, "type of a name")
    if sort == 0:
        body.byte()
    elif sort == 2:
        body.fail("values cannot be imported or exported")
    elif sort == _TYPE and _choice(body, 2, "type bound") == 1:
        return sort
    body.number()
    return sort

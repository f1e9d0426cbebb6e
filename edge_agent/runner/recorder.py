"""Remembers what one instance was told, so that its end can be looked at and repeated.

Owns: `Recorder`, which wraps the host functions of one agent, `RecordedInstance`, which tells it of the calls into the
guest, and `numbered`, the types in which handles are written. Everything since the instance's start is kept while it
fits the bounds; then the oldest calls go first, whole, and within the running call its oldest host calls. No text is
made before the guest has ended: values are kept as they are, copied only where somebody could change them.

A host function that is `confidential` leaves neither arguments nor result here. Of a value that is too large for the
record its length and digest are kept. Never keeps log lines: the supervisor has them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.capabilities.base import EndAgentError
from edge_agent.capabilities.lazy import changed
from edge_agent.runner.engine import Instance, Trap
from fleet.crash import GuestCall, HostCall, Recording, encode_recording
from fleet.errors import FleetError
from fleet.wave_print import print_value
from fleet.wit_types import (
    BorrowType,
    Err,
    ListType,
    Ok,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    Some,
    TupleType,
    Variant,
    VariantType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import HostFunction, HostInterface
    from edge_agent.runner.engine import Component, Limits
    from fleet.wit_types import FuncType, WitType, WitValue

MAX_ENTRIES = 4_096
"""Calls of either kind in one record."""

MAX_BYTES = 256 * 1024
"""About how many characters one record may take when it is written."""

MAX_RECORDING = 640 * 1024
"""Bytes of a written record that may leave the runner; escapes can make it longer than was estimated."""

MAX_MESSAGE = 1_024
"""Characters that are kept of what a host function raised."""

CONFIDENTIAL = "<confidential>"

_VALUE_SHARE = 8
"""The arguments of one call, or its result, may take this part of a record; what is larger becomes a note."""

_CALL_WEIGHT = 64
_SCALAR_WEIGHT = 16
_BYTE_WEIGHT = 5
_SCALARS = frozenset({int, float, bool, type(None)})
_WRAPPERS = (Ok, Err, Some)
_BUFFERS = (bytearray, memoryview)
_SETS = (set, frozenset)
_SEQUENCES = (list, tuple)


@dataclass(frozen=True, slots=True)
class _Note:
    """Stands for a value that was not kept."""

    text: str


_HIDDEN = _Note(CONFIDENTIAL)


class _Entry(NamedTuple):
    """A host call. Values are as they were, or notes."""

    name: str
    signature: FuncType
    arguments: tuple[object, ...]
    result: object
    raised: Exception | None
    weight: int


@dataclass(slots=True, eq=False)
class _Call:
    """A call into the guest; `weight` is that of its entries too."""

    function: str
    arguments: tuple[object, ...]
    weight: int
    entries: deque[_Entry] = field(default_factory=deque)
    lost: int = 0


class Recorder:
    """The record of one instance. Used by the agent's thread only.

    Args:
        max_entries: calls of either kind.
        max_bytes: characters that they may take, by estimate.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_value = max_bytes // _VALUE_SHARE
        self._start = self._now = _Call("", (), _CALL_WEIGHT)
        self._calls: deque[_Call] = deque()
        self._running = 0
        self._lost = 0
        self._overlapping = False
        self.entries = 1
        """Calls of either kind that are kept."""
        self.bytes = _CALL_WEIGHT
        """Characters that they take, by estimate."""

    def wrap(self, interfaces: Iterable[HostInterface]) -> Iterable[HostInterface]:
        """Return the same interfaces with functions that are recorded."""
        return changed(interfaces, self._wrapped)

    def _wrapped(self, interface: HostInterface) -> HostInterface:
        functions = {
            name: replace(function, call=self._recorded(interface, name, function))
            for name, function in interface.functions.items()
        }
        return replace(interface, functions=functions)

    def begin(self, function: str, arguments: tuple[WitValue, ...]) -> _Call:
        """Note that a call into the guest begins; returns what `end` is to be given."""
        if not self._calls and not self._lost and self._start.weight > self._max_bytes // 2:
            self._forget_entries(self._start, len(self._start.entries))  # or nothing would be left for the calls
        kept, weight = _keep_all(arguments, self._max_value)
        self._overlapping = self._overlapping or self._running > 0
        self._running += 1
        self._now = _Call(function, kept, weight + len(function) + _CALL_WEIGHT)
        self._calls.append(self._now)
        self._add(self._now.weight)
        return self._now

    def end(self, call: _Call, *, ran: bool = True) -> None:
        """Note that a call has ended; one that never reached the guest is forgotten."""
        self._running -= 1
        if not ran and call in self._calls:
            self._calls.remove(call)
            self._drop_call(call)
            self._now = self._calls[-1] if self._calls else self._start

    def recording(self, exports: Mapping[str, FuncType]) -> bytes:
        """Write the record, as `fleet.crash` says; what makes it too long goes as it does from the record.

        Args:
            exports: types of the functions that were called.
        """
        while len(data := encode_recording(self._written(exports))) > MAX_RECORDING and self._max_bytes:
            self._max_bytes //= 2
            self._make_room()
        return data

    def _recorded(self, interface: HostInterface, name: str, function: HostFunction) -> Callable[..., WitValue]:
        call, signature, full = function.call, function.signature, f"{interface.name}#{name}"
        if interface.confidential or function.confidential:
            hidden = (_HIDDEN,) * len(signature.params)

            def confidential(*arguments: WitValue) -> WitValue:
                try:
                    result = call(*arguments)
                except Exception as error:
                    self._note(_Entry(full, signature, hidden, _HIDDEN, error, _CALL_WEIGHT))
                    raise
                self._note(_Entry(full, signature, hidden, _HIDDEN, None, _CALL_WEIGHT))
                return result

            return confidential

        max_value = self._max_value

        def recorded(*arguments: WitValue) -> WitValue:
            kept, weight = _keep_all(arguments, max_value)
            try:
                result = call(*arguments)
            except Exception as error:
                self._note(_Entry(full, signature, kept, None, error, weight + MAX_MESSAGE))
                raise
            told, more = _keep(result, max_value)
            if more > max_value:
                told, more = _describe(result), _CALL_WEIGHT
            self._note(_Entry(full, signature, kept, told, None, weight + more + _CALL_WEIGHT))
            return result

        return recorded

    def _note(self, entry: _Entry) -> None:
        now, weight = self._now, entry.weight
        now.entries.append(entry)
        now.weight += weight
        self._add(weight)

    def _add(self, weight: int) -> None:
        self.entries += 1
        self.bytes += weight
        if self.entries > self._max_entries or self.bytes > self._max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        while self.entries > self._max_entries or self.bytes > self._max_bytes:
            if len(self._calls) > 1:
                self._drop_call(self._calls.popleft())
                self._lost += 1
            elif self._now.entries:
                self._forget_entries(self._now, 1)
            elif self._start.entries:
                self._forget_entries(self._start, 1)
            else:
                return  # the call itself is always kept

    def _drop_call(self, call: _Call) -> None:
        self.entries -= 1 + len(call.entries)
        self.bytes -= call.weight

    def _forget_entries(self, call: _Call, count: int) -> None:
        for _ in range(count):
            weight = call.entries.popleft().weight
            call.weight -= weight
            self.bytes -= weight
        call.lost += count
        self.entries -= count

    def _written(self, exports: Mapping[str, FuncType]) -> Recording:
        calls = tuple(_write_call(call, exports[call.function]) for call in self._calls)
        return Recording(_write_call(self._start, None), calls, self._lost, self._overlapping)


class RecordedInstance(Instance):
    """An instance whose calls in both directions are recorded."""

    def __init__(
        self,
        component: Component,
        interfaces: Iterable[HostInterface],
        limits: Limits,
        recorder: Recorder,
        last_words: Callable[[], str] = str,
    ) -> None:
        self._recorder = recorder
        super().__init__(component, recorder.wrap(interfaces), limits, last_words)

    def call(self, function: str, *arguments: WitValue, seconds: float | None = None) -> WitValue:
        """Call an exported function (see `Instance.call`)."""
        call = self._recorder.begin(function, arguments)
        ran = True
        try:
            return super().call(function, *arguments, seconds=seconds)
        except Trap:
            raise
        except FleetError:
            ran = False
            raise
        finally:
            self._recorder.end(call, ran=ran)


@cache
def engine_name() -> str:
    """Name and version of the engine, for reports."""
    return f"wasmtime {version('wasmtime')}"


@lru_cache(maxsize=4_096)
def numbered(kind: WitType) -> WitType:
    """The same type with a number for every handle: a resource has no text of its own."""
    match kind:
        case OwnType() | BorrowType():
            return Primitive.U32
        case ListType(element):
            return ListType(numbered(element))
        case RecordType(fields):
            return RecordType(tuple((name, numbered(part)) for name, part in fields))
        case TupleType(items):
            return TupleType(tuple(map(numbered, items)))
        case VariantType(cases):
            return VariantType(tuple((name, None if part is None else numbered(part)) for name, part in cases))
        case OptionType(payload):
            return OptionType(numbered(payload))
        case ResultType(ok, err):
            return ResultType(None if ok is None else numbered(ok), None if err is None else numbered(err))
        case _:
            return kind


def write_value(value: object, kind: WitType | None) -> str:
    """Text of a kept value, "" where the type has none."""
    if isinstance(value, _Note):
        return value.text
    if kind is None:
        return ""
    try:
        return print_value(value, numbered(kind))
    except FleetError:
        return f"<no {kind}>"  # a host function's own fault, which the engine has refused


def _write_call(call: _Call, kind: FuncType | None) -> GuestCall:
    params = () if kind is None else kind.params
    arguments = tuple(write_value(value, part) for value, (_, part) in zip(call.arguments, params, strict=True))
    return GuestCall(call.function, arguments, tuple(map(_write_entry, call.entries)), call.lost)


def _write_entry(entry: _Entry) -> HostCall:
    params = entry.signature.params
    arguments = tuple(write_value(value, part) for value, (_, part) in zip(entry.arguments, params, strict=True))
    error = entry.raised
    if error is None:
        return HostCall(entry.name, arguments, write_value(entry.result, entry.signature.result))
    cause = str(error.cause) if isinstance(error, EndAgentError) else ""
    said = CONFIDENTIAL if entry.result is _HIDDEN else str(error)[:MAX_MESSAGE]
    return HostCall(entry.name, arguments, said, type(error).__name__, cause)


def _keep_all(values: tuple[object, ...], left: int) -> tuple[tuple[object, ...], int]:
    """Values to remember, and about how many characters they take: together at most `left` and some for notes."""
    total = 0
    kept: list[object] | None = None
    for at, value in enumerate(values):
        mine, weight = _keep(value, left - total)
        if weight > left - total:
            mine, weight = _describe(value), _CALL_WEIGHT
        total += weight
        if mine is not value:
            kept = kept or list(values)
            kept[at] = mine
    return (values if kept is None else tuple(kept)), total


def _keep(value: object, left: int) -> tuple[object, int]:
    """One value that nobody can change any more, and its weight; more than `left` says that it is too large."""
    kind = type(value)
    if kind in _SCALARS:
        return value, _SCALAR_WEIGHT
    if kind is str:
        return value, len(value) + 2  # type: ignore[arg-type]  # mypy does not narrow by `type(value) is`
    if kind is bytes:
        return value, len(value) * _BYTE_WEIGHT  # type: ignore[arg-type]
    if isinstance(value, _WRAPPERS):
        inner, weight = _keep(value.value, left)
        return value if inner is value.value else kind(inner), weight + 6  # type: ignore[call-arg]
    if isinstance(value, Variant):
        inner, weight = _keep(value.payload, left)
        return Variant(value.case, inner), weight + len(value.case)
    if isinstance(value, _BUFFERS):
        size = len(value) * _BYTE_WEIGHT
        return (bytes(value) if size <= left else value), size
    if isinstance(value, dict):
        copy, total = value.copy(), 0
        for key, item in value.items():
            mine, weight = _keep(item, left - total)
            total += weight + len(key)
            if total > left:
                return value, total
            if mine is not item:
                copy[key] = mine
        return copy, total
    if isinstance(value, _SETS):
        return frozenset(value), sum(map(len, value))
    if isinstance(value, _SEQUENCES):
        if 2 * len(value) > left:
            return value, left + 1
        if kind is list and set(map(type, value)) <= _SCALARS:
            return value[:], len(value) * _SCALAR_WEIGHT
        items, weight = _keep_items(value, left)
        return (items if kind is list else tuple(items)), weight
    return _Note("<unknown>"), _SCALAR_WEIGHT


def _keep_items(values: Iterable[object], left: int) -> tuple[list[object], int]:
    total = 0
    kept: list[object] = []
    for value in values:
        mine, weight = _keep(value, left - total)
        total += weight + 2
        if total > left:
            return kept, left + 1
        kept.append(mine)
    return kept, total


def _describe(value: object) -> _Note:
    """Length and digest of a value that is too large."""
    while isinstance(value, _WRAPPERS):
        value = value.value
    if isinstance(value, str):
        return _Note(f"<{len(value)} characters, sha256:{sha256(value.encode(errors='replace')).hexdigest()}>")
    if isinstance(value, bytes | bytearray | memoryview):
        return _Note(f"<{len(value)} bytes, sha256:{sha256(value).hexdigest()}>")
    return _Note("<too large>")

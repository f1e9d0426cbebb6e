"""Remembers what one instance was told, so that its end can be looked at and repeated.

Owns: `Recorder`, which wraps the host functions of one agent, and `RecordedInstance`, which tells it of the calls into
the guest. Everything since the instance's start is kept while it
fits the bounds; then the oldest calls go first, whole, and within the running call its oldest host calls. No text is
made before the guest has ended: values are kept as they are, copied only where somebody could change them.

A host function that is `confidential` leaves neither arguments nor result here. Of a value that is too large for the
record its length and digest are kept. Never keeps log lines: the supervisor has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.capabilities.base import EndAgentError
from edge_agent.capabilities.lazy import changed
from edge_agent.runner.engine import Instance, Trap
from edge_agent.runner.kept_values import NOTE_WEIGHT, Note, describe, keep, keep_all, write_value
from fleet.crash import GuestCall, HostCall, Recording, encode_recording
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import HostFunction, HostInterface, Later
    from edge_agent.runner import engine
    from edge_agent.runner.engine import Calls, Component, Limits
    from fleet.wit_types import FuncType, WitValue

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


_HIDDEN = Note(CONFIDENTIAL)


class _Raised(NamedTuple):
    """What a host function raised, without the exception: it would hold on to everything on its way."""

    kind: str
    text: str
    cause: str

    @classmethod
    def of(cls, error: Exception) -> _Raised:
        cause = str(error.cause) if isinstance(error, EndAgentError) else ""
        return cls(type(error).__name__, str(error)[:MAX_MESSAGE], cause)


class _Entry(NamedTuple):
    """A host call. Values are as they were, or notes."""

    name: str
    signature: FuncType
    arguments: tuple[object, ...]
    result: object
    raised: _Raised | None
    weight: int


@dataclass(slots=True, eq=False)
class _Call:
    """A call into the guest; `weight` is that of its entries too."""

    function: str
    arguments: tuple[object, ...]
    weight: int
    entries: list[_Entry] = field(default_factory=list)
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
        self._calls: list[_Call] = []  # lists, here and for entries: an empty deque takes 600 bytes, in every agent
        self._running = 0
        self._trapped = 0
        self._lost = 0
        self._overlapping = False
        self._tallies: dict[str, list[int]] = {}
        self.entries = 1
        """Calls of either kind that are kept."""
        self.bytes = _CALL_WEIGHT
        """Characters that they take, by estimate."""

    @property
    def host_calls(self) -> dict[str, int]:
        """How often each interface of the host was called, forgotten calls included; for any thread."""
        return {interface: tally[0] for interface, tally in tuple(self._tallies.items()) if tally[0]}

    def wrap(self, interfaces: Iterable[HostInterface]) -> Iterable[HostInterface]:
        """Return the same interfaces with functions that are recorded."""
        return changed(interfaces, self._wrapped)

    def _wrapped(self, interface: HostInterface) -> HostInterface:
        functions = {
            name: replace(
                function,
                call=self._recorded(interface, name, function),
                later=None if function.later is None else self._recorded_later(interface, name, function),
            )
            for name, function in interface.functions.items()
        }
        return replace(interface, functions=functions)

    def begin(self, function: str, arguments: tuple[WitValue, ...]) -> _Call:
        """Note that a call into the guest begins; returns what `end` is to be given."""
        if not self._calls and not self._lost and self._start.weight > self._max_bytes // 2:
            self._forget_entries(self._start, len(self._start.entries))  # or nothing would be left for the calls
        kept, weight = keep_all(arguments, self._max_value)
        self._overlapping = self._overlapping or self._running > 0
        self._running += 1
        self._now = _Call(function, kept, weight + len(function) + _CALL_WEIGHT)
        self._calls.append(self._now)
        self._add(self._now.weight)
        return self._now

    def end(self, call: _Call, *, ran: bool = True, trapped: bool = False) -> None:
        """Note that a call has ended.

        Args:
            call: what `begin` returned.
            ran: it has reached the guest; one that has not is forgotten.
            trapped: the guest ended in it; it is put last, with all others of which that is said.
        """
        self._running -= 1
        self._trapped += trapped
        if trapped and call in self._calls:
            self._calls.remove(call)
            self._calls.append(call)
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
        tally = self._tallies.setdefault(interface.name, [0])
        if interface.confidential or function.confidential:
            hidden = (_HIDDEN,) * len(signature.params)

            def confidential(*arguments: WitValue) -> WitValue:
                tally[0] += 1
                try:
                    result = call(*arguments)
                except Exception as error:
                    raised = _Raised.of(error)._replace(text=CONFIDENTIAL)
                    self._note(_Entry(full, signature, hidden, _HIDDEN, raised, _CALL_WEIGHT))
                    raise
                self._note(_Entry(full, signature, hidden, _HIDDEN, None, _CALL_WEIGHT))
                return result

            return confidential

        max_value = self._max_value

        def recorded(*arguments: WitValue) -> WitValue:
            tally[0] += 1
            kept, weight = keep_all(arguments, max_value)
            try:
                result = call(*arguments)
            except Exception as error:
                self._note(_Entry(full, signature, kept, None, _Raised.of(error), weight + MAX_MESSAGE))
                raise
            told, more = keep(result, max_value)
            if more > max_value:
                told, more = describe(result), NOTE_WEIGHT
            self._note(_Entry(full, signature, kept, told, None, weight + more + _CALL_WEIGHT))
            return result

        return recorded

    def _recorded_later(
        self, interface: HostInterface, name: str, function: HostFunction
    ) -> Callable[..., Later | None]:
        begin = function.later

        def recorded(*arguments: WitValue) -> Later | None:
            later = None if begin is None else begin(*arguments)
            if later is None:
                return None
            answered = replace(function, call=lambda *_: later.result())
            return _RecordedLater(later, self._recorded(interface, name, answered), arguments)

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
                self._drop_call(self._calls.pop(0))
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
            weight = call.entries.pop(0).weight
            call.weight -= weight
            self.bytes -= weight
        call.lost += count
        self.entries -= count

    def _written(self, exports: Mapping[str, FuncType]) -> Recording:
        calls = tuple(_write_call(call, exports[call.function]) for call in self._calls)
        return Recording(_write_call(self._start, None), calls, self._lost, self._overlapping, self._in_flight(calls))

    def _in_flight(self, calls: tuple[GuestCall, ...]) -> int:
        return max(1, min(self._trapped, len(calls)))


class _RecordedLater:
    """An answer that is recorded when it is there."""

    __slots__ = ("_answer", "_arguments", "left_ns")

    def __init__(self, later: Later, answer: Callable[..., WitValue], arguments: tuple[WitValue, ...]) -> None:
        self.left_ns = later.left_ns
        self._answer = answer
        self._arguments = arguments

    def result(self) -> WitValue:
        return self._answer(*self._arguments)


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

    def serve(self, calls: Calls) -> None:
        """Make calls of exported functions, several at a time (see `Instance.serve`)."""
        super().serve(_RecordedCalls(calls, self._recorder))


class _RecordedCalls:
    """Calls that are recorded from their beginning to their end."""

    def __init__(self, calls: Calls, recorder: Recorder) -> None:
        self._next = calls.next
        self._recorder = recorder
        self.wait = calls.wait
        self.until = calls.until

    def next(self, in_flight: int) -> _RecordedCall | None:
        call = self._next(in_flight)
        return None if call is None else _RecordedCall(call, self._recorder)


class _RecordedCall:
    """One of them."""

    def __init__(self, call: engine.GuestCall, recorder: Recorder) -> None:
        self.function = call.function
        self.arguments = call.arguments
        self.seconds = call.seconds
        self._call = call
        self._recorder = recorder
        self._entry = recorder.begin(call.function, call.arguments)

    def returned(self, value: WitValue) -> None:
        self._recorder.end(self._entry)
        self._call.returned(value)

    def failed(self, error: FleetError | Trap) -> None:
        trapped = isinstance(error, Trap)
        ran = trapped or error.code is not Code.VALUE_INVALID
        self._recorder.end(self._entry, ran=ran, trapped=trapped)
        self._call.failed(error)


def _write_call(call: _Call, kind: FuncType | None) -> GuestCall:
    params = () if kind is None else kind.params
    arguments = tuple(write_value(value, part) for value, (_, part) in zip(call.arguments, params, strict=True))
    return GuestCall(call.function, arguments, tuple(map(_write_entry, call.entries)), call.lost)


def _write_entry(entry: _Entry) -> HostCall:
    params = entry.signature.params
    arguments = tuple(write_value(value, part) for value, (_, part) in zip(entry.arguments, params, strict=True))
    if entry.raised is None:
        return HostCall(entry.name, arguments, write_value(entry.result, entry.signature.result))
    return HostCall(entry.name, arguments, entry.raised.text, entry.raised.kind, entry.raised.cause)

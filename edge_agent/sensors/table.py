"""What is known about each source of a node, and who is told of new readings.

Owns: `SensorTable`: the newest reading of each source, its faults, its counts, its subscribers. Never reads a source.
What goes wrong is told as an event once, until the source gives a good value again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from edge_agent.runtime import SensorState
from edge_agent.sensors.values import extract
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.clock import Clock
    from edge_agent.sensors.declarations import Source

Report = Callable[[str, str], None]
"""Tells the operator: kind of event, message."""

Tell = Callable[[SensorState], None]
"""Takes one new reading; must not wait."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Row:
    """One source.

    Attributes:
        value: newest value; None before the first.
        taken_at: when it was taken.
        fault: what keeps the source from giving values, in words; "" when nothing does.
        told: kinds of trouble that were told since the last good value.
        second: the second of the clock that `taken` counts readings of.
        malformed: pieces of input that held no value. `skipped`: readings above the rate.
    """

    source: Source
    value: float | None = None
    taken_at: datetime = _EPOCH
    fault: str = ""
    told: set[str] = field(default_factory=set)
    second: int = 0
    taken: int = 0
    malformed: int = 0
    skipped: int = 0
    subscribers: dict[int, Tell] = field(default_factory=dict)


class SensorTable:
    """The sources of one node; used from one event loop.

    Args:
        sources: what the operator declared.
        clock: when a reading was taken.
        report: tells the operator.
    """

    def __init__(self, sources: Iterable[Source], clock: Clock, report: Report) -> None:
        self._rows = {source.name: _Row(source) for source in sources}
        self._clock = clock
        self._report = report
        self._numbers = 0

    def take(self, name: str, payload: bytes) -> None:
        """Take what a source gave; what holds no number is counted and told once."""
        row = self._rows[name]
        if not self._in_time(row):
            return
        try:
            value = extract(payload, row.source.form)
        except FleetError as error:
            self.malformed(name, error.private)
            return
        self._store(row, value)

    def put(self, name: str, value: float) -> None:
        """Take a number as a source measured it."""
        row = self._rows[name]
        if self._in_time(row):
            self._store(row, value * row.source.form.factor)

    def malformed(self, name: str, why: str, count: int = 1) -> None:
        """Count input that holds no value; the newest reading stays."""
        row = self._rows[name]
        row.malformed += count
        self._tell(row, "node:sensor:malformed", why)

    def fail(self, name: str, why: str) -> None:
        """Note that a source is out of order."""
        row = self._rows[name]
        row.fault = why
        self._tell(row, "node:sensor:unavailable", why)

    def counts(self, name: str) -> tuple[int, int]:
        """How many pieces of input of a source were malformed, and how many readings were above its rate."""
        row = self._rows[name]
        return row.malformed, row.skipped

    def states(self, name: str = "") -> tuple[SensorState, ...]:
        """What is known about a source, nothing for an unknown one; about all of them, by name, for ""."""
        if name:
            row = self._rows.get(name)
            return () if row is None else (self._state(row),)
        return tuple(self._state(row) for _, row in sorted(self._rows.items()))

    def subscribe(self, name: str, tell: Tell) -> Callable[[], None]:
        """Tell of each new reading of a source; return what ends it. A source that is not declared never tells."""
        row = self._rows.get(name)
        if row is None:
            return _nothing
        self._numbers += 1
        number = self._numbers
        row.subscribers[number] = tell
        return lambda: row.subscribers.pop(number, None) and None

    def _in_time(self, row: _Row) -> bool:
        """Whether the source has not had its readings of this second yet."""
        second = int(self._clock.now().timestamp())
        if second != row.second:
            row.second, row.taken = second, 0
        row.taken += 1
        if row.taken > row.source.rate:
            row.skipped += 1
            return False
        return True

    def _store(self, row: _Row, value: float) -> None:
        if "node:sensor:unavailable" in row.told:
            self._report("node:sensor:recovered", f"{row.source.name} gives values again")
        row.value, row.taken_at, row.fault = value, self._clock.now(), ""
        row.told.clear()
        state = self._state(row)
        for tell in tuple(row.subscribers.values()):
            tell(state)

    def _tell(self, row: _Row, kind: str, why: str) -> None:
        if kind not in row.told:
            row.told.add(kind)
            self._report(kind, f"{row.source.name}: {why}")

    def _state(self, row: _Row) -> SensorState:
        source = row.source
        if row.value is None:
            return SensorState(source.name, source.kind, source.unit, "unavailable", fault=row.fault)
        age = self._clock.now() - row.taken_at
        if row.fault:
            state = "unavailable"
        elif age > timedelta(milliseconds=source.max_age_ms):
            state = "stale"
        else:
            state = "good" if source.low <= row.value <= source.high else "out-of-range"
        taken_ns = (row.taken_at - _EPOCH) // timedelta(microseconds=1) * 1000
        return SensorState(source.name, source.kind, source.unit, state, repr(row.value), taken_ns, row.fault)


def _nothing() -> None:
    """End a subscription that never was one."""

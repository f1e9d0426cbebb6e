"""What a node knows of the time beside its clock, on disk.

Owns `trust/time.json`: the three moments of `fleet.time_floor.TimeFloor`. Written at every adoption, and once an hour
while the node runs, so that a machine without a battery for its clock goes on where it was, as a lease that has run out
does not begin anew. Never reads a clock: it is told what the clock says and how much time has passed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code
from fleet.time_floor import TimeFloor
from fleet.times import MAX_MS, from_ms, to_ms

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from edge_agent.disk import Disk

SCHEMA = "fleet.time/v1"
MAX_FILE = 4 * 1024
SAVE_EVERY = timedelta(hours=1)
"""How far the floor moves by itself before it is written again."""

FILE = "time.json"


class TimeStore:
    """The time floor. Without one (before the first adoption) the clock is believed as it is.

    Args:
        disk: the file operations.
        folder: `trust/` of the data directory.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._path = folder / FILE
        self._floor: TimeFloor | None = None
        self._saved: TimeFloor | None = None
        self._started: datetime | None = None
        self._uptime = timedelta()

    def load(self, adopted_at: datetime) -> None:
        """Go on from what was written, and from the moment of the adopted release in any case.

        Raises:
            FleetError: TRUST_INVALID when the file cannot be read; the moment of the adopted release then counts alone,
                and the file is written anew with the next change.
        """
        self._floor = TimeFloor.starting(adopted_at)
        self._started = adopted_at
        if self._disk.size(self._path) is None:
            return
        self._floor = self._saved = _decode(self._disk.read(self._path, 0, MAX_FILE + 1)).adopted(adopted_at)
        self._started = self._floor.agreed

    def believed(self, clock: datetime) -> datetime:
        """Return what the clock says, or the floor when that is later."""
        return clock if self._floor is None else max(clock, self._floor.at)

    def behind(self, clock: datetime) -> timedelta:
        """How far the clock is behind the floor; zero when it is not."""
        return self.believed(clock) - clock

    def adopted(self, at: datetime, signed_at: datetime | None) -> None:
        """Take in that a release was adopted, and when it was signed; durably.

        Raises:
            FleetError: STORAGE_FULL.
        """
        floor = TimeFloor.starting(at) if self._floor is None else self._floor
        self._floor = floor.adopted(at).signed(timestamp=signed_at)
        self._started = self._floor.agreed if self._started is None else self._started
        self._save()

    def ordered(self, issued: datetime) -> None:
        """Take in the date of a verified assignment.

        Raises:
            FleetError: STORAGE_FULL.
        """
        if self._floor is not None:
            self._floor = self._floor.signed(director=issued)
            self._save_if_moved()

    def passed(self, clock: datetime, elapsed: timedelta) -> None:
        """Take in that time has passed; written every `SAVE_EVERY`.

        Raises:
            FleetError: STORAGE_FULL.
        """
        self._uptime += elapsed
        if self._floor is None or self._started is None:
            return
        self._floor = self._floor.passed(clock, self._started, self._uptime)
        self._save_if_moved()

    def _save_if_moved(self) -> None:
        if self._floor is not None and (self._saved is None or self._floor.at - self._saved.at >= SAVE_EVERY):
            self._save()

    def _save(self) -> None:
        if self._floor is not None and self._floor != self._saved:
            replace_file(self._disk, self._path, _encode(self._floor))
            self._saved = self._floor


def _encode(floor: TimeFloor) -> bytes:
    return dump_json(
        {
            "schema": SCHEMA,
            "local_ms": to_ms(floor.local),
            "timestamp_ms": to_ms(floor.timestamp),
            "director_ms": to_ms(floor.director),
        }
    )


def _decode(data: bytes) -> TimeFloor:
    with Reader(load_json(data, Code.TRUST_INVALID, FILE, MAX_FILE), Code.TRUST_INVALID, FILE) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        local, timestamp, director = (
            from_ms(top.integer(key, 0, MAX_MS)) for key in ("local_ms", "timestamp_ms", "director_ms")
        )
    return TimeFloor(local, timestamp, director)

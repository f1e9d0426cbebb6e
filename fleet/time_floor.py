"""The earliest time that it can be, whatever the clock of a node says.

Owns: `TimeFloor`, what a node knows of the time beside its clock, and the bounds on how far anybody may move it. A
clock can be set back, or start in 1970 on a machine without a battery; expired metadata and lapsed leases must not
become valid by it. A floor that anybody could move far ahead would do harm of its own: everything would have expired
for ever. So it rises by four rules:

1. While the node runs, at least as fast as time passes, and with its clock: at most `LEAD` ahead of the time that has
   passed since the node started, so that a wrong clock moves it by a day at each start and no further.
2. When a release is adopted by a clock that is ahead of it, to the time of that adoption, which is before the expiry
   of every role of the release. Whoever publishes later signs a later expiry, so this rule can refuse nothing that is
   published from then on.
3. To a moment that both signers of times have reached: the timestamp role, which notes when it signed, and the
   director, which dates its assignments. Their keys are on different machines.
4. To what one of the two says alone, but at most `LEAD` ahead of what rules 1 to 3 give, however often it signs.

Pure; never reads a clock. Times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

LEAD = timedelta(hours=24)
"""How far one source alone may move the floor ahead of the others."""


@dataclass(frozen=True, slots=True)
class TimeFloor:
    """What is known of the time.

    Attributes:
        local: reached by rules 1 and 2.
        timestamp: latest time that the timestamp role signed.
        director: latest time that the director signed.
    """

    local: datetime
    timestamp: datetime
    director: datetime

    @classmethod
    def starting(cls, at: datetime) -> TimeFloor:
        """Return the floor of a node that knows of nothing but one moment."""
        return cls(at, at, at)

    @property
    def agreed(self) -> datetime:
        """The floor by rules 1 to 3."""
        return max(self.local, min(self.timestamp, self.director))

    @property
    def at(self) -> datetime:
        """The floor: no earlier than this."""
        return max(self.agreed, min(max(self.timestamp, self.director), self.agreed + LEAD))

    def adopted(self, at: datetime) -> TimeFloor:
        """Rule 2: a release that was valid then has been adopted.

        A moment that is not after the floor is the floor itself, and says nothing of the clock: what one source said
        alone must not become what the next lead counts from.
        """
        return replace(self, local=at) if at > self.at else self

    def signed(self, *, timestamp: datetime | None = None, director: datetime | None = None) -> TimeFloor:
        """Rules 3 and 4: take in verified times."""
        return replace(
            self,
            timestamp=self.timestamp if timestamp is None else max(self.timestamp, timestamp),
            director=self.director if director is None else max(self.director, director),
        )

    def passed(self, clock: datetime, started: datetime, uptime: timedelta) -> TimeFloor:
        """Rule 1.

        Args:
            clock: what the clock says.
            started: `at` when the node started.
            uptime: how long it has run since, by a clock that nobody sets.
        """
        least = started + uptime
        return replace(self, local=max(self.local, least, min(clock, least + LEAD)))

"""What one caller may have at once, and how often it may come.

Owns: counting, per caller and in total. Pure: takes `now` in seconds of any steady clock. Never waits and never knows
what is counted; all of it lives in memory, so a restarted coordinator begins with empty counts.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CALLERS = 10_000
"""Callers whose rate is remembered; the one that came longest ago is forgotten first."""


class Slots:
    """How much is under way, for one caller and for all.

    Args:
        what: name of what is counted, for the refusal.
        per_caller: most for one caller.
        total: most for all; None for no limit.
    """

    def __init__(self, what: str, per_caller: int, total: int | None = None) -> None:
        self._what = what
        self._per_caller = per_caller
        self._total = total
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: str) -> Iterator[None]:
        """Hold a slot while the block runs.

        Raises:
            FleetError: LIMIT_EXCEEDED when none is free.
        """
        if self._taken[caller] >= self._per_caller:
            raise FleetError(Code.LIMIT_EXCEEDED, f"too many {self._what} of {caller}", limit=self._per_caller)
        if self._total is not None and self._taken.total() >= self._total:
            raise FleetError(Code.LIMIT_EXCEEDED, f"too many {self._what}", limit=self._total)
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]


class Allowance:
    """How much may still come now: a bucket that fills with time.

    Args:
        what: name of what is counted, for the refusal.
        per_second: how fast it fills.
        most: how much fits; it begins full.
        now: seconds.
    """

    def __init__(self, what: str, per_second: float, most: float, now: float) -> None:
        self._what = what
        self._per_second = per_second
        self._most = most
        self._left = most
        self._at = now

    def take(self, now: float) -> None:
        """Take one.

        Raises:
            FleetError: LIMIT_EXCEEDED when less than one is left.
        """
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            raise FleetError(Code.LIMIT_EXCEEDED, f"too many {self._what}", limit=int(self._most))
        self._left -= 1


class Rates:
    """One allowance per caller.

    Args:
        what: name of what is counted, for the refusal.
        per_minute: how many may come in a minute, and how many at once after a pause.
    """

    def __init__(self, what: str, per_minute: int) -> None:
        self._what = what
        self._per_minute = per_minute
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()

    def take(self, caller: str, now: float) -> None:
        """Count one more of a caller.

        Raises:
            FleetError: LIMIT_EXCEEDED.
        """
        allowance = self._allowances.get(caller)
        if allowance is None:
            allowance = Allowance(self._what, self._per_minute / 60, self._per_minute, now)
            self._allowances[caller] = allowance
        self._allowances.move_to_end(caller)
        while len(self._allowances) > MAX_CALLERS:
            self._allowances.popitem(last=False)
        allowance.take(now)


def network_of(peer: str) -> str:
    """Return whom to count for a connection: the IPv4 address, or the /64 network that one IPv6 host can fill.

    Args:
        peer: what gRPC calls the other side, for example `ipv4:10.0.0.7:50122` or `ipv6:%5B2001:db8::7%5D:50122`.
    """
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)

"""`wasi:clocks` 0.2: the time of day, and a clock for measuring.

Owns: reading the two clocks that the context gives, and making pollables for moments of the monotonic one. Waiting
for them is done by `wasi_io`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind, declare_functions, declare_types
from edge_agent.capabilities.wasi_io import POLL, IoHandles
from fleet.errors import Code, FleetError
from fleet.wit_types import OwnType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext, GuestClock
    from fleet.wit_types import WitValue

WALL_CLOCK = "wasi:clocks/wall-clock@0.2.12"
MONOTONIC_CLOCK = "wasi:clocks/monotonic-clock@0.2.12"

RESOLUTION_NS = 1
"""Length of one tick: what the operating system's clocks count in."""

_SECOND_NS = 1_000_000_000

_WALL_SIGNATURES = declare_functions(
    declare_types({"datetime": "record { seconds: u64, nanoseconds: u32 }"}),
    {"now": "func() -> datetime", "resolution": "func() -> datetime"},
)
_MONOTONIC_SIGNATURES = declare_functions(
    declare_types({"instant": "u64", "duration": "u64"}, {"pollable": OwnType("pollable")}),
    {
        "now": "func() -> instant",
        "resolution": "func() -> duration",
        "subscribe-instant": "func(when: instant) -> pollable",
        "subscribe-duration": "func(when: duration) -> pollable",
    },
)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """Both clocks for one agent. The wall clock needs a grant; without one its calls end the agent."""
    wall = _WallClock(context.clock, granted=context.authority.allows("wasi:clocks/wall-clock"))
    now = context.clock.monotonic_ns
    pollables = context.shared(IoHandles).pollables
    monotonic: dict[str, Callable[..., WitValue]] = {
        "now": now,
        "resolution": lambda: RESOLUTION_NS,
        "subscribe-instant": pollables.insert,
        "subscribe-duration": lambda duration: pollables.insert(now() + duration),
    }
    return (
        HostInterface(WALL_CLOCK, bind(_WALL_SIGNATURES, {"now": wall.now, "resolution": wall.resolution})),
        HostInterface(MONOTONIC_CLOCK, bind(_MONOTONIC_SIGNATURES, monotonic), uses={"pollable": POLL}),
    )


class _WallClock:
    def __init__(self, clock: GuestClock, *, granted: bool) -> None:
        self._clock = clock
        self._granted = granted

    def now(self) -> WitValue:
        """Time since the Unix epoch."""
        if not self._granted:
            raise FleetError(Code.CALL_DENIED, "the grant does not include the wall clock", interface=WALL_CLOCK)
        # A clock that was never set may stand before the epoch, which the record cannot say.
        return _datetime(max(self._clock.time_ns(), 0))

    def resolution(self) -> WitValue:
        """Length of one tick."""
        return _datetime(RESOLUTION_NS)


def _datetime(nanoseconds: int) -> WitValue:
    seconds, rest = divmod(nanoseconds, _SECOND_NS)
    return {"seconds": seconds, "nanoseconds": rest}

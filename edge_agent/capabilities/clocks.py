"""`wasi:clocks` 0.2 and 0.3: the time of day, and a clock for measuring.

Owns: reading the two clocks that the context gives, making pollables for moments of the monotonic one, for which
`wasi_io` waits, and the waiting of 0.3. There the time of day is called `system-clock`, and is granted by that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind, declare_functions, declare_types
from edge_agent.capabilities.wasi_io import POLL, IoHandles
from fleet.errors import Code, FleetError
from fleet.wit import parse_interface
from fleet.wit_types import OwnType

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext, GuestClock
    from fleet.wit_types import WitValue

WALL_CLOCK = "wasi:clocks/wall-clock@0.2.12"
MONOTONIC_CLOCK = "wasi:clocks/monotonic-clock@0.2.12"

TYPES_3 = "wasi:clocks/types@0.3.0"
MONOTONIC_CLOCK_3 = "wasi:clocks/monotonic-clock@0.3.0"
SYSTEM_CLOCK_3 = "wasi:clocks/system-clock@0.3.0"

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


_MONOTONIC_3_SIGNATURES = declare_functions(
    declare_types({"mark": "u64", "duration": "u64"}),
    {
        "now": "func() -> mark",
        "get-resolution": "func() -> duration",
        "wait-until": "func(when: mark)",
        "wait-for": "func(how-long: duration)",
    },
)
_SYSTEM_3_SIGNATURES = declare_functions(
    declare_types({"instant": "record { seconds: s64, nanoseconds: u32 }", "duration": "u64"}),
    {"now": "func() -> instant", "get-resolution": "func() -> duration"},
)


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """Both clocks for one agent. The time of day needs a grant; without one its calls end the agent."""
    wall, system = _WallClock(context, WALL_CLOCK), _WallClock(context, SYSTEM_CLOCK_3)
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
        HostInterface(TYPES_3, {}),
        HostInterface(
            MONOTONIC_CLOCK_3,
            bind(
                _MONOTONIC_3_SIGNATURES,
                {
                    "now": now,
                    "get-resolution": lambda: RESOLUTION_NS,
                    "wait-until": lambda mark: _wait_until(context, mark),
                    "wait-for": lambda duration: _wait_until(context, now() + duration),
                },
                {
                    "wait-until": lambda mark: _Pause(context.clock, mark),
                    "wait-for": lambda duration: _Pause(context.clock, now() + duration),
                },
            ),
        ),
        HostInterface(
            SYSTEM_CLOCK_3, bind(_SYSTEM_3_SIGNATURES, {"now": system.now, "get-resolution": lambda: RESOLUTION_NS})
        ),
    )


def _wait_until(context: AgentContext, mark: int) -> None:
    """Wait for a moment of the monotonic clock; the context ends the wait at the call's deadline."""
    while (left := mark - context.clock.monotonic_ns()) > 0:
        context.wait(left)


class _Pause:
    """A wait that does not hold up the other calls of its agent."""

    __slots__ = ("_clock", "_mark")

    def __init__(self, clock: GuestClock, mark: int) -> None:
        self._clock = clock
        self._mark = mark

    def left_ns(self) -> int:
        """As `Later` says."""
        return max(0, self._mark - self._clock.monotonic_ns())

    def result(self) -> WitValue:
        """As `Later` says."""
        return None


class _WallClock:
    def __init__(self, context: AgentContext, interface: str) -> None:
        self._clock: GuestClock = context.clock
        self._interface = interface
        self._granted = context.authority.allows(parse_interface(interface).unversioned)

    def now(self) -> WitValue:
        """Time since the Unix epoch."""
        if not self._granted:
            raise FleetError(Code.CALL_DENIED, "the grant does not include the time of day", interface=self._interface)
        # A clock that was never set may stand before the epoch, which the record cannot say.
        return _datetime(max(self._clock.time_ns(), 0))

    def resolution(self) -> WitValue:
        """Length of one tick."""
        return _datetime(RESOLUTION_NS)


def _datetime(nanoseconds: int) -> WitValue:
    seconds, rest = divmod(nanoseconds, _SECOND_NS)
    return {"seconds": seconds, "nanoseconds": rest}

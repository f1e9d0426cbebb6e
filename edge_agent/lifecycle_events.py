"""What can happen to an agent, and what may be done about it.

Owns the events and actions of `edge_agent.lifecycle` as plain data. An event or action that carries an attempt number
belongs to that attempt alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.model import AssignedAgent, Exit, Refusal


# Events


@dataclass(frozen=True, slots=True)
class Desired:
    """The node shall run the agent like this."""

    spec: AssignedAgent


@dataclass(frozen=True, slots=True)
class Undesired:
    """The node shall not run the agent any more."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Admission found the agent good to run until `valid_until` (None: no end)."""

    attempt: int
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Admission, or linking, refused the agent. `retryable`: the same attempt may succeed later by itself."""

    attempt: int
    refusal: Refusal
    retryable: bool


@dataclass(frozen=True, slots=True)
class Started:
    """The instance exists."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The instance is gone."""

    attempt: int
    exit: Exit


@dataclass(frozen=True, slots=True)
class StopTimedOut:
    """The instance was interrupted and still exists."""

    attempt: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time of a `SetTimer` came."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Lapsed:
    """What the running instance was admitted with holds no longer; `at_once`: not even for the call that it is in."""

    attempt: int
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Swapped:
    """The instance of the newer specification has taken over; it may run until `valid_until` (None: no end)."""

    attempt: int
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class SwapFailed:
    """Admission, or starting, refused the newer specification; the instance that ran goes on."""

    attempt: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class SwapHindered:
    """What is desired may not take over from what runs, which has to stop first."""

    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The instance that took over is past its probation; the older one is gone."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Restored:
    """The instance that took over ended on probation, and the older one runs on."""

    attempt: int
    exit: Exit


Event = (
    Desired
    | Undesired
    | Admitted
    | Rejected
    | Started
    | Exited
    | StopTimedOut
    | TimerFired
    | Lapsed
    | Swapped
    | SwapFailed
    | SwapHindered
    | Confirmed
    | Restored
)


# Actions


@dataclass(frozen=True, slots=True)
class Admit:
    """Verify and compile; answer `Admitted` or `Rejected`."""

    attempt: int
    spec: AssignedAgent


@dataclass(frozen=True, slots=True)
class Start:
    """Instantiate what was admitted; answer `Started`, `Rejected` or `Exited`."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Admit a newer specification and let it take over from the instance of this attempt, which goes on meanwhile.

    Answer `Swapped`, `SwapFailed` or `SwapHindered`, or nothing when the instance has ended; after `Swapped`,
    `Confirmed` or `Restored`.
    """

    attempt: int
    spec: AssignedAgent


@dataclass(frozen=True, slots=True)
class Interrupt:
    """End the instance within `grace_ms`; answer `Exited`, or `StopTimedOut` when it does not end."""

    attempt: int
    grace_ms: int
    patience_ms: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Answer `TimerFired` at the given time."""

    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """Forget the agent: nothing of it runs."""


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator: an event of this kind (`source:subject:action`)."""

    kind: str
    message: str


Action = Admit | Start | Swap | Interrupt | SetTimer | Release | Report

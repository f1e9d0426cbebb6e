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
    """What the running instance was admitted with holds no longer."""

    attempt: int


Event = Desired | Undesired | Admitted | Rejected | Started | Exited | StopTimedOut | TimerFired | Lapsed


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


Action = Admit | Start | Interrupt | SetTimer | Release | Report

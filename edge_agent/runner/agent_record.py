"""What the supervisor keeps about an agent of a runner, and about the calls that wait there.

Owns: `AgentRecord` and `CallRecord`, plain data of `edge_agent.runner.runner_client`, and how their futures are given
results: whoever waited may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from edge_agent.runner.message_values import Counters, Measures

if TYPE_CHECKING:
    import asyncio

    from edge_agent.runtime import CallResult
    from fleet.errors import FleetError

T = TypeVar("T")


@dataclass(slots=True)
class CallRecord:
    """A call that has not ended."""

    deadline_ms: int
    result: asyncio.Future[CallResult]


@dataclass(slots=True)
class AgentRecord:
    """An agent that a runner runs or starts."""

    started: asyncio.Future[None]
    counters: Counters = field(default_factory=Counters)
    measures: Measures = field(default_factory=Measures)
    calls: dict[int, CallRecord] = field(default_factory=dict)
    """Calls that have not ended, in the order in which the agent takes them."""
    watched: int | None = None
    watch: asyncio.TimerHandle | None = None
    replacing: asyncio.Future[None] | None = None
    stopped: asyncio.Future[None] | None = None


def resolve(future: asyncio.Future[T], value: T) -> None:
    """Give a future its result unless it has one."""
    if not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[T], error: FleetError) -> None:
    """Give a future its fault unless it has a result."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # also retrieved here: the caller may have been cancelled

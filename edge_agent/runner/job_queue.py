"""The jobs that wait for one agent, and what happens when there are too many.

Owns: `JobQueue`. Pure: no threads, no waiting. Who waits for room, and who is told of a dropped job, is
`edge_agent.runner.agent_thread`'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from fleet.model import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class JobQueue(Generic[T]):
    """At most `capacity` jobs, first in, first out.

    Under the policy `block` the sources hold back by themselves: threads of this process until `has_room`, the
    supervisor before it sends (`host.RunnerHost`). Neither sees what the other has on its way: there is room for both.

    Args:
        capacity: jobs that may wait.
        policy: what happens to one more.
        waiting: jobs that wait already, even where they are more than `capacity`.
    """

    __slots__ = ("_capacity", "_jobs", "_policy", "dropped")

    def __init__(self, capacity: int, policy: QueuePolicy, waiting: Iterable[T] = ()) -> None:
        self._capacity = capacity
        self._policy = policy
        self._jobs = list(waiting)  # a deque takes 600 bytes when empty, as nearly all are
        self.dropped = 0
        """Jobs that were refused or gave way."""

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def has_room(self) -> bool:
        """Whether one more job may wait."""
        return len(self._jobs) < self._capacity

    def offer(self, job: T, *, waited: bool = False) -> T | None:
        """Take a job; return the one that has to go for it: the oldest, or itself, or None when there is room.

        Args:
            job: what comes in.
            waited: its source is a thread that has waited for `has_room`.
        """
        # What the supervisor sends has waited there, and may find the room taken by threads here.
        spare = self._capacity if self._policy is QueuePolicy.BLOCK and not waited else 0
        if len(self._jobs) < self._capacity + spare:
            self._jobs.append(job)
            return None
        self.dropped += 1
        if self._policy is not QueuePolicy.DROP_OLDEST:
            return job
        oldest = self._jobs.pop(0)
        self._jobs.append(job)
        return oldest

    def take(self) -> T | None:
        """Take the oldest job out; None when there is none."""
        return self._jobs.pop(0) if self._jobs else None

    def put_back(self, job: T) -> None:
        """Let a job that was taken wait again, before all others; there is room for it."""
        self._jobs.insert(0, job)

    def drain(self) -> list[T]:
        """Take all jobs out, the oldest first."""
        jobs = list(self._jobs)
        self._jobs.clear()
        return jobs

"""The jobs that one agent runs now: one as a rule, several where calls can be in flight.

Owns: `RunningJobs`, which counts and times them, under the lock of the agent. All of them run in one instance.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.runner.agent_thread import AgentThread
    from edge_agent.runner.jobs import Job
    from edge_agent.runner.measurements import Measurements


class RunningJobs:
    """What runs.

    Args:
        numbers: takes the counts and times of all that are no questions.
    """

    __slots__ = ("_began", "_numbers", "thread")

    def __init__(self, numbers: Measurements) -> None:
        self._numbers = numbers
        self._began: dict[int, float | None] = {}
        """When each began, by identity; None for a question how the instance does."""
        self.thread: AgentThread | None = None
        """Whose they are; None when nothing runs."""

    def begin(self, thread: AgentThread, job: Job) -> None:
        """Note that a job begins."""
        self.thread, self._began[id(job)] = thread, time.monotonic()
        self._numbers.begin()

    def ask(self, thread: AgentThread, question: Job) -> None:
        """Note that a question begins."""
        self.thread, self._began[id(question)] = thread, None

    def take_back(self, job: Job) -> None:
        """Note that a job has not begun after all."""
        self._leave(id(job))
        self._numbers.take_back()

    def end(self, job: Job) -> bool:
        """Note that a job has ended and its instance lives; return whether it was no job but a question."""
        return self._end(id(job), returned=True)

    def lose(self) -> None:
        """Note that all of them ended with their instance."""
        for job in tuple(self._began):
            self._end(job, returned=False)

    def _end(self, job: int, *, returned: bool) -> bool:
        began = self._leave(job)
        self._numbers.end(began, time.monotonic(), returned=returned)
        return began is None

    def _leave(self, job: int) -> float | None:
        began = self._began.pop(job)
        if not self._began:
            self.thread = None
        return began

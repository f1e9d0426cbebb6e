"""An event loop whose time is a number: nothing is waited for, and one seed gives one course of events.

When nothing is ready to run, time jumps to the next timer. Work for threads runs on the loop itself, after a delay of
the loop's own random numbers, so that the moments at which it ends differ from seed to seed and never from run to run.
There are no sockets, no threads and no signals.
"""

from __future__ import annotations

import asyncio
import itertools
from asyncio import base_events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-6
"""Timers that are due within this run together; after years of virtual time, floats tell no finer times apart."""

LONGEST_WORK_S = 0.004
"""Work that is given to a thread takes up to this long."""


class DeadlockError(RuntimeError):
    """Nothing is ready and nothing is due: whatever is waited for will never happen."""


class _OrderedTask(asyncio.Task[T]):
    """A task with a number for a hash: sets of tasks are walked in the order of their making, in every run."""

    _numbers = itertools.count()

    def __init__(
        self, coroutine: Generator[Any, None, T] | Coroutine[Any, Any, T], *, loop: VirtualLoop, context: Context | None
    ) -> None:
        self._number = next(self._numbers)
        super().__init__(coroutine, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Jump:
    """Stands where a loop's selector stands: instead of sleeping it moves time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("nothing is ready and nothing is due")
        if timeout > 0:
            self._loop.jump(timeout)
        return []


class VirtualLoop(base_events.BaseEventLoop):
    """Give it to `asyncio.Runner(loop_factory=...)`, or use `run_until_complete`.

    Attributes:
        random: decides how long work for threads takes.
        on_quiet: called whenever everything that needs no time has run, before time moves.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.on_quiet: Callable[[], None] | None = None
        self._elapsed_s = 0.0
        self._selector = _Jump(self)
        self.set_task_factory(_task)
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._elapsed_s

    def jump(self, seconds: float) -> None:
        """Move time; called by the loop when nothing is ready."""
        if self.on_quiet is not None:
            self.on_quiet()
        self._elapsed_s += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: object, function: Callable[..., T], *arguments: object
    ) -> asyncio.Future[T]:
        """Call the function on the loop, a little later; like a thread, it is not stopped by a cancelled waiter."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = function(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the waiter, as with a thread
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self.random.uniform(0, LONGEST_WORK_S), work)
        return future

    def _process_events(self, events: list[Any]) -> None:
        """There are none: nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nothing to wake: the loop never sleeps."""


def _task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Generator[Any, None, T] | Coroutine[Any, Any, T],
    context: Context | None = None,
    **_: object,
) -> asyncio.Task[T]:
    if not isinstance(loop, VirtualLoop):
        raise TypeError("the factory belongs to a VirtualLoop")
    return _OrderedTask(coroutine, loop=loop, context=context)

"""Ends native work whose call has to end.

Owns: `Watch`. ONNX Runtime looks at a flag between two operators; nothing else stops it. A thread of this process asks
the calls that are inside how long they may go on, and sets the flag of those that may not. A single operator that does
not end is beyond it: the supervisor ends the runner then.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.capabilities.base import EndAgentError

    Overdue = Callable[[], EndAgentError | None]

PERIOD_S = 0.02
"""How long work may go on beyond its deadline before it is told."""

_IDLE_PERIODS = 50
"""Rounds without work after which the thread sleeps: waking it would cost a small inference more than its run."""


class Watch:
    """Watches work in any number of threads, with one thread that is made when the first work begins."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._work: dict[object, tuple[Overdue, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._asleep = False

    @contextmanager
    def watching(self, overdue: Overdue, cancel: Callable[[], None]) -> Iterator[None]:
        """Call `cancel` during the block once `overdue` gives a reason, which is raised at its end.

        Args:
            overdue: why the call must end now, None while it may go on; called in another thread too.
            cancel: makes the block end; called in another thread, maybe several times.

        Raises:
            EndAgentError: the reason, whatever the block did.
        """
        key = object()
        with self._changed:
            self._work[key] = overdue, cancel
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nn-watch", daemon=True)
                self._thread.start()
            elif self._asleep:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._work[key]
            if (reason := overdue()) is not None:
                raise reason

    def _run(self) -> None:
        idle = 0
        while True:
            with self._changed:
                idle = 0 if self._work else idle + 1
                if idle > _IDLE_PERIODS:
                    self._asleep = True
                    self._changed.wait_for(lambda: self._work)
                    self._asleep, idle = False, 0
                work = tuple(self._work.values())
            for overdue, cancel in work:
                if overdue() is not None:
                    cancel()
            time.sleep(PERIOD_S)

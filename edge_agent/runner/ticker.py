"""The one thread of a runner that advances the engines' clocks, and only while a guest runs.

Owns: `Ticker`. Deadlines are read from the clock by the engine binding; a tick only makes the guest look at it.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_agent.runner.engine import TICK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.runner.engine import Engine


class Ticker:
    """Ticks engines between the first and the last guest that runs; a runner whose agents wait costs no wake-ups."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._engines: set[Engine] = set()
        self._running = 0
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    @contextmanager
    def running(self, engine: Engine) -> Iterator[None]:
        """Tick while the block runs guest code."""
        with self._changed:
            self._engines.add(engine)
            self._running += 1
            if self._running == 1:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._running:
                    self._changed.wait()
                engines = tuple(self._engines)
            for engine in engines:
                engine.tick()
            time.sleep(TICK_SECONDS)

"""What the node has to tell: events and log lines that wait for the link.

Owns bounded memory only: the newest events that were not sent yet, the newest log lines of each agent, and, while the
coordinator listens, the lines that it has not seen. What does not fit is counted and told, never waited for: nothing
that an agent does may make the supervisor wait for the network.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from fleet.model import Event, LogLine

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.errors import FleetError

MAX_EVENTS = 1_000
"""Events that wait for the link."""

MAX_UNSENT_LINES = 5_000
"""Log lines that wait for the link while the coordinator listens."""

MAX_AGENTS = 1_024
"""Agents whose log lines are kept; a node runs far fewer."""

_log = logging.getLogger(__name__)


class Journal:
    """Events and log lines of one node.

    Args:
        node: the node's name, put on everything.
        lines_per_agent: log lines that are kept for each agent.
    """

    def __init__(self, node: str, lines_per_agent: int) -> None:
        self._node = node
        self._lines_per_agent = lines_per_agent
        self._events: deque[Event] = deque()
        self._lost_events = 0
        self._lines: dict[str, deque[LogLine]] = {}
        self._unsent: deque[LogLine] = deque(maxlen=MAX_UNSENT_LINES)
        self._listening = False
        self.pending = asyncio.Event()
        """Set while something waits to be sent."""

    def event(self, at: datetime, agent: str, kind: str, message: str, **detail: str) -> None:
        """Record that something happened; `kind` is `source:subject:action`."""
        _log.info("%s %s%s", kind, f"{agent}: " if agent else "", message)
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._lost_events += 1
        self._events.append(Event(at, self._node, agent, kind, message, detail))
        self.pending.set()

    def error(self, at: datetime, kind: str, error: FleetError) -> None:
        """Record that the node itself failed in something: the public words of the error, and its code."""
        self.event(at, "", kind, error.public, code=str(error.code))

    def log(self, line: LogLine) -> None:
        """Keep a log line of an agent, the oldest gives way."""
        own = LogLine(line.at, self._node, line.agent, line.level, line.context, line.message)
        kept = self._lines.get(line.agent)
        if kept is None:
            if len(self._lines) >= MAX_AGENTS:
                self._lines.pop(next(iter(self._lines)))
            kept = self._lines[line.agent] = deque(maxlen=self._lines_per_agent)
        kept.append(own)
        if self._listening:
            self._unsent.append(own)
            self.pending.set()

    def listen(self, *, enabled: bool) -> None:
        """Start with every kept line, oldest first, and go on with new ones; or stop."""
        self._unsent.clear()
        self._listening = enabled
        if enabled:
            self._unsent.extend(sorted((line for kept in self._lines.values() for line in kept), key=_by_time))
            if self._unsent:
                self.pending.set()

    def lines(self, agent: str) -> tuple[LogLine, ...]:
        """Return the kept log lines of an agent, oldest first."""
        return tuple(self._lines.get(agent, ()))

    def take_events(self, maximum: int, now: datetime) -> tuple[Event, ...]:
        """Hand over the oldest events; call `untake_events` when they could not be sent."""
        if self._lost_events:
            lost, self._lost_events = self._lost_events, 0
            self.event(now, "", "node:events:lost", f"{lost} events did not fit", lost=str(lost))
        return tuple(self._events.popleft() for _ in range(min(maximum, len(self._events))))

    def untake_events(self, events: tuple[Event, ...]) -> None:
        """Put back what was taken and not sent."""
        self._events.extendleft(reversed(events))
        self.pending.set()

    def take_lines(self, maximum: int) -> tuple[LogLine, ...]:
        """Hand over the oldest log lines that the coordinator has not seen."""
        return tuple(self._unsent.popleft() for _ in range(min(maximum, len(self._unsent))))

    def settle(self) -> None:
        """Clear `pending` when nothing waits any more."""
        if not self._events and not self._unsent:
            self.pending.clear()


def _by_time(line: LogLine) -> datetime:
    return line.at

"""What happened in the runners and waits for the supervisor.

Owns: the order of events and the bounds on those that agents cause: log lines and messages above them are dropped and
counted. Ends of agents are never dropped; there is one for each start.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from edge_agent.runner.messages import AskSensors, Published, Replied, Requested
from edge_agent.runtime import (
    AgentAskedSensors,
    AgentLogged,
    AgentPublished,
    AgentReplied,
    AgentRequested,
    Said,
)

if TYPE_CHECKING:
    from edge_agent.runtime import RuntimeEvent
    from fleet.model import LogLine

MAX_LOG_EVENTS = 10_000
"""Log lines that may wait to be read; more are dropped and counted."""

MAX_SAID_EVENTS = 10_000
"""Messages and questions of agents that may wait to be read; more are dropped and counted."""

MAX_SAID_BYTES = 64 << 20
"""Bytes of those messages."""

_log = logging.getLogger(__name__)


class EventQueue:
    """First in, first out; used from one event loop."""

    def __init__(self) -> None:
        self._events: deque[RuntimeEvent] = deque()
        self._has_events = asyncio.Event()
        self._logs = 0
        self._lost_logs = 0
        self._said = 0
        self._said_bytes = 0
        self.lost_messages = 0
        """Messages and questions of agents that were dropped."""

    def put(self, event: RuntimeEvent) -> None:
        """Add an event of the runtime itself."""
        self._events.append(event)
        self._has_events.set()

    def log(self, line: LogLine) -> None:
        """Add a log line, or count it as lost."""
        if self._logs >= MAX_LOG_EVENTS:
            self._lost_logs += 1
            return
        if self._lost_logs:
            _log.warning("%d log lines of agents were lost", self._lost_logs)
            self._lost_logs = 0
        self._logs += 1
        self.put(AgentLogged(line))

    def lose_logs(self, count: int) -> None:
        """Count log lines that were lost before they came here."""
        self._lost_logs += count

    def say(self, message: Published | Requested | Replied | AskSensors) -> None:
        """Add what an agent has to say, or count it as lost."""
        event = _event_of(message)
        if self._said >= MAX_SAID_EVENTS or self._said_bytes + _size(event) > MAX_SAID_BYTES:
            self.lost_messages += 1
            if self.lost_messages.bit_count() == 1:  # the first, and then ever more rarely
                _log.warning("%d messages of agents were lost, the last of %s", self.lost_messages, event.agent)
            return
        self._said += 1
        self._said_bytes += _size(event)
        self.put(event)

    async def next(self) -> RuntimeEvent:
        """Take the oldest event out; waits for one."""
        while not self._events:
            self._has_events.clear()
            await self._has_events.wait()
        event = self._events.popleft()
        if isinstance(event, AgentLogged):
            self._logs -= 1
        elif isinstance(event, Said):
            self._said -= 1
            self._said_bytes -= _size(event)
        return event


def _event_of(message: Published | Requested | Replied | AskSensors) -> Said:
    match message:
        case AskSensors(agent, request, source):
            return AgentAskedSensors(agent, request, source)
        case Published(agent, sent):
            return AgentPublished(agent, sent)
        case Replied(agent, sent):
            return AgentReplied(agent, sent)
        case Requested(agent, request, replies, timeout_ms, sent):
            return AgentRequested(agent, request, replies, timeout_ms, sent)


def _size(event: Said) -> int:
    return 0 if isinstance(event, AgentAskedSensors) else len(event.message.data)

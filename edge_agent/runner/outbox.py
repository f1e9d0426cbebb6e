"""What a runner has to say, sent by one thread: answers at once, log lines in batches.

Owns: the order of messages and the bounds on waiting log lines and offered messages. A supervisor that reads slowly
costs log lines, which are counted, and never holds an agent up.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from edge_agent.runner.messages import Logged
from edge_agent.runner.protocol import encode

if TYPE_CHECKING:
    from edge_agent.runner.connection import Connection
    from edge_agent.runner.message_values import LogEntry
    from edge_agent.runner.messages import Message

MAX_WAITING_LINES = 1024
"""Log lines of all agents of a runner that may wait."""

MAX_OFFERED_BYTES = 16 << 20
"""Bytes of all frames that wait, above which no offered message is taken."""

MAX_BATCH_LINES = 64
"""Log lines in one message; a line has at most some tens of kilobytes."""

FLUSH_TIMEOUT_S = 1.0
"""How long the end of a runner waits for its last words."""


class Outbox:
    """Takes messages from any thread and sends them from its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changed = threading.Condition()
        self._frames: deque[bytes] = deque()
        self._lines: deque[LogEntry] = deque()
        self._frame_bytes = 0
        self._dropped = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def post(self, message: Message) -> None:
        """Send a message after everything that was posted or logged before.

        Raises:
            FleetError: LIMIT_EXCEEDED, and nothing is sent.
        """
        frame = encode(message)
        with self._changed:
            self._take_lines()
            self._append(frame)
            self._changed.notify()

    def offer(self, message: Message) -> bool:
        """Post a message that an agent sends of its own accord, unless too much waits already; False: it is not sent.

        Raises:
            FleetError: as `post`.
        """
        frame = encode(message)
        with self._changed:
            if self._frame_bytes + len(frame) > MAX_OFFERED_BYTES:
                return False
            self._take_lines()
            self._append(frame)
            self._changed.notify()
        return True

    def log(self, entry: LogEntry) -> None:
        """Send a log line some time soon, or count it as dropped."""
        with self._changed:
            if len(self._lines) + len(self._frames) * MAX_BATCH_LINES >= MAX_WAITING_LINES:
                self._dropped += 1
                return
            self._lines.append(entry)
            self._changed.notify()

    def close(self) -> None:
        """Send what waits, as far as the supervisor still reads."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(FLUSH_TIMEOUT_S)

    def _take_lines(self) -> None:
        while self._lines or self._dropped:
            count = min(len(self._lines), MAX_BATCH_LINES)
            batch = Logged(tuple(self._lines.popleft() for _ in range(count)), self._dropped)
            self._dropped = 0
            self._append(encode(batch))

    def _append(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._frame_bytes += len(frame)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._frames and not self._lines and not self._dropped:
                    if self._closing:
                        return
                    self._changed.wait()
                self._take_lines()
                frame = self._frames.popleft()
                self._frame_bytes -= len(frame)
            try:
                self._connection.send_frame(frame)
            except OSError:
                return  # the supervisor is gone; the reader of the socket ends the process

"""Log lines of agents, in memory: the newest of each node, and whoever follows them.

Owns: bounded buffers. A follower that does not keep up loses the oldest lines. Never stored: this is a window on what
runs now. Every method is called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.model import LogLine

MAX_KEPT = 1_000
"""Lines kept for each node."""

MAX_WAITING = 4_096
"""Lines that wait for one follower."""


class Follower:
    """One reader of log lines."""

    def __init__(self, node: str, agent: str) -> None:
        self._node = node
        self._agent = agent
        self._lines: deque[LogLine] = deque(maxlen=MAX_WAITING)
        self._ready = asyncio.Event()

    def wants(self, line: LogLine) -> bool:
        """Whether the line is of the node and agent that the reader asked for; empty means any."""
        return self._node in {"", line.node} and self._agent in {"", line.agent}

    def offer(self, line: LogLine) -> None:
        """Add a line; the oldest gives way."""
        self._lines.append(line)
        self._ready.set()

    async def take(self) -> list[LogLine]:
        """Wait for lines and return them."""
        await self._ready.wait()
        self._ready.clear()
        lines = list(self._lines)
        self._lines.clear()
        return lines


class Logs:
    """The newest lines of every node."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[LogLine]] = {}
        self._followers: set[Follower] = set()

    def append(self, node: str, lines: Iterable[LogLine]) -> None:
        """Take lines that a node sent."""
        kept = self._kept.setdefault(node, deque(maxlen=MAX_KEPT))
        for line in lines:
            kept.append(line)
            for follower in self._followers:
                if follower.wants(line):
                    follower.offer(line)

    def follow(self, node: str, agent: str, tail: int) -> Follower:
        """Begin to follow, with up to `tail` of the lines that are kept."""
        follower = Follower(node, agent)
        for line in self.tail(node, agent, tail):
            follower.offer(line)
        self._followers.add(follower)
        return follower

    def tail(self, node: str, agent: str, count: int) -> list[LogLine]:
        """Return the newest lines that are kept, oldest first."""
        wanted = Follower(node, agent)
        kept = (line for lines in self._kept.values() for line in lines if wanted.wants(line))
        return sorted(kept, key=lambda line: line.at)[-count:] if count else []

    def unfollow(self, follower: Follower) -> None:
        """Stop following."""
        self._followers.discard(follower)

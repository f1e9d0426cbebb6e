"""What a guest said shortly before it ended.

Owns: `LastWords`. A guest that panics prints why, and then executes `unreachable`: the engine knows only the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.capabilities.base import LogRecord

MAX_CHARACTERS = 512
"""Of what is quoted; the end counts, where runtimes write the reason."""

MAX_LINES = 8

RECENT_NS = 1_000_000_000
"""Older lines are about something else."""

_LOUD = frozenset({"error", "critical"})
_STDERR = "stderr"
_ADVICE = "note: run with `RUST_BACKTRACE"
"""A line that Rust puts below every panic."""


class LastWords:
    """Remembers the newest lines of one agent that may tell why it ends; used by the agent's thread alone."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: tuple[LogRecord, ...] = ()

    def note(self, record: LogRecord) -> None:
        """Take a line that the agent logged or printed; lines are clean already (`capabilities.log.clean`)."""
        if record.level in _LOUD and not record.message.startswith(_ADVICE):
            self._lines = (*self._lines, record)[-MAX_LINES:]

    def quote(self, now_ns: int) -> str:
        """Return what was said in the last second, "" for nothing.

        What went to standard error is taken together, since a panic has several lines; of logged errors the newest.

        Args:
            now_ns: nanoseconds since the Unix epoch.
        """
        recent = [line for line in self._lines if now_ns - line.time_ns <= RECENT_NS]
        printed = [line.message for line in recent if line.context == _STDERR]
        words = " | ".join(printed or [line.message for line in recent[-1:]])
        return words if len(words) <= MAX_CHARACTERS else f"\N{HORIZONTAL ELLIPSIS}{words[1 - MAX_CHARACTERS :]}"

"""`wasi:logging`: an agent's own words, within bounds.

Owns: the byte budget per minute, the length caps, and making a line safe to print, for every module through which an
agent may write lines (`LineLog`). Never stores or sends a line: the context's `log` takes it. (The module is not called
`logging`, so that nobody confuses it with the standard library.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, LogRecord, bind, declare_functions, declare_types

if TYPE_CHECKING:
    from edge_agent.capabilities.base import AgentContext

INTERFACE = "wasi:logging/logging@0.1.0-draft"

MAX_MESSAGE = 8 * 1024
"""Characters of a message; the rest is cut off and shown as an ellipsis."""

MAX_CONTEXT = 256
"""Characters of a line's context."""

LINE_BYTES = 32
"""What a line counts for beyond its text, so that the budget also bounds empty lines."""

WINDOW_NS = 60_000_000_000
"""Length of the window that the budget is for."""

NOTICE_CONTEXT = "node"
"""Context of the line with which this module tells that it drops lines."""

_SIGNATURES = declare_functions(
    declare_types({"level": "enum { trace, debug, info, warn, error, critical }"}),
    {"log": "func(level: level, context: string, message: string)"},
)

# Control characters move a terminal's cursor or end a line; line and paragraph separators split lines in some viewers;
# bidirectional controls show text in another order than it is (Unicode Technical Report 36, section 3.6).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def interfaces(context: AgentContext) -> tuple[HostInterface, ...]:
    """The interface for one agent. Lines of an agent without the grant go nowhere, since the call has no result."""
    lines = context.shared(LineLog)
    granted = context.authority.allows("wasi:logging/logging")

    def log(level: str, origin: str, message: str) -> None:
        if granted:
            lines.write(level, origin, message)

    return (HostInterface(INTERFACE, bind(_SIGNATURES, {"log": log})),)


class LineLog:
    """Everything that one agent says, under one budget."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context
        self._budget = context.authority.limits.log_bytes_per_minute
        self._left = self._budget
        self._window_start = context.clock.monotonic_ns()
        self._dropping = False

    def write(self, level: str, context: str, message: str) -> None:
        """Pass one line on, or drop it when this minute's budget is used up; the first dropped line leaves a notice."""
        now = self._context.clock.monotonic_ns()
        if now - self._window_start >= WINDOW_NS:
            self._window_start = now
            self._left = self._budget
            self._dropping = False
        context = clean(context, MAX_CONTEXT)
        message = clean(message, MAX_MESSAGE)
        size = LINE_BYTES + len(context.encode()) + len(message.encode())
        if size <= self._left:
            self._left -= size
            self._emit(level, context, message)
            return
        # The rest of the budget is forfeit: a line that follows another in the guest never shows without it.
        self._left = 0
        if not self._dropping:
            self._dropping = True
            self._emit("warn", NOTICE_CONTEXT, f"more than {self._budget} bytes in a minute: lines are being dropped")

    def _emit(self, level: str, context: str, message: str) -> None:
        self._context.log(LogRecord(self._context.clock.time_ns(), level, context, message))


def clean(text: str, limit: int) -> str:
    """Cut `text` to `limit` characters and escape control characters as Python does: it prints as one line."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), cut)

"""What is quoted of a guest that ends."""

import pytest

from edge_agent.capabilities.base import LogRecord
from edge_agent.runner.last_words import MAX_CHARACTERS, RECENT_NS, LastWords

NOW = 1_800_000_000_000_000_000


def quoted(*lines):
    words = LastWords()
    for age_ns, level, context, message in lines:
        words.note(LogRecord(NOW - age_ns, level, context, message))
    return words.quote(NOW)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), ""),
        (((0, "info", "stdout", "all well"), (0, "warn", "agent", "hm")), ""),
        (((RECENT_NS + 1, "error", "agent", "long ago"),), ""),
        (((5, "error", "agent", "first"), (4, "critical", "agent", "second")), "second"),
        (
            ((9, "error", "stderr", "panicked at lib.rs:1:"), (8, "error", "stderr", "stuck")),
            "panicked at lib.rs:1: | stuck",
        ),
        (((9, "error", "agent", "logged"), (8, "error", "stderr", "printed")), "printed"),
        (((9, "error", "stderr", "stuck"), (8, "error", "stderr", "note: run with `RUST_BACKTRACE=1`")), "stuck"),
    ],
)
def test_the_newest_errors_are_quoted(lines, words):
    assert quoted(*lines) == words


def test_what_is_quoted_is_bounded_and_keeps_its_end():
    words = quoted(
        *((0, "error", "stderr", f"{number} {'x' * 200}") for number in range(100)), (0, "error", "stderr", "end")
    )
    assert len(words) == MAX_CHARACTERS
    assert words.startswith("…")
    assert words.endswith(" | end")

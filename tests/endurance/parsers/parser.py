"""What a fuzz target is.

The property: an input is taken, or refused with a `FleetError`; and what was taken is the same after it was written and
read again, where there is a writer. Seeds are made from the project's own writers, so they never go stale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.errors import Code, FleetError


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        check: asserts the property; a FleetError passes through.
        seeds: inputs to begin with, of which the first is taken.
        longest: bytes of an input.
    """

    check: Callable[[bytes], None]
    seeds: Sequence[bytes]
    longest: int = 4096


def holds(parser: Parser, data: bytes) -> bool:
    """Check the property; whether the input was taken."""
    try:
        parser.check(data)
    except FleetError as error:
        return error.code is Code.INTERNAL and _never(error)
    return True


def _never(error: FleetError) -> bool:
    raise AssertionError(f"a parser found a fault of the program: {error}") from error

"""How often an agent does something, as a grant bounds it.

Owns: `Pace`, for every rate of a grant that refuses what is one too many. A rate that makes the caller wait instead is
`edge_agent.runner.token_bucket`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECOND_NS = 1_000_000_000


class Pace:
    """How often something happens, counted in whole seconds.

    Args:
        monotonic_ns: nanoseconds since an unnamed moment.
    """

    def __init__(self, monotonic_ns: Callable[[], int]) -> None:
        self._monotonic_ns = monotonic_ns
        self._second = 0
        self._count = 0

    def take(self, most: int | None) -> bool:
        """Count one; False, and not counted, when this second has had `most` already. None is no bound."""
        second = self._monotonic_ns() // _SECOND_NS
        if second != self._second:
            self._second, self._count = second, 0
        if most is not None and self._count >= most:
            return False
        self._count += 1
        return True

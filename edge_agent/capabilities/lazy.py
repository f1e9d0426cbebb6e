"""Host interfaces that are made when the guest first calls one of them.

Owns: `LazyInterfaces` and `changed`. An agent imports dozens of functions and starts in microseconds; making what
stands behind them takes as long as starting it, and many agents never call most of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from edge_agent.capabilities.base import HostInterface


class LazyInterfaces:
    """The interfaces of one agent. Used by one thread at a time.

    Args:
        key: for one component, equal keys mean interfaces of the same names, signatures, resources and uses: what fits
            the component once fits it again, so they need not be made to be compared.
        make: makes them; called once at most.
    """

    __slots__ = ("_made", "_make", "key")

    def __init__(self, key: Hashable, make: Callable[[], Iterable[HostInterface]]) -> None:
        self.key = key
        self._make = make
        self._made: tuple[HostInterface, ...] | None = None

    def __iter__(self) -> Iterator[HostInterface]:
        if self._made is None:
            self._made = tuple(self._make())
        return iter(self._made)


def changed(
    interfaces: Iterable[HostInterface], change: Callable[[HostInterface], HostInterface]
) -> Iterable[HostInterface]:
    """The same interfaces with other callables; lazy ones stay lazy."""
    if isinstance(interfaces, LazyInterfaces):
        return LazyInterfaces(interfaces.key, lambda: map(change, interfaces))
    return [change(interface) for interface in interfaces]

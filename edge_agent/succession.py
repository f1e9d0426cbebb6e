"""Whether a newer version may take over from one that runs, or that one has to stop before the newer one starts.

Owns: `Succession`. While a newer version is prepared, on probation or refused, the older one runs on. That must not
keep alive what the newer order takes away, nor change what both share while both exist. Never starts, stops or decides
about the life of an agent: `edge_agent.lifecycle` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from edge_agent.admission import AdmittedAgent
from fleet.errors import FleetError
from fleet.grants import Authority, diff, subset
from fleet.model import AssignedAgent

if TYPE_CHECKING:
    from collections.abc import Iterable

Admission = Callable[[AssignedAgent], Awaitable[AdmittedAgent]]
"""Verify and compile one agent; raises FleetError."""

Granting = Callable[[AssignedAgent], Awaitable[Authority]]
"""Say what the grants of an agent give it, whatever becomes of its component; raises FleetError."""

SERVED = "wasi:http/incoming-handler"
"""What all instances of an agent serve through one listener."""


class HinderedError(Exception):
    """What runs has to stop before what is desired starts; says why."""


class Succession:
    """Prepares versions that shall take over from running ones.

    Args:
        admit: decides whether the newer one may run.
        granted: says what it may do when it is not admitted.
    """

    def __init__(self, admit: Admission, granted: Granting) -> None:
        self._admit = admit
        self._granted = granted

    async def prepare(self, older: AssignedAgent, running: AdmittedAgent, newer: AssignedAgent) -> AdmittedAgent:
        """Admit a newer version that may take over.

        Raises:
            HinderedError: the older one must stop first, whether or not the newer one is admitted.
            FleetError: the newer one is refused, as admission says, and the older one may run on.
        """
        had = Authority.decode(running.start.authority)
        try:
            admitted = await self._admit(newer)
        except FleetError:
            _check(older, newer, had, await self._given(newer))
            raise
        _check(older, newer, had, Authority.decode(admitted.start.authority))
        if _handlers(running.exports) != _handlers(admitted.exports):
            raise HinderedError(f"its exports of {SERVED} change")
        return admitted

    async def _given(self, newer: AssignedAgent) -> Authority:
        try:
            return await self._granted(newer)
        except FleetError as error:
            raise HinderedError(f"nothing is known to be granted to the newer version ({error.code})") from error


def _check(older: AssignedAgent, newer: AssignedAgent, had: Authority, has: Authority) -> None:
    if newer.swap is None:
        raise HinderedError("fleet.yaml says `swap: restart`")
    if _links(older) != _links(newer):
        raise HinderedError("its links change")
    if older.on_full_queue is not newer.on_full_queue:
        raise HinderedError("what its full queue does changes")
    if not subset(had, has):
        raise HinderedError(f"its authority narrows: {'; '.join(diff(had, has).narrowed)}")
    if had.capabilities.get(SERVED) != has.capabilities.get(SERVED):
        raise HinderedError("the addresses or ports change that it serves")


def _links(agent: AssignedAgent) -> dict[str, object]:
    return {part.name: part.links for part in agent.parts}


def _handlers(exports: Iterable[str]) -> set[str]:
    return {export for export in exports if export.partition("@")[0] == SERVED}

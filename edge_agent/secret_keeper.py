"""The way of sealed secrets into the running node: offered by a session, taken in, told to admission.

Owns: `SecretKeeper`, which has the newest set that was offered, tries it again when another release is adopted (a node
that has just joined is offered its secrets before it knows whose signatures count), and makes the supervisor look
again when anything changed. What is taken is `edge_agent.secret_store`'s to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.errors import FleetError
from fleet.sealing import sign_statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.clock import Clock
    from edge_agent.identity import BoundKey
    from edge_agent.journal import Journal
    from edge_agent.secret_store import SecretStore


class SecretKeeper:
    """Takes secrets in beside everything else that the node does.

    Args:
        store: where they are kept.
        bound_key: signs what the node says about the key that secrets are sealed for.
        changed: told when an agent may have other secrets than before.
        journal: takes events.
        clock: time.
    """

    def __init__(
        self,
        store: SecretStore,
        bound_key: Callable[[], BoundKey],
        changed: Callable[[], None],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._store = store
        self._bound_key = bound_key
        self._changed = changed
        self._journal = journal
        self._clock = clock
        self._offered: tuple[bytes, ...] | None = None
        self._pending = asyncio.Event()
        self._told: frozenset[str] = frozenset()
        self._statement = b""

    def boot(self) -> None:
        """Read what is on disk, before any agent starts."""
        try:
            self._store.load()
        except FleetError as error:
            self._journal.error(self._clock.now(), "secret:store:incomplete", error)

    def statement(self) -> bytes:
        """The signed statement about the node's sealing key; empty while the key cannot be used."""
        if not self._statement:
            try:
                self._statement = sign_statement(self._store.statement(), self._bound_key())
            except FleetError as error:
                self._journal.error(self._clock.now(), "secret:key:unavailable", error)
        return self._statement

    def offer(self, envelopes: Sequence[bytes]) -> None:
        """Take the whole set of the node's secrets in, soon."""
        self._offered = tuple(envelopes)
        self._pending.set()

    def release_changed(self) -> None:
        """Look again at what was offered: other signatures may count now."""
        if self._offered is not None:
            self._pending.set()

    async def run(self) -> None:
        """Take in what is offered, until cancelled."""
        while True:
            await self._pending.wait()
            self._pending.clear()
            if self._offered is not None:
                await self._take(self._offered)

    async def _take(self, envelopes: tuple[bytes, ...]) -> None:
        try:
            different, refused = await asyncio.to_thread(self._store.receive, envelopes)
        except FleetError as error:
            self._journal.error(self._clock.now(), "secret:set:refused", error)
            return
        told = frozenset(str(entry.error) for entry in refused)
        for entry in refused:
            if str(entry.error) not in self._told:
                self._journal.error(self._clock.now(), "secret:value:refused", entry.error)
        self._told = told
        if different:
            self._journal.event(
                self._clock.now(), "", "secret:set:accepted", f"{len(envelopes) - len(refused)} secrets"
            )
            self._changed()

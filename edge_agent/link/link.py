"""Keeps one session open, for as long as the program runs.

Owns when to connect, when to wait and when to renew the certificate: at two thirds of its life, when the fleet's node
authorities change, and when the coordinator refuses it or shows one that no authority known here signed. Full jitter (a
uniform share of a bound that doubles up to a cap) spreads a fleet that lost its coordinator at one moment. Whatever
fails here is told and tried again; the agents do not notice. `run` is an edge of the process: supervision must outlive
every fault of the link, also one that nobody foresaw.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from edge_agent.link.channel import open_fetch_channel, open_session_channel
from edge_agent.link.enrolment import is_vouched_for, renew
from edge_agent.link.remote import CoordinatorRemote
from edge_agent.link.session import Ended, Node, Session, SessionSettings
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from edge_agent.clock import Clock
    from edge_agent.identity import Identity, IdentityStore, TlsIdentity

RENEWAL_PAUSE_S = 600.0
"""Upper bound of the wait before a failed renewal is tried again while the certificate is still valid."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Numbers of the link.

    Attributes:
        session: numbers of each session.
        reconnect_initial_s: bound of the first delay.
        reconnect_cap_s: bound that the doubling bound never passes.
        fetch_timeout_s: limit of a fetch without progress.
    """

    session: SessionSettings
    reconnect_initial_s: float
    reconnect_cap_s: float
    fetch_timeout_s: float


class Link:
    """The node's connection. `run` until cancelled."""

    def __init__(self, node: Node, store: IdentityStore, settings: LinkSettings, clock: Clock, random: Random) -> None:
        self._node = node
        self._store = store
        self._settings = settings
        self._clock = clock
        self._random = random
        self._failures = 0
        self._renew_after: datetime | None = None
        self._early = False
        self._refused = False

    async def run(self, identity: Identity) -> None:
        """Stay connected; returns only by cancellation."""
        while True:
            try:
                identity, tls = await self._credentials(identity)
                ended = await self._session(identity, tls)
                _log.info("session ended: %s", ended.reason)
                delay_s = self._delay_s(ended)
            except (FleetError, OSError) as error:
                delay_s = self._backoff_s()
                _log.warning("no session, next try in %.1f s: %s", delay_s, error)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                delay_s = self._unexpected(error)  # a call of the session was cancelled, not the link
            except Exception as error:  # noqa: BLE001 - the edge of the process: told here, once, with its chain
                delay_s = self._unexpected(error)
            await self._clock.sleep(delay_s)

    def _unexpected(self, error: BaseException) -> float:
        """Tell a fault of this program and return the delay before the link starts again."""
        delay_s = self._backoff_s()
        _log.error("the link failed, next try in %.1f s", delay_s, exc_info=error)
        # The coordinator learns the kind only: what an unforeseen error says may be private.
        kind = type(error).__name__
        self._node.journal.event(self._clock.now(), "", "node:link:failed", kind, failures=str(self._failures))
        return delay_s

    async def _credentials(self, identity: Identity) -> tuple[Identity, TlsIdentity]:
        """Return a usable certificate, renewed from two thirds of its life on.

        Raises:
            FleetError: what renewal raises, when there is no valid certificate to go on with.
        """
        tls, now = self._store.tls(), self._clock.now()
        self._early = self._early or self._node.reissue.is_set()
        self._node.reissue.clear()
        if tls is not None and now < self._renew_at(tls):
            return identity, tls
        try:
            identity = await renew(self._store, identity)
        except FleetError as error:
            if tls is None or tls.not_after <= now:
                raise
            self._renew_after = now + self._pause()
            self._node.journal.error(now, "node:certificate:not-renewed", error)
            return identity, tls
        # One that is refused as well helps no more than the one before it: then there is a pause.
        self._renew_after = now + self._pause() if self._refused else None
        self._early = self._refused = False
        self._node.journal.event(now, "", "node:certificate:renewed", f"sequence {identity.sequence}")
        renewed = self._store.tls()
        if renewed is None:
            raise FleetError(Code.CERTIFICATE_INVALID, "the renewed certificate cannot be read back")
        return identity, renewed

    async def _session(self, identity: Identity, tls: TlsIdentity) -> Ended:
        address = identity.session_address
        until = min(self._renew_at(tls), tls.not_after)
        async with open_session_channel(address, tls) as channel, open_fetch_channel(address, tls) as fetching:
            remote = CoordinatorRemote(fetching, self._settings.fetch_timeout_s)
            session = Session(self._node, remote, self._settings.session, self._clock, self._random)
            try:
                ended = await session.run(channel, until)
            except FleetError as error:
                # A network that failed says nothing about the next try; what fails after every welcome backs off.
                if session.welcomed and error.row.retryable:
                    self._failures = 0
                self._refused = error.code is Code.CERTIFICATE_INVALID or (
                    error.code is Code.UNAVAILABLE
                    and not session.welcomed
                    and not await is_vouched_for(address, tls.ca_certificates)
                )
                raise
            self._failures, self._refused = 0, False
            return ended

    def _renew_at(self, tls: TlsIdentity) -> datetime:
        """When to renew: at two thirds, or now where the fleet asks for it or the coordinator is another's by now."""
        wanted = tls.not_before if self._early or self._refused else tls.renew_at
        return max(wanted, self._renew_after or wanted)

    def _pause(self) -> timedelta:
        return timedelta(seconds=self._random.uniform(0.1, 1) * RENEWAL_PAUSE_S)

    def _delay_s(self, ended: Ended) -> float:
        if ended.retry_after_ms is None:
            return self._backoff_s()
        # What was asked for and up to as much again, so that nodes sent away together come back apart; never at once,
        # so that two copies of one node cannot drive each other out in a loop.
        wanted_s = ended.retry_after_ms / 1000 * self._random.uniform(1, 2)
        return wanted_s + self._random.uniform(0, self._settings.reconnect_initial_s)

    def _backoff_s(self) -> float:
        """Count one more failure and return the delay after it."""
        self._failures += 1
        settings = self._settings
        bound = min(settings.reconnect_cap_s, settings.reconnect_initial_s * 2 ** min(self._failures - 1, 30))
        return self._random.uniform(0, bound)

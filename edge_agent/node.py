"""The node as its link sees it: what it runs, what it signs, what it can be asked.

Owns receipts: the node-signed statement of what an applied desired state came to, made once per desired state, and
again, less and less often, when agents have called an interface that they never called before. The rest is passed on
to supervisor and adoption. Never speaks over the network itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.assignment import Receipt, ReceiptAgent, sign_receipt
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from edge_agent.adoption import Adoption, Remote
    from edge_agent.clock import Clock
    from edge_agent.crashes import CrashKeeper
    from edge_agent.identity import BoundKey, Identity
    from edge_agent.journal import Journal
    from edge_agent.secret_keeper import SecretKeeper
    from edge_agent.supervision import Accepted
    from edge_agent.supervisor import Supervisor
    from edge_agent.witness import Answer, Offered
    from fleet.crash import CrashSummary
    from fleet.model import DesiredState, ObservedState


FIRST_USES = timedelta(minutes=1)
"""How long after a receipt the next one may be signed for nothing but first uses; each time twice as long, so that a
generation that lives for ever has a few of them: every receipt is a leaf of a log that never shrinks."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """The newest receipt, what it is about, and when another may follow for first uses alone."""

    applied: Accepted
    uses: Mapping[str, tuple[str, ...]]
    receipt: bytes
    at: datetime
    pause: timedelta


class LocalNode:
    """Implements `edge_agent.link.session.Node` over this machine's supervisor."""

    def __init__(
        self,
        identity: Identity,
        bound_key: BoundKey,
        supervisor: Supervisor,
        adoption: Adoption,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self.journal = journal
        self.trusted: asyncio.Event = adoption.trusted
        self.changed: asyncio.Event = supervisor.changed
        self.missing: asyncio.Event = supervisor.missing
        self._identity = identity
        self._bound_key = bound_key
        self._supervisor = supervisor
        self._adoption = adoption
        self._clock = clock
        self.crash_keeper: CrashKeeper | None = None
        """Keeps the crash reports, where there is a place for them."""
        self.secret_keeper: SecretKeeper | None = None
        """Keeps the secrets that are sealed for the node, where there is a place for them."""
        self.reissue = asyncio.Event()
        """Set when the node's certificate should be renewed before its time (`edge_agent.reissue`)."""
        self._signed: _Signed | None = None

    def observed(self) -> ObservedState:
        """Return what the node runs, and which keys of the fleet it knows."""
        return replace(self._supervisor.observed(), trust_digest=self._adoption.trust_digest())

    def release_versions(self) -> tuple[int, int]:
        """Return which release is adopted (see `Adoption.release_versions`)."""
        return self._adoption.release_versions()

    def receipt(self) -> bytes | None:
        """Return the signed receipt of the newest applied desired state; None before the first."""
        applied = self._supervisor.applied
        if applied is None:
            return None
        last, now = self._signed, self._clock.now()
        fresh = last is None or last.applied != applied
        if last is None or fresh or now - last.at >= last.pause:
            uses = {
                agent.name: tuple(sorted({name.partition("@")[0] for name in agent.vitals.host_calls}))
                for agent in self._supervisor.observed().agents
            }
            if last is None or fresh or last.uses != uses:
                pause = FIRST_USES if last is None or fresh else 2 * last.pause
                last = self._signed = _Signed(applied, uses, self._sign(applied, uses, now), now, pause)
        return last.receipt

    async def accept(self, desired: DesiredState, remote: Remote) -> None:
        """Take a desired state in (see `Adoption.accept`)."""
        await self._adoption.accept(desired, remote)

    def seen(self) -> int:
        """Leaves of the largest audit log that was verified."""
        return self._adoption.witness.seen

    def witness_certificate(self) -> bytes:
        """Return the node's word for its witness key (see `Witness.certificate`)."""
        return self._adoption.witness.certificate(self._bound_key)

    async def cosign(self, offered: Offered) -> Answer:
        """Answer a checkpoint (see `Witness.answer`)."""
        return await self._adoption.witness.answer(offered)

    async def repair(self, remote: Remote) -> None:
        """Fetch blobs that were lost (see `Adoption.repair`)."""
        await self._adoption.repair(remote)

    async def refresh(self, remote: Remote) -> None:
        """Adopt the newest release (see `Adoption.refresh`)."""
        await self._adoption.refresh(remote)

    def sealing_key(self) -> bytes:
        """Return the signed statement about the key that secrets are sealed for; empty: the node takes none."""
        return b"" if self.secret_keeper is None else self.secret_keeper.statement()

    def keep_secrets(self, envelopes: Sequence[bytes]) -> None:
        """Take the whole set of the node's secrets in (see `SecretKeeper.offer`)."""
        if self.secret_keeper is not None:
            self.secret_keeper.offer(envelopes)

    async def call(self, agent: str, invocation: str, deadline_ms: int) -> str:
        """Call an agent (see `Supervisor.call`)."""
        return await self._supervisor.call(agent, invocation, deadline_ms)

    async def publish(self, topic: str, payloads: Iterable[str]) -> int:
        """Hand payloads to listeners (see `Supervisor.publish`)."""
        return await self._supervisor.publish(topic, payloads)

    async def crashes(self, agent: str) -> tuple[CrashSummary, ...]:
        """Return what is kept of the ends of an agent, or of all when it is ""."""
        if self.crash_keeper is None:
            return ()
        return tuple(report.summary for report in await self.crash_keeper.list(agent))

    async def crash(self, identifier: str) -> bytes:
        """Return one crash report (see `CrashKeeper.document`)."""
        if self.crash_keeper is None:
            raise FleetError(Code.NOT_FOUND, "this node keeps no crash reports")
        return await self.crash_keeper.document(identifier)

    def _sign(self, applied: Accepted, uses: Mapping[str, tuple[str, ...]], now: datetime) -> bytes:
        refusals = {agent.name: agent.refusal.code for agent in self._supervisor.observed().agents if agent.refusal}
        # A part is applied with the agent that it is fused into; where it runs by itself as well, that is what counts.
        fused = {part.name: (part, spec.name) for spec in applied.agents for part in spec.fused}
        alone = {spec.name: (spec, spec.name) for spec in applied.agents}
        agents = tuple(
            ReceiptAgent(part.name, part.bundle.digest, part.grant.digest, refusals.get(runs, ""), uses.get(runs, ()))
            for part, runs in (fused | alone).values()
        )
        receipt = Receipt(
            fleet=self._identity.fleet,
            node=self._identity.node,
            epoch=self._identity.epoch,
            generation=applied.generation,
            digest=applied.digest,
            at=now,
            agents=agents,
        )
        return sign_receipt(receipt, self._bound_key)

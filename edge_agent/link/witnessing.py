"""The part of a session that concerns the audit log: the node says that it is a witness, and answers checkpoints.

Owns: the order of it. Checkpoints are answered one by one as they came, and an order that came after a checkpoint waits
until that is answered, so that both sides know from where the next proof begins. Never verifies: the node does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from edge_agent.witness import Offered
from fleet.checkpoint import MAX_NOTE
from fleet.errors import Code, FleetError
from fleet.merkle import MAX_PROOF, MAX_SIZE
from fleet.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from edge_agent.witness import Answer

MAX_WAITING = 8
"""Checkpoints that wait to be answered; when there are more, the oldest is passed over."""


class Witnessed(Protocol):
    """What a session needs from the node as a witness."""

    trusted: asyncio.Event

    def seen(self) -> int:
        """Leaves of the largest log that was verified."""
        ...

    def witness_certificate(self) -> bytes:
        """Return the node's word for its witness key. Raises FleetError."""
        ...

    async def cosign(self, offered: Offered) -> Answer:
        """Answer a checkpoint. Raises FleetError."""
        ...


class Checkpoints:
    """Takes checkpoints in and answers them.

    Args:
        node: the witness.
        write: sends a message.
        refuse: tells the coordinator of a fault.
    """

    def __init__(
        self,
        node: Witnessed,
        write: Callable[[pb.NodeMessage], Awaitable[None]],
        refuse: Callable[[str, FleetError], None],
    ) -> None:
        self._node = node
        self._write = write
        self._refuse = refuse
        self._waiting: deque[pb.CheckpointOffer] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._refused = False

    def take(self, offer: pb.CheckpointOffer) -> None:
        """Note a checkpoint; returns at once. Before a release is adopted there is no key to check it with."""
        if self._node.trusted.is_set():
            self._waiting.append(offer)
            self._settled.clear()
            self._arrived.set()

    async def settled(self) -> None:
        """Wait until every checkpoint that came so far is answered."""
        await self._settled.wait()

    async def after(self, work: Awaitable[None]) -> None:
        """Do something after which the node may hold a newer release.

        A checkpoint that was refused may be good by that release: the log has another key, or goes on under another
        name. So the coordinator is told again where the node is, and shows its newest.
        """
        try:
            await work
        finally:
            if self._refused:
                self._refused = False
                await self._announce()

    async def run(self) -> None:
        """Say that the node is a witness as soon as it can be one, then answer until cancelled."""
        await self._node.trusted.wait()
        await self._announce()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._answer(self._waiting.popleft())
            self._settled.set()

    async def _announce(self) -> None:
        certificate = await asyncio.to_thread(self._node.witness_certificate)
        await self._write(pb.NodeMessage(witness=pb.Witness(certificate=certificate, seen_size=self._node.seen())))

    async def _answer(self, offer: pb.CheckpointOffer) -> None:
        try:
            answer = await self._node.cosign(_offered(offer))
        except FleetError as error:
            self._refuse("audit:checkpoint:refused", error)
            self._refused = True
            return
        cosigned = pb.Cosigned(
            size=answer.size,
            line=answer.line,
            seen_size=answer.seen,
            error_code="" if answer.error is None else str(answer.error),
        )
        await self._write(pb.NodeMessage(cosigned=cosigned))


def _offered(offer: pb.CheckpointOffer) -> Offered:
    if not 0 < len(offer.note) <= MAX_NOTE or offer.old_size > MAX_SIZE or len(offer.consistency) > MAX_PROOF:
        raise FleetError(Code.MESSAGE_INVALID, "a checkpoint out of bounds", place="checkpoint")
    return Offered(offer.note, offer.old_size, tuple(offer.consistency))

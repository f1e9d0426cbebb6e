"""ControlService, audit: who could do what, what it takes to check that offline, and witnesses elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.answers import CONFIRMED
from fleet.errors import Code, FleetError
from fleet.targets import bundle_of
from fleet.times import MAX_MS, from_ms
from fleet.v1 import control_pb2
from fleet.wire_audit import to_pb_rows
from orchestrator import projections
from orchestrator.rpc.services import Door, check_number
from orchestrator.store.audit import log_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleet.history import Rows
    from orchestrator.rpc.interceptor import Context

PAGE = 500
"""Leaves read at once."""


class AuditingDoor(Door):
    """Methods about the audit log."""

    async def AuditWho(self, request: control_pb2.AuditWhoRequest, _: Context) -> control_pb2.AuditWhoReply:  # noqa: N802
        """Answer who had authority at a moment, with the checkpoint of the log that proves it."""
        return await self._run(self._who, request)

    async def AuditCheckpoint(  # noqa: N802
        self, _request: control_pb2.AuditCheckpointRequest, _: Context
    ) -> control_pb2.AuditCheckpointReply:
        """Send the log's present checkpoint."""
        return control_pb2.AuditCheckpointReply(checkpoint=await self._run(self._checkpoint))

    async def AuditEntries(  # noqa: N802
        self, request: control_pb2.AuditEntriesRequest, _: Context
    ) -> AsyncIterator[control_pb2.AuditEntry]:
        """Send the log's leaves from an index on."""
        position = check_number(request.from_index, "from_index")
        while entries := await self._run(self._entries, position):
            for index, leaf in entries:
                yield control_pb2.AuditEntry(index=index, leaf=leaf)
            position = entries[-1][0] + 1

    async def AuditRows(  # noqa: N802
        self, request: control_pb2.AuditRowsRequest, _: Context
    ) -> AsyncIterator[control_pb2.AuditRow]:
        """Send the rows of the projections about an agent and a node, or all."""
        rows, size = await self._run(self._rows, request.agent, request.node)
        for row in to_pb_rows(rows, size):
            yield row

    async def AuditCheckpoints(  # noqa: N802
        self, _request: control_pb2.AuditCheckpointsRequest, _: Context
    ) -> AsyncIterator[control_pb2.AuditNote]:
        """Send every checkpoint that was offered to witnesses, with their cosignatures."""
        above = -1
        while found := await self._run(self._services.witnessing.notes, above, PAGE):
            for row in found:
                yield control_pb2.AuditNote(size=row.size, note=row.note)
            above = found[-1].size

    async def AuditWitnesses(  # noqa: N802
        self, _request: control_pb2.AuditWitnessesRequest, _: Context
    ) -> control_pb2.AuditWitnessesReply:
        """Tell how far the log is witnessed."""
        standing = await self._run(self._services.witnessing.standing)
        return control_pb2.AuditWitnessesReply(
            witnesses=[
                control_pb2.AuditWitness(
                    name=view.key.name,
                    vkey=str(view.key),
                    node=view.node,
                    required=bool(view.policy_name),
                    size=0 if view.newest is None else view.newest.size,
                    at_ms=0 if view.newest is None else min(view.newest.at_s * 1000, MAX_MS),
                    policy_name=view.policy_name,
                )
                for view in standing.witnesses
            ],
            size=standing.size,
            witnessed_size=standing.witnessed_size,
            policy=standing.policy,
            waiting=standing.waiting,
        )

    async def AuditOffer(  # noqa: N802
        self, request: control_pb2.AuditOfferRequest, _: Context
    ) -> control_pb2.AuditOfferReply:
        """Send the checkpoint that witnesses are asked to cosign, proved from what the caller has seen."""
        await self._run(self._services.witnessing.begin_round)
        offer = await self._run(self._services.witnessing.offer, check_number(request.old_size, "old_size"))
        if offer is None:
            raise FleetError(Code.NOT_FOUND, "there is no checkpoint yet")
        return control_pb2.AuditOfferReply(note=offer.note, consistency=offer.consistency)

    async def AuditCosign(  # noqa: N802
        self, request: control_pb2.AuditCosignRequest, _: Context
    ) -> control_pb2.AuditCosignReply:
        """Take the cosignature of a witness that the policy names."""
        size = check_number(request.size, "size")
        return control_pb2.AuditCosignReply(
            met=await self._run(self._services.witnessing.take_outside, size, request.line)
        )

    def _who(self, request: control_pb2.AuditWhoRequest) -> control_pb2.AuditWhoReply:
        if not 0 <= request.at_ms <= MAX_MS:
            raise FleetError(Code.VALUE_INVALID, "not a time", place="at_ms")
        at = from_ms(request.at_ms) if request.at_ms else self._services.clock()
        with self._services.store.control.read() as connection:
            answers = projections.who(
                connection, at, agent=request.agent, node=request.node, interface=request.interface
            )
            checkpoint = self._services.log.checkpoint(connection)
        return control_pb2.AuditWhoReply(
            answers=[
                control_pb2.AuditAnswer(
                    node=answer.node,
                    agent=answer.agent,
                    interface=answer.interface,
                    constraints=answer.constraints,
                    grant_revision=answer.revision,
                    grant_digest=answer.grant_digest,
                    approvers=answer.approvers,
                    bundle=bundle_of(answer.bundle_path),
                    since_ms=answer.since_ms,
                    enforced=answer.state == CONFIRMED,
                    leaf=answer.leaf,
                )
                for answer in answers
            ],
            checkpoint=checkpoint,
        )

    def _rows(self, agent: str, node: str) -> tuple[Rows, int]:
        with self._services.store.control.read() as connection:
            return projections.load(connection, agent=agent, node=node), log_size(connection)

    def _checkpoint(self) -> bytes:
        with self._services.store.control.read() as connection:
            return self._services.log.checkpoint(connection)

    def _entries(self, first: int) -> tuple[tuple[int, bytes], ...]:
        with self._services.store.control.read() as connection:
            return self._services.log.entries(connection, first, PAGE)

"""ControlService, audit: who could do what, and everything needed to check it offline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.times import MAX_MS, from_ms
from fleet.v1 import control_pb2
from orchestrator import projections
from orchestrator.releases import bundle_of
from orchestrator.rpc.services import Door, check_number

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
                    grant_revision=answer.grant_revision,
                    grant_digest=answer.grant_digest,
                    approvers=answer.approvers,
                    bundle=bundle_of(answer.bundle_path),
                    since_ms=answer.since_ms,
                    enforced=answer.enforced,
                    leaf=answer.leaf,
                )
                for answer in answers
            ],
            checkpoint=checkpoint,
        )

    def _checkpoint(self) -> bytes:
        with self._services.store.control.read() as connection:
            return self._services.log.checkpoint(connection)

    def _entries(self, first: int) -> tuple[tuple[int, bytes], ...]:
        with self._services.store.control.read() as connection:
            return self._services.log.entries(connection, first, PAGE)

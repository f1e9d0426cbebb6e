"""ControlService, crash reports: asked of the nodes that keep them, never stored here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleet.crash import ID, MAX_REPORT, decode_report
from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2
from fleet.wire import to_pb_crash
from orchestrator.rpc.auth import principal_operator
from orchestrator.rpc.operating import raise_refusal
from orchestrator.rpc.services import Door
from orchestrator.rpc.teams import agents_named, check_team
from orchestrator.sessions import CrashesCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.rpc.interceptor import Context
    from orchestrator.sessions import CommandAnswer

DEADLINE_MS = 15_000
"""How long a node may take to find a report."""

_SILENT = frozenset({Code.NODE_OFFLINE, Code.DEADLINE_EXCEEDED, Code.LIMIT_EXCEEDED, Code.MESSAGE_INVALID})


class CrashesDoor(Door):
    """Methods about the ends of agents."""

    async def ListCrashes(self, request: control_pb2.ListCrashesRequest, _: Context) -> control_pb2.ListCrashesReply:  # noqa: N802
        """List what one node, or every node, has kept; a node that is asked by name must answer."""
        names = (request.node,) if request.node else await self._nodes()
        answers = await self._ask(names, CrashesCommand(agent=request.agent))
        reply = control_pb2.ListCrashesReply()
        for node, answer in answers.items():
            if isinstance(answer, FleetError):
                if request.node or answer.code not in _SILENT:
                    raise answer
                reply.silent.append(node)
            else:
                reply.crashes.extend(to_pb_crash(crash, node) for crash in answer.crashes)
        return reply

    async def GetCrash(self, request: control_pb2.GetCrashRequest, _: Context) -> control_pb2.GetCrashReply:  # noqa: N802
        """Send one report."""
        if ID.match(request.id) is None:
            raise FleetError(Code.VALUE_INVALID, "expected the sixteen digits of `fleetctl crash list`", place="id")
        names = (request.node,) if request.node else self._services.sessions.names()
        answers = await self._ask(names, CrashesCommand(id=request.id))
        for node, answer in answers.items():
            if not isinstance(answer, FleetError) and answer.document:
                if len(answer.document) > MAX_REPORT:
                    raise FleetError(Code.LIMIT_EXCEEDED, f"{len(answer.document)} bytes", node=node, limit=MAX_REPORT)
                operator = principal_operator()
                if operator.team:
                    name = decode_report(answer.document, request.id).agent
                    check_team(operator, agents_named(await self._run(self._services.nodes.list), name))
                return control_pb2.GetCrashReply(node=node, document=answer.document)
        for answer in answers.values():
            if isinstance(answer, FleetError) and (request.node or answer.code is not Code.NOT_FOUND):
                raise answer
        raise FleetError(
            Code.NOT_FOUND,
            f"no online node keeps a crash report {request.id}",
            remedy="`fleetctl crash list` shows what there is; a node that is offline must come back first.",
        )

    async def _nodes(self) -> list[str]:
        return [view.row.name for view in await self._run(self._services.nodes.list)]

    async def _ask(self, nodes: Iterable[str], what: CrashesCommand) -> dict[str, CommandAnswer | FleetError]:
        names = tuple(nodes)
        answers = await asyncio.gather(*(self._ask_one(node, what) for node in names))
        return dict(zip(names, answers, strict=True))

    async def _ask_one(self, node: str, what: CrashesCommand) -> CommandAnswer | FleetError:
        """The answer, or why there is none: one node's trouble is no reason to hear nothing of the others."""
        try:
            answer = await self._services.sessions.call(node, what, DEADLINE_MS)
            raise_refusal(answer, node)
        except FleetError as error:
            return error
        return answer

"""Crash reports, asked of nodes over real sessions: one, all, silent ones, and nodes that say something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from fleet.crash import MAX_REPORT, CrashSummary
from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2, node_pb2
from fleet.wire import to_pb_crash
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, error_of
from tests.fakes.wait import until

DIGEST = "sha256:" + "0" * 64
ID = "0123456789abcdef"
CRASH = CrashSummary(ID, "", "climate/context", "unreachable", "why", 1, DIGEST, DIGEST, recorded=True)


@pytest.fixture
async def nodes(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> AsyncIterator[list[NodeClient]]:
    nodes = [NodeClient(fleet, coordinator, name) for name in ("n1", "n2")]
    for node in nodes:
        await node.join(await operator.token(node.name))
        await node.connect()
    yield nodes
    for node in nodes:
        await node.close()


async def answer(node: NodeClient, **result: object) -> node_pb2.FindCrashes:
    """Let a node answer the next question about crashes; returns the question."""
    while (message := await node.receive()).WhichOneof("message") != "command":
        pass
    reply = node_pb2.CommandResult(id=message.command.id, **result)  # type: ignore[arg-type]
    await node.stream.write(node_pb2.NodeMessage(result=reply))
    return message.command.crashes


async def refusal(call: grpc.aio.UnaryUnaryCall) -> Code:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Code(error_of(caught.value).code)


async def test_every_node_is_asked_and_named_by_its_session(operator: Operator, nodes: list[NodeClient]) -> None:
    call = operator.control.ListCrashes(control_pb2.ListCrashesRequest(agent="climate/context"), timeout=CALL_S)
    lying = to_pb_crash(CRASH, "n9")
    questions = await asyncio.gather(answer(nodes[0], crashes=[lying]), answer(nodes[1]))
    reply = await call
    assert [question.agent for question in questions] == ["climate/context"] * 2
    assert [(crash.id, crash.node, crash.recorded) for crash in reply.crashes] == [(ID, "n1", True)]
    assert list(reply.silent) == []


async def test_a_node_that_is_offline_is_told_unless_it_was_asked_for(
    operator: Operator, nodes: list[NodeClient], coordinator: Coordinator
) -> None:
    await nodes[1].close()
    await until(lambda: "n2" not in coordinator.services.sessions.names(), "the session ends")
    call = operator.control.ListCrashes(control_pb2.ListCrashesRequest(), timeout=CALL_S)
    await answer(nodes[0])
    assert list((await call).silent) == ["n2"]
    call = operator.control.ListCrashes(control_pb2.ListCrashesRequest(node="n2"), timeout=CALL_S)
    assert await refusal(call) is Code.NODE_OFFLINE


async def test_a_report_comes_from_the_node_that_has_it(operator: Operator, nodes: list[NodeClient]) -> None:
    call = operator.control.GetCrash(control_pb2.GetCrashRequest(id=ID), timeout=CALL_S)
    missing = FleetError(Code.NOT_FOUND, "no")
    questions = await asyncio.gather(
        answer(nodes[0], error_code=str(missing.code), error_message=missing.public),
        answer(nodes[1], document=b"{}"),
    )
    reply = await call
    assert [question.id for question in questions] == [ID, ID]
    assert (reply.node, reply.document) == ("n2", b"{}")


async def test_a_report_that_nobody_has_is_not_found(operator: Operator, nodes: list[NodeClient]) -> None:
    call = operator.control.GetCrash(control_pb2.GetCrashRequest(id=ID), timeout=CALL_S)
    await asyncio.gather(*(answer(node, error_code="NOT_FOUND") for node in nodes))
    assert await refusal(call) is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"error_code": "STORAGE_FULL"}, Code.STORAGE_FULL),
        ({"document": b"x" * (MAX_REPORT + 1)}, Code.LIMIT_EXCEEDED),
    ],
)
async def test_what_a_node_says_wrong_is_the_answer(
    operator: Operator, nodes: list[NodeClient], result: dict[str, object], code: Code
) -> None:
    call = operator.control.GetCrash(control_pb2.GetCrashRequest(id=ID, node="n1"), timeout=CALL_S)
    await answer(nodes[0], **result)
    assert await refusal(call) is code


async def test_an_identifier_is_checked_before_anybody_is_asked(operator: Operator) -> None:
    call = operator.control.GetCrash(control_pb2.GetCrashRequest(id="../x"), timeout=CALL_S)
    assert await refusal(call) is Code.VALUE_INVALID

"""Sealed secrets over real mutual TLS: put by an operator, pushed to the node, read by nobody in between."""

from __future__ import annotations

import pytest
from grpc import aio

from fleet.errors import Code
from fleet.sealing import ESCROW, Label, SealingKeyStatement, SecretKind, SecretValue, public_of, seal, sign_sealed
from fleet.sealing import sign_statement as sign
from fleet.v1 import control_pb2, node_pb2
from orchestrator import principals
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FLEET, FleetFixture, NodeClient, Operator, error_of
from tests.fakes.publisher import key

AGENT = "climate/context"
PRIVATE = bytes(range(32))


def sealed(node: str, version: int = 1) -> bytes:
    label = Label(FLEET, node, AGENT, "api-token", version)
    return sign_sealed(seal(SecretValue(SecretKind.TEXT, b"hunter2"), label, public_of(PRIVATE)), key("secrets"))


def put(*envelopes: bytes, version: int = 1) -> control_pb2.PutSecretRequest:
    return control_pb2.PutSecretRequest(agent=AGENT, name="api-token", version=version, envelopes=envelopes)


async def told(node: NodeClient) -> list[bytes]:
    """Everything that the node is sent next, as secrets."""
    while True:
        message = await node.stream.read()
        assert isinstance(message, node_pb2.CoordinatorMessage)
        if message.WhichOneof("message") == "secrets":
            return list(message.secrets.envelopes)


async def joined(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> NodeClient:
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1"))
    said = SealingKeyStatement(FLEET, "n1", node.epoch, public_of(PRIVATE))
    node.sealing_key = sign(said, node.bound)
    return node


async def test_a_node_is_sent_its_whole_set_at_once_and_after_each_change(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator)
    await node.connect()
    assert await told(node) == [], "what was removed while it was away is dropped"
    offered = (await operator.control.ListSealingKeys(control_pb2.ListSealingKeysRequest(), timeout=CALL_S)).keys
    assert [(one.node, one.statement) for one in offered] == [("n1", node.sealing_key)]
    await operator.control.PutSecret(put(sealed(ESCROW), sealed("n1")), timeout=CALL_S)
    (first,) = await told(node)
    listed = (await operator.control.ListSecrets(control_pb2.ListSecretsRequest(), timeout=CALL_S)).secrets
    assert [(one.name, list(one.nodes), list(one.behind)) for one in listed] == [("api-token", ["n1"], [])]
    await node.connect()
    assert await told(node) == [first], "after a new session too"
    removal = control_pb2.RemoveSecretRequest(agent=AGENT, name="api-token")
    await operator.control.RemoveSecret(removal, timeout=CALL_S)
    assert await told(node) == []


async def test_a_statement_of_another_key_ends_the_session(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator)
    node.sealing_key = sign(SealingKeyStatement(FLEET, "n1", node.epoch, public_of(PRIVATE)), key("thief"))
    with pytest.raises(aio.AioRpcError) as caught:
        await node.connect()
    assert error_of(caught.value).code == Code.SIGNATURE_INVALID


async def test_who_only_looks_sets_no_secret(fleet: FleetFixture, coordinator: Coordinator) -> None:
    viewer = Operator(fleet, coordinator, fleet.operator("eve", principals.Role.VIEWER))
    async with viewer.channel:
        for call, request in (
            (viewer.control.PutSecret, put(sealed(ESCROW))),
            (viewer.control.RemoveSecret, control_pb2.RemoveSecretRequest(agent=AGENT, name="api-token")),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await call(request, timeout=CALL_S)
            assert error_of(caught.value).code == Code.PERMISSION_DENIED

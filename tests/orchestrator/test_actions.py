"""Signed actions over the wire: what changes something carries its operator's statement, once, and the log keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from grpc import aio

from fleet.action import ACTION_TYPE, Action, digest_of_request, open_action, sign_action
from fleet.errors import Code
from fleet.keys import P256PublicKey, P256SigningKey
from fleet.signing import decode_base64
from fleet.v1 import control_pb2, control_pb2_grpc, node_pb2
from fleet.x509 import certificate_digest
from orchestrator import pki
from orchestrator.pki import stored_key
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import (
    CALL_S,
    FleetFixture,
    NodeClient,
    Operator,
    ShiftedClock,
    SigningChannel,
    channel,
    error_of,
)

TOKEN = control_pb2.CreateJoinTokenRequest(node="n1", ttl_s=60)


async def entries(operator: Operator) -> list[bytes]:
    found = operator.control.AuditEntries(control_pb2.AuditEntriesRequest(), timeout=CALL_S)
    return [entry.leaf async for entry in found]


class Liar:
    """An operator's client that says what the test wants."""

    def __init__(self, fleet: FleetFixture, coordinator: Coordinator, identity: pki.KeyPair | None = None) -> None:
        self.identity = identity or fleet.operator()
        self.inner = channel(fleet, coordinator, self.identity)
        self.honest = SigningChannel(self.inner, self.identity)
        self.channel = SigningChannel(self.inner, self.identity)
        self.control = control_pb2_grpc.ControlServiceStub(self.channel)

    async def refusal(self, request: object = TOKEN, method: str = "CreateJoinToken") -> str:
        with pytest.raises(aio.AioRpcError) as caught:
            await getattr(self.control, method)(request, timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        return str(error_of(caught.value).code)

    def resigned(self, key: P256SigningKey | None = None, **changed: object) -> None:
        """Sign statements that differ from the honest one."""

        def statement(method: str, request: bytes) -> bytes:
            payload = decode_base64(json.loads(self.honest.statement(method, request))["payload"])
            document = json.loads(payload)
            action = Action(
                "demo",
                "alice",
                method,
                digest_of_request(request),
                self.honest._clock(),
                bytes.fromhex(document["nonce"]),
                document["certificate"],
            )
            return sign_action(replace(action, **changed), key or self.honest._key)  # type: ignore[arg-type]

        self.channel.sign = statement


@pytest.fixture
async def liar(fleet: FleetFixture, coordinator: Coordinator) -> object:
    client = Liar(fleet, coordinator)
    yield client
    await client.inner.close()


async def test_the_log_alone_proves_who_asked_for_what(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    await operator.token("n1")
    await operator.token("n2")
    leaves = [json.loads(leaf) for leaf in await entries(operator)]
    kinds = [leaf.get("kind") or leaf["payloadType"] for leaf in leaves]
    created = "node:token:created"
    assert kinds == ["operator:certificate:shown", ACTION_TYPE, created, ACTION_TYPE, created]
    shown = x509.load_pem_x509_certificate(leaves[0]["facts"]["certificate"].encode())
    shown.verify_directly_issued_by(x509.load_pem_x509_certificate(fleet.operator_ca.certificate))
    for leaf in (leaves[1], leaves[3]):
        action = open_action(
            json.dumps(leaf).encode(),
            fleet="demo",
            operator="alice",
            certificate=certificate_digest(shown),
            key=P256PublicKey(stored_key(shown.public_key())),
        )
        assert action.method == "/fleet.v1.ControlService/CreateJoinToken"


async def test_a_change_without_a_statement_is_refused_and_leaves_no_trace(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    async with channel(fleet, coordinator, fleet.operator()) as door:
        bare = control_pb2_grpc.ControlServiceStub(door)
        with pytest.raises(aio.AioRpcError) as caught:
            await bare.CreateJoinToken(TOKEN, timeout=CALL_S)
        assert error_of(caught.value).code == Code.ACTION_INVALID
        await bare.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)  # asking needs none
    assert await entries(operator) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"fleet": "other"},
        {"operator": "bob"},
        {"method": "/fleet.v1.ControlService/Deploy"},
        {"request": "sha256:" + "0" * 64},
        {"certificate": "sha256:" + "0" * 64},
    ],
)
async def test_a_statement_about_something_else_is_refused(liar: Liar, changed: dict[str, str]) -> None:
    liar.resigned(**changed)
    assert await liar.refusal() == Code.ACTION_INVALID


async def test_a_statement_of_another_key_is_refused(liar: Liar, fleet: FleetFixture) -> None:
    liar.resigned(P256SigningKey.from_pem(fleet.operator("bob").key))
    assert await liar.refusal() == Code.ACTION_INVALID


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_a_statement_of_another_time_is_refused(liar: Liar, clock: ShiftedClock, minutes: int) -> None:
    liar.resigned(at=clock() + timedelta(minutes=minutes))
    assert await liar.refusal() == Code.ACTION_INVALID


async def test_a_statement_passes_once(liar: Liar) -> None:
    kept: list[bytes] = []

    def same(method: str, request: bytes) -> bytes:
        kept.append(kept[0] if kept else liar.honest.statement(method, request))
        return kept[0]

    liar.channel.sign = same
    await liar.control.CreateJoinToken(TOKEN, timeout=CALL_S)
    assert await liar.refusal() == Code.ACTION_INVALID


async def test_a_change_that_fails_is_not_in_the_log(operator: Operator) -> None:
    with pytest.raises(aio.AioRpcError):
        await operator.token("Not A Name")
    assert await entries(operator) == []


async def test_what_happens_on_nodes_is_in_the_log_before_it_happens(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1"))
    await node.connect()
    request = control_pb2.CallAgentRequest(agent="climate/context", node="n1", invocation="get()", deadline_ms=5000)
    call = operator.control.CallAgent(request, timeout=CALL_S)
    command = (await node.receive()).command
    last = json.loads((await entries(operator))[-1])
    payload = json.loads(decode_base64(last["payload"]))
    assert payload["method"].endswith("/CallAgent")
    assert payload["request"] == digest_of_request(request.SerializeToString())
    await node.stream.write(node_pb2.NodeMessage(result={"id": command.id, "output": "1"}))
    await call
    await node.close()


async def test_a_change_that_writes_no_leaf_of_its_own_is_in_the_log_too(
    fleet: FleetFixture, operator: Operator, coordinator: Coordinator
) -> None:
    before = len(await entries(operator))
    request = control_pb2.SendEventRequest(topic="t")
    await operator.control.SendEvent(request, timeout=CALL_S)
    assert len(await entries(operator)) == before + 2  # the certificate, and the statement

"""A deployer of one team: that team's applications, and nothing of another's."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from fleet.crash import CrashReport, encode_report
from fleet.errors import Code
from fleet.model import ExitCause
from fleet.v1 import control_pb2, node_pb2
from orchestrator import pki
from orchestrator.operators import LoginProof, login_mac, login_message
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, error_of, make_csr, unpadded

CRASH = "0123456789abcdef"


def deployer(fleet: FleetFixture, coordinator: Coordinator, team: str) -> Operator:
    """Somebody who logged in as a deployer of a team."""
    operators, private = coordinator.services.operators, ec.generate_private_key(ec.SECP256R1())
    token, _ = operators.add("bob", ["deployer"], team, 60, "alice")
    _, _, identifier, secret = token.split(".")
    nonce, csr = b"n" * 32, make_csr(private)
    signature = private.sign(login_message(nonce, 0, csr), ec.ECDSA(hashes.SHA256()))
    issued = operators.login(identifier, nonce, LoginProof(csr, login_mac(unpadded(secret), nonce, csr), signature))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = private.private_bytes(encoding, form, serialization.NoEncryption())
    return Operator(fleet, coordinator, pki.KeyPair(pem, issued.chain))


@pytest.fixture
async def node(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> NodeClient:
    fleet.release()
    await operator.push()
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1"))
    await node.connect()
    return node


async def refused(call: object) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert error_of(caught.value).code == Code.PERMISSION_DENIED


async def test_another_teams_application_is_out_of_reach(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, node: NodeClient
) -> None:
    bob = deployer(fleet, coordinator, "vision")
    await refused(bob.deploy())
    deployment = await operator.deploy()
    await node.run()
    await refused(bob.deploy("schema: fleet.application/v1\napplication: climate\nagents: []\n"))
    await refused(bob.control.CancelDeployment(control_pb2.CancelDeploymentRequest(id=deployment), timeout=CALL_S))
    for agent in ("climate/context", "no/such"):
        await refused(
            bob.control.CallAgent(control_pb2.CallAgentRequest(agent=agent, invocation="f()"), timeout=CALL_S)
        )
    await refused(bob.control.SendEvent(control_pb2.SendEventRequest(topic="t"), timeout=CALL_S))
    reading = bob.control.GetCrash(control_pb2.GetCrashRequest(id=CRASH, node="n1"), timeout=CALL_S)
    await answer(node, document=crash_of("climate/context"))
    await refused(reading)
    assert (
        len((await bob.control.ListDeployments(control_pb2.ListDeploymentsRequest(), timeout=CALL_S)).deployments) == 1
    )
    await bob.channel.close()
    await node.close()


async def test_the_teams_own_application_is_not(
    fleet: FleetFixture, coordinator: Coordinator, node: NodeClient
) -> None:
    bob = deployer(fleet, coordinator, "default")
    cancelled = control_pb2.CancelDeploymentRequest(id=await bob.deploy())
    await node.accept()
    assert (await bob.control.CancelDeployment(cancelled, timeout=CALL_S)).state == "cancelled"
    await node.accept()
    deployment = await bob.deploy()
    await node.run()
    assert (await bob.watch(deployment)).state == "succeeded"
    call = bob.control.CallAgent(
        control_pb2.CallAgentRequest(agent="climate/context", node="n1", invocation="get()"), timeout=CALL_S
    )
    await answer(node, output="42")
    assert (await call).output == "42"
    reading = bob.control.GetCrash(control_pb2.GetCrashRequest(id=CRASH, node="n1"), timeout=CALL_S)
    document = crash_of("climate/context")
    await answer(node, document=document)
    assert (await reading).document == document
    await bob.channel.close()
    await node.close()


async def answer(node: NodeClient, **result: object) -> None:
    """Let a node answer the next command."""
    while (message := await node.receive()).WhichOneof("message") != "command":
        pass
    reply = node_pb2.CommandResult(id=message.command.id, **result)  # type: ignore[arg-type]
    await node.stream.write(node_pb2.NodeMessage(result=reply))


def crash_of(agent: str) -> bytes:
    """A crash report of an agent."""
    digest = "sha256:" + "0" * 64
    return encode_report(
        CrashReport(
            node="n1",
            agent=agent,
            generation=1,
            bundle=digest,
            grant=digest,
            component=digest,
            authority="{}",
            engine="engine",
            cause=ExitCause.UNREACHABLE,
            message="m",
            at_ms=1,
            backtrace="",
        )
    )

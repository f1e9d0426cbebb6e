"""A deployer of one team: that team's applications, and nothing of another's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from fleet.crash import CrashReport, encode_report
from fleet.errors import Code, FleetError
from fleet.model import ExitCause
from fleet.v1 import control_pb2, node_pb2
from orchestrator import pki
from orchestrator.operators import LoginProof, login_mac, login_message
from orchestrator.principals import OperatorIdentity, Role
from orchestrator.rpc.auth import OPERATOR_RULES, SIGNED, check_rule
from orchestrator.rpc.teams import TEAM_SCOPES, Scope
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, error_of, make_csr, unpadded

CRASH = "0123456789abcdef"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def deployer(fleet: FleetFixture, coordinator: Coordinator, team: str, name: str = "bob") -> Operator:
    """Somebody who logged in as a deployer of a team."""
    operators, private = coordinator.services.operators, ec.generate_private_key(ec.SECP256R1())
    token, _ = operators.add(name, ["deployer"], team, 60, "alice")
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


async def test_another_teams_secrets_are_out_of_reach(
    fleet: FleetFixture, coordinator: Coordinator, node: NodeClient
) -> None:
    own, other = deployer(fleet, coordinator, "default", "bob"), deployer(fleet, coordinator, "vision", "carol")
    for agent in ("climate/context", "no/such", ""):
        put = control_pb2.PutSecretRequest(agent=agent, name="token", version=1)
        await refused(other.control.PutSecret(put, timeout=CALL_S))
        await refused(other.control.RemoveSecret(control_pb2.RemoveSecretRequest(agent=agent), timeout=CALL_S))
    # It runs nowhere yet: that the team approved it is enough, and what is refused then is something else.
    put = control_pb2.PutSecretRequest(agent="climate/context", name="token", version=1)
    with pytest.raises(aio.AioRpcError) as caught:
        await own.control.PutSecret(put, timeout=CALL_S)
    assert error_of(caught.value).code == Code.SECRET_INVALID
    with pytest.raises(aio.AioRpcError) as caught:
        await own.control.RemoveSecret(control_pb2.RemoveSecretRequest(agent="climate/context"), timeout=CALL_S)
    assert error_of(caught.value).code == Code.NOT_FOUND
    for client in (own, other):
        await client.channel.close()
    await node.close()


async def test_a_publication_changes_roles_of_the_own_team_only(
    fleet: FleetFixture, coordinator: Coordinator, node: NodeClient
) -> None:
    own, other = deployer(fleet, coordinator, "default", "bob"), deployer(fleet, coordinator, "vision", "carol")
    fleet.add_bundle("context", "1.1.0")
    await refused(other.push())
    assert "context@1.1.0" in {f"{b.name}@{b.version}" for b in (await _pushed(own)).bundles}
    fleet.list_node_authorities(fleet.node_ca.certificate * 2)  # of the role targets, which no team has
    await refused(own.push())
    for client in (own, other):
        await client.channel.close()
    await node.close()


async def _pushed(client: Operator) -> control_pb2.ListBundlesReply:
    await client.push()
    return await client.control.ListBundles(control_pb2.ListBundlesRequest(), timeout=CALL_S)


REFUSED_BY_A_TEST = {
    "Publish": test_a_publication_changes_roles_of_the_own_team_only,
    "Deploy": test_another_teams_application_is_out_of_reach,
    "CancelDeployment": test_another_teams_application_is_out_of_reach,
    "CallAgent": test_another_teams_application_is_out_of_reach,
    "SendEvent": test_another_teams_application_is_out_of_reach,
    "GetCrash": test_another_teams_application_is_out_of_reach,
    "PutSecret": test_another_teams_secrets_are_out_of_reach,
    "RemoveSecret": test_another_teams_secrets_are_out_of_reach,
}
"""Method that a team limits to the test in which somebody of another team calls it."""


def test_every_method_that_a_team_may_call_says_how_far_it_reaches() -> None:
    of_teams = {Role.DEPLOYER, Role.VIEWER, Role.APPROVER}  # whoever administers is of all teams
    assert TEAM_SCOPES.keys() == {name for name, roles in OPERATOR_RULES.items() if roles & of_teams}
    limited = {name for name, scope in TEAM_SCOPES.items() if scope is not Scope.FLEET}
    assert limited == REFUSED_BY_A_TEST.keys()
    assert SIGNED & TEAM_SCOPES.keys() <= limited  # whatever changes something is limited


@pytest.mark.parametrize("method", sorted(OPERATOR_RULES))
def test_the_table_decides_for_every_method(method: str) -> None:
    of_team = OperatorIdentity("bob", frozenset(Role), NOW, 1, "vision")
    reached = TEAM_SCOPES.get(method, Scope.NOBODY) is not Scope.NOBODY
    check_rule(f"/fleet.v1.ControlService/{method}", replace(of_team, team=""))
    if reached:
        check_rule(f"/fleet.v1.ControlService/{method}", of_team)
        return
    with pytest.raises(FleetError) as caught:
        check_rule(f"/fleet.v1.ControlService/{method}", of_team)
    assert caught.value.code is Code.PERMISSION_DENIED


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

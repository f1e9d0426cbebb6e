"""Who may call what: every method has a rule, and the rules hold over the wire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2, node_pb2, node_pb2_grpc
from fleet.x509 import load_certificate
from orchestrator import pki, principals
from orchestrator.actions import Actions
from orchestrator.principals import Role
from orchestrator.rpc.administration import AdministrationDoor
from orchestrator.rpc.auditing import AuditingDoor
from orchestrator.rpc.auth import OPERATOR_RULES, SIGNED, Authentication, Gates
from orchestrator.rpc.content import ContentDoor
from orchestrator.rpc.crashes import CrashesDoor
from orchestrator.rpc.deploying import DeployingDoor
from orchestrator.rpc.live import LiveCalls
from orchestrator.rpc.operating import OperatingDoor
from orchestrator.rpc.sealing import SealingDoor
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, ShiftedClock, channel, error_of

METHODS = {method.name for method in control_pb2.DESCRIPTOR.services_by_name["ControlService"].methods}


def test_every_method_has_a_rule_and_no_rule_is_left_over() -> None:
    assert OPERATOR_RULES.keys() == METHODS


def test_every_method_is_implemented_in_exactly_one_topic() -> None:
    topics = (ContentDoor, DeployingDoor, OperatingDoor, AdministrationDoor, CrashesDoor, SealingDoor, AuditingDoor)
    owners = {name: [topic for topic in topics if name in vars(topic)] for name in METHODS}
    assert {name: len(found) for name, found in owners.items() if len(found) != 1} == {}


UNSIGNED = {
    "HasBlobs",  # asks
    "PutBlob",  # stores bytes under their own digest; what they count for is in Publish
    "GetCrash",  # reads what may be private
    "ListJoinTokens",  # the same
    "ListSealingKeys",  # the same
}
"""Methods that not every operator may call and that need no signed statement."""


def test_whatever_not_everybody_may_do_is_signed_for() -> None:
    restricted = {name for name, roles in OPERATOR_RULES.items() if roles != set(Role)}
    assert restricted - SIGNED == UNSIGNED & OPERATOR_RULES.keys()


def test_a_viewer_changes_nothing() -> None:
    allowed = {name for name, roles in OPERATOR_RULES.items() if Role.VIEWER in roles}
    assert allowed.isdisjoint(
        {"PutBlob", "Publish", "Deploy", "CancelDeployment", "CreateJoinToken", "CallAgent", "SendEvent"}
    )


@pytest.mark.parametrize(
    ("roles", "method", "allowed"),
    [
        ((Role.VIEWER,), "ListNodes", True),
        ((Role.VIEWER,), "CreateJoinToken", False),
        ((Role.DEPLOYER,), "CreateJoinToken", False),
        ((Role.NODE_ADMIN,), "CreateJoinToken", True),
        ((Role.VIEWER, Role.ADMIN), "CreateJoinToken", True),
    ],
)
async def test_roles_decide(
    fleet: FleetFixture, coordinator: Coordinator, roles: tuple[Role, ...], method: str, allowed: bool
) -> None:
    client = Operator(fleet, coordinator, fleet.operator("bob", *roles))
    requests = {
        "ListNodes": control_pb2.ListNodesRequest(),
        "CreateJoinToken": control_pb2.CreateJoinTokenRequest(node="n1", ttl_s=60),
    }
    async with client.channel:
        call = getattr(client.control, method)(requests[method], timeout=CALL_S)
        if allowed:
            await call
        else:
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert error_of(caught.value).code == Code.PERMISSION_DENIED


async def test_nodes_and_operators_keep_to_their_own_doors(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1"))
    as_operator = Operator(fleet, coordinator, node.identity)
    with pytest.raises(aio.AioRpcError) as caught:
        await as_operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.PERMISSION_DENIED
    as_node = node_pb2_grpc.NodeServiceStub(operator.channel)
    with pytest.raises(aio.AioRpcError) as caught:
        await as_node.FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.PERMISSION_DENIED
    await as_operator.channel.close()


async def test_without_a_certificate_of_the_fleet_there_is_no_connection(
    fleet: FleetFixture, coordinator: Coordinator
) -> None:
    stranger = pki.issue_operator(
        pki.new_authority("operators", fleet.now), "demo", "mallory", [Role.ADMIN], fleet.now, pki.NODE_LIFETIME
    )
    for identity in (None, stranger):
        client = Operator(fleet, coordinator)
        await client.channel.close()
        async with channel(fleet, coordinator, identity) as door:
            stub = health_pb2_grpc.HealthStub(door)
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
            assert caught.value.code().name == "UNAVAILABLE"


@dataclass
class BareContext:
    """A call over a port that asks for no client certificate, which the session port never is."""

    versions: list[bytes]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"ssl_tls_version": self.versions}


@pytest.mark.parametrize(
    ("version", "reason"),
    [([b"TLSv1.3"], "no client certificate"), ([b"TLSv1.2"], "TLS 1.3 is needed"), ([], "TLS 1.3 is needed")],
)
async def test_a_call_of_an_older_protocol_or_without_any_certificate_is_nobodys(
    fleet: FleetFixture, clock: ShiftedClock, coordinator: Coordinator, version: list[bytes], reason: str
) -> None:
    services = coordinator.services
    authentication = Authentication(
        fleet="demo",
        authorities=lambda: principals.Authorities(
            (load_certificate(fleet.node_ca.certificate),), load_certificate(fleet.operator_ca.certificate)
        ),
        gates=Gates(services.nodes.admit, services.operators.admit),
        actions=Actions("demo", services.store, services.log, clock),
        live=LiveCalls(),
        workers=services.workers,
        clock=clock,
    )
    with pytest.raises(FleetError, match=reason) as caught:
        await authentication.around("/fleet.v1.ControlService/ListNodes", BareContext(version)).__aenter__()
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_a_stream_ends_when_its_certificate_does(
    fleet: FleetFixture, clock: ShiftedClock, coordinator: Coordinator
) -> None:
    short = pki.issue_operator(fleet.operator_ca, "demo", "bob", [Role.VIEWER], fleet.now, timedelta(days=1))
    client = Operator(fleet, coordinator, short)
    clock.advance(hours=23, minutes=59, seconds=59)
    async with client.channel:
        events = client.control.ListEvents(control_pb2.ListEventsRequest(follow=True), timeout=CALL_S)
        with pytest.raises(aio.AioRpcError) as caught:
            await events.read()
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID


async def test_health_is_open_to_the_fleet(operator: Operator) -> None:
    reply = await health_pb2_grpc.HealthStub(operator.channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def _drain(node: NodeClient) -> None:
    while await node.stream.read() is not aio.EOF:
        pass


async def test_an_old_enrolment_is_turned_away(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    old, new = NodeClient(fleet, coordinator, "n1"), NodeClient(fleet, coordinator, "n1")
    await old.join(await operator.token("n1"))
    await old.connect()
    await new.join(await operator.token("n1"))
    with pytest.raises(aio.AioRpcError) as caught:
        await _drain(old)
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
    async with channel(fleet, coordinator, old.identity) as door:
        with pytest.raises(aio.AioRpcError) as caught:
            await node_pb2_grpc.NodeServiceStub(door).FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
    await new.connect()
    await new.close()
    await old.close()


async def test_an_unexpected_fault_tells_a_stranger_nothing(
    coordinator: Coordinator, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret text")

    monkeypatch.setattr(coordinator.services.nodes, "list", broken)
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    detail = error_of(caught.value)
    assert (detail.code, caught.value.code().name) == (Code.INTERNAL, "INTERNAL")
    assert "secret" not in str(detail)
    assert detail.request_id


PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity.md"


def test_the_page_shows_the_rules_as_they_are() -> None:
    everybody = sorted(name for name, roles in OPERATOR_RULES.items() if roles == set(Role))
    lines = [f"| every role | {', '.join(everybody)} |"]
    for role in (Role.DEPLOYER, Role.APPROVER, Role.NODE_ADMIN, Role.ADMIN):
        own = sorted(name for name, roles in OPERATOR_RULES.items() if role in roles and roles != set(Role))
        lines.append(f"| {role} | {', '.join(own)} |")
    shown = PAGE.read_text().partition("<!-- roles -->")[2].partition("<!-- /roles -->")[0]
    assert shown.strip().splitlines()[2:] == lines, "\n".join(lines)

"""Emergency grants at the coordinator: what is refused before any node would, and who is told of every use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from grpc import aio

from fleet.errors import Code
from fleet.grants.document import format_instant
from fleet.model import AssignedAgent, FusedAgent, TargetRef
from fleet.oci import digest_of
from fleet.release import RoleKeys
from fleet.targets import BREAK_GLASS_PATH, BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, grant_path
from fleet.v1 import control_pb2, model_pb2
from orchestrator import emergencies
from orchestrator.emergencies import warnings_of
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, error_of
from tests.fakes.publisher import key
from tests.fakes.teams import team_keys

AGENT, REASON = "climate/context", "pump 3 floods"
POLICY = b"schema: fleet.break-glass/v1\nmax_validity: 4h\ncaps: {wasi:logging/logging: []}\n"
CEILING = b"schema: fleet.ceiling/v1\ncaps: {}\n"
MANIFEST = """\
schema: fleet.application/v1
application: climate
agents:
  - {name: context, bundle: context@1.0.0, %s}
rollout: {waves: [100%%], healthy_for: 1ms, deadline: 30s}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    keys = team_keys()
    return FleetFixture(
        tmp_path, role_keys=RoleKeys({**keys.keys, BREAK_GLASS_ROLE: (key("emergency"),)}, keys.thresholds)
    )


@pytest.fixture
async def node(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> AsyncIterator[NodeClient]:
    fleet.add(BREAK_GLASS_PATH, POLICY)
    fleet.release()
    await operator.push()
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1"))
    yield node
    await node.close()


def approve(fleet: FleetFixture, *, hours: int = 4, caps: str = "{}", revision: int = 1) -> None:
    """The holder of the emergency key signs one. Takes effect with `publish`."""
    now = datetime.now(UTC)
    document = f"""\
schema: fleet.grant/v1
agent: {AGENT}
revision: {revision}
applies_to: {{bundle: {{name: context, versions: ">=1.0.0", role: code-default}}}}
validity: {{not_before: {format_instant(now)}, not_after: {format_instant(now + timedelta(hours=hours))}}}
lease: {{max_stale: 30d, on_lapse: continue}}
caps: {caps}
break_glass: true
reason: {REASON}
"""
    fleet.add(grant_path(AGENT, revision, BREAK_GLASS_TEAM), document.encode())


async def told(operator: Operator, kind: str) -> list[str]:
    events = operator.control.ListEvents(control_pb2.ListEventsRequest(limit=100), timeout=CALL_S)
    return [event.message async for event in events if event.kind == kind]


async def test_every_use_is_told_and_a_nodes_own_ceiling(
    fleet: FleetFixture, operator: Operator, node: NodeClient
) -> None:
    approve(fleet)
    await operator.push()
    (message,) = await told(operator, emergencies.APPROVED)
    assert message.startswith(f"BREAK-GLASS: emergency grant r1 of {AGENT} until ")
    assert message.endswith(f": {REASON}; by alice")
    described = await operator.control.GetNode(control_pb2.GetNodeRequest(name="n1"), timeout=CALL_S)
    assert not described.HasField("ceiling")
    node.ceiling = model_pb2.NodeCeiling(digest=digest_of(CEILING), document=CEILING)
    await node.connect()

    # Nobody gets one without naming it: the newest grant is the ordinary one.
    plan = await operator.control.Plan(control_pb2.PlanRequest(manifest=(MANIFEST % "").encode()), timeout=CALL_S)
    assert {item.grant_path for item in plan.agents} == {grant_path(AGENT, 1)}
    assert not plan.warnings
    named = MANIFEST % "break_glass: 1"
    plan = await operator.control.Plan(control_pb2.PlanRequest(manifest=named.encode()), timeout=CALL_S)
    assert [warning for warning in plan.warnings if REASON in warning]
    deployment = await operator.deploy(named)
    await node.run()
    assert (await operator.watch(deployment)).state == "succeeded"
    assert len(await told(operator, emergencies.ORDERED)) == 1
    (running,) = (await operator.control.ListAgents(control_pb2.ListAgentsRequest(), timeout=CALL_S)).agents
    assert (running.grant_path, running.bundle_path) == (
        grant_path(AGENT, 1, BREAK_GLASS_TEAM),
        "bundles/default/context/1.0.0.json",
    )
    described = await operator.control.GetNode(control_pb2.GetNodeRequest(name="n1"), timeout=CALL_S)
    assert list(described.warnings) == [f"BREAK-GLASS: {AGENT} under emergency grant r1"]
    assert (described.ceiling.digest, described.ceiling.document) == (node.ceiling.digest, CEILING)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return error_of(caught.value).code


async def test_what_every_node_would_refuse_is_neither_published_nor_ordered(
    fleet: FleetFixture, operator: Operator, node: NodeClient
) -> None:
    request = control_pb2.PlanRequest(manifest=(MANIFEST % "break_glass: 1").encode())
    assert await refused(operator.control.Plan(request, timeout=CALL_S)) == Code.GRANT_MISSING
    before = fleet.files
    approve(fleet, hours=5)
    assert await refused(operator.push()) == Code.GRANT_NOT_APPLICABLE
    fleet.files = before
    approve(fleet, caps="{wasi:random/random: []}")
    assert await refused(operator.push()) == Code.GRANT_NOT_APPLICABLE
    assert await told(operator, emergencies.APPROVED) == []
    fleet.files = before
    approve(fleet, caps="{wasi:logging/logging: []}")
    await operator.push()
    await operator.control.Plan(request, timeout=CALL_S)
    fleet.add(BREAK_GLASS_PATH, POLICY.replace(b"{wasi:logging/logging: []}", b"{}"))  # lowered since
    await operator.push()
    assert await refused(operator.control.Plan(request, timeout=CALL_S)) == Code.GRANT_NOT_APPLICABLE
    node.ceiling = model_pb2.NodeCeiling(digest="sha256:1", document=b"x")
    assert await refused(node.connect()) == Code.MESSAGE_INVALID


def test_a_part_that_runs_under_an_emergency_grant_is_named() -> None:
    bundle, ordinary = TargetRef("bundles/default/b/1.0.0.json", "d"), TargetRef(grant_path("a/one", 1), "d")
    part = FusedAgent("a/two", bundle, TargetRef(grant_path("a/two", 3, BREAK_GLASS_TEAM), "d"))
    whole = AssignedAgent("a/one", bundle, ordinary, fused=(part,))
    assert warnings_of([whole]) == ("BREAK-GLASS: a/two under emergency grant r3",)

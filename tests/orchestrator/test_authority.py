"""What the coordinator refuses about authority: ceilings and requests at the plan, guardrails at the publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from grpc import aio

from fleet.documents import dump_json
from fleet.errors import Code
from fleet.grants import Authority, decode_narrowing, request_digest
from fleet.targets import CEILINGS_PATH, GUARDRAILS_PATH, grant_path
from orchestrator.guardrails import default_text
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import MANIFEST, FleetFixture, NodeClient, Operator, error_of, grant_text
from tests.fakes.teams import team_keys

KEYVALUE = '{"wasi:keyvalue/store": [{buckets: [frames], ops: [get, set]}]}'
STORE, LOGGING = "wasi:keyvalue/store@0.2.0-draft2", "wasi:logging/logging@0.1.0-draft"
CEILINGS = """\
schema: fleet.ceilings/v1
ceilings:
  - {name: oslo, nodes: {labels: {site: oslo}}, caps: {'wasi:logging/logging': []}}
"""
NARROWED = MANIFEST.replace("bundle: context@1.0.0", "bundle: context@1.0.0\n    narrow: NARROW")
GRANTED = Authority.decode(
    dump_json(
        {
            "schema": "fleet.authority/v1",
            "capabilities": {"wasi:keyvalue/store": [{"buckets": ["frames"], "ops": ["get", "set"]}]},
            "limits": {},
        }
    )
)
GET = {"caps": {"wasi:keyvalue/store": [{"buckets": ["*"], "ops": ["get"]}]}}


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    """A fleet with a policy role."""
    return FleetFixture(tmp_path, role_keys=team_keys())


async def refused(call: object) -> tuple[str, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]  # an awaitable of any kind
    detail = error_of(caught.value)
    return detail.code, f"{detail.message} {detail.remedy} {dict(detail.detail)}"


async def join(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> NodeClient:
    node = NodeClient(fleet, coordinator, "n1")
    await node.join(await operator.token("n1", {"site": "oslo"}))
    await node.connect()
    return node


async def test_a_plan_names_the_ceiling_that_a_grant_is_above(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.add_bundle("context", "1.0.0", STORE)
    fleet.add_grant("climate/context", 1, KEYVALUE)
    fleet.add(CEILINGS_PATH, CEILINGS.encode())
    await operator.push()
    node = await join(fleet, coordinator, operator)
    code, text = await refused(operator.deploy())
    assert code == Code.IMPORT_NOT_GRANTED
    assert f"{CEILINGS_PATH}: oslo" in text
    fleet.add(CEILINGS_PATH, CEILINGS.replace("site: oslo", "site: bergen").encode())
    await operator.push()
    assert "no ceiling is for this node" in (await refused(operator.deploy()))[1]
    await node.close()


async def test_an_upgrade_that_asks_for_more_needs_a_new_revision(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.add_bundle("context", "1.0.0", STORE)
    fleet.add_bundle("context", "1.1.0", STORE, LOGGING)
    caps = KEYVALUE[:-1] + ', "wasi:logging/logging": []}'
    reviewed = request_digest(["wasi:keyvalue/store"])
    text = grant_text("climate/context", "context", 1, caps).decode()
    text = text.replace("validity:", f"  request_sha256: {reviewed}\nvalidity:")
    fleet.add(grant_path("climate/context", 1), text.encode())
    await operator.push()
    node = await join(fleet, coordinator, operator)
    code, told = await refused(operator.deploy(MANIFEST.replace("1.0.0", "1.1.0")))
    assert code == Code.GRANT_NOT_APPLICABLE
    assert "fleetctl grant propose climate/context --bundle context@1.1.0" in told
    await operator.deploy()
    await node.close()


async def test_fleet_yaml_narrows_what_a_node_is_ordered(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.add_bundle("context", "1.0.0", STORE)
    fleet.add_grant("climate/context", 1, KEYVALUE)
    await operator.push()
    node = await join(fleet, coordinator, operator)
    await operator.deploy(NARROWED.replace("NARROW", json.dumps(GET)))
    ordered = (await node.run()).assignment.agents[0]
    assert not decode_narrowing(ordered.narrow).apply(GRANTED).allows("wasi:keyvalue/store", bucket="frames", op="set")
    assert decode_narrowing(ordered.narrow).apply(GRANTED).allows("wasi:keyvalue/store", bucket="frames", op="get")
    code, _ = await refused(operator.deploy(NARROWED.replace("NARROW", '{"widen": []}')))
    assert code == Code.MANIFEST_INVALID
    await node.close()


async def test_a_guardrail_stops_a_publish_and_nothing_is_stored(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    rails = default_text() + '@id("no-stores") @remedy("Ask nobody.") forbid (principal, action, resource)\n'
    rails += 'when { resource.interfaces.contains("wasi:keyvalue/store") };\n'
    fleet.add(GUARDRAILS_PATH, rails.encode())
    await operator.push()
    before = coordinator.services.releases.files()
    fleet.add_grant("climate/context", 1, KEYVALUE)
    code, text = await refused(operator.push())
    assert code == Code.GUARDRAIL_REFUSED
    assert "Ask nobody." in text
    assert coordinator.services.releases.files() == before


@pytest.mark.parametrize(
    ("path", "document", "code"),
    [
        (CEILINGS_PATH, b"schema: fleet.ceilings/v1\n", Code.GRANT_INVALID),
        (GUARDRAILS_PATH, b"permit (principal, action, resource);", Code.CONFIG_INVALID),
        (GUARDRAILS_PATH, b'@id("a") forbid (principal, action, resource) when { resource.x };', Code.CONFIG_INVALID),
    ],
)
async def test_a_policy_that_nobody_can_read_is_not_published(
    fleet: FleetFixture, operator: Operator, path: str, document: bytes, code: Code
) -> None:
    fleet.add(path, document)
    assert (await refused(operator.push()))[0] == code


async def test_stricter_guardrails_ask_only_about_what_is_new(fleet: FleetFixture, operator: Operator) -> None:
    fleet.add_grant("climate/context", 1, KEYVALUE)
    await operator.push()
    rails = default_text() + '@id("nothing") forbid (principal, action, resource);\n'
    fleet.add(GUARDRAILS_PATH, rails.encode())
    await operator.push()
    fleet.add_grant("climate/context", 2, KEYVALUE)
    assert (await refused(operator.push()))[0] == Code.GUARDRAIL_REFUSED

"""Deploys through the whole coordinator: refusals with their remedy, conflicts, races, cancelling, audit answers."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import aio

from fleet.checkpoint import open_checkpoint
from fleet.errors import CATALOG, Code, FleetError
from fleet.manifest import encode_removal
from fleet.merkle import Node, append, leaf_hash, root
from fleet.oci import digest_of
from fleet.targets import grant_path
from fleet.v1 import control_pb2, node_pb2
from orchestrator.rpc.live import LiveCalls
from orchestrator.server import Coordinator, build
from orchestrator.store.deployments import DeploymentState
from tests.fakes.fleet_fixture import (
    CALL_S,
    MANIFEST,
    FleetFixture,
    NodeClient,
    Operator,
    ShiftedClock,
    error_of,
)

KEYVALUE = '{"wasi:keyvalue/store": [{buckets: [frames], ops: [get]}]}'


async def refusal(operator: Operator, manifest: str = MANIFEST, base: str = "") -> tuple[str, str]:
    """Deploy something that is refused; return the code and the remedy."""
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.deploy(manifest, base)
    detail = error_of(caught.value)
    return detail.code, detail.remedy


async def join(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, name: str = "n1") -> NodeClient:
    node = NodeClient(fleet, coordinator, name)
    await node.join(await operator.token(name, {"site": "oslo"}))
    await node.connect()
    return node


async def test_what_is_refused_and_what_would_mend_it(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    assert (await refusal(operator))[0] == Code.NOT_FOUND  # nothing was published
    fleet.add_bundle("other", "1.0.0")
    await operator.push()
    assert (await refusal(operator, "schema: nonsense"))[0] == Code.MANIFEST_INVALID
    assert (await refusal(operator))[0] == Code.TARGET_UNSIGNED
    fleet.add_bundle("context", "1.0.0", "wasi:keyvalue/store@0.2.0-draft2")
    await operator.push()
    code, remedy = await refusal(operator)
    assert (code, remedy) == (Code.GRANT_MISSING, "fleetctl grant propose climate/context --bundle context@1.0.0")
    fleet.add_grant("climate/context")
    await operator.push()
    code, remedy = await refusal(operator)
    assert code == Code.IMPORT_NOT_GRANTED
    assert remedy.startswith("fleetctl grant propose climate/context --bundle context@1.0.0")
    assert "--add wasi:keyvalue/store" in remedy
    fleet.add_grant("climate/context", 2, KEYVALUE, "{site: bergen}")
    await operator.push()
    assert (await refusal(operator))[0] == Code.NO_MATCHING_NODES
    node = await join(fleet, coordinator, operator)
    assert (await refusal(operator))[0] == Code.GRANT_NOT_APPLICABLE
    fleet.add_grant("climate/context", 3, KEYVALUE, "{site: oslo}")
    await operator.push()
    await operator.deploy()
    assert (await node.run()).assignment.agents[0].grant.path == grant_path("climate/context", 3)
    await node.close()


async def test_expired_metadata_stops_deploys_and_no_questions(
    fleet: FleetFixture, clock: ShiftedClock, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    clock.advance(hours=20)
    coordinator.services.releases.current()
    clock.advance(days=400)
    with pytest.raises(FleetError) as caught:
        coordinator.services.deployments.plan(MANIFEST.encode())
    assert caught.value.code is Code.TRUST_EXPIRED
    assert len(coordinator.services.releases.adopted().targets("bundles/")) == 1


async def test_plan_shows_the_authority_and_its_base_binds_the_deploy(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await join(fleet, coordinator, operator)
    request = control_pb2.PlanRequest(manifest=MANIFEST.encode())
    first = await operator.control.Plan(request, timeout=CALL_S)
    assert first.changes
    assert [(a.node, a.agent, a.action, a.wave) for a in first.agents] == [("n1", "climate/context", "start", 1)]
    deployment = await operator.deploy(base=first.base)
    await node.run()
    await operator.watch(deployment)
    assert (await refusal(operator, base=first.base))[0] == Code.GENERATION_CONFLICT
    fleet.add_grant("climate/context", 2, KEYVALUE)
    await operator.push()
    second = await operator.control.Plan(request, timeout=CALL_S)
    assert [a.action for a in second.agents] == ["replace"]
    assert any("wasi:keyvalue/store" in line for line in second.authority[0].widened)
    assert await operator.deploy(base=second.base)
    await node.close()


async def test_a_deploy_without_changes_succeeds_at_once(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await join(fleet, coordinator, operator)
    deployment = await operator.deploy()
    assert (await refusal(operator))[0] == Code.ROLLOUT_RUNNING  # what is current is not settled yet
    await node.run()
    await operator.watch(deployment)
    done = await operator.watch(await operator.deploy())
    assert (done.state, done.reason) == ("succeeded", "nothing to change")
    await node.close()


async def test_an_application_is_removed_by_a_rollout_like_any_other(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    removal = encode_removal("climate").decode()
    fleet.release()
    fleet.release(agent="other/agent")
    await operator.push()
    assert await refusal(operator, removal) == (Code.NOT_FOUND, CATALOG[Code.NOT_FOUND].remedy)
    first = await join(fleet, coordinator, operator)
    second = await join(fleet, coordinator, operator, "n2")
    placed = MANIFEST.replace("climate", "other").replace("context", "agent").replace("[1, 100%]", "[100%]")
    for manifest in (placed, MANIFEST):
        deployment = await operator.deploy(manifest)
        for node in (first, second):
            await node.run()
        assert (await operator.watch(deployment)).state == "succeeded"
    # A grant that was withdrawn since must not keep an application in the fleet.
    fleet.remove(grant_path("climate/context", 1))
    await operator.push()
    plan = await operator.control.Plan(control_pb2.PlanRequest(manifest=removal.encode()), timeout=CALL_S)
    assert [(a.node, a.agent, a.action, a.wave) for a in plan.agents] == [
        ("n1", "climate/context", "stop", 1),
        ("n2", "climate/context", "stop", 2),
    ]
    deployment = await operator.deploy(removal, plan.base)
    assert [agent.name for agent in (await first.accept()).assignment.agents] == ["other/agent"]
    assert second.generation == 2  # its wave waits until the first node has ended its agent
    await first.report()
    await second.run()
    done = await operator.watch(deployment)
    assert (done.state, [wave.state for wave in done.waves]) == ("succeeded", ["healthy", "healthy"])
    leaves = [
        json.loads(entry.leaf)
        async for entry in operator.control.AuditEntries(control_pb2.AuditEntriesRequest(from_index=0), timeout=CALL_S)
    ]
    facts = {"deployment": deployment}
    assert [leaf["kind"] for leaf in leaves if facts.items() <= leaf.get("facts", {}).items()] == [
        "rollout:deployment:created",
        "rollout:deployment:succeeded",
    ]
    assert (await refusal(operator, removal))[0] == Code.NOT_FOUND
    for node in (first, second):
        await node.close()


async def test_cancel_gives_touched_nodes_their_agents_back(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await join(fleet, coordinator, operator)
    deployment = await operator.deploy()
    await node.accept()
    request = control_pb2.CancelDeploymentRequest(id=deployment)
    cancelled = await operator.control.CancelDeployment(request, timeout=CALL_S)
    assert (cancelled.state, cancelled.reason) == ("cancelled", "cancelled by alice")
    restored = await node.accept()
    assert (restored.assignment.generation, restored.assignment.agents) == (2, ())
    await node.close()


async def test_of_two_deploys_at_once_exactly_one_wins(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, clock: ShiftedClock
) -> None:
    fleet.release()
    fleet.release("1.1.0")
    await operator.push()
    node = await join(fleet, coordinator, operator)
    # A second coordinator over the same files: the database has to decide, not a lock of one process.
    loop = asyncio.get_running_loop()
    rival = await asyncio.to_thread(build, fleet.settings(), clock, loop, LiveCalls())
    manifests = [MANIFEST.encode(), MANIFEST.replace("1.0.0", "1.1.0").encode()]

    def attempt(number: int) -> str:
        services = (coordinator.services, rival)[number % 2]
        try:
            return services.deployments.deploy(manifests[number % 2], "", f"user-{number % 2}")
        except FleetError as error:
            return str(error.code)

    with ThreadPoolExecutor(4) as pool:
        outcomes = await asyncio.gather(*(loop.run_in_executor(pool, attempt, n) for n in range(8)))
    lost = {str(Code.ROLLOUT_RUNNING), str(Code.GENERATION_CONFLICT)}
    assert all(CATALOG[Code(code)].retryable for code in lost)
    won = [outcome for outcome in outcomes if outcome not in lost]
    assert len(won) == 1
    listed = coordinator.services.deployments.list("climate", 10)
    assert [(d.head.id, d.head.state) for d in listed] == [(won[0], DeploymentState.RUNNING)]
    rival.workers.close()
    rival.store.close()
    await node.close()


async def test_the_log_tells_everything_and_checks_out_offline(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.add_bundle("context", "1.0.0", "wasi:keyvalue/store@0.2.0-draft2")
    digest = fleet.add_grant("climate/context", 1, KEYVALUE)
    await operator.push()
    node = await join(fleet, coordinator, operator)
    before = control_pb2.AuditWhoRequest(interface="wasi:keyvalue/store")
    assert list((await operator.control.AuditWho(before, timeout=CALL_S)).answers) == []
    deployment = await operator.deploy()
    await node.run()
    await operator.watch(deployment)
    (answer,) = (await operator.control.AuditWho(before, timeout=CALL_S)).answers
    assert (answer.node, answer.agent, answer.grant_digest, answer.enforced) == ("n1", "climate/context", digest, False)
    assert answer.bundle == "context@1.0.0"
    assert answer.approvers == [fleet.role_keys.of("grants-default")[0].key_id]
    assert any("frames" in line for line in answer.constraints)
    receipt = node_pb2.NodeMessage(receipt=node.receipt())
    await node.stream.write(receipt)
    await node.stream.write(receipt)
    await node.stream.write(node_pb2.NodeMessage(events={"events": [{"kind": "test:receipts:sent", "at_ms": 1}]}))
    events = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True), timeout=CALL_S)
    while (await events.read()).kind != "test:receipts:sent":  # messages are taken in order
        pass
    events.cancel()
    (answer,) = (await operator.control.AuditWho(before, timeout=CALL_S)).answers
    assert answer.enforced
    past = control_pb2.AuditWhoRequest(interface="wasi:keyvalue/store", at_ms=answer.since_ms - 1)
    assert list((await operator.control.AuditWho(past, timeout=CALL_S)).answers) == []

    note = (await operator.control.AuditCheckpoint(control_pb2.AuditCheckpointRequest(), timeout=CALL_S)).checkpoint
    entries = [
        entry
        async for entry in operator.control.AuditEntries(control_pb2.AuditEntriesRequest(from_index=0), timeout=CALL_S)
    ]
    assert [entry.index for entry in entries] == list(range(len(entries)))
    tree: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        return tree[level, index]

    for entry in entries:
        nodes: tuple[Node, ...] = append(read, entry.index, [leaf_hash(entry.leaf)])
        tree.update({(n.level, n.index): n.hash for n in nodes})
    checkpoint = open_checkpoint(note, fleet.trust.log_vkeys)
    assert (checkpoint.size, checkpoint.root) == (len(entries), root(read, len(entries)))
    leaves = [json.loads(entry.leaf) for entry in entries]
    kinds = [leaf.get("kind") or leaf["payloadType"].split(".")[2] for leaf in leaves]
    asked = {"operator:certificate:shown", "action"}  # who asked for it stands before what came of it
    assert "action" in kinds
    assert [kind for kind in kinds if kind not in asked][:6] == [
        "release:metadata:published",
        "node:token:created",
        "node:identity:enrolled",
        "rollout:deployment:created",
        "assignment",
        "rollout:deployment:succeeded",
    ]
    assert kinds.count("node:receipt:received") == 1  # the repeated one was passed over
    assert leaves[answer.leaf]["payloadType"].endswith("assignment.v1+json")
    await node.close()


async def test_a_receipt_under_another_key_ends_the_session(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await join(fleet, coordinator, operator)
    await operator.deploy()
    await node.run()
    await node.stream.write(node_pb2.NodeMessage(receipt=node.receipt(fleet.director)))
    with pytest.raises(aio.AioRpcError) as caught:
        await node.receive()
    assert error_of(caught.value).code == Code.SIGNATURE_INVALID
    await node.close()


async def test_a_publish_needs_every_blob_and_the_right_identity(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    digest = fleet.add_bundle("context", "1.0.0")
    blobs, fleet.blobs = fleet.blobs, {}
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.push()
    assert error_of(caught.value).code == Code.BLOB_MISSING
    assert not coordinator.services.blobs.has(digest)
    fleet.blobs = blobs
    reply = await operator.push()
    assert set(reply.added) == {"trust/fleet.json", "bundles/default/context/1.0.0.json"}
    stale = dict(fleet.files)
    fleet.release("1.2.0")
    await operator.push()
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.control.Publish(control_pb2.PublishRequest(files=stale), timeout=CALL_S)
    assert error_of(caught.value).code == Code.TRUST_ROLLBACK


async def test_blobs_travel_whole_and_resume(fleet: FleetFixture, coordinator: Coordinator, operator: Operator) -> None:
    data = bytes(range(256)) * 2048
    digest = digest_of(data)
    fleet.add_bundle("context", "1.0.0", models={"model": data})
    fleet.add_grant("climate/context")
    await operator.push()
    node = await join(fleet, coordinator, operator)
    await operator.deploy()
    for offset in (0, 300_000, len(data)):
        request = node_pb2.FetchBlobRequest(digest=digest, offset=offset)
        chunks = [chunk async for chunk in node.stub.FetchBlob(request, timeout=CALL_S)]
        assert b"".join(chunk.data for chunk in chunks) == data[offset:]
        assert {chunk.total for chunk in chunks} == {len(data)}
    wrong = [control_pb2.PutBlobRequest(digest="sha256:" + "0" * 64, size=3, data=b"abc")]
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.control.PutBlob(iter(wrong), timeout=CALL_S)
    assert error_of(caught.value).code == Code.DIGEST_MISMATCH
    assert [path.name for path in (fleet.folder / "blobs").rglob(".incoming-*")] == []
    await node.close()

"""What one caller may fetch, hold open and begin: nodes their own, strangers little."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from grpc import aio

from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.v1 import control_pb2, enrolment_pb2, enrolment_pb2_grpc, node_pb2
from orchestrator import pki
from orchestrator.rpc.enrolment import MAX_CHALLENGES_OF_ONE
from orchestrator.rpc.limiting import MAX_CALLERS, Rates, Slots, network_of
from orchestrator.rpc.node import STREAMS_PER_NODE
from orchestrator.server import MAX_RECEIVE_OF_STRANGERS, STRANGERS, Coordinator
from tests.fakes.fleet_fixture import CALL_S, MANIFEST, FleetFixture, NodeClient, Operator, error_of, serving

MODEL = bytes(range(256)) * 8192
PLACED = MANIFEST.replace("1.0.0", "1.0.0\n    placement: {labels: {name: n1}}")
NOBODYS = "sha256:" + "0" * 64


async def join(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, name: str) -> NodeClient:
    node = NodeClient(fleet, coordinator, name)
    await node.join(await operator.token(name, {"name": name}))
    await node.connect()
    return node


async def published(fleet: FleetFixture, operator: Operator) -> str:
    """Publish a bundle with a large model and its grant; return the grant's digest."""
    fleet.add_bundle("context", "1.0.0", models={"model": MODEL})
    granted = fleet.add_grant("climate/context")
    fleet.release(agent="other/agent")
    await operator.push()
    return granted


async def fetch(node: NodeClient, digest: str) -> bytes:
    request = node_pb2.FetchBlobRequest(digest=digest)
    return b"".join([chunk.data async for chunk in node.stub.FetchBlob(request, timeout=CALL_S)])


async def refusal(call: object) -> tuple[object, ...]:
    """Everything that a refused caller is told, but the number of its request and what it asked for itself."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    detail = error_of(caught.value)
    asked = detail.detail.pop("digest", "")
    return (caught.value.code(), detail.code, detail.message, detail.remedy, dict(detail.detail), bool(asked))


async def test_a_node_fetches_what_its_orders_name_and_learns_of_nothing_else(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    granted = await published(fleet, operator)
    first = await join(fleet, coordinator, operator, "n1")
    second = await join(fleet, coordinator, operator, "n2")
    deployment = await operator.deploy(PLACED)
    order = await first.run()
    await operator.watch(deployment)
    index = order.assignment.agents[0].bundle.digest
    trust = digest_of(fleet.document)
    for digest in (index, granted, digest_of(MODEL), trust):
        assert digest_of(await fetch(first, digest)) == digest
    assert digest_of(await fetch(second, trust)) == trust
    unknown = await refusal(fetch(second, NOBODYS))
    assert unknown[:2] == (grpc.StatusCode.NOT_FOUND, Code.BLOB_MISSING)
    for digest in (index, granted, digest_of(MODEL)):
        assert await refusal(fetch(second, digest)) == unknown
    assert await refusal(fetch(second, "../../keys/log.pem")) == unknown
    for node in (first, second):
        await node.close()


async def test_the_order_before_the_newest_may_still_be_mended(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    await published(fleet, operator)
    node = await join(fleet, coordinator, operator, "n1")
    for application, agent in (("climate", "context"), ("other", "agent")):
        deployment = await operator.deploy(PLACED.replace("climate", application).replace("context", agent))
        await node.run()
        await operator.watch(deployment)
        await fetch(node, digest_of(fleet.document))
        assert await fetch(node, digest_of(MODEL)) == MODEL
    removal = b'{"schema": "fleet.application/v1", "application": "%s", "agents": []}'
    for application in (b"climate", b"other"):
        assert await fetch(node, digest_of(MODEL)) == MODEL  # the second time: the newest order removed it
        deployment = await operator.deploy((removal % application).decode())
        await node.run()
        await operator.watch(deployment)
    assert (await refusal(fetch(node, digest_of(MODEL))))[1] == Code.BLOB_MISSING
    await node.close()


async def test_fetches_of_one_node_are_few_and_of_all_nodes_bounded(fleet: FleetFixture) -> None:
    async with serving(fleet, fetches_per_node=2, fetches=3) as coordinator:
        operator = Operator(fleet, coordinator)
        await published(fleet, operator)
        nodes = [await join(fleet, coordinator, operator, name) for name in ("n1", "n2")]
        await operator.deploy(MANIFEST.replace("[1, 100%]", "[100%]"))
        request = node_pb2.FetchBlobRequest(digest=digest_of(MODEL))
        held = [node.stub.FetchBlob(request, timeout=CALL_S) for node in (nodes[0], nodes[0], nodes[1])]
        for call in held:
            await call.read()  # begun, and then not read any further
        assert (await refusal(fetch(nodes[0], digest_of(MODEL))))[:2] == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            Code.LIMIT_EXCEEDED,
        )
        waiting = asyncio.create_task(fetch(nodes[1], digest_of(MODEL)))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done  # three are under way, of whichever node
        held[0].cancel()
        assert await waiting == MODEL
        for call in held:
            call.cancel()
        for node in nodes:
            await node.close()
        await operator.channel.close()


async def test_streams_of_one_node_are_few_and_one_may_still_come_back(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await join(fleet, coordinator, operator, "n1")
    other = await join(fleet, coordinator, operator, "n2")
    silent = [node.stub.Session() for _ in range(STREAMS_PER_NODE)]
    codes = [asyncio.create_task(stream.code()) for stream in silent]
    done, _ = await asyncio.wait(codes, timeout=CALL_S, return_when=asyncio.FIRST_COMPLETED)
    # One too many: the session of the node counts as well.
    assert [task.result() for task in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
    for stream in silent:
        stream.cancel()
    await asyncio.wait(codes)
    await node.connect()
    listed = await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert {n.name: n.state for n in listed.nodes} == {"n1": "online", "n2": "online"}
    for client in (node, other):
        await client.close()


def door(fleet: FleetFixture, coordinator: Coordinator) -> aio.Channel:
    credentials = grpc.ssl_channel_credentials((fleet.folder / "tls/enrolment.crt").read_bytes())
    options = (("grpc.ssl_target_name_override", pki.ENROLMENT_NAME), ("grpc.use_local_subchannel_pool", 1))
    return aio.secure_channel(str(coordinator.enrolment), credentials, options=options)


async def challenge(stub: enrolment_pb2_grpc.EnrolmentServiceStub, token_id: str = "t") -> aio.StreamStreamCall:
    """Begin an enrolment and leave it there."""
    stream = stub.Enroll(timeout=CALL_S)
    await stream.write(enrolment_pb2.EnrollRequest(hello=enrolment_pb2.EnrollHello(token_id=token_id)))
    assert (await stream.read()).challenge.nonce
    return stream


async def test_enrolments_of_one_address_may_not_come_too_fast(fleet: FleetFixture) -> None:
    async with serving(fleet, enrolments_per_minute=3) as coordinator, door(fleet, coordinator) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        for _ in range(3):
            (await challenge(stub)).cancel()
        assert (await refusal(challenge(stub)))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.LIMIT_EXCEEDED)


async def test_unanswered_challenges_of_one_address_are_few(fleet: FleetFixture) -> None:
    per_connection = dict(STRANGERS)["grpc.max_concurrent_streams"]
    async with AsyncExitStack() as stack:
        coordinator = await stack.enter_async_context(serving(fleet, enrolments_per_minute=1_000))
        held = []
        for number in range(MAX_CHALLENGES_OF_ONE):
            if number % per_connection == 0:
                channel = await stack.enter_async_context(door(fleet, coordinator))
            held.append(await challenge(enrolment_pb2_grpc.EnrolmentServiceStub(channel)))
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(await stack.enter_async_context(door(fleet, coordinator)))
        assert (await refusal(challenge(stub)))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.LIMIT_EXCEEDED)
        for stream in held:
            stream.cancel()
        async with asyncio.timeout(CALL_S):
            while True:
                try:
                    await challenge(stub)
                    break
                except aio.AioRpcError:  # the cancelled ones are still ending
                    await asyncio.sleep(0.01)


async def test_a_stranger_cannot_send_much(fleet: FleetFixture) -> None:
    async with serving(fleet) as coordinator, door(fleet, coordinator) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await challenge(stub, "t" * MAX_RECEIVE_OF_STRANGERS)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:10.0.0.7:50122", "10.0.0.7"),
        ("ipv6:%5B2001:db8:1:2:3::7%5D:50122", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:9::1]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:50122", "10.0.0.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50122", "fe80::/64"),
        ("unix:/run/x.sock", "unknown"),
        ("", "unknown"),
    ],
)
def test_whom_a_connection_counts_for(peer: str, network: str) -> None:
    assert network_of(peer) == network


def test_slots_are_given_back_whatever_happens() -> None:
    slots = Slots("things", 1, 2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.taken("a"), slots.taken("b"):
            raise ZeroDivisionError
    with slots.taken("a"), pytest.raises(FleetError), slots.taken("a"):
        pass
    with slots.taken("a"), slots.taken("b"), pytest.raises(FleetError), slots.taken("c"):
        pass


def test_a_rate_is_per_caller_fills_again_and_remembers_a_bounded_number() -> None:
    rates = Rates("things", 60)
    for _ in range(60):
        rates.take("a", 0.0)
    with pytest.raises(FleetError):
        rates.take("a", 0.5)
    rates.take("b", 0.5)
    rates.take("a", 1.5)
    for number in range(MAX_CALLERS):
        rates.take(f"c{number}", 2.0)
    assert len(rates._allowances) == MAX_CALLERS

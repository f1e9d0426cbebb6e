"""Nodes and operators that are taken out of the fleet: at once, over real mutual TLS, with a leaf for each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from grpc import aio

from fleet.errors import Code
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust
from fleet.v1 import control_pb2, node_pb2, node_pb2_grpc
from orchestrator.principals import Role
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, NodeClient, Operator, channel, error_of, serving


async def joined(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, name: str = "n1") -> NodeClient:
    node = NodeClient(fleet, coordinator, name)
    await node.join(await operator.token(name))
    await node.connect()
    return node


async def change(operator: Operator, verb: str, name: str = "n1", reason: str = "lost") -> control_pb2.Node:
    method = getattr(operator.control, f"{verb}Node")
    found: control_pb2.Node = await method(control_pb2.ChangeNodeRequest(name=name, reason=reason), timeout=CALL_S)
    return found


async def code_of(call: object) -> str:
    with pytest.raises(aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return str(error_of(caught.value).code)


async def drain(stream: object) -> None:
    while await stream.read() is not aio.EOF:  # type: ignore[attr-defined]
        pass


async def end_of(node: NodeClient) -> str:
    """Read a session to its end and say why it ended."""
    return await code_of(drain(node.stream))


async def leaves(operator: Operator) -> list[dict[str, object]]:
    """Events of the audit log; what is signed is left out."""
    entries = operator.control.AuditEntries(control_pb2.AuditEntriesRequest(), timeout=CALL_S)
    documents = [json.loads(entry.leaf) async for entry in entries]
    return [document for document in documents if "kind" in document]


@pytest.mark.parametrize("verb", ["Lock", "Revoke", "Reset"])
async def test_every_stream_of_a_node_ends_at_once(
    fleet: FleetFixture,
    coordinator: Coordinator,
    operator: Operator,
    verb: str,
    record_property: Callable[[str, object], None],
) -> None:
    node = await joined(fleet, coordinator, operator)
    begun = time.perf_counter()
    await change(operator, verb)
    async with asyncio.timeout(60):
        assert await end_of(node) == Code.NODE_LOCKED
    record_property("milliseconds", round((time.perf_counter() - begun) * 1000))
    trust = node.stub.FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
    assert await code_of(trust) == (Code.NODE_LOCKED if verb == "Lock" else Code.CERTIFICATE_INVALID)
    kind = {"Lock": "locked", "Revoke": "revoked", "Reset": "reset"}[verb]
    last = (await leaves(operator))[-1]
    assert (last["kind"], last["actor"]) == (f"node:identity:{kind}", "user/alice")
    assert last["facts"]["reason"] == "lost"
    await node.close()


async def test_a_stream_that_does_not_read_ends_as_well(fleet: FleetFixture) -> None:
    async with serving(fleet, write_deadline_ms=600_000) as coordinator:
        operator = Operator(fleet, coordinator)
        node = await joined(fleet, coordinator, operator)
        ends = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True, node="n1"), timeout=CALL_S)
        await change(operator, "Lock")
        async with asyncio.timeout(60):
            while (await ends.read()).kind != "node:session:offline":
                pass
        ends.cancel()
        await node.close()
        await operator.channel.close()


async def test_a_locked_node_renews_nothing_until_it_is_unlocked(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator)
    found = await change(operator, "Lock", reason="stolen")
    assert (found.state, found.locked) == ("locked", "stolen")
    assert await code_of(node.renew()) == Code.NODE_LOCKED
    assert (await change(operator, "Unlock", reason="found")).locked == ""
    await node.renew()
    await node.connect()
    assert [leaf["kind"] for leaf in await leaves(operator)][-2:] == [
        "node:identity:unlocked",
        "node:certificate:renewed",
    ]
    await node.close()


async def test_a_revoked_node_has_no_orders_and_only_a_new_token_brings_it_back(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator)
    pending = await operator.token("n1")
    await operator.deploy()
    await node.run()
    found = await change(operator, "Revoke")
    assert (found.state, found.agents) == ("revoked", 0)
    assert await code_of(change(operator, "Unlock")) == Code.NODE_LOCKED
    assert await code_of(node.renew()) == Code.NODE_LOCKED
    assert await code_of(node.join(pending)) == Code.TOKEN_INVALID
    who = await operator.control.AuditWho(control_pb2.AuditWhoRequest(node="n1"), timeout=CALL_S)
    assert list(who.answers) == []
    await node.join(await operator.token("n1"))
    node.generation, node.digest = 0, ""
    await node.connect()
    assert (await node.accept()).assignment.agents == ()
    await node.close()


async def test_a_reset_ends_orders_and_clones_and_the_node_gets_its_orders_again(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator)
    await operator.deploy()
    old = await node.run()
    clone = NodeClient(fleet, coordinator, "n1")
    clone.identity, clone.epoch, clone.sequence = node.identity, node.epoch, node.sequence
    assert (await change(operator, "Reset")).epoch == 2
    assert await code_of(clone.renew()) == Code.CERTIFICATE_INVALID
    await node.join(await operator.token("n1"))
    await node.connect()
    new = await node.accept()
    assert (new.assignment.agents, new.assignment.epoch) == (old.assignment.agents, 3)
    assert await code_of(clone.renew()) == Code.CERTIFICATE_INVALID
    await node.close()


@pytest.mark.parametrize("verb", ["Lock", "Unlock", "Revoke", "Reset"])
async def test_a_change_needs_a_node_and_a_reason(operator: Operator, verb: str) -> None:
    assert await code_of(change(operator, verb)) == Code.NOT_FOUND
    assert await code_of(change(operator, verb, reason="")) == Code.VALUE_INVALID


async def test_a_start_that_comes_back_after_a_later_one_locks_the_name(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    first = await joined(fleet, coordinator, operator)
    second = NodeClient(fleet, coordinator, "n1")
    second.identity, second.epoch, second.boot_id = first.identity, first.epoch, "another start"
    await second.connect()  # perhaps the node was restarted: nobody is accused yet
    assert (await change(operator, "Unlock")).state == "online"
    assert await code_of(first.connect()) == Code.NODE_LOCKED
    async with asyncio.timeout(60):
        with suppress(aio.AioRpcError):  # sent away as the older session, or locked out, whichever came first
            await drain(second.stream)
    assert await code_of(second.connect()) == Code.NODE_LOCKED
    assert (await leaves(operator))[-1]["kind"] == "node:identity:locked"
    await change(operator, "Unlock")
    await first.connect()  # one of the two was switched off; whichever is left may stay
    for node in (first, second):
        await node.close()


async def test_a_node_that_restarts_often_is_not_taken_for_two(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator)
    for number in range(20):
        node.boot_id = f"start {number}"
        for _ in range(2):
            await node.connect()
    assert (await change(operator, "Unlock")).state == "online"
    await node.close()


@pytest.mark.parametrize("what", ["generation", "root_version", "release_version"])
async def test_a_state_that_goes_back_is_told_and_shown_until_an_operator_looked(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, what: str
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator)
    await operator.deploy()
    await node.run()
    node.root_version, node.release_version = 3, 7
    await node.connect()
    events = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True, node="n1"), timeout=CALL_S)
    setattr(node, what, getattr(node, what) - 1)
    await node.connect()
    while (event := await events.read()).kind != "node:state:regressed":
        pass
    assert what.replace("_", " ") in event.message
    shown = await operator.control.GetNode(control_pb2.GetNodeRequest(name="n1"), timeout=CALL_S)
    assert list(shown.warnings) == [event.message]
    assert list((await change(operator, "Unlock")).warnings) == []
    events.cancel()
    await node.close()


async def test_join_tokens_are_listed_without_their_secret_and_can_be_revoked(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    token = await operator.token("n1", {"site": "oslo"})
    _, _, identifier, secret = token.split(".")
    listed = await operator.control.ListJoinTokens(control_pb2.ListJoinTokensRequest(), timeout=CALL_S)
    assert [(item.id, item.node, dict(item.labels), item.used) for item in listed.tokens] == [
        (identifier, "n1", {"site": "oslo"}, False)
    ]
    assert secret not in str(listed)
    request = control_pb2.RevokeJoinTokenRequest(id=identifier)
    await operator.control.RevokeJoinToken(request, timeout=CALL_S)
    assert await code_of(NodeClient(fleet, coordinator, "n1").join(token)) == Code.TOKEN_INVALID
    assert await code_of(operator.control.RevokeJoinToken(request, timeout=CALL_S)) == Code.NOT_FOUND
    assert (await leaves(operator))[-1]["kind"] == "node:token:revoked"


@pytest.fixture
async def bob(fleet: FleetFixture, coordinator: Coordinator) -> AsyncIterator[Operator]:
    client = Operator(fleet, coordinator, fleet.operator("bob", Role.VIEWER))
    yield client
    await client.channel.close()


async def test_every_stream_of_a_revoked_operator_ends_at_once(operator: Operator, bob: Operator) -> None:
    events = bob.control.ListEvents(control_pb2.ListEventsRequest(follow=True), timeout=CALL_S)
    reading = asyncio.create_task(events.read())
    request = control_pb2.RevokeOperatorRequest(name="bob", reason="left")
    while not (await asyncio.wait({reading}, timeout=0.05))[0]:  # until the stream is registered and ended
        await operator.control.RevokeOperator(request, timeout=CALL_S)
    assert await code_of(reading) == Code.CERTIFICATE_INVALID
    listing = bob.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert await code_of(listing) == Code.CERTIFICATE_INVALID


async def test_a_node_that_fetches_is_cut_off_too(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.add_bundle("context", "1.0.0", models={"m": b"\0" * 3_000_000})
    fleet.add_grant("climate/context")
    await operator.push()
    node = await joined(fleet, coordinator, operator)
    await operator.deploy()
    await node.accept()
    digest = max(fleet.blobs, key=lambda name: len(fleet.blobs[name]))
    async with channel(fleet, coordinator, node.identity) as door:
        call = node_pb2_grpc.NodeServiceStub(door).FetchBlob(node_pb2.FetchBlobRequest(digest=digest), timeout=CALL_S)
        await call.read()  # begun, and then not read any further
        await change(operator, "Lock")
        assert await code_of(drain(call)) == Code.NODE_LOCKED
    await node.close()


async def test_a_node_below_the_least_version_is_shown_as_such(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator)  # its release is 1.2.3
    for least, expected in (("1.2.3", []), ("1.3.0", ["takes in nothing new: its version 1.2.3 is below 1.3.0"])):
        fleet.document = encode_fleet_trust(replace(fleet.trust, min_node_version=least))
        fleet.add(TRUST_PATH, fleet.document)
        await operator.push()
        listed = await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
        assert [list(found.warnings) for found in listed.nodes] == [expected]
    await node.close()

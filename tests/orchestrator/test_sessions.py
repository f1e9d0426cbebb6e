"""The session stream over real mutual TLS: push, ack, rollout, and nodes that misbehave."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

import pytest
from grpc import aio

from fleet.errors import Code
from fleet.model import Phase
from fleet.v1 import control_pb2, node_pb2
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import (
    CALL_S,
    MANIFEST,
    FleetFixture,
    NodeClient,
    Operator,
    ShiftedClock,
    error_of,
    serving,
)


async def joined(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, *names: str) -> list[NodeClient]:
    nodes = [NodeClient(fleet, coordinator, name) for name in names]
    for node in nodes:
        await node.join(await operator.token(node.name))
        await node.connect()
    return nodes


async def drain(node: NodeClient) -> None:
    while await node.stream.read() is not aio.EOF:
        pass


async def reason_of_end(operator: Operator, node: str) -> str:
    """Wait until a node's session has ended and say why."""
    events = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True, node=node), timeout=CALL_S)
    while (event := await events.read()).kind != "node:session:offline":
        pass
    events.cancel()
    return event.message


async def flood(node: NodeClient, message: node_pb2.NodeMessage) -> None:
    """Write until the coordinator ends the session, whose status is then raised."""
    for _ in range(1000):
        if node.stream.done():  # a write would say so with an InvalidStateError instead of the status
            break
        await node.stream.write(message)
    await drain(node)


async def test_a_deploy_reaches_every_node_wave_by_wave(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    first, second = await joined(fleet, coordinator, operator, "n1", "n2")
    deployment = await operator.deploy()
    assert [agent.name for agent in (await first.accept()).assignment.agents] == ["climate/context"]
    assert second.generation == 0  # its wave waits for the first
    await first.report()
    await second.run()
    done = await operator.watch(deployment)
    assert (done.state, [wave.state for wave in done.waves]) == ("succeeded", ["healthy", "healthy"])
    for node in (first, second):
        await node.close()


async def test_a_failing_first_wave_is_rolled_back_and_the_rest_never_touched(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    fleet.release("1.1.0")
    await operator.push()
    first, second = await joined(fleet, coordinator, operator, "n1", "n2")
    deployment = await operator.deploy()
    old = await first.run()
    await second.run()
    assert (await operator.watch(deployment)).state == "succeeded"
    deployment = await operator.deploy(MANIFEST.replace("1.0.0", "1.1.0"))
    new = await first.accept()
    assert new.assignment.agents != old.assignment.agents
    await first.report(Phase.BACKOFF, restarts=3)
    restored = await first.accept()
    assert restored.assignment.agents == old.assignment.agents
    assert restored.assignment.generation == 3
    done = await operator.watch(deployment)
    assert (done.state, [wave.state for wave in done.waves]) == ("rolled-back", ["failed", "waiting"])
    assert "climate/context" in done.reason
    assert second.generation == 1
    for node in (first, second):
        await node.close()


async def test_a_restarted_coordinator_resumes_and_pushes_nothing_twice(fleet: FleetFixture) -> None:
    async with serving(fleet) as before:
        operator = Operator(fleet, before)
        fleet.release()
        await operator.push()
        first, second = await joined(fleet, before, operator, "n1", "n2")
        deployment = await operator.deploy()
        await first.accept()
        await operator.channel.close()
    async with serving(fleet) as after:
        operator = Operator(fleet, after)
        await first.connect(after)
        await second.connect(after)
        await first.report()
        opened = await second.run()  # the second wave begins: the rollout came back from the store
        assert opened.assignment.generation == 1
        assert (await operator.watch(deployment)).state == "succeeded"
        # What the node said in hello is what is stored, so the next message is an answer to a question, not a push.
        task = operator.control.SendEvent(control_pb2.SendEventRequest(topic="t", node="n1"), timeout=CALL_S)
        message = await first.receive()
        assert message.WhichOneof("message") == "command"
        result = node_pb2.CommandResult(id=message.command.id, delivered=2)
        await first.stream.write(node_pb2.NodeMessage(result=result))
        assert (await task).delivered == 2
        for node in (first, second):
            await node.close()
        await operator.channel.close()


async def test_a_node_that_stops_reading_delays_nobody_and_is_cut_off(fleet: FleetFixture) -> None:
    async with serving(fleet, write_deadline_ms=1_000, report_interval_ms=60_000) as coordinator:
        operator = Operator(fleet, coordinator)
        # Orders of about 50 KiB fill the stalled node's 64 KiB window within two pushes.
        fleet.release()
        await operator.push()
        stalled, healthy = await joined(fleet, coordinator, operator, "n1", "n2")
        filler = "x" * 4000
        lines = "\n".join(f"      key{i}: {filler}" for i in range(9))
        for number in range(8):
            manifest = MANIFEST.replace("[1, 100%]", "[100%]") + ""
            manifest = manifest.replace(
                "bundle: context@1.0.0", f"bundle: context@1.0.0\n    config:\n      n: '{number}'\n{lines}"
            )
            deployment = await operator.deploy(manifest)
            async with asyncio.timeout(60):
                assert (await healthy.accept()).assignment.generation == 2 * number + 1
            await operator.control.CancelDeployment(control_pb2.CancelDeploymentRequest(id=deployment), timeout=CALL_S)
            async with asyncio.timeout(60):
                await healthy.accept()
        async with asyncio.timeout(60):
            assert await reason_of_end(operator, "n1") == Code.DEADLINE_EXCEEDED
        for node in (stalled, healthy):
            await node.close()
        await operator.channel.close()


NONSENSE = {
    "second hello": node_pb2.NodeMessage(hello=node_pb2.Hello()),
    "empty": node_pb2.NodeMessage(),
    "unknown phase": node_pb2.NodeMessage(
        observed={"generation": 1, "at_ms": 1, "agents": [{"name": "a/b", "phase": 77}]}
    ),
    "bad digest": node_pb2.NodeMessage(observed={"generation": 1, "at_ms": 1, "digest": "sha1:x"}),
    "no time": node_pb2.NodeMessage(observed={"generation": 1}),
    "bad event": node_pb2.NodeMessage(events={"events": [{"kind": "not a kind", "at_ms": 1}]}),
    "too many lines": node_pb2.NodeMessage(logs={"lines": [{}] * 1001}),
    "too large": node_pb2.NodeMessage(receipt=b"x" * (1024 * 1024 + 1)),
    "no receipt": node_pb2.NodeMessage(receipt=b"{}"),
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_ends_that_session_only(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, name: str
) -> None:
    bad, good = await joined(fleet, coordinator, operator, "n1", "n2")
    await bad.stream.write(NONSENSE[name])
    with pytest.raises(aio.AioRpcError) as caught:
        await drain(bad)
    assert error_of(caught.value).code in {Code.MESSAGE_INVALID, Code.LIMIT_EXCEEDED, Code.GENERATION_STALE}
    states = await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert {node.name: node.state for node in states.nodes}["n2"] == "online"
    await bad.connect()  # it may come back
    for node in (bad, good):
        await node.close()


async def test_a_flood_is_cut_off(fleet: FleetFixture) -> None:
    async with serving(fleet, messages_per_second=5) as coordinator:
        operator = Operator(fleet, coordinator)
        (node,) = await joined(fleet, coordinator, operator, "n1")
        with pytest.raises(aio.AioRpcError):  # gRPC's client may not see the status while it still writes
            await flood(node, node_pb2.NodeMessage(logs={}))
        assert await reason_of_end(operator, "n1") == Code.LIMIT_EXCEEDED
        await node.close()
        await operator.channel.close()


async def test_answers_that_were_asked_for_are_no_flood_and_others_are(fleet: FleetFixture) -> None:
    async with serving(fleet, messages_per_second=1) as coordinator:
        operator = Operator(fleet, coordinator)
        fleet.release()
        await operator.push()
        (node,) = await joined(fleet, coordinator, operator, "n1")
        await operator.deploy()
        await node.run()
        request = control_pb2.CallAgentRequest(agent="climate/context", node="n1", invocation="get()", deadline_ms=5000)
        for number in range(30):
            call = operator.control.CallAgent(request, timeout=CALL_S)
            command = (await node.receive()).command
            answer = node_pb2.NodeMessage(result={"id": command.id, "output": str(number)})
            await node.stream.write(answer)
            assert (await call).output == str(number)
        with pytest.raises(aio.AioRpcError):
            await flood(node, answer)  # nobody waits for it any more
        assert await reason_of_end(operator, "n1") == Code.LIMIT_EXCEEDED
        await node.close()
        await operator.channel.close()


async def test_the_newest_session_of_a_node_wins(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    (old,) = await joined(fleet, coordinator, operator, "n1")
    new = NodeClient(fleet, coordinator, "n1")
    new.identity, new.epoch = old.identity, old.epoch
    await new.connect()
    assert (await old.receive()).WhichOneof("message") == "go_away"
    assert await old.stream.read() is aio.EOF
    node = await operator.control.GetNode(control_pb2.GetNodeRequest(name="n1"), timeout=CALL_S)
    assert node.state == "online"
    for client in (old, new):
        await client.close()


async def test_calls_are_routed_and_refusals_pass_through(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    (node,) = await joined(fleet, coordinator, operator, "n1")
    await operator.deploy()
    await node.run()
    request = control_pb2.CallAgentRequest(agent="climate/context", node="n1", invocation="get()", deadline_ms=5000)
    call = operator.control.CallAgent(request, timeout=CALL_S)
    command = (await node.receive()).command
    assert (command.call.agent, command.call.invocation) == ("climate/context", "get()")
    await node.stream.write(node_pb2.NodeMessage(result={"id": "another", "output": "no"}))
    await node.stream.write(node_pb2.NodeMessage(result={"id": command.id, "output": "42"}))
    assert (await call).output == "42"
    call = operator.control.CallAgent(request, timeout=CALL_S)
    command = (await node.receive()).command
    refusal = node_pb2.CommandResult(id=command.id, error_code="AGENT_TRAPPED", error_message="m", error_remedy="r")
    await node.stream.write(node_pb2.NodeMessage(result=refusal))
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    detail = error_of(caught.value)
    assert (detail.code, detail.remedy, detail.detail["node"]) == ("AGENT_TRAPPED", "r", "n1")
    request.deadline_ms = 50
    with pytest.raises(aio.AioRpcError) as caught:
        await operator.control.CallAgent(request, timeout=CALL_S)
    assert error_of(caught.value).code == Code.DEADLINE_EXCEEDED
    await node.close()


async def test_a_call_fails_at_once_when_the_session_ends(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    (node,) = await joined(fleet, coordinator, operator, "n1")
    request = control_pb2.CallAgentRequest(agent="climate/context", node="n1", invocation="get()")
    call = operator.control.CallAgent(request, timeout=CALL_S)
    await node.receive()
    await node.close()
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert error_of(caught.value).code == Code.NODE_OFFLINE


async def test_events_and_logs_are_followed_and_carry_the_sender(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    events = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True, node="n1"), timeout=CALL_S)
    (node,) = await joined(fleet, coordinator, operator, "n1")
    spoken = {"kind": "agent:trap:restarted", "at_ms": 5, "node": "somebody-else", "message": "m"}
    await node.stream.write(node_pb2.NodeMessage(events={"events": [spoken]}))
    kinds = []
    async for event in events:
        kinds.append((event.kind, event.node))
        if event.kind == "agent:trap:restarted":
            break
    assert kinds == [
        ("node:identity:enrolled", "n1"),
        ("node:session:online", "n1"),
        ("agent:trap:restarted", "n1"),
    ]
    logs = operator.control.StreamLogs(control_pb2.StreamLogsRequest(follow=True, agent="a/b"), timeout=CALL_S)
    line = {"at_ms": 7, "agent": "a/b", "level": "info", "message": "hello", "node": "somebody-else"}
    other = {"at_ms": 6, "agent": "a/c", "level": "info", "message": "no"}
    reading = asyncio.create_task(logs.read())
    await node.stream.write(node_pb2.NodeMessage(logs={"lines": [other, line]}))
    while not reading.done():  # the follower may have come after the line: it is then in nobody's tail
        await asyncio.wait({reading}, timeout=0.05)
        if not reading.done():
            await node.stream.write(node_pb2.NodeMessage(logs={"lines": [line]}))
    assert ((await reading).message, (await reading).node) == ("hello", "n1")
    events.cancel()
    logs.cancel()
    await node.close()


async def test_an_order_is_signed_again_before_it_is_too_old(fleet: FleetFixture, clock: ShiftedClock) -> None:
    async with serving(fleet, clock, assignment_lifetime_s=120) as coordinator:
        operator = Operator(fleet, coordinator)
        fleet.release()
        await operator.push()
        (node,) = await joined(fleet, coordinator, operator, "n1")
        deployment = await operator.deploy()
        old = await node.run()
        await operator.watch(deployment)
        clock.advance(seconds=90)
        await node.connect()
        new = await node.accept()
        assert new.assignment.generation == 2
        assert new.assignment.agents == old.assignment.agents
        assert new.assignment.expires > old.assignment.expires
        await node.close()
        await operator.channel.close()


async def test_a_coordinator_from_a_backup_does_not_fall_behind_its_nodes(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    (node,) = await joined(fleet, coordinator, operator, "n1")
    await operator.deploy()
    await node.run()
    node.generation, node.digest = 9, "sha256:" + "0" * 64  # accepted from what the backup does not know
    await node.connect()
    assert (await node.accept()).assignment.generation == 10
    await node.close()


async def test_a_node_that_joins_again_gets_its_agents_under_its_new_epoch(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    (old,) = await joined(fleet, coordinator, operator, "n1")
    deployment = await operator.deploy()
    before = await old.run()
    await operator.watch(deployment)
    (new,) = await joined(fleet, coordinator, operator, "n1")  # a fresh disk: it has accepted nothing
    after = await new.accept()
    assert (after.assignment.epoch, after.assignment.generation) == (2, 2)
    assert after.assignment.agents == before.assignment.agents
    for node in (old, new):
        await node.close()


class ErringClock(ShiftedClock):
    """A clock with a bug that strikes once, when a session's work asks next; the conductor asks too, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = False

    def __call__(self) -> datetime:
        frame = sys._getframe(1)
        if self.armed and frame.f_globals["__name__"] in SESSION_MODULES:
            self.armed = False
            raise ZeroDivisionError("private")
        return super().__call__()


SESSION_MODULES = {"orchestrator.nodes", "orchestrator.rpc.node"}


async def test_a_fault_that_nobody_foresaw_ends_one_session_only(
    fleet: FleetFixture, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ErringClock()
    async with serving(fleet, clock) as coordinator:
        operator = Operator(fleet, coordinator)
        fleet.release()
        await operator.push()
        first, second = await joined(fleet, coordinator, operator, "n1", "n2")
        deployment = await operator.deploy()
        await first.accept()
        clock.armed = True
        await first.report()
        with pytest.raises(aio.AioRpcError) as caught:
            await drain(first)
        assert error_of(caught.value).code == Code.INTERNAL
        assert "private" not in str(caught.value)
        assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
        await first.connect()
        await first.report()
        await second.run()  # its session never ended
        assert (await operator.watch(deployment)).state == "succeeded"
        for node in (first, second):
            await node.close()
        await operator.channel.close()

"""Witnesses over the real session stream: rounds, quorums that form late or never, and a log that goes back."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from grpc import aio

from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.witness import Answer, Offered, Witness
from fleet.assignment import VerifiedAssignment, open_assignment
from fleet.checkpoint import KeyKind, format_vkey, open_checkpoint
from fleet.errors import Code, FleetError
from fleet.release import RoleKeys
from fleet.targets import POLICY_ROLE, WITNESS_POLICY_PATH
from fleet.v1 import control_pb2 as pb
from fleet.v1 import node_pb2
from fleet.wire import from_pb_desired
from fleet.wire_audit import from_pb_rows
from fleet.witnesses import NO_WITNESSES, cosign, open_witnessed, parse_policy, witness_name
from orchestrator import projections
from orchestrator.server import Coordinator
from orchestrator.store import nodes as node_rows
from orchestrator.store.witnesses import get_witness
from orchestrator.witnessing import INTERVAL, PATIENCE
from tests.fakes.clock import VirtualClock
from tests.fakes.disk import MemoryDisk
from tests.fakes.fleet_fixture import (
    CALL_S,
    FLEET,
    MANIFEST,
    FleetFixture,
    NodeClient,
    Operator,
    ShiftedClock,
    error_of,
    serving,
)
from tests.fakes.publisher import key, role_keys
from tests.fakes.wait import until

SECURITY = "security.example/w1"
SECURITY_VKEY = format_vkey(SECURITY, key("security").public, KeyKind.COSIGNER)


def vkey_of(node: str) -> str:
    return format_vkey(witness_name(FLEET, node), key(f"w-{node}").public, KeyKind.COSIGNER)


@dataclass
class WitnessNode:
    """A node's session with a real witness behind it; its key is known beforehand, so that a policy can name it."""

    client: NodeClient
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    answers: list[Answer] = field(default_factory=list)

    async def open(self, coordinator: Coordinator | None = None) -> None:
        name = self.client.name
        identity = Identity(name, FLEET, self.client.epoch, 1, "", "", "")
        key_path = Path("/node/keys/witness.pem")
        if self.disk.size(key_path) is None:
            self.disk.write(key_path, key(f"w-{name}").to_pem(), 0)
            self.disk.sync(key_path)
        trust = self.client.fleet.trust
        self.witness = Witness(self.disk, Path("/node"), identity, lambda: trust, Journal(name, 10), VirtualClock())
        self.witness.load()
        await self.client.connect(coordinator)
        certificate = self.witness.certificate(self.client.bound)
        await self.say(witness=node_pb2.Witness(certificate=certificate, seen_size=self.witness.seen))

    async def say(self, **what: object) -> None:
        await self.client.stream.write(node_pb2.NodeMessage(**what))  # type: ignore[arg-type]

    async def message(self) -> node_pb2.CoordinatorMessage:
        """The next message that is no checkpoint; these are answered."""
        while True:
            message = await self.client.stream.read()
            assert isinstance(message, node_pb2.CoordinatorMessage)
            if message.WhichOneof("message") == "checkpoint":
                await self.answer(message.checkpoint)
            elif message.WhichOneof("message") != "logs":
                return message

    async def answer(self, offer: node_pb2.CheckpointOffer) -> None:
        answer = await self.witness.answer(Offered(offer.note, offer.old_size, tuple(offer.consistency)))
        self.answers.append(answer)
        error = "" if answer.error is None else str(answer.error)
        cosigned = node_pb2.Cosigned(size=answer.size, line=answer.line, seen_size=answer.seen, error_code=error)
        await self.say(cosigned=cosigned)

    async def answered(self) -> Answer:
        """Wait for one checkpoint and answer it."""
        while True:
            message = await self.client.stream.read()
            assert isinstance(message, node_pb2.CoordinatorMessage)
            if message.WhichOneof("message") == "checkpoint":
                await self.answer(message.checkpoint)
                return self.answers[-1]
            assert message.WhichOneof("message") in {"logs", "desired"}, message

    async def ordered(self, policy: bytes = b"quorum none\n") -> VerifiedAssignment:
        """Wait for an order and take it as a node does."""
        message = await self.message()
        assert message.WhichOneof("message") == "desired", message
        desired = from_pb_desired(message.desired)
        verified = open_assignment(
            desired,
            self.client.fleet.trust,
            node=self.client.name,
            epoch=self.client.epoch,
            now=datetime.now(UTC),
            witnesses=parse_policy(policy),
        )
        await self.witness.place(desired)
        self.client.accepted = verified
        self.client.generation, self.client.digest = verified.assignment.generation, verified.digest
        return verified


async def joined(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, name: str) -> WitnessNode:
    client = NodeClient(fleet, coordinator, name)
    await client.join(await operator.token(name))
    node = WitnessNode(client)
    await node.open()
    return node


async def outside(operator: Operator, signer: str = "security", name: str = SECURITY) -> pb.AuditCosignReply:
    """Cosign as the security team's machine does."""
    offer = await operator.control.AuditOffer(pb.AuditOfferRequest(), timeout=CALL_S)
    size = open_checkpoint(offer.note, operator.fleet.trust.log_vkeys).size
    line = cosign(offer.note, name, key(signer), 1_800_000_000)
    return await operator.control.AuditCosign(pb.AuditCosignRequest(size=size, line=line), timeout=CALL_S)


async def standing(operator: Operator) -> pb.AuditWitnessesReply:
    return await operator.control.AuditWitnesses(pb.AuditWitnessesRequest(), timeout=CALL_S)


async def event_of(operator: Operator, kind: str) -> str:
    """Wait for an event and return what it says."""
    events = operator.control.ListEvents(pb.ListEventsRequest(follow=True), timeout=CALL_S)
    while (event := await events.read()).kind != kind:
        pass
    events.cancel()
    text: str = event.message
    return text


@asynccontextmanager
async def again(fleet: FleetFixture, clock: ShiftedClock) -> AsyncIterator[tuple[Coordinator, Operator]]:
    async with serving(fleet, clock) as coordinator:
        operator = Operator(fleet, coordinator)
        async with operator.channel:
            yield coordinator, operator


async def drain(node: NodeClient) -> None:
    while await node.stream.read() is not aio.EOF:
        pass


@pytest.fixture
def fleet(tmp_path: Path) -> FleetFixture:
    """A fleet with a policy role."""
    keys = role_keys()
    (tmp_path / "fleet").mkdir()
    with_policy = RoleKeys({**keys.keys, POLICY_ROLE: (key("policy"),)}, keys.thresholds)
    return FleetFixture(tmp_path / "fleet", role_keys=with_policy)


async def test_nodes_cosign_what_they_are_shown_and_the_log_shows_their_keys(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator, "n1")
    first = await node.answered()
    assert first.line
    await operator.deploy()
    verified = await node.ordered()
    assert node.answers[-1].size > verified.leaf_index  # it saw its own order in the log before it took it
    report = await standing(operator)
    while report.witnesses[0].size < node.answers[-1].size:  # the answer is taken in when it is read
        report = await standing(operator)
    (found,) = report.witnesses
    assert (found.node, found.vkey, found.required, report.policy) == ("n1", vkey_of("n1"), False, b"")
    notes = [item async for item in operator.control.AuditCheckpoints(pb.AuditCheckpointsRequest(), timeout=CALL_S)]
    policy = parse_policy(f"witness n1 {vkey_of('n1')}\nquorum n1\n".encode())
    assert [open_witnessed(item.note, fleet.trust.log_vkeys, policy).size for item in notes] == [n.size for n in notes]


async def test_an_order_waits_for_its_quorum_and_comes_with_it(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, clock: ShiftedClock
) -> None:
    policy = f"witness n1 {vkey_of('n1')}\nwitness out {SECURITY_VKEY}\ngroup both all n1 out\nquorum both\n".encode()
    fleet.add(WITNESS_POLICY_PATH, policy)
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator, "n1")
    await node.answered()
    await operator.deploy(MANIFEST.replace("deadline: 30s", "deadline: 10m"))  # the clock will be moved
    covering = await node.answered()  # liveness: it cosigns the checkpoint over its order before it is given that
    while not (report := await standing(operator)).waiting or report.witnesses[0].size < covering.size:
        pass
    assert (list(report.waiting), report.witnessed_size) == (["n1"], 0)
    clock.offset += PATIENCE
    coordinator.services.witnessing.tend()
    assert "witnesses: out" in await event_of(operator, "audit:quorum:missing")
    with pytest.raises(aio.AioRpcError) as refused:
        await outside(operator, "sybil")  # the right name and another key
    assert error_of(refused.value).code == Code.PERMISSION_DENIED
    assert (await outside(operator)).met
    verified = await node.ordered(policy)
    assert verified.assignment.generation == 1
    report = await standing(operator)
    assert (list(report.waiting), report.witnessed_size) == ([], verified.checkpoint_size)


async def test_a_coordinator_cannot_stand_in_for_a_witness(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    """Threat 28: it owns the node authority and enrols nodes of its own; the policy does not name them."""
    policy = f"witness out {SECURITY_VKEY}\nquorum out\n".encode()
    fleet.add(WITNESS_POLICY_PATH, policy)
    fleet.release()
    await operator.push()
    sybil = await joined(fleet, coordinator, operator, "sybil")
    await sybil.answered()
    await operator.deploy()
    assert (await sybil.answered()).line
    services = coordinator.services
    while not services.witnessing.standing().waiting:
        await standing(operator)
    with services.store.control.write() as connection:
        # What a captured coordinator would do: send the order with the cosignatures that it can have.
        row = node_rows.get_desired(connection, "sybil")
        assert row is not None
        found = services.witnessing._round(connection, row.leaf)
        shown = services.witnessing._with_lines(connection, found, None)
        sent = services.witnessing._order(connection, row, shown, sybil.witness.seen).state
    trust, now = fleet.trust, datetime.now(UTC)
    with pytest.raises(Exception, match="QUORUM_MISSING"):
        open_assignment(sent, trust, node="sybil", epoch=1, now=now, witnesses=parse_policy(policy))
    assert open_assignment(sent, trust, node="sybil", epoch=1, now=now, witnesses=NO_WITNESSES)


async def test_a_key_that_another_one_replaced_may_come_back(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    """As when a copy of a node, which made a key of its own, has been switched off."""
    original = await joined(fleet, coordinator, operator, "n1")
    disk = original.disk
    original.disk = MemoryDisk()
    key_path = Path("/node/keys/witness.pem")
    original.disk.write(key_path, key("w-copy").to_pem(), 0)
    original.disk.sync(key_path)
    copied = format_vkey(witness_name(FLEET, "n1"), key("w-copy").public, KeyKind.COSIGNER)

    def newest() -> str:
        with coordinator.services.store.control.read() as connection:
            found = get_witness(connection, "n1", 1)
        return "" if found is None else found.vkey

    for expected in (copied, vkey_of("n1"), copied, vkey_of("n1")):
        await original.open()
        await until(lambda expected=expected: newest() == expected, "the key that was told last counts")
        original.disk, disk = disk, original.disk
    await original.client.close()


async def test_a_cosignature_of_somebody_else_ends_the_session(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    node = await joined(fleet, coordinator, operator, "n1")
    answer = await node.answered()
    wrong = cosign(_note(coordinator), witness_name(FLEET, "n2"), key("w-n2"), 1)
    await node.say(cosigned=node_pb2.Cosigned(size=answer.size, line=wrong, seen_size=answer.seen))
    with pytest.raises(aio.AioRpcError) as refused:
        await drain(node.client)
    assert error_of(refused.value).code == Code.PROOF_INVALID


def _note(coordinator: Coordinator) -> bytes:
    offer = coordinator.services.witnessing.offer(0)
    assert offer is not None
    return offer.note


async def test_a_log_that_comes_back_from_a_backup_is_refused_by_who_saw_more(
    fleet: FleetFixture, clock: ShiftedClock
) -> None:
    fleet.release()
    async with again(fleet, clock) as (coordinator, operator):
        await operator.push()
        node = await joined(fleet, coordinator, operator, "n1")
        await node.answered()
    shutil.copytree(fleet.folder, fleet.folder.parent / "backup")
    async with again(fleet, clock) as (coordinator, operator):
        await node.open(coordinator)
        await operator.deploy()
        await node.ordered()
    for file in fleet.folder.glob("*.db*"):
        file.unlink()
    shutil.copytree(fleet.folder.parent / "backup", fleet.folder, dirs_exist_ok=True)
    async with again(fleet, clock) as (coordinator, operator):
        await node.open(coordinator)
        while (await node.answered()).error is not Code.LOG_FORKED:
            pass
        assert "n1 has seen" in await event_of(operator, "audit:log:forked")
    assert node.witness.evidence is not None


async def test_every_node_is_asked_once_in_a_while(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator, clock: ShiftedClock
) -> None:
    node = await joined(fleet, coordinator, operator, "n1")
    first = await node.answered()
    await operator.token("n2")  # a leaf that nobody waits for
    coordinator.services.witnessing.tend()
    clock.offset += INTERVAL
    coordinator.services.witnessing.tend()
    assert (await node.answered()).size > first.size


async def test_a_policy_that_cannot_be_read_is_not_published(fleet: FleetFixture, operator: Operator) -> None:
    fleet.add(WITNESS_POLICY_PATH, b"quorum nobody\n")
    with pytest.raises(aio.AioRpcError) as refused:
        await operator.push()
    assert error_of(refused.value).code == Code.TRUST_INVALID


async def test_projections_are_what_the_leaves_say_and_tampering_shows(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator, "n1")
    await operator.deploy()
    await node.ordered()
    await node.say(receipt=node.client.receipt())
    fleet.remove("grants/default/climate/context/1.yaml")
    await operator.push()
    store = coordinator.services.store.control
    while True:
        with store.read() as connection:
            if projections.load(connection).enforced:
                break
        await standing(operator)
    with store.write() as connection:
        assert projections.check(connection) == {}
        rows = projections.load(connection)
        assert rows.approved[0].to_ms is not None
        connection.execute(sa.text("UPDATE assigned SET grant_digest = 'sha256:00'"))
        assert projections.check(connection) == {"assigned": 2}
        connection.execute(sa.text("DELETE FROM projected"))  # as after a change of the tables
        assert projections.rebuild(connection)
        assert not projections.rebuild(connection)
        assert projections.load(connection) == rows
    received, size = from_pb_rows(
        [row async for row in operator.control.AuditRows(pb.AuditRowsRequest(), timeout=CALL_S)]
    )
    assert received == rows
    assert size > rows.enforced[-1].leaf


async def test_an_order_whose_proof_began_elsewhere_comes_again(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator, "n1")
    await node.answered()
    deployment = await operator.deploy()
    while (await node.client.stream.read()).WhichOneof("message") != "desired":
        pass  # checkpoint and order are lost on the way: the coordinator thinks that the node has seen more
    await operator.control.CancelDeployment(pb.CancelDeploymentRequest(id=deployment), timeout=CALL_S)
    with pytest.raises(FleetError) as caught:
        await node.ordered()
    assert (caught.value.code, node.answers[-1].line) == (Code.PROOF_INVALID, "")
    verified = await node.ordered()  # the same order, and its proof begins where the node is
    assert verified.leaf_index < node.answers[-1].size
    assert node.answers[-1].line


async def test_a_late_answer_takes_nothing_back(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    node = await joined(fleet, coordinator, operator, "n1")
    await node.answered()
    late = node_pb2.Cosigned(size=node.answers[0].size, line=node.answers[0].line, seen_size=node.answers[0].size)
    deployment = await operator.deploy()
    await node.ordered()
    await node.say(cosigned=late)
    await node.say(events={"events": [{"kind": "test:answer:late", "at_ms": 1}]})
    await event_of(operator, "test:answer:late")
    await operator.control.CancelDeployment(pb.CancelDeploymentRequest(id=deployment), timeout=CALL_S)
    await node.ordered()  # at the first attempt
    assert all(answer.line for answer in node.answers)

"""Checkpoints in a session: what was refused for want of a newer release is asked for again, once there is one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.identity import Identity
from edge_agent.journal import Journal
from edge_agent.link.witnessing import Checkpoints
from edge_agent.witness import Answer, Offered, Witness
from fleet.checkpoint import format_vkey, sign_checkpoint
from fleet.errors import Code, FleetError
from fleet.merkle import root
from fleet.trust import FleetTrust
from fleet.v1 import node_pb2 as pb
from tests.fakes.clock import VirtualClock
from tests.fakes.disk import MemoryDisk
from tests.fakes.publisher import LOG, NOW, MemoryLog, fleet_trust, key

IDENTITY = Identity("node-1", "demo", 1, 1, "127.0.0.1:1", "127.0.0.1:2", "00" * 32)


class Node:
    """A node that is a witness, with the release that a test gives it; and what it told its coordinator."""

    def __init__(self) -> None:
        self.trusted = asyncio.Event()
        self.trusted.set()
        self.trust: FleetTrust = fleet_trust()
        clock = VirtualClock(NOW)
        self.witness = Witness(MemoryDisk(), Path("/node"), IDENTITY, lambda: self.trust, Journal("node-1", 9), clock)
        self.sent: asyncio.Queue[pb.NodeMessage] = asyncio.Queue()
        self.faults: list[Code] = []

    def seen(self) -> int:
        return self.witness.seen

    def witness_certificate(self) -> bytes:
        return self.witness.certificate(key("bound"))

    async def cosign(self, offered: Offered) -> Answer:
        return await self.witness.answer(offered)

    def refuse(self, _: str, error: FleetError) -> None:
        self.faults.append(error.code)


async def test_a_checkpoint_that_a_newer_release_explains_is_asked_for_again() -> None:
    node, log = Node(), MemoryLog(b"one", b"two")
    checkpoints = Checkpoints(node, node.sent.put, node.refuse)
    running = asyncio.create_task(checkpoints.run())

    async def adopt(trust: FleetTrust) -> None:
        node.trust = trust

    async def fail() -> None:
        raise FleetError(Code.UNAVAILABLE, "no release today")

    def told() -> str | None:
        return None if node.sent.empty() else node.sent.get_nowait().WhichOneof("message")

    try:
        assert (await node.sent.get()).witness.seen_size == 0
        note = sign_checkpoint(LOG, 2, root(log.read, 2), key("log-2"))
        checkpoints.take(pb.CheckpointOffer(note=note))
        await checkpoints.settled()
        assert node.faults == [Code.PROOF_INVALID]
        assert told() is None
        with pytest.raises(FleetError):
            await checkpoints.after(fail())
        assert told() == "witness"  # whatever became of the work
        await checkpoints.after(adopt(replace(fleet_trust(), log_vkeys=(format_vkey(LOG, key("log-2").public),))))
        assert told() is None  # nothing was refused since
        checkpoints.take(pb.CheckpointOffer(note=note))
        answer = (await node.sent.get()).cosigned
        assert (answer.seen_size, answer.size) == (2, 2)
        assert answer.line
    finally:
        running.cancel()

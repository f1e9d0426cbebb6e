"""How fast a coordinator must send: in virtual time, so that slowness costs the test nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from edge_agent.link.remote import MIN_BYTES_PER_S, CoordinatorRemote
from fleet.errors import Code, FleetError
from fleet.v1 import node_pb2 as pb
from tests.fakes.virtual_loop import VirtualLoop

TIMEOUT_S = 30.0


class Transfer:
    """A channel whose only answer is a blob that comes piece by piece, each after so many seconds."""

    def __init__(self, *pieces: tuple[float, int]) -> None:
        self.pieces = list(pieces)
        self.total = sum(size for _, size in pieces)
        self.cancelled = False

    def unary_stream(self, *_: object, **__: object) -> Any:
        return lambda _: self

    unary_unary = stream_stream = stream_unary = unary_stream

    async def read(self) -> object:
        if not self.pieces:
            return None
        seconds, size = self.pieces.pop(0)
        await asyncio.sleep(seconds)
        return pb.BlobChunk(data=bytes(size), total=self.total)

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(Random(1))) as runner:
        yield runner


async def fetched(transfer: Transfer) -> int:
    remote = CoordinatorRemote(transfer, TIMEOUT_S)  # type: ignore[arg-type]
    return sum([len(data) async for data, _ in remote.fetch_blob("sha256:00", 0)])


def test_a_blob_that_trickles_is_given_up(runner: asyncio.Runner) -> None:
    transfer = Transfer(*[(TIMEOUT_S - 1, 1)] * 10_000)
    with pytest.raises(FleetError) as caught:
        runner.run(fetched(transfer))
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert len(transfer.pieces) == 10_000 - 2
    assert transfer.cancelled


def test_a_blob_that_stops_is_given_up(runner: asyncio.Runner) -> None:
    with pytest.raises(FleetError) as caught:
        runner.run(fetched(Transfer((0, 250_000), (TIMEOUT_S + 1, 1))))
    assert caught.value.code is Code.DEADLINE_EXCEEDED


def test_a_slow_line_is_good_enough(runner: asyncio.Runner) -> None:
    pieces = [(1.0, 2 * MIN_BYTES_PER_S)] * 1_000
    assert runner.run(fetched(Transfer(*pieces))) == sum(size for _, size in pieces)


def test_the_last_bytes_may_be_few(runner: asyncio.Runner) -> None:
    assert runner.run(fetched(Transfer((1, 100_000), (TIMEOUT_S - 1, 1)))) == 100_001

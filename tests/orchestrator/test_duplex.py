"""How a stream that is read and written at the same time ends, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from random import Random

import pytest

from fleet.errors import Code, FleetError
from orchestrator.rpc.duplex import LAST_MESSAGE_S, hold
from tests.fakes.virtual_loop import VirtualLoop


class Stream:
    """A stream whose one message is on its way for `message_s`."""

    def __init__(self, message_s: float) -> None:
        self.message_s = message_s
        self.lock = asyncio.Lock()
        self.arrived = False
        self.taken = 0

    async def read(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.taken += 1

    async def write(self) -> None:
        async with self.lock:
            await asyncio.sleep(self.message_s)
            self.arrived = True
        await asyncio.sleep(3600)

    def holding(self) -> Coroutine[object, object, None]:
        return hold(self.read(), self.write(), self.lock)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(Random(1))
    yield loop
    loop.close()


async def cut_off(stream: Stream, after_s: float) -> int:
    """End the stream from outside; return how many messages of the peer had been taken by then."""
    held = asyncio.create_task(stream.holding())
    await asyncio.sleep(after_s)
    taken = stream.taken
    held.cancel()
    await asyncio.wait((held,))
    assert held.cancelled()
    return taken


def test_who_cuts_a_stream_off_waits_for_the_message_that_is_on_its_way(loop: VirtualLoop) -> None:
    """gRPC would send no status otherwise, and the peer would go on waiting."""
    stream = Stream(message_s=2)
    taken = loop.run_until_complete(cut_off(stream, 1))
    assert stream.arrived
    assert loop.time() == pytest.approx(2)
    assert stream.taken == taken  # and nothing more was taken from the peer


def test_a_message_that_never_arrives_delays_the_end_for_seconds_only(loop: VirtualLoop) -> None:
    stream = Stream(message_s=3600)
    loop.run_until_complete(cut_off(stream, 1))
    assert not stream.arrived
    assert loop.time() == pytest.approx(1 + LAST_MESSAGE_S)


def test_a_stream_without_a_message_ends_at_once(loop: VirtualLoop) -> None:
    stream = Stream(message_s=0)
    loop.run_until_complete(cut_off(stream, 1))
    assert loop.time() == pytest.approx(1)


def test_what_ends_one_side_is_raised_and_ends_the_other(loop: VirtualLoop) -> None:
    stream = Stream(message_s=1)

    async def flooded() -> None:
        await asyncio.sleep(0.5)
        raise FleetError(Code.LIMIT_EXCEEDED, "too many messages")

    with pytest.raises(FleetError) as caught:
        loop.run_until_complete(hold(flooded(), stream.write(), stream.lock))
    assert caught.value.code is Code.LIMIT_EXCEEDED
    assert stream.arrived

    async def closed() -> None:
        await asyncio.sleep(0.5)

    loop.run_until_complete(hold(closed(), Stream(message_s=0).write(), asyncio.Lock()))

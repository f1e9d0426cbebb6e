"""A stream that is read and written at the same time, and how it ends.

Owns `hold`. gRPC sends no status while a message is on its way: a stream that ends in the middle of one leaves its peer
in the belief that it goes on. Whoever writes holds a lock, so that the end can wait for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

LAST_MESSAGE_S = 5.0
"""How long the end of a stream waits for a message that is on its way; a peer that does not read gets no status."""


async def hold(
    reading: Coroutine[object, object, None], writing: Coroutine[object, object, None], lock: asyncio.Lock
) -> None:
    """Run both until one of them ends, or until this is cancelled.

    From then on nothing more is read; a message that is on its way may arrive, and no other is begun.

    Args:
        reading: takes the peer's messages.
        writing: writes messages, each under the lock.
        lock: held while a message is on its way.

    Raises:
        Exception: what one of them raised, the reader's first.
    """
    reader, writer = asyncio.create_task(reading), asyncio.create_task(writing)
    try:
        await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reader.cancel()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_MESSAGE_S), lock:
                    writer.cancel()
        finally:
            writer.cancel()
            outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome

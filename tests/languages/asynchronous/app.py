"""Asynchronous exports, and asynchronous imports asked several at a time. Runs as a WebAssembly component."""

import asyncio

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import tasks
from wit_world.imports import monotonic_clock, source


class Tasks(exports.Tasks):
    async def double(self, x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    async def gather(self, count: int) -> int:
        return sum(await asyncio.gather(*[source.slow(number) for number in range(count)]))

    async def named(self, names: list[str]) -> str:
        try:
            return (await source.named(names)).decode()
        except Err as error:
            raise Err(f"the source says: {error.value}") from error

    async def wait(self, ms: int) -> int:
        before = monotonic_clock.now()
        await monotonic_clock.wait_for(ms * 1_000_000)
        return (monotonic_clock.now() - before) // 1_000_000

    async def later_text(self, text: str, ms: int) -> str:
        await monotonic_clock.wait_for(ms * 1_000_000)
        return text

    async def later_bytes(self, data: bytes, ms: int) -> bytes:
        await monotonic_clock.wait_for(ms * 1_000_000)
        return data

    async def later_reading(self, data: tasks.Reading, ms: int) -> tasks.Reading:
        await monotonic_clock.wait_for(ms * 1_000_000)
        if not data.label:
            raise Err("no label")
        return data

    async def fail(self) -> None:
        raise RuntimeError("this is how it fails")

    def plain(self, text: str) -> str:
        return text.upper()

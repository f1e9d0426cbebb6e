"""From a component's file to its machine code: out of the cache, or through a compile worker.

Owns: the workers and their number, the cache of each engine configuration, and who waits for whom when several agents
want one component. Never reads a component itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from edge_agent.disk import read_bounded
from edge_agent.runner import memory_file
from edge_agent.runner.channel import Channel
from edge_agent.runner.compiled_cache import MAX_MODULE_BYTES, CompiledCache
from edge_agent.runner.message_values import PartEntry, Role
from edge_agent.runner.messages import (
    Compile,
    Compiled,
    CompileFailed,
    Describe,
    EngineDescribed,
    Fuse,
)
from fleet.component import MAX_COMPONENT
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.fusion import Fusion
    from edge_agent.runner.connection import Received
    from edge_agent.runner.messages import Message
    from edge_agent.runner.zygote_client import Child, Ended, ZygoteClient

COMPILE_TIMEOUT_S = 600.0
"""Wall-clock time of one compilation; large guests take a minute on an idle machine."""

_log = logging.getLogger(__name__)


class Compilation:
    """Compiles components, each once.

    Args:
        zygote: forks the workers.
        directory: the cache's directory.
        key: gives the cache's key; called once, when it is needed, in a thread of its own.
        refused: told the digest of a component whose entry in the cache was not this node's.
        workers: compilations at a time; one core stays free for the agents that run.
    """

    def __init__(
        self,
        zygote: ZygoteClient,
        directory: Path,
        key: Callable[[], bytes],
        refused: Callable[[str], None],
        workers: int = max(1, (os.cpu_count() or 1) - 1),
    ) -> None:
        self._zygote = zygote
        self._directory = directory
        self._key = key
        self._refused = refused
        self._loop: asyncio.AbstractEventLoop | None = None
        self._caches: dict[bool, CompiledCache] = {}
        self._describing = asyncio.Lock()
        self._workers = asyncio.Semaphore(workers)
        self._locks: WeakValueDictionary[tuple[str, bool], asyncio.Lock] = WeakValueDictionary()

    async def module(self, component: Path, digest: str, *, fuel: bool = False, fusion: Fusion | None = None) -> int:
        """Return the descriptor of a sealed memory file with the machine code; the caller closes it.

        Args:
            component: file of the component.
            digest: its digest.
            fuel: for an engine that counts instructions.
            fusion: what is compiled instead, where the component is a part of more.

        Raises:
            FleetError: BLOB_MISSING, DIGEST_MISMATCH, COMPONENT_INVALID, COMPONENT_UNSUPPORTED, LIMIT_EXCEEDED,
                LINK_INVALID, RUNNER_LOST.
        """
        cache = await self._cache(fuel=fuel)
        digest = digest if fusion is None else fusion.digest
        lock = self._locks.setdefault((digest, fuel), asyncio.Lock())
        async with lock:
            module = await asyncio.to_thread(cache.find, digest)
            if module is not None:
                return module
            async with self._workers:
                if fusion is None:
                    module = await self._compile(component, digest, fuel=fuel)
                else:
                    module = await self._fuse(fusion, fuel=fuel)
            try:
                await asyncio.to_thread(cache.store, digest, module)
            except OSError as error:
                # The agent can start all the same; only its next start after a reboot compiles again.
                _log.warning("cannot keep the compiled code of %s: %s", digest, error)
            return module

    async def _cache(self, *, fuel: bool) -> CompiledCache:
        async with self._describing:
            if not self._caches:
                message, _ = await self._ask(Describe(), ())
                if not isinstance(message, EngineDescribed):
                    raise FleetError(Code.MESSAGE_INVALID, f"a compile worker sent {type(message).__name__}")
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._loop = asyncio.get_running_loop()
                key, tell = await asyncio.to_thread(self._key), self._tell
                self._caches = {
                    False: CompiledCache(self._directory, key, engine=message.plain, refused=tell),
                    True: CompiledCache(self._directory, key, engine=message.fuel, refused=tell),
                }
            return self._caches[fuel]

    def _tell(self, digest: str) -> None:
        """Tell of a refused entry; in the thread that read it."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._refused, digest)

    async def _compile(self, component: Path, digest: str, *, fuel: bool) -> int:
        try:
            file = os.open(component, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise FleetError(Code.BLOB_MISSING, f"there is no file for {digest}", digest=digest) from error
        try:
            return _machine_code(await self._ask(Compile(digest, int(fuel)), (file,)))
        finally:
            os.close(file)

    async def _fuse(self, fusion: Fusion, *, fuel: bool) -> int:
        file, entries = await asyncio.to_thread(_joined, fusion)
        try:
            return _machine_code(await self._ask(Fuse(entries, fusion.wires, int(fuel)), (file,)))
        finally:
            os.close(file)

    async def _ask(self, request: Compile | Fuse | Describe, descriptors: tuple[int, ...]) -> Received:
        worker = _Worker()
        child = await self._zygote.fork(Role.COMPILER, "compiler", worker.process_ended)
        try:
            async with asyncio.timeout(COMPILE_TIMEOUT_S):
                return await worker.ask(child, request, descriptors)
        except TimeoutError as error:
            limit = int(COMPILE_TIMEOUT_S)
            raise FleetError(Code.LIMIT_EXCEEDED, f"compiling took more than {limit} s", limit=limit) from error
        finally:
            worker.close()
            self._zygote.kill(child.number)


class _Worker:
    """One compile worker and its one answer."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Received] = asyncio.get_running_loop().create_future()
        self._channel: Channel | None = None
        self._ended: Ended | None = None

    async def ask(self, child: Child, request: Compile | Fuse | Describe, descriptors: tuple[int, ...]) -> Received:
        self._channel = Channel(child.control, self, asyncio.get_running_loop())
        self._channel.send(request, descriptors)
        return await self._answer

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if not self._answer.done():
            self._answer.cancel()

    def received(self, message: Message, descriptors: tuple[int, ...]) -> None:
        if self._answer.done():
            for number in descriptors:
                os.close(number)
        else:
            self._answer.set_result((message, descriptors))

    def closed(self, error: FleetError | None) -> None:
        if error is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._finish()

    def process_ended(self, ended: Ended) -> None:
        self._ended = ended
        self._finish()

    def _finish(self) -> None:
        """Fail once the process and its last word are both gone: running out of memory ends a compiler by a signal."""
        if self._ended is None or self._answer.done() or (self._channel is not None and self._channel.open):
            return
        error = FleetError(Code.LIMIT_EXCEEDED, f"the compiler ended with {self._ended}", ended=str(self._ended))
        self._answer.set_exception(error)
        self._answer.exception()  # also retrieved here: the caller may not wait yet


def _machine_code(received: Received) -> int:
    """The descriptor in a compile worker's answer.

    Raises:
        FleetError: what the worker found; MESSAGE_INVALID.
    """
    message, descriptors = received
    match message:
        case Compiled():
            try:
                memory_file.check_sealed(descriptors[0], MAX_MODULE_BYTES)
            except FleetError:
                os.close(descriptors[0])
                raise
            return descriptors[0]
        case CompileFailed():
            raise message.fault.error()
        case _:
            raise FleetError(Code.MESSAGE_INVALID, f"a compile worker sent {type(message).__name__}")


def _joined(fusion: Fusion) -> tuple[int, tuple[PartEntry, ...]]:
    """All parts in one memory file, and where each is. The worker checks the digests."""
    try:
        components: list[bytes] = []
        for part in fusion.parts:
            components.append(read_bounded(part.component, MAX_COMPONENT - sum(map(len, components))))
    except FileNotFoundError as error:
        raise FleetError(Code.BLOB_MISSING, f"there is no file {error.filename}") from error
    file = memory_file.create("parts")
    for data in components:
        memory_file.write(file, data)
    parts = zip(fusion.parts, components, strict=True)
    return file, tuple(PartEntry(part.agent, part.digest, len(data)) for part, data in parts)

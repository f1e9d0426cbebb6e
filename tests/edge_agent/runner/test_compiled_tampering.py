"""What the cache's authentication is for: a patched file of compiled code is native code of whoever patched it."""

from __future__ import annotations

import os

import pytest

from edge_agent.runner import memory_file
from edge_agent.runner.compiled_cache import CompiledCache
from edge_agent.runner.engine import Engine, Instance, Limits
from edge_agent.runtime import CacheEntryRefused
from edge_agent.vault import load_key
from tests.edge_agent.runner.conftest import component
from tests.fakes.components import wasm
from tests.fakes.wait import until

HONEST, EVIL = 0x12345679, 0x66666666
GUEST = wasm(
    f"""(component
 (core module $m (func (export "answer") (result i32) (i32.const {HONEST})))
 (core instance $i (instantiate $m))
 (func (export "answer") (result u32) (canon lift (core func $i "answer"))))"""
)


def patched(code: bytes) -> bytes:
    """The same compiled code, which answers something else."""
    honest = HONEST.to_bytes(4, "little")
    assert code.count(honest) == 1
    return code.replace(honest, EVIL.to_bytes(4, "little"))


def test_without_authentication_the_engine_runs_what_somebody_wrote() -> None:
    """The positive control: Wasmtime loads the patched code and it runs as this process."""
    engine = Engine()
    answers = []
    for code in (engine.compile(GUEST), patched(engine.compile(GUEST))):
        instance = Instance(engine.load(code), (), Limits())
        answers.append(instance.call("answer"))
        instance.close()
    assert answers == [HONEST, EVIL]


@pytest.mark.system
async def test_a_node_compiles_again_and_tells(host, paths, tmp_path) -> None:
    answering = component(tmp_path / "answering.wasm", GUEST)
    await host.start(answering.start("app/one"))
    assert (await host.call("app/one", "answer()")).output == str(HONEST)
    await host.stop("app/one", 0)
    (file,) = [path for path in paths.cache.iterdir() if path.suffix == ".compiled"]
    file.write_bytes(patched(file.read_bytes()))
    await host.start(answering.start("app/two"))
    assert (await host.call("app/two", "answer()")).output == str(HONEST)
    assert await host.next_event() == CacheEntryRefused(answering.digest)
    await until(lambda: HONEST.to_bytes(4, "little") in file.read_bytes(), "a new entry")
    await host.stop("app/two", 0)


@pytest.mark.system
async def test_with_the_key_it_would_run(host, paths, tmp_path) -> None:
    """The other positive control: the authentication alone is what stands in the way, so its key must be kept."""
    answering = component(tmp_path / "answering.wasm", GUEST)
    await host.start(answering.start("app/one"))
    await host.stop("app/one", 0)
    (file,) = [path for path in paths.cache.iterdir() if path.suffix == ".compiled"]
    forge(paths, answering.digest, file)
    await host.start(answering.start("app/two"))
    assert (await host.call("app/two", "answer()")).output == str(EVIL)
    await host.stop("app/two", 0)


def forge(paths, digest: str, file) -> None:
    """Write the entry that somebody with the node's key would write."""

    cache = CompiledCache(paths.cache, load_key(paths.cache_key), engine=Engine().fingerprint)
    assert cache.path(digest) == file
    module = cache.find(digest)
    assert module is not None
    changed = memory_file.create("changed")
    memory_file.write(changed, patched(memory_file.read(module, 1 << 24)))
    memory_file.seal(changed)
    cache.store(digest, changed)
    os.close(changed)
    os.close(module)

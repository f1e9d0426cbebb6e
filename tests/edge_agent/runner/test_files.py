"""An agent with files in a real runner: scratch volumes that last, folders of the node, and what it is refused."""

import json
from pathlib import Path

import pytest

from edge_agent.runtime import VolumeFolder
from fleet.grants import Authority
from tests.edge_agent.runner.conftest import component

pytestmark = pytest.mark.system

COMPONENT = Path(__file__).parents[3] / "components/files-agent/files_agent.wasm"
AGENT = "app/files"
OWN = {"volumes": ["scratch/own"], "mode": ["read", "write"], "max_bytes": "64KiB"}


@pytest.fixture
def files(host, tmp_path):
    """Starts the agent with these rules; returns what calls it."""
    built = component(tmp_path / "files.wasm", COMPONENT.read_bytes())

    async def start(*rules, name=AGENT, **volumes):
        capabilities = {"wasi:filesystem/preopens": list(rules)} if rules else {}
        document = {"schema": "fleet.authority/v1", "capabilities": capabilities, "limits": {}}
        granted = Authority.decode(json.dumps(document).encode())
        await host.start(built.start(name, granted.limits, granted.capabilities, volumes=volumes))

        async def call(invocation):
            return (await host.call(name, invocation, 10_000)).output

        return call

    return start


async def test_without_a_grant_there_is_nothing(files):
    call = await files()
    assert await call("directories()") == "[]"
    assert await call('write("/scratch/own/a", "x")') == 'err("no directory")'


async def test_what_is_written_is_there_after_a_restart(files, host, tmp_path):
    call = await files(OWN)
    assert await call("directories()") == '["/scratch/own"]'
    assert await call('make("/scratch/own/notes")') == "ok"
    assert await call('write("/scratch/own/notes/today", "sunny")') == "ok"
    assert await call('append("/scratch/own/notes/today", " and warm")') == "ok"
    await host.stop(AGENT, 1000)
    call = await files(OWN)
    assert await call('read("/scratch/own/notes/today")') == 'ok("sunny and warm")'
    assert await call('names("/scratch/own/notes")') == 'ok(["today"])'
    assert await call('remove("/scratch/own/notes/today")') == "ok"
    assert await call('names("/scratch/own/notes")') == "ok([])"
    assert (tmp_path / "state/files/own/notes").is_dir()


async def test_a_quota_is_an_error_that_the_agent_can_answer(files):
    call = await files(OWN)
    assert await call('fill("/scratch/own/big", 1000000)') == f'({60 * 1024}, "quota")'
    assert await call('append("/scratch/own/big", "x")') == 'err("quota")'
    assert await call('write("/scratch/own/other", "x")') == 'err("quota")'
    assert await call('remove("/scratch/own/big")') == "ok"
    assert await call('write("/scratch/own/other", "x")') == "ok"


async def test_a_folder_of_the_node_is_what_its_operator_declared(files, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "site").write_text("north")
    (maps / "out").symlink_to(tmp_path / "files.wasm")
    rule = {"volumes": ["node/maps"], "mode": ["read", "write"], "max_bytes": "1MiB"}
    call = await files(rule, maps=VolumeFolder(maps), name="app/reader")
    assert await call('read("/node/maps/site")') == 'ok("north")'
    assert await call('write("/node/maps/site", "south")') == 'err("read-only")'
    assert await call('read("/node/maps/out")') == 'err("not-permitted")'
    assert await call('read("/node/maps/../files.wasm")') == 'err("not-permitted")'
    call = await files(rule, maps=VolumeFolder(maps, writable=True), name="app/writer")
    assert await call('write("/node/maps/site", "south")') == "ok"
    assert (maps / "site").read_text() == "south"

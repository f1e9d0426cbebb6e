"""`edge-agent trust import`: through the node that runs, or to its disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.adoption import Stores
from edge_agent.blobs import Blobs
from edge_agent.config import Settings
from edge_agent.data_dir import lock_data_dir, prepare_data_dir
from edge_agent.disk import LocalDisk, replace_file
from edge_agent.importing import (
    MAX_MESSAGE,
    SOCKET,
    Imported,
    ImportServer,
    decode_reply,
    encode_fault,
    encode_result,
    import_folder,
)
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.socket_address import address_of
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.errors import Code, FleetError
from fleet.model import DesiredState
from tests.fakes.carried import encode, put, write_out
from tests.fakes.clock import VirtualClock
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW
from tests.fakes.wait import until
from tests.fakes.whole_node import IDENTITY

# The command


@pytest.mark.parametrize("deep", ["", "d" * 120], ids=["near", "beyond the longest address"])
async def test_an_import_goes_through_the_node_that_runs(tmp_path: Path, deep: str) -> None:
    tmp_path /= deep
    (tmp_path / "run").mkdir(parents=True)
    asked: list[str] = []

    class Told:
        """Tells what it was asked for; what adoption does with it is tested above."""

        async def refresh(self, remote: object) -> None:
            asked.append("refresh")

        async def accept(self, desired: object, remote: object) -> None:
            raise FleetError(Code.ASSIGNMENT_EXPIRED, "too late", place="here", remedy="Sign it again.")

    clock = VirtualClock(NOW)
    server = asyncio.create_task(ImportServer(tmp_path, Told(), stores_of(tmp_path), "node-1").run())
    usb = tmp_path / "usb"
    await until((tmp_path / SOCKET).exists, "the socket")
    assert await import_folder(Settings(tmp_path), IDENTITY, usb, clock) == Imported(0, 0, ordered=False)
    assert asked == ["refresh"]
    put(usb / "desired" / "node-1.json", encode(DesiredState(b"a", b"b")))
    with pytest.raises(FleetError) as caught:
        await import_folder(Settings(tmp_path), IDENTITY, usb, clock)
    assert (caught.value.code, caught.value.private) == (Code.ASSIGNMENT_EXPIRED, "too late")
    assert (caught.value.detail["place"], caught.value.remedy) == ("here", "Sign it again.")
    with pytest.raises(FleetError) as caught:
        await import_folder(Settings(tmp_path), IDENTITY, Path("relative"), clock)
    assert caught.value.code is Code.MESSAGE_INVALID
    for request in (b"\n", b"{}\n", b"x" * (MAX_MESSAGE + 1) + b"\n", b'{"import": 1}\n'):
        with address_of(tmp_path / SOCKET) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        writer.write(request)
        with pytest.raises(FleetError) as caught:
            decode_reply(await reader.readline())
        assert caught.value.code is Code.MESSAGE_INVALID
        writer.close()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    assert not (tmp_path / SOCKET).exists()


def stores_of(data: Path) -> Stores:
    """The stores of a data directory."""
    disk, journal = LocalDisk(), Journal("node-1", 10)
    trust = TrustStore(disk, data / "trust", allow_dev_profile=True)
    witness = Witness(disk, data, IDENTITY, lambda: None, journal, VirtualClock(NOW))
    return Stores(trust, Ledger(disk, data / "ledger"), Blobs(disk, data / "blobs", 10**6), witness)


def test_replies_are_read_as_they_were_written() -> None:
    imported = Imported(3, 4, ordered=True)
    assert decode_reply(encode_result(imported) + b"\n") == imported
    assert imported.text == "release 3 is adopted; order 4 is in force"
    assert Imported(3, 0, ordered=False).text.endswith("there is no order yet; the folder has none for this node")
    with pytest.raises(FleetError) as caught:
        decode_reply(b"")
    assert caught.value.code is Code.UNAVAILABLE
    unknown = encode_fault(FleetError(Code.REVOKED, "x")).replace(b"REVOKED", b"NEW_CODE") + b"\n"
    with pytest.raises(FleetError) as caught:
        decode_reply(unknown)
    assert caught.value.code is Code.INTERNAL


async def test_without_a_running_node_an_import_goes_to_its_disk(world: FleetWorld, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare_data_dir(data)
    replace_file(LocalDisk(), data / "trust" / "root.json", world.publisher.root)
    agent = world.release(bundle("one", "1.0.0"), "one", grant("app/one", "one"), "app/one")
    usb = write_out(world, tmp_path / "usb", world.assign(agent))
    clock = VirtualClock(NOW)
    (data / SOCKET).touch()  # as after a process that was killed
    with pytest.raises(FleetError) as caught:
        await import_folder(Settings(data), IDENTITY, usb, clock)
    assert caught.value.code is Code.DEV_PROFILE_REFUSED
    settings = Settings(data, allow_dev_profile=True)
    assert await import_folder(settings, IDENTITY, usb, clock) == Imported(2, 1, ordered=True)
    stores = stores_of(data)
    stores.trust.load()
    entry = stores.ledger.load()
    assert entry is not None
    assert entry.generation == 1
    assert stores.blobs.has(agent.bundle.digest)


async def test_two_do_not_write_to_one_disk(world: FleetWorld, tmp_path: Path) -> None:
    prepare_data_dir(tmp_path)
    with lock_data_dir(tmp_path), pytest.raises(FleetError) as caught:
        await import_folder(Settings(tmp_path), IDENTITY, tmp_path, VirtualClock(NOW))
    assert caught.value.code is Code.ALREADY_EXISTS

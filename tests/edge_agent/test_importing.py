"""A release that is carried to a node in a folder: the same checks as over the network, and no trust in the folder."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent import medium as module
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
    take_in,
)
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.medium import MAX_DESIRED, Medium
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.errors import Code, FleetError
from fleet.metadata import MAX_FILES, MAX_METADATA
from fleet.model import DesiredState
from fleet.oci import digest_of
from fleet.trust import MAX_TARGET, Profile
from tests.fakes.clock import VirtualClock
from tests.fakes.fleet import FleetWorld, bundle, grant
from tests.fakes.publisher import NOW, Publisher
from tests.fakes.wait import until
from tests.fakes.whole_node import IDENTITY, WholeNode


def write_out(world: FleetWorld, folder: Path, desired: DesiredState | None = None) -> Path:
    """Write a folder as `fleetctl trust export` does."""
    for name, data in world.publisher.files.items():
        put(folder / "metadata" / name, data)
    for data in world.blobs.values():
        put(folder / "blobs" / "sha256" / digest_of(data).removeprefix("sha256:"), data)
    put(folder / "documents" / "trust" / "fleet.json", world.publisher.document)
    if desired is not None:
        put(folder / "desired" / "node-1.json", encode(desired))
    return folder


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def encode(desired: DesiredState, **changes: object) -> bytes:
    texts = {
        "schema": "fleet.desired/v1",
        "assignment": base64.b64encode(desired.envelope).decode(),
        "proof": base64.b64encode(desired.proof).decode(),
        "base": desired.base,
        "consistency": [base64.b64encode(item).decode() for item in desired.consistency],
    }
    return json.dumps({**texts, **changes}).encode()


@pytest.fixture
def world() -> FleetWorld:
    return FleetWorld()


@pytest.fixture
def folder(world: FleetWorld, tmp_path: Path) -> Path:
    return write_out(world, tmp_path / "usb", world.assign(world.agent()))


@pytest.fixture
def node(world: FleetWorld) -> Iterator[WholeNode]:
    node = WholeNode(world)
    yield node
    node.close()


def taken(node: WholeNode, folder: Path) -> Imported | Code:
    async def job() -> Imported:
        return await take_in(folder, node.adoption, node.stores, "node-1")

    try:
        imported = node.do(job())
    except FleetError as error:
        return error.code
    node.settle()
    return imported


def test_a_node_without_any_network_runs_what_was_carried_to_it(node: WholeNode, folder: Path) -> None:
    node.world.fetched.clear()
    assert taken(node, folder) == Imported(timestamp=2, generation=1, ordered=True)
    assert node.running() == {"app/one"}
    assert node.world.fetched == []
    node.restart()
    assert node.running() == {"app/one"}


def test_a_release_alone_is_taken_in_without_an_order(node: WholeNode, folder: Path) -> None:
    (folder / "desired" / "node-1.json").rename(folder / "desired" / "node-2.json")
    assert taken(node, folder) == Imported(timestamp=2, generation=0, ordered=False)
    assert node.running() == set()


def test_the_same_folder_again_changes_nothing(node: WholeNode, folder: Path) -> None:
    first = taken(node, folder)
    assert taken(node, folder) == first
    assert node.running() == {"app/one"}


def forge_metadata(world: FleetWorld, folder: Path) -> None:
    path = folder / "metadata" / "timestamp.json"
    raw = json.loads(path.read_bytes())
    raw["signed"]["version"] = 99
    path.write_bytes(json.dumps(raw).encode())


def forge_order(world: FleetWorld, folder: Path) -> None:
    stranger = FleetWorld(world.publisher)
    stranger.director = type(world.director).from_seed(b"s" * 32)
    put(folder / "desired" / "node-1.json", encode(stranger.assign(world.agent())))


def exchange_component(world: FleetWorld, folder: Path) -> None:
    for path in (folder / "blobs" / "sha256").iterdir():
        path.write_bytes(path.read_bytes()[::-1])


def empty(world: FleetWorld, folder: Path) -> None:
    for path in (folder / "metadata").iterdir():
        path.unlink()


def without_blobs(world: FleetWorld, folder: Path) -> None:
    for path in (folder / "blobs" / "sha256").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (forge_metadata, {Code.TRUST_INVALID}),
        (forge_order, {Code.SIGNATURE_INVALID}),
        (exchange_component, {Code.DIGEST_MISMATCH}),
        (empty, {Code.CONFIG_INVALID}),
        (without_blobs, {Code.BLOB_MISSING}),
    ],
)
def test_what_somebody_changed_in_the_folder_is_refused_as_from_the_network(
    node: WholeNode, folder: Path, spoil: Callable[[FleetWorld, Path], None], codes: set[Code]
) -> None:
    spoil(node.world, folder)
    assert taken(node, folder) in codes
    assert node.running() == set()


def test_an_order_for_another_node_is_refused_under_this_nodes_name(node: WholeNode, folder: Path) -> None:
    order = node.world.assign(node.world.agent(), epoch=2)
    put(folder / "desired" / "node-1.json", encode(order))
    write_out(node.world, folder)
    assert taken(node, folder) is Code.ASSIGNMENT_WRONG_NODE


def test_an_older_folder_is_refused_after_a_newer_one(node: WholeNode, folder: Path, tmp_path: Path) -> None:
    node.world.publisher.publish()
    newer = write_out(node.world, tmp_path / "newer")
    taken(node, newer)
    assert taken(node, folder) is Code.TRUST_ROLLBACK


def test_an_expired_folder_is_refused(node: WholeNode, folder: Path) -> None:
    node.set_clock(NOW.replace(year=2030))
    assert taken(node, folder) is Code.TRUST_EXPIRED


def test_a_production_node_imports_no_development_release(world: FleetWorld, folder: Path) -> None:
    node = WholeNode(world, allow_dev=False)
    assert taken(node, folder) is Code.DEV_PROFILE_REFUSED
    assert node.trust.adopted is None
    node.close()


def test_a_production_release_is_imported_by_a_production_node(tmp_path: Path) -> None:
    world = FleetWorld(Publisher(Profile.PRODUCTION))
    node = WholeNode(world, allow_dev=False)
    assert taken(node, write_out(world, tmp_path)) == Imported(1, 0, ordered=False)
    node.close()


def test_documents_are_found_under_their_paths_too(node: WholeNode, folder: Path) -> None:
    (folder / "blobs" / "sha256" / digest_of(node.world.publisher.document).removeprefix("sha256:")).unlink()
    assert taken(node, folder) == Imported(2, 1, ordered=True)


# Hostile folders


def big(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def read_everything(folder: Path) -> Code | None:
    """Read all that there is."""
    some = next(iter((folder / "blobs" / "sha256").iterdir())).name

    async def job() -> None:
        medium = Medium(folder)
        await medium.fetch_trust(0)
        medium.desired("node-1")
        async for _ in medium.fetch_blob(f"sha256:{some}", 0):
            pass
        async for _ in medium.fetch_blob("sha256:" + "0" * 64, 0):
            pass

    try:
        asyncio.run(job())
    except FleetError as error:
        return error.code
    return None


def many(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.json").touch()


def many_documents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DOCUMENTS", 3)
    for part in ("a", "b"):
        many(folder / "documents" / part, 2)


HOSTILE: dict[str, tuple[Callable[[Path], object], Code]] = {
    "a metadata file that is too large": (
        lambda folder: big(folder / "metadata" / "timestamp.json", MAX_METADATA + 1),
        Code.LIMIT_EXCEEDED,
    ),
    "metadata that is too large in sum": (
        lambda folder: [big(folder / "metadata" / f"{number}.x.json", MAX_METADATA) for number in range(5)],
        Code.LIMIT_EXCEEDED,
    ),
    "too many metadata files": (lambda folder: many(folder / "metadata", MAX_FILES + 1), Code.LIMIT_EXCEEDED),
    "an order that is too large": (
        lambda folder: big(folder / "desired" / "node-1.json", MAX_DESIRED + 1),
        Code.LIMIT_EXCEEDED,
    ),
    "a document that is too large": (
        lambda folder: big(folder / "documents" / "trust" / "big.json", MAX_TARGET + 1),
        Code.LIMIT_EXCEEDED,
    ),
    "a link out of the folder": (
        lambda folder: (folder / "metadata" / "9.root.json").symlink_to("/etc/hostname"),
        Code.CONFIG_INVALID,
    ),
    "a link in place of a folder": (
        lambda folder: (
            (folder / "metadata").rename(folder.parent / "elsewhere")
            and (folder / "metadata").symlink_to(folder.parent / "elsewhere")
        ),
        Code.CONFIG_INVALID,
    ),
    "a link in place of the blobs": (
        lambda folder: (
            (folder / "blobs").rename(folder.parent / "elsewhere")
            and (folder / "blobs").symlink_to(folder.parent / "elsewhere")
        ),
        Code.CONFIG_INVALID,
    ),
    "a pipe that nobody writes": (lambda folder: os.mkfifo(folder / "metadata" / "9.root.json"), Code.CONFIG_INVALID),
    "a folder in place of a file": (lambda folder: (folder / "metadata" / "9.root.json").mkdir(), Code.CONFIG_INVALID),
    "a device": (
        lambda folder: (folder / "documents" / "zero.json").symlink_to("/dev/zero"),
        Code.CONFIG_INVALID,
    ),
    "a file in place of a folder": (
        lambda folder: (folder / "metadata").rename(folder / "m") and put(folder / "metadata", b""),
        Code.CONFIG_INVALID,
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_folder_neither_fills_the_node_nor_leads_it_elsewhere(folder: Path, what: str) -> None:
    make, code = HOSTILE[what]
    make(folder)
    assert read_everything(folder) is code


def test_too_many_documents_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_documents(folder, monkeypatch)
    assert read_everything(folder) is Code.LIMIT_EXCEEDED


def test_folders_that_lie_too_deep_are_not_followed(folder: Path) -> None:
    deep = folder / "documents" / "/".join("abcdefgh")
    big(deep / "big.json", MAX_TARGET + 1)
    assert read_everything(folder) is Code.BLOB_MISSING


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        encode(DesiredState(b"a", b"b"), schema="fleet.desired/v2"),
        encode(DesiredState(b"a", b"b"), assignment="!"),
        encode(DesiredState(b"a", b"b"), proof=1),
        encode(DesiredState(b"a", b"b"), consistency=["YQ==", "?"]),
        encode(DesiredState(b"a", b"b"), consistency=["YQ=="] * 65),
        encode(DesiredState(b"a", b"b"), base=-1),
        encode(DesiredState(b"a", b"b"), more=1),
    ],
)
def test_an_order_that_cannot_be_read_is_refused(folder: Path, data: bytes) -> None:
    put(folder / "desired" / "node-1.json", data)
    assert read_everything(folder) is Code.ASSIGNMENT_INVALID


def test_an_order_is_read_as_it_was_written(folder: Path) -> None:
    order = DesiredState(b"envelope", b"proof", 7, (b"a" * 32, b"b" * 32))
    put(folder / "desired" / "node-1.json", encode(order))
    assert Medium(folder).desired("node-1") == order


def test_known_roots_are_not_read_again_and_nothing_else_passes_for_one(world: FleetWorld, folder: Path) -> None:
    put(folder / "metadata" / "x.root.json", b"x")
    names = asyncio.run(Medium(folder).fetch_trust(1)).keys()
    assert "1.root.json" not in names
    assert {"x.root.json", "timestamp.json"} <= names


# The command


async def test_an_import_goes_through_the_node_that_runs(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
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
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
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

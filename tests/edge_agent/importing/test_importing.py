"""A release that is carried to a node in a folder: the same checks as over the network, and no trust in the folder."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent import medium as module
from edge_agent.importing import (
    Imported,
    take_in,
)
from edge_agent.medium import MAX_DESIRED, Medium
from fleet.errors import Code, FleetError
from fleet.metadata import MAX_FILES, MAX_METADATA
from fleet.model import DesiredState
from fleet.oci import digest_of
from fleet.trust import MAX_TARGET, Profile
from tests.fakes.carried import encode, put, write_out
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import NOW, Publisher
from tests.fakes.whole_node import WholeNode


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

"""Commands trust export and trust import: a release on a medium that is carried, for machines without a network.

Owns: the layout of the folder::

    DIR/metadata/NAME            TUF metadata under its file names
    DIR/documents/PATH           the documents that it lists, under their target paths
    DIR/blobs/sha256/HEX         everything below the bundles: indexes, manifests, components, models
    DIR/desired/NODE.json        the order of a node, where one is asked for

Nothing on a medium is believed: whoever reads it verifies it from the pinned root, as if a stranger had sent it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.bundle import open_bundle
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.release import BEFORE_EXPIRY
from fleet.signing import encode_base64
from fleet.trust import MAX_TARGET, open_release
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.session import NODE_NAME
from orchestrator.cli.trust import TrustDirectory, fetch_document, publish, synchronise
from orchestrator.files import read_bounded, read_named

if TYPE_CHECKING:
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

ROOT_FILE = re.compile(r"[1-9][0-9]{0,8}\.root\.json")
DESIRED_SCHEMA = "fleet.desired/v1"
MAX_FILES = 1_024
MAX_METADATA = 1024 * 1024
MAX_BLOB = 2 * 1024**3
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("export")
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--blobs/--no-blobs", default=True, show_default=True, help="Also what the bundles consist of.")
@click.option("--node", "nodes", multiple=True, type=NODE_NAME, help="Also the order of this node; may be repeated.")
@click.pass_obj
def export_media(session: Session, folder: Path, blobs: bool, nodes: tuple[str, ...]) -> None:  # noqa: FBT001
    """Write the newest release into a folder.

    With its documents and its bundles, for nodes, approvers and publishers without a network. What is there already and
    unchanged is not written again.
    """
    directory, target = TrustDirectory(session.trust_folder()), TrustDirectory(folder)
    with session.connect() as client:
        release = synchronise(directory, client, BEFORE_EXPIRY)
        written = 0
        for path in sorted(release.documents):
            target.write(f"documents/{path}", fetch_document(directory, client, release, path))
        if blobs:
            written = sum(_export_bundle(target, client, release, path.path) for path in release.targets("bundles/"))
        for name in nodes:
            target.write(f"desired/{name}.json", _order_of(client, name))
        files = {**_earlier_roots(client), **release.files}
        for name, data in files.items():  # last: a medium that was pulled out early has no new release on it
            target.write(f"metadata/{name}", data)
    for file in (folder / "metadata").glob("*.json"):
        if file.name not in files:
            file.unlink()
    summary = {"metadata": len(files), "documents": len(release.documents), "blobs_written": written}
    if session.output.machine:
        session.output.value({"folder": str(folder), **summary})
    else:
        session.output.note(f"{folder}: {', '.join(f'{count} {what}' for what, count in summary.items())}.")


def _earlier_roots(client: Client) -> dict[str, bytes]:
    """Return every root that the coordinator has: a node may have been given an older one than this machine."""
    offered = client.call(client.stub.GetTrust, pb.GetTrustRequest()).files
    return {name: data for name, data in offered.items() if ROOT_FILE.fullmatch(name)}


def _order_of(client: Client, node: str) -> bytes:
    """Return the order of a node as a node reads it from a medium.

    Raises:
        FleetError: NOT_FOUND when there is none that could be carried.
    """
    reply = client.call(client.stub.GetOrder, pb.GetOrderRequest(node=node))
    if not reply.HasField("order"):
        raise FleetError(
            Code.NOT_FOUND,
            f"there is no order for {node}, or its checkpoint waits for witnesses",
            node=node,
            remedy="Deploy something to it first; see `fleetctl audit witnesses`.",
        )
    return dump_json(
        {
            "schema": DESIRED_SCHEMA,
            "assignment": encode_base64(reply.order.assignment),
            "proof": encode_base64(reply.order.proof),
            "base": reply.order.base,
            "consistency": [encode_base64(part) for part in reply.order.consistency],
        }
    )


def _export_bundle(target: TrustDirectory, client: Client, release: Release, path: str) -> int:
    """Write the blobs of one bundle that are not there yet; returns how many."""
    written: list[str] = []

    def read(digest: str, length: int) -> bytes:
        name = f"blobs/{digest.replace(':', '/')}"
        file = target.path / name
        if not file.exists():
            data = client.get_blob(digest, length)
            if digest_of(data) != digest:
                raise FleetError(Code.DIGEST_MISMATCH, "the coordinator sent something else", digest=digest)
            target.write(name, data)
            written.append(digest)
        return read_bounded(file, length)

    listed = release.target(path)
    bundle = open_bundle(listed.check(read(listed.digest, listed.length)), read)
    for blob in bundle.blobs:
        read(blob.digest, blob.size)
    return len(written)


@click.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option("--push", is_flag=True, help="Also give it to the coordinator, with the bundles.")
@click.pass_obj
def import_media(session: Session, folder: Path, push: bool) -> None:  # noqa: FBT001 - click's own convention
    """Take over a release from a folder.

    One that `fleetctl trust export` wrote. It is verified from the pinned root and against what this machine knows; an
    older release is refused.
    """
    directory = TrustDirectory(session.trust_folder())
    names = sorted((folder / "metadata").glob("*.json"))
    if len(names) > MAX_FILES:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(names)} metadata files", place=str(folder))
    offered = {file.name: read_named(file, MAX_METADATA) for file in names}
    before = directory.files()
    release = open_release(offered, root=directory.root, now=BEFORE_EXPIRY, previous=before, allow_dev=True)
    documents = {
        path: target.check(read_named(folder / "documents" / path, MAX_TARGET))
        for path, target in sorted(release.documents.items())
    }
    if push:
        with session.connect() as client:
            sent = sum(_push_bundle(folder, client, release, target.path) for target in release.targets("bundles/"))
            publish(directory, client, release.files, documents, session.now())
        session.output.note(f"{sent} blobs sent.")
    for path, data in documents.items():
        directory.write(f"documents/{path}", data)
    directory.save(release.files)
    changed = dict(release.files) != before
    if session.output.machine:
        session.output.value({"changed": changed, "versions": dict(release.versions), "pushed": push})
    else:
        session.output.note(
            f"The release is version {release.versions['timestamp']}{'' if changed else ', as before'}."
        )


def _push_bundle(folder: Path, client: Client, release: Release, path: str) -> int:
    """Give the coordinator the blobs of one bundle that it lacks; returns how many."""

    def read(digest: str, length: int) -> bytes:
        return read_named(folder / "blobs" / digest.replace(":", "/"), min(length, MAX_BLOB))

    listed = release.target(path)
    bundle = open_bundle(listed.check(read(listed.digest, listed.length)), read)
    sizes = {blob.digest: blob.size for blob in bundle.blobs}
    missing = client.call(client.stub.HasBlobs, pb.HasBlobsRequest(digests=sorted(sizes))).missing
    for digest in missing:
        client.put_blob(digest, read(digest, sizes[digest]))
    return len(missing)

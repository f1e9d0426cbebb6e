"""Commands that move bundles: push, pull, import."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from fleet.bundle import BundleManifest, build_bundle
from fleet.errors import Code, FleetError
from fleet.floors import MAX_COUNTER, next_counters
from fleet.oci import INDEX_TYPE, open_index
from fleet.release import AddDocument
from fleet.targets import DEFAULT_TEAM, bundle_path, is_version
from fleet.v1 import control_pb2 as pb
from orchestrator.building.tools import Tools
from orchestrator.cli.bundle import build_from, describe
from orchestrator.cli.layout import Layout, is_layout, write_layout
from orchestrator.cli.render import size
from orchestrator.cli.session import BUNDLE_NAME, NODE_NAME
from orchestrator.cli.sources import (
    Access,
    Opened,
    open_component,
    open_layout,
    open_source,
    reach,
    registry_options,
)
from orchestrator.cli.trust import TrustDirectory, read_staged, sign_document, synchronise
from orchestrator.cli.trust_change import tell_staged

if TYPE_CHECKING:
    from orchestrator.cli.session import Session

COMPONENT_WORLD = "root:component/root"
"""World of a component whose author named none that it still knows (wasm-tools `component wit`)."""

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("source", metavar="FOLDER|BUNDLE.YAML|NAME@VERSION|oci://...")
@click.option("--to", "target", metavar="oci://HOST/REPOSITORY:TAG", help="A registry instead of the coordinator.")
@click.option("--team", default=DEFAULT_TEAM, show_default=True, type=NODE_NAME, help="Whose code role signs.")
@click.option(
    "--min-release",
    type=click.IntRange(0, MAX_COUNTER),
    default=0,
    metavar="N",
    help="Stop every release of this bundle below N, everywhere and for good.",
)
@registry_options
@click.pass_obj
def push(session: Session, /, source: str, target: str | None, access: Access, **how: Any) -> None:
    """Sign a bundle and publish it, or copy it to a registry.

    To the coordinator, the code role's key signs. A registry is only a place: what lies there is worth nothing to a
    node until the bundle is signed and published. A bundle.yaml is built first, and what was built is not kept.
    Releases of a bundle are counted; the number stands beside its signature, for --min-release of a later one.
    """
    path = Path(source)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory())) / "bundle"
        if path.is_file() or (path / "bundle.yaml").exists():
            opened = open_layout(build_from(path, scratch, Tools(session.output.note)))
        else:
            opened = stack.enter_context(open_source(session, source, access))
            if is_layout(path):
                scratch = path
            else:  # fetched once: every byte is read before the signature, and again to be sent
                write_layout(scratch, opened.index, opened.blobs(), opened.bundle.version)
                opened = open_layout(scratch)
        if target is None:
            _publish(session, opened, how["team"], how["min_release"])
            result = describe(opened.bundle)
        else:
            result = {**describe(opened.bundle), "reference": _copy(session, Layout(scratch), target, access)}
    if session.output.machine:
        session.output.value(result)
    else:
        session.output.text(f"{result['bundle']}  {result['digest']}")


def _publish(session: Session, opened: Opened, team: str, min_release: int) -> None:
    verified = opened.bundle
    opened.check()  # nothing is signed of which a byte was changed
    path = bundle_path(verified.name, verified.version, team)
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        release = synchronise(directory, client, session.now())
        listed = release.documents.get(path)
        if listed is not None and listed.digest != verified.digest:
            raise FleetError(
                Code.ALREADY_EXISTS,
                f"{verified.name}@{verified.version} is published with other content",
                digest=listed.digest,
                remedy="Raise `version` in bundle.yaml: a published version never changes.",
            )
        sizes = {blob.digest: blob.size for blob in verified.blobs}
        missing = client.call(client.stub.HasBlobs, pb.HasBlobsRequest(digests=sorted(sizes))).missing
        for digest in missing:
            client.put_blob(digest, opened.read(digest, sizes[digest]))
        session.output.note(f"{len(missing)} of {len(sizes)} blobs sent, {size(sum(sizes[d] for d in missing))}.")
        if listed is None:
            counters = next_counters(release, path, min_release)
            staged = sign_document(directory, client, release, AddDocument(path, opened.index, counters), session.now())
            if staged is not None:
                tell_staged(session, staged, read_staged(directory, staged))


def _copy(session: Session, layout: Layout, target: str, access: Access) -> str:
    """Copy a bundle to a registry: what others point at first, the index last. A piece of one blob is in memory."""
    opened = open_layout(layout.folder)
    with reach(target, access) as registry:
        if registry.reference.is_digest:
            raise FleetError(Code.CONFIG_INVALID, "a bundle is pushed under a tag", place=target)
        manifests = {entry.digest: entry.media_type for entry in open_index(opened.index)}
        contents = [blob for blob in opened.bundle.blobs if blob.digest not in manifests]
        documents = [blob for blob in opened.bundle.blobs if blob.digest in manifests]
        sent = [blob.size for blob in contents if registry.push_blob(layout.content(blob.digest, blob.size))]
        for blob in documents:
            registry.push_manifest(layout.read(blob.digest, blob.size), manifests[blob.digest], blob.digest)
        registry.push_manifest(opened.index, INDEX_TYPE, registry.reference.name)
        session.output.note(f"{len(sent)} of {len(contents)} blobs sent, {size(sum(sent))}.")
        return str(registry.reference)


@click.command()
@click.argument("source", metavar="oci://...|NAME@VERSION")
@click.option("--to", "target", type=FOLDER, help="Folder to write; default NAME-VERSION.bundle here.")
@registry_options
@click.pass_obj
def pull(session: Session, source: str, target: Path | None, access: Access) -> None:
    """Copy a bundle from a registry or the coordinator into a folder.

    Every byte is checked against its digest. What comes from a registry is unsigned: `fleetctl bundle verify` says
    whether the fleet has published it, `fleetctl bundle push` publishes it.
    """
    with open_source(session, source, access) as opened:
        folder = target or Path(f"{opened.bundle.name}-{opened.bundle.version}.bundle")
        write_layout(folder, opened.index, opened.blobs(), opened.bundle.version)
    _tell_written(session, open_layout(folder), folder)


@click.command("import")
@click.argument("source", metavar="FILE.wasm|FOLDER|oci://...")
@click.option("--name", required=True, type=BUNDLE_NAME, help="Name of the bundle.")
@click.option("--version", required=True, help="Version of the bundle, such as 1.4.0.")
@click.option("--world", default=COMPONENT_WORLD, show_default=True, help="WIT world that the component implements.")
@click.option("--to", "target", type=FOLDER, help="Folder to write; default NAME-VERSION.bundle here.")
@registry_options
@click.pass_obj
def import_(session: Session, /, source: str, target: Path | None, access: Access, **named: str) -> None:
    """Make a bundle of a component that somebody else built.

    SOURCE is a component, an image layout that holds a Wasm artifact, or one in a registry, as `wkg oci push` makes it.
    The component's bytes stay as they are; what the artifact says of source, licence and version is kept beside them.
    """
    if not is_version(named["version"]):
        raise FleetError(
            Code.CONFIG_INVALID, f"{named['version'][:100]!r} is no version", remedy="Write one such as 1.4.0."
        )
    component = open_component(source, access)
    manifest = BundleManifest(
        name=named["name"],
        version=named["version"],
        component=source,
        world=named["world"],
        annotations=component.annotations,
    )
    built = build_bundle(manifest, component.data, {})
    folder = target or Path(f"{manifest.name}-{manifest.version}.bundle")
    write_layout(folder, built.index, built.blobs.items(), manifest.version)
    _tell_written(session, open_layout(folder), folder)


def _tell_written(session: Session, opened: Opened, folder: Path) -> None:
    if session.output.machine:
        session.output.value({**describe(opened.bundle), "path": str(folder)})
    else:
        session.output.text(f"{opened.bundle.name}@{opened.bundle.version}  {opened.bundle.digest}")
        session.output.note(f"Written to {folder}. Next: `fleetctl bundle push {folder}`.")


COMMANDS = (push, pull, import_)
"""What joins the group `bundle`."""

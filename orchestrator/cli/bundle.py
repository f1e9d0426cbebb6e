"""Commands for bundles: new, build, push, inspect, verify, list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from fleet.bundle import MAX_COMPONENT, MAX_MODEL, Language, build_bundle, open_bundle, parse_bundle_manifest
from fleet.errors import Code, FleetError
from fleet.oci import MAX_INDEX
from fleet.targets import bundle_path
from fleet.v1 import control_pb2 as pb
from orchestrator.building import build_component, scaffold
from orchestrator.building.tools import Tools
from orchestrator.cli.layout import Layout, write_layout
from orchestrator.cli.render import Column, Row, short_digest, size
from orchestrator.cli.session import BUNDLE_NAME
from orchestrator.cli.trust import TrustDirectory, sign_document, synchronise

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.bundle import VerifiedBundle
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

BUNDLE_COLUMNS = (
    Column("BUNDLE", "bundle"),
    Column("DIGEST", "digest"),
    Column("SIZE", "size", right=True),
    Column("MODELS", "models"),
    Column("IMPORTS", "imports", fold=True),
    Column("EXPORTS", "exports", wide=True, fold=True),
)

SOURCE = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified bundle and where its bytes come from."""

    bundle: VerifiedBundle
    index: bytes
    read: Callable[[str, int], bytes]


def open_layout(folder: Path) -> Opened:
    """Open and verify a built bundle on disk.

    Raises:
        FleetError: BUNDLE_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED.
    """
    layout = Layout(folder)
    index = layout.index()
    return Opened(open_bundle(index, layout.read), index, layout.read)


def open_published(session: Session, client: Client, reference: str) -> Opened:
    """Open a bundle that was pushed, checked against the signature of the code role.

    Args:
        session: for the trust directory and the clock.
        client: where the documents come from.
        reference: `name@version`.

    Raises:
        FleetError: NOT_FOUND when no such bundle is published; TARGET_UNSIGNED; else as `open_layout`.
    """
    name, _, version = reference.partition("@")
    release = synchronise(TrustDirectory(session.context().trust), client, session.now())
    try:
        path = bundle_path(name, version)
    except ValueError as error:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"{reference!r} is neither a folder nor NAME@VERSION",
            remedy="List what is published with `fleetctl bundle list`.",
        ) from error
    if path not in release.documents:
        raise FleetError(
            Code.NOT_FOUND,
            f"no bundle {reference} is published",
            remedy="List what is published with `fleetctl bundle list`, or push it with `fleetctl bundle push`.",
        )
    target = release.target(path)

    def read(digest: str, length: int) -> bytes:
        return client.get_blob(digest, length)

    index = target.check(client.get_blob(target.digest, MAX_INDEX))
    return Opened(open_bundle(index, read), index, read)


def _read_file(path: Path, limit: int, missing: str, remedy: str) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise FleetError(Code.LIMIT_EXCEEDED, f"more than {limit} bytes", place=str(path))
        return path.read_bytes()
    except OSError as error:
        raise FleetError(Code.BUNDLE_INVALID, f"{missing}: {error.strerror}", place=str(path), remedy=remedy) from error


def build_from(source: Path, target: Path | None, tools: Tools) -> Path:
    """Build the bundle that a `bundle.yaml` (or the folder that holds one) describes; returns the layout's folder.

    Where it has a `build` section, the component is built from its source first.

    Raises:
        FleetError: BUNDLE_INVALID, COMPONENT_INVALID, LIMIT_EXCEEDED with file and place; TOOL_MISSING, BUILD_FAILED.
    """
    file = source / "bundle.yaml" if source.is_dir() else source
    text = _read_file(file, MAX_INDEX, "no manifest to build from", "Name a bundle.yaml, or a folder that holds one.")
    manifest = parse_bundle_manifest(text, str(file))
    if manifest.language is not None:
        build_component(file.parent, manifest, tools)

    def part(path: str, limit: int) -> bytes:
        remedy = "Build the component first, or correct the path."
        return _read_file(file.parent / path, limit, f"{file} names a file that cannot be read", remedy)

    component = part(manifest.component, MAX_COMPONENT)
    models = {m.name: part(m.path, MAX_MODEL) for m in manifest.models}
    built = build_bundle(manifest, component, models)
    folder = target or Path(f"{manifest.name}-{manifest.version}.bundle")
    write_layout(folder, built, f"{manifest.name}:{manifest.version}")
    return folder


def describe(bundle: VerifiedBundle) -> dict[str, object]:
    """One bundle for a person or a program."""
    return {
        "bundle": f"{bundle.name}@{bundle.version}",
        "digest": bundle.digest,
        "world": bundle.world,
        "component": {"digest": bundle.component.digest, "size": bundle.component.size},
        "models": [{"name": m.name, "digest": m.digest, "size": m.size, "encoding": m.encoding} for m in bundle.models],
        "imports": list(bundle.imports),
        "optional_imports": list(bundle.optional_imports),
        "exports": list(bundle.exports),
    }


@click.group()
def bundle() -> None:
    """Build, sign and publish bundles."""


@bundle.command()
@click.argument("name", type=BUNDLE_NAME)
@click.option(
    "--lang", "language", required=True, type=click.Choice([language.value for language in Language]), help="Language."
)
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Folder to make; default NAME here.")
@click.pass_obj
def new(session: Session, name: str, language: str, folder: Path | None) -> None:
    """Write the start of an agent in a new folder.

    It is complete: `fleetctl bundle build` makes a bundle of it as it is.
    """
    made = folder or Path(name)
    scaffold(name, Language(language), made)
    if session.output.machine:
        session.output.value({"name": name, "language": language, "path": str(made)})
    else:
        session.output.text(str(made))
        session.output.note(f"Read {made / 'README.md'}. Next: `fleetctl bundle build {made}`.")


@bundle.command()
@click.argument("source", type=SOURCE, metavar="BUNDLE.YAML|FOLDER")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), help="Folder to write; default NAME-VERSION.bundle here."
)
@click.pass_obj
def build(session: Session, source: Path, target: Path | None) -> None:
    """Pack a component and its models into a bundle.

    A bundle is an OCI image layout on disk. Where bundle.yaml names a language, the component is built first.
    """
    folder = build_from(source, target, Tools(session.output.note))
    opened = open_layout(folder)
    if session.output.machine:
        session.output.value({**describe(opened.bundle), "path": str(folder)})
    else:
        session.output.text(f"{opened.bundle.name}@{opened.bundle.version}  {opened.bundle.digest}")
        session.output.note(f"Written to {folder}. Next: `fleetctl bundle push {folder}`.")


def _publish(session: Session, opened: Opened) -> None:
    verified = opened.bundle
    for blob in verified.blobs:
        opened.read(blob.digest, blob.size)  # nothing is signed of which a byte was changed
    path = bundle_path(verified.name, verified.version)
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
            sign_document(directory, client, release, path, opened.index, session.now())
    if session.output.machine:
        session.output.value(describe(verified))
    else:
        session.output.text(f"{verified.name}@{verified.version}  {verified.digest}")


@bundle.command()
@click.argument("source", type=SOURCE, metavar="FOLDER|BUNDLE.YAML")
@click.pass_obj
def push(session: Session, source: Path) -> None:
    """Sign a bundle and publish it.

    The code role's key signs. A bundle.yaml is built first, and what was built is not kept.
    """
    if source.is_file() or (source / "bundle.yaml").exists():
        with TemporaryDirectory() as scratch:
            _publish(session, open_layout(build_from(source, Path(scratch) / "bundle", Tools(session.output.note))))
    else:
        _publish(session, open_layout(source))


@bundle.command()
@click.argument("source", metavar="FOLDER|NAME@VERSION")
@click.pass_obj
def inspect(session: Session, source: str) -> None:
    """Show what a bundle contains, imports and exports.

    FOLDER is a built bundle on disk, NAME@VERSION a published one.
    """
    if Path(source).exists():
        opened = open_layout(Path(source))
    else:
        with session.connect() as client:
            opened = open_published(session, client, source)
    session.output.value(describe(opened.bundle))


@bundle.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def verify(session: Session, folder: Path) -> None:
    """Check a bundle on disk against its signature, offline.

    Every byte is read, and the fleet's code role must have signed them.
    """
    opened = open_layout(folder)
    verified = opened.bundle
    for blob in verified.blobs:
        opened.read(blob.digest, blob.size)
    directory = TrustDirectory(session.context().trust)
    target = directory.release(session.now()).target(bundle_path(verified.name, verified.version))
    target.check(opened.index)
    signers = ", ".join(short_digest(key) for key in target.approvers)
    if session.output.machine:
        session.output.value({**describe(verified), "role": target.role, "signed_by": list(target.approvers)})
    else:
        complete = f"{verified.name}@{verified.version} is complete: {len(verified.blobs)} blobs"
        session.output.text(f"{complete}, signed by {target.role} ({signers})")


@bundle.command("list")
@click.pass_obj
def list_bundles(session: Session) -> None:
    """List the published bundles."""
    with session.connect() as client:
        found = client.call(client.stub.ListBundles, pb.ListBundlesRequest()).bundles
    rows = [
        Row(
            {
                "bundle": f"{b.name}@{b.version}",
                "digest": b.digest,
                "size": b.size,
                "models": list(b.models),
                "imports": list(b.imports),
                "exports": list(b.exports),
            },
            {
                "digest": short_digest(b.digest),
                "size": size(b.size),
                "imports": [name.partition("@")[0] for name in b.imports],
            },
        )
        for b in found
    ]
    session.output.rows(BUNDLE_COLUMNS, rows, "No bundle is published. Try `fleetctl bundle push FOLDER`.")

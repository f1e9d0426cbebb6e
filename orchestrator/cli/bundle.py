"""Commands for bundles: new, build, inspect, verify, list; and the group that the others join.

What moves bundles (push, pull, import) is in `orchestrator.cli.transfer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.bundle import MAX_COMPONENT, MAX_MODEL, Language, build_bundle, parse_bundle_manifest
from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.floors import Floors
from fleet.oci import MAX_INDEX, digest_of
from fleet.revocations import Kind, parse_revocations
from fleet.targets import REVOCATIONS_PATH, bundle_path
from fleet.v1 import control_pb2 as pb
from orchestrator.building import build_component, scaffold
from orchestrator.building.tools import Tools
from orchestrator.cli.layout import is_layout, write_layout
from orchestrator.cli.render import Column, Row, short_digest, size
from orchestrator.cli.session import BUNDLE_NAME
from orchestrator.cli.sources import (
    SCHEME,
    Access,
    Component,
    open_component,
    open_layout,
    open_remote,
    open_source,
    reach,
    registry_options,
)
from orchestrator.cli.trust import TrustDirectory
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from fleet.bundle import VerifiedBundle
    from fleet.trust import Release, Target
    from orchestrator.cli.session import Session

BUNDLE_COLUMNS = (
    Column("BUNDLE", "bundle"),
    Column("TEAM", "team"),
    Column("RELEASE", "release", right=True),
    Column("DIGEST", "digest"),
    Column("SIZE", "size", right=True),
    Column("MODELS", "models"),
    Column("REFUSED", "refused", fold=True),
    Column("IMPORTS", "imports", fold=True),
    Column("EXPORTS", "exports", wide=True, fold=True),
)

SOURCE = click.Path(exists=True, path_type=Path)


def _read_file(path: Path, limit: int, missing: str, remedy: str) -> bytes:
    try:
        return read_bounded(path, limit)
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
    write_layout(folder, built.index, built.blobs.items(), manifest.version)
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
        "annotations": dict(bundle.annotations),
    }


def describe_component(component: Component) -> dict[str, object]:
    """A component that no bundle holds, for a person or a program."""
    info = read_component(component.data)
    return {
        "component": {"digest": digest_of(component.data), "size": len(component.data)},
        "imports": list(info.imports),
        "exports": list(info.exports),
        "annotations": dict(component.annotations),
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


@bundle.command()
@click.argument("source", metavar="FOLDER|NAME@VERSION|FILE.wasm|oci://...")
@registry_options
@click.pass_obj
def inspect(session: Session, source: str, access: Access) -> None:
    """Show what a bundle or a component contains, imports and exports.

    FOLDER is a built bundle on disk, or an image layout of another tool; NAME@VERSION is a published bundle, oci:// a
    bundle or a Wasm artifact in a registry. Imports and exports of a file or an artifact are read from its bytes.
    """
    if Path(source).is_file() or _is_artifact(source, access):
        session.output.value(describe_component(open_component(source, access)))
    else:
        with open_source(session, source, access) as opened:
            session.output.value(describe(opened.bundle))


def _is_artifact(source: str, access: Access) -> bool:
    """Whether a layout or a place in a registry holds something else than a bundle."""
    try:
        if source.startswith(SCHEME):
            with reach(source, access) as registry:
                open_remote(registry)
        elif is_layout(Path(source)):
            open_layout(Path(source))
    except FleetError as error:
        if error.code is Code.BUNDLE_INVALID:
            return True
        raise
    return False


@bundle.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--trust", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The trust directory.")
@click.pass_obj
def verify(session: Session, folder: Path, trust: Path | None) -> None:
    """Check a bundle on disk against its signature, offline.

    Every byte is read, a code role of the fleet must have signed them, and nothing that is known here may stand
    against running them: no revocation, and no greater smallest release. With --trust no fleet has to be set up here:
    the directory needs `root.json`, `repository/` and, once something was revoked, `documents/policy/`.
    """
    opened = open_layout(folder)
    opened.check()
    verified = opened.bundle
    directory = TrustDirectory(trust or session.context().trust)
    release = directory.release(session.now())
    target = _find(release, verified)
    target.check(opened.index)
    _check_standing(directory, release, target, verified)
    signers = ", ".join(short_digest(key) for key in target.approvers)
    if session.output.machine:
        session.output.value({**describe(verified), "role": target.role, "signed_by": list(target.approvers)})
    else:
        complete = f"{verified.name}@{verified.version} is complete: {len(verified.blobs)} blobs"
        session.output.text(f"{complete}, signed by {target.role} ({signers})")


def _find(release: Release, bundle: VerifiedBundle) -> Target:
    """Return what some team has signed under the name of a bundle: this very one if any has."""
    ending = f"/{bundle.name}/{bundle.version}.json"
    listed = [target for target in release.targets("bundles/") if target.path.endswith(ending)]
    if not listed:
        return release.target(bundle_path(bundle.name, bundle.version))  # which says that nobody has
    return next((target for target in listed if target.digest == bundle.digest), listed[0])


def _check_standing(directory: TrustDirectory, release: Release, target: Target, bundle: VerifiedBundle) -> None:
    """Refuse what no node would run: as nodes do, from the same signed documents."""
    if REVOCATIONS_PATH in release.documents:
        listed = release.target(REVOCATIONS_PATH)
        revocations = parse_revocations(listed.check(directory.document(REVOCATIONS_PATH)))
        revocations.check(Kind.BUNDLE, bundle.digest)
        for model in bundle.models:
            revocations.check(Kind.MODEL, model.digest)
    Floors().raised(release).check(target)


@bundle.command("list")
@click.pass_obj
def list_bundles(session: Session) -> None:
    """List the published bundles.

    RELEASE counts the releases of a bundle. REFUSED says why no node would run one: it or its model was revoked, or a
    later release raised the smallest that may still run.
    """
    with session.connect() as client:
        found = client.call(client.stub.ListBundles, pb.ListBundlesRequest()).bundles
    rows = [
        Row(
            {
                "bundle": f"{b.name}@{b.version}",
                "team": b.team,
                "release": b.release,
                "refused": b.refused,
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

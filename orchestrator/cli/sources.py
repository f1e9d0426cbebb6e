"""Where bundles and components come from: a folder, a file, a registry, the coordinator.

Owns: opening each as something verified. Whatever is opened is read through `Opened.read`, which checks every byte; the
signature of a published bundle is checked here too, all others are unsigned until somebody signs them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from fleet.bundle import MAX_COMPONENT, open_bundle
from fleet.errors import Code, FleetError
from fleet.oci import MAX_INDEX, digest_of, open_index
from fleet.targets import DEFAULT_TEAM, bundle_path
from fleet.wasm_artifact import find_wasm_artifact, is_index, open_wasm_artifact, read_wasm_config
from orchestrator.cli.layout import Layout, is_layout
from orchestrator.cli.reference import parse_reference
from orchestrator.cli.trust import TrustDirectory, synchronise
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fleet.bundle import VerifiedBundle
    from fleet.trust import Release
    from orchestrator.cli.client import Client
    from orchestrator.cli.registry import Registry
    from orchestrator.cli.session import Session

SCHEME = "oci://"

MAX_DEPTH = 3
"""Documents between the name of an artifact and its manifest: `index.json`, an index, the manifest."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified bundle and where its bytes come from."""

    bundle: VerifiedBundle
    index: bytes
    read: Callable[[str, int], bytes]

    def blobs(self) -> Iterator[tuple[str, bytes]]:
        """Yield digest and bytes of everything below the index, each checked, one in memory at a time.

        Raises:
            FleetError: DIGEST_MISMATCH and whatever reading raises.
        """
        for blob in self.bundle.blobs:
            data = self.read(blob.digest, blob.size)
            if len(data) != blob.size or digest_of(data) != blob.digest:
                raise FleetError(Code.DIGEST_MISMATCH, "these are other bytes", place=blob.digest)
            yield blob.digest, data

    def check(self) -> None:
        """Read every byte."""
        for _ in self.blobs():
            pass


@dataclass(frozen=True, slots=True)
class Component:
    """A component that no bundle holds yet, and what was said of it."""

    data: bytes
    annotations: Mapping[str, str]


class _Documents(Protocol):
    """Where an artifact lies: a layout or a repository."""

    def document(self) -> bytes: ...
    def manifest(self, digest: str, size: int) -> bytes: ...
    def blob(self, digest: str, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached.

    Attributes:
        plain: without TLS. Credentials go in clear to this machine only.
        authorities: file of the certificate authorities that its certificate is checked with; None: those of the
            Python environment.
    """

    plain: bool = False
    authorities: Path | None = None


def registry_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of commands that reach a registry; the command takes them as `access`."""

    @click.option(
        "--insecure-no-tls",
        "plain",
        is_flag=True,
        help="Reach the registry without TLS. Credentials are sent to this machine only.",
    )
    @click.option(
        "--registry-ca",
        "authorities",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Certificate authorities of the registry.",
    )
    @wraps(command)
    def reached(*arguments: object, plain: bool, authorities: Path | None, **options: object) -> None:
        command(*arguments, access=Access(plain, authorities), **options)

    return reached


@contextmanager
def reach(text: str, access: Access) -> Iterator[Registry]:
    """Open a repository of a registry by its reference.

    Raises:
        FleetError: CONFIG_INVALID.
    """
    # Its client costs a third of a second, which only those pay who name a registry.
    from orchestrator.cli.registry import Registry  # noqa: PLC0415

    with Registry(parse_reference(text), access) as registry:
        yield registry


@contextmanager
def open_source(session: Session, source: str, access: Access) -> Iterator[Opened]:
    """Open a bundle: a layout's FOLDER, `oci://...`, or the published NAME@VERSION.

    Raises:
        FleetError: as `open_layout`, `open_remote` and `open_published`.
    """
    if source.startswith(SCHEME):
        with reach(source, access) as registry:
            yield open_remote(registry)
    elif Path(source).exists():
        yield open_layout(Path(source))
    else:
        with session.connect() as client:
            yield open_published(session, client, source)


def open_layout(folder: Path) -> Opened:
    """Open and verify a built bundle on disk.

    Raises:
        FleetError: BUNDLE_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED.
    """
    layout = Layout(folder)
    index = layout.index()
    return Opened(open_bundle(index, layout.read), index, layout.read)


def open_remote(registry: Registry) -> Opened:
    """Open and verify a bundle in a registry. Nobody's signature is looked at: there is none.

    Raises:
        FleetError: BUNDLE_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED, and as `Registry`.
    """
    index = registry.document()
    # A registry serves manifests and other blobs at different places.
    manifests = {entry.digest for entry in open_index(index)}

    def read(digest: str, size: int) -> bytes:
        return registry.manifest(digest, size) if digest in manifests else registry.blob(digest, size)

    return Opened(open_bundle(index, read), index, read)


def open_published(session: Session, client: Client, reference: str) -> Opened:
    """Open a bundle that was pushed, checked against the signature of the code role.

    Args:
        session: for the trust directory and the clock.
        client: where the documents come from.
        reference: `name@version`, or `team/name@version`.

    Raises:
        FleetError: NOT_FOUND when no such bundle is published; TARGET_UNSIGNED; else as `open_layout`.
    """
    whose, _, version = reference.partition("@")
    team, _, name = whose.rpartition("/")
    release = synchronise(TrustDirectory(session.context().trust), client, session.now())
    try:
        path = bundle_path(name, version, team or DEFAULT_TEAM)
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
    return open_target(release, client, path)


def open_target(release: Release, client: Client, path: str) -> Opened:
    """Open the bundle of a target path, checked against the signature of its code role.

    Raises:
        FleetError: TARGET_UNSIGNED; else as `open_layout`.
    """
    target = release.target(path)

    def read(digest: str, length: int) -> bytes:
        return client.get_blob(digest, length)

    index = target.check(client.get_blob(target.digest, MAX_INDEX))
    return Opened(open_bundle(index, read), index, read)


def open_component(source: str, access: Access) -> Component:
    """Read a component that no bundle holds: FILE.wasm, or the Wasm artifact in a layout or a registry.

    Checks, in this order:
        1. The file or the artifact is there and within its limits (`fleet.wasm_artifact`).
        2. What comes from an artifact has the size and the digest that its manifest names.

    That it is a component, and no core module, whoever reads its imports finds out (`fleet.component`).

    Raises:
        FleetError: BUNDLE_INVALID, COMPONENT_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED, and as `Registry`.
    """
    path = Path(source)
    if source.startswith(SCHEME):
        with reach(source, access) as registry:
            component = _component(registry, source)
    elif is_layout(path):
        component = _component(_InLayout(Layout(path)), source)
    else:
        try:
            component = Component(read_bounded(path, MAX_COMPONENT), {})
        except OSError as error:
            raise FleetError(
                Code.COMPONENT_INVALID,
                f"neither a component nor an image layout: {error.strerror}",
                place=source,
                remedy="Name a .wasm file, a folder with an OCI image layout, or oci://HOST/REPOSITORY:TAG.",
            ) from error
    return component


def _component(documents: _Documents, place: str) -> Component:
    document = documents.document()  # 1
    for _ in range(MAX_DEPTH - 1):
        if is_index(document, place):
            found = find_wasm_artifact(document, place)
            document = _pinned(documents.manifest(found.digest, found.size), found.digest)
    artifact = open_wasm_artifact(document, place)
    config = _pinned(documents.blob(artifact.config.digest, artifact.config.size), artifact.config.digest)
    annotations = read_wasm_config(config, artifact, place)
    data = documents.blob(artifact.component.digest, artifact.component.size)
    return Component(_pinned(data, artifact.component.digest), annotations)


def _pinned(data: bytes, digest: str) -> bytes:
    if digest_of(data) != digest:  # 2; layouts and registries have checked it too, and neither needs to be believed
        raise FleetError(Code.DIGEST_MISMATCH, "these are other bytes", place=digest)
    return data


class _InLayout:
    """A layout keeps manifests and other blobs in one place."""

    def __init__(self, layout: Layout) -> None:
        self.document = layout.document
        self.manifest = self.blob = layout.read

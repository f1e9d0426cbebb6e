"""OCI documents of a bundle: descriptors, the index, artifacts and the Wasm config.

Owns: media types, and strict reading of the four document shapes that `fleet.bundle` builds (OCI image-spec 1.1; CNCF
wasm-oci-artifact). Each parser refuses what it does not know: other tools may read our bundles, but nodes run only what
this project built. The index is closed: what is signed is all that there is. Whatever else belongs to a bundle (a
delta, a list of parts, a provenance) is an artifact of its own that names the index as its `subject` (image-spec 1.1,
manifest.md) and lies beside it; it says nothing that a node would believe. Never reads a blob and knows nothing of
names, versions or models: that is `fleet.bundle`. Wasm artifacts of others are `fleet.wasm_artifact`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.documents import Value

MAX_INDEX = 64 * 1024
"""Bytes of the index."""

MAX_MANIFEST = 64 * 1024
"""Bytes of each of the other JSON documents."""

MAX_MODELS = 16
"""Models in a bundle."""

MAX_INTERFACES = 1_000
"""Imports, and exports, of a component."""

MAX_ANNOTATIONS = 32
"""Annotations of a Wasm artifact."""

MAX_ANNOTATION = 1_024
"""Characters of the name, and of the value, of an annotation."""

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
WASM_CONFIG_TYPE = "application/vnd.wasm.config.v0+json"
WASM_LAYER_TYPE = "application/wasm"
BUNDLE_TYPE = "application/vnd.fleet.bundle.v1"
MODEL_TYPE = "application/vnd.fleet.model.v1"
MANIFEST_TYPE = "application/vnd.fleet.manifest.v1"
MANIFEST_LAYER_TYPE = "application/vnd.fleet.manifest.v1+json"

CREATED = "1970-01-01T00:00:00Z"
"""Build date of every bundle: a real one would make equal input give different bytes."""

EMPTY = b"{}"
"""Content of the empty config (OCI image-spec, manifest.md, "Guidance for an Empty Descriptor")."""


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Content by its digest and size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An OCI descriptor; `kind` is its artifact type, or empty."""

    media_type: str
    digest: str
    size: int
    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """An image manifest with one layer; annotations are what people said about it, and decide nothing."""

    config: Descriptor
    layer: Descriptor
    annotations: Mapping[str, str]


def open_index(index: bytes) -> list[Descriptor]:
    """Return the artifacts of a bundle: the Wasm artifact, the model artifacts, the fleet manifest artifact.

    Raises:
        FleetError: BUNDLE_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(index), MAX_INDEX, "index")
    with open_json(index, "index") as top:
        expect(top, "mediaType", INDEX_TYPE)
        expect(top, "artifactType", BUNDLE_TYPE)
        top.integer("schemaVersion", 2, 2)
        entries = [_descriptor(item, place, MAX_MANIFEST) for item, place in top.items("manifests", MAX_MODELS + 2)]
    kinds = [entry.kind for entry in entries]
    if len(kinds) < 2 or kinds != ["", *[MODEL_TYPE] * (len(kinds) - 2), MANIFEST_TYPE]:
        raise invalid("a bundle is one component, its models and one fleet manifest", "index: manifests")
    for entry in entries:
        expect_type(entry, ARTIFACT_TYPE)
    return entries


def open_artifact(data: bytes, descriptor: Descriptor, limit: int) -> Artifact:
    """Return the config and the one layer of an artifact, and the annotations of a Wasm artifact.

    Args:
        data: the artifact's manifest.
        descriptor: its entry in the index; an artifact of a fleet type has the empty config.
        limit: greatest size of the layer in bytes.

    Raises:
        FleetError: BUNDLE_INVALID, LIMIT_EXCEEDED.
    """
    with open_json(data, descriptor.place) as top:
        top.integer("schemaVersion", 2, 2)
        expect(top, "mediaType", ARTIFACT_TYPE)
        if descriptor.kind:
            expect(top, "artifactType", descriptor.kind)
        config = _descriptor(top.take("config"), top.at("config"), MAX_MANIFEST)
        layers = [_descriptor(item, place, limit) for item, place in top.items("layers", 1)]
        if not layers:
            top.fail("layers", "expected one layer")
        annotations = {} if descriptor.kind else read_annotations(top)
    if descriptor.kind:
        expect_type(config, EMPTY_TYPE)
        if config.digest != digest_of(EMPTY):
            raise invalid("expected the empty config", config.place)
    return Artifact(config, layers[0], annotations)


def read_annotations(reader: Reader) -> Mapping[str, str]:
    """Read the key `annotations` (image-spec 1.1, annotations.md): text that a terminal can show."""
    annotations = reader.mapping("annotations", MAX_ANNOTATIONS)
    for name, value in annotations.items():
        if not name or not all(_shown(text) for text in (name, value)):
            reader.fail("annotations", f"expected names and values of up to {MAX_ANNOTATION} printable characters")
    return MappingProxyType(dict(annotations))


def _shown(text: str) -> bool:
    return len(text) <= MAX_ANNOTATION and text.replace("\n", " ").isprintable()


def open_wasm_config(data: bytes, component_digest: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return imports and exports as the config of a Wasm artifact declares them; it must name the layer.

    Raises:
        FleetError: BUNDLE_INVALID.
    """
    with open_json(data, "wasm config") as top:
        expect(top, "created", CREATED)
        expect(top, "architecture", "wasm")
        expect(top, "os", "wasip2")
        if top.texts("layerDigests", 1) != (component_digest,):
            top.fail("layerDigests", "does not name the layer")
        return top.section(
            "component",
            lambda part: (part.texts("imports", MAX_INTERFACES), part.texts("exports", MAX_INTERFACES)),
        )


def digest_of(data: bytes) -> str:
    """Content address of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(item: Value, place: str, limit: int) -> Descriptor:
    with Reader(item, Code.BUNDLE_INVALID, place) as entry:
        size = entry.integer("size", 0, 2**53)
        check_size(size, limit, place)
        return Descriptor(entry.text("mediaType"), read_digest(entry), size, entry.text("artifactType", ""), place)


def open_json(data: bytes, place: str) -> Reader:
    """Read one JSON document of a bundle."""
    return Reader(load_json(data, Code.BUNDLE_INVALID, place), Code.BUNDLE_INVALID, place)


def expect(reader: Reader, key: str, value: str) -> None:
    """Refuse any other text at `key`."""
    if reader.text(key) != value:
        reader.fail(key, f"expected {value!r}")


def expect_type(descriptor: Descriptor, media_type: str) -> None:
    """Refuse any other media type."""
    if descriptor.media_type != media_type:
        raise invalid(f"expected {media_type}", descriptor.place)


def read_digest(reader: Reader) -> str:
    """Read the key `digest`."""
    digest = reader.text("digest")
    if not is_digest(digest):
        reader.fail("digest", "expected sha256: and 64 hex digits")
    return digest


def check_size(size: int, limit: int, place: str) -> None:
    """Refuse more than `limit` bytes.

    Raises:
        FleetError: LIMIT_EXCEEDED.
    """
    if size > limit:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{size} bytes, the limit is {limit}", place=place)


def invalid(message: str, place: str) -> FleetError:
    """Make the error of a malformed bundle."""
    return FleetError(Code.BUNDLE_INVALID, message, place=place)

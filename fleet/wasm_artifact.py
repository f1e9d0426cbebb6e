"""Wasm artifacts that other tools made (CNCF wasm-oci-artifact), read so that a bundle can be built of them.

Owns: finding the one Wasm artifact in an OCI index, and what its manifest and its config say. Lenient where strictness
would gain nothing: keys that this project does not know are passed over, because all that comes of an artifact is its
component, whose bytes are checked by digest and read by `fleet.component`, and annotations for people. Nothing of it is
trusted: it becomes a bundle that somebody signs. Never reads a blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.component import MAX_COMPONENT
from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.oci import (
    ARTIFACT_TYPE,
    BUNDLE_TYPE,
    INDEX_TYPE,
    MAX_INDEX,
    MAX_MANIFEST,
    WASM_CONFIG_TYPE,
    WASM_LAYER_TYPE,
    BlobRef,
    check_size,
    open_json,
    read_annotations,
    read_digest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.documents import Value

MAX_ENTRIES = 64
"""Manifests that an index of others may list."""

PACK = "Wrap the component with `wkg oci push`, or import the file itself: `fleetctl bundle import FILE.wasm`."


@dataclass(frozen=True, slots=True)
class WasmArtifact:
    """What the manifest of a Wasm artifact names; none of it is read yet."""

    config: BlobRef
    component: BlobRef
    annotations: Mapping[str, str]


def is_index(data: bytes, place: str) -> bool:
    """Whether a document is an OCI index; the other thing that a registry serves is an image manifest.

    Raises:
        FleetError: BUNDLE_INVALID for anything that is no JSON object.
    """
    top = open_json(data, place)
    return top.text("mediaType", "") == INDEX_TYPE or (top.has("manifests") and not top.has("layers"))


def find_wasm_artifact(index: bytes, place: str) -> BlobRef:
    """Return the manifest of the one artifact in an index that can be a Wasm artifact, or the index that may hold it.

    Checks, in this order:
        1. The index is at most MAX_INDEX bytes of strict JSON with at most MAX_ENTRIES entries.
        2. It is no bundle of this project: that has models and a name of its own.
        3. One image manifest in it is marked as Wasm by its artifact type or its platform, or it is the only one; or
           there is none, and one index to look in.

    Raises:
        FleetError: BUNDLE_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(index), MAX_INDEX, place)  # 1
    top = open_json(index, place)
    if top.text("artifactType", "") == BUNDLE_TYPE:  # 2
        raise FleetError(
            Code.BUNDLE_INVALID,
            "this is a bundle already",
            place=place,
            remedy="Publish it as it is: `fleetctl bundle push`.",
        )
    entries = [(Reader(item, Code.BUNDLE_INVALID, at), at) for item, at in top.items("manifests", MAX_ENTRIES)]
    manifests = [entry for entry in entries if entry[0].text("mediaType") == ARTIFACT_TYPE]  # 3
    marked = [entry for entry in manifests if _is_wasm(entry[0])]
    found = marked or manifests or [entry for entry in entries if entry[0].text("mediaType") == INDEX_TYPE]
    if len(found) != 1:
        raise FleetError(
            Code.BUNDLE_INVALID,
            f"expected one Wasm artifact, found {len(found)}",
            place=place,
            remedy="Name one by its digest: `oci://HOST/REPOSITORY@sha256:...`.",
        )
    return _blob(*found[0], MAX_MANIFEST)


def open_wasm_artifact(manifest: bytes, place: str) -> WasmArtifact:
    """Read the manifest of a Wasm artifact.

    Checks, in this order:
        1. It is at most MAX_MANIFEST bytes of strict JSON, an OCI image manifest.
        2. Its config is of the Wasm type.
        3. It has exactly one layer, of the Wasm type, of at most MAX_COMPONENT bytes: the layout tells consumers to
           refuse more, and what they would mean nobody has said.
        4. Its annotations are text.

    Raises:
        FleetError: BUNDLE_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(manifest), MAX_MANIFEST, place)  # 1
    top = open_json(manifest, place)
    top.integer("schemaVersion", 2, 2)
    if top.text("mediaType", ARTIFACT_TYPE) != ARTIFACT_TYPE:
        top.fail("mediaType", f"expected {ARTIFACT_TYPE!r}")
    config, at = Reader(top.take("config"), Code.BUNDLE_INVALID, top.at("config")), top.at("config")  # 2
    _expect_type(config, WASM_CONFIG_TYPE)
    layers = list(top.items("layers", MAX_ENTRIES))  # 3
    if len(layers) != 1:
        top.fail("layers", f"a Wasm artifact has one layer, this one has {len(layers)}")
    layer = Reader(layers[0][0], Code.BUNDLE_INVALID, layers[0][1])
    _expect_type(layer, WASM_LAYER_TYPE)
    annotations = read_annotations(top)  # 4
    return WasmArtifact(_blob(config, at, MAX_MANIFEST), _blob(layer, layers[0][1], MAX_COMPONENT), annotations)


def read_wasm_config(config: bytes, artifact: WasmArtifact, place: str) -> Mapping[str, str]:
    """Read the config of a Wasm artifact and return the annotations, with its author among them.

    Checks, in this order:
        1. It is a JSON object; some tools write an empty one.
        2. It is for WebAssembly, and for components: `wasip1` is a core module.
        3. It names the artifact's layer, where it names any.

    What it says of imports and exports is not read: the component says it.

    Raises:
        FleetError: BUNDLE_INVALID; COMPONENT_INVALID for a core module.
    """
    top = open_json(config, place)  # 1
    if top.text("architecture", "wasm") != "wasm":  # 2
        top.fail("architecture", "expected 'wasm'")
    if top.text("os", "wasip2") == "wasip1":
        raise FleetError(Code.COMPONENT_INVALID, "the artifact is a core module (wasip1)", place=top.at("os"))
    if top.has("layerDigests") and top.texts("layerDigests", MAX_ENTRIES) != (artifact.component.digest,):  # 3
        top.fail("layerDigests", "does not name the layer")
    author = _optional_text(top, "author")
    if not author or "org.opencontainers.image.authors" in artifact.annotations:
        return artifact.annotations
    said: Value = {"annotations": {**artifact.annotations, "org.opencontainers.image.authors": author}}
    return MappingProxyType(dict(read_annotations(Reader(said, Code.BUNDLE_INVALID, place))))


def _is_wasm(entry: Reader) -> bool:
    if entry.text("artifactType", "") == WASM_CONFIG_TYPE:
        return True
    if not entry.has("platform"):
        return False
    platform = Reader(entry.take("platform"), Code.BUNDLE_INVALID, entry.at("platform"))
    return platform.text("architecture", "") == "wasm"


def _expect_type(reader: Reader, media_type: str) -> None:
    found = reader.text("mediaType")
    if found != media_type:
        place = reader.at("mediaType")
        raise FleetError(
            Code.BUNDLE_INVALID, f"expected {media_type!r}, found {found[:100]!r}", place=place, remedy=PACK
        )


def _optional_text(reader: Reader, key: str) -> str:
    """Text at a key that may be absent, or null as some tools write it."""
    return reader.text(key) if reader.has(key) and reader.take(key) is not None else ""


def _blob(reader: Reader, place: str, limit: int) -> BlobRef:
    size = reader.integer("size", 0, 2**53)
    check_size(size, limit, place)
    return BlobRef(read_digest(reader), size)

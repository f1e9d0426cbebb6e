"""Bundles: immutable, content-addressed packages of a component and its models.

Owns: `bundle.yaml`, and the layout of a bundle as an OCI image index (OCI image-spec 1.1) over
    - a strict CNCF Wasm artifact (tag-runtime.cncf.io, wasm-oci-artifact): one config, exactly one `application/wasm`
      layer; consumers refuse more layers, so models are never layers of it. Its annotations are for people alone;
    - one artifact per model;
    - one artifact with the fleet manifest: name, version, world, models, imports and exports.
The same input gives the same bytes. The index is what the code role signs; everything else is pinned by digest from
there. Never reads or stores a blob itself: callers pass `read`. Signatures are `fleet.trust`'s; whether the imports are
granted is decided at admission, on the component's own bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.component import read_component
from fleet.documents import Reader, dump_json, load_yaml
from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.oci import (
    ARTIFACT_TYPE,
    BUNDLE_TYPE,
    CREATED,
    EMPTY,
    EMPTY_TYPE,
    INDEX_TYPE,
    MANIFEST_LAYER_TYPE,
    MANIFEST_TYPE,
    MAX_INDEX,
    MAX_INTERFACES,
    MAX_MANIFEST,
    MAX_MODELS,
    MODEL_TYPE,
    WASM_CONFIG_TYPE,
    WASM_LAYER_TYPE,
    BlobRef,
    check_size,
    digest_of,
    expect,
    expect_type,
    invalid,
    open_artifact,
    open_index,
    open_json,
    open_wasm_config,
    read_annotations,
    read_digest,
)
from fleet.targets import is_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet.documents import Value
    from fleet.oci import Artifact, Descriptor

MAX_COMPONENT = 64 * 1024 * 1024
"""Bytes of a component in a bundle."""

MAX_MODEL = 512 * 1024 * 1024
"""Bytes of one model in a bundle."""

MANIFEST_SCHEMA = "fleet.bundle/v1"
"""Schema of `bundle.yaml` and of the fleet manifest inside a bundle."""

ENCODINGS = frozenset({"onnx"})
"""Model encodings, in the words of `graph-encoding` of wasi:nn/graph, that a node can load."""

MODEL_LAYER = "application/vnd.fleet.model."
"""Media type of a model's layer, before its encoding."""

MAX_WORLD = 256
"""Characters in the name of a world."""


class Language(StrEnum):
    """What a component is built from, where its bundle.yaml has a `build` section."""

    C = "c"
    GO = "go"
    JAVASCRIPT = "javascript"
    PYTHON = "python"
    QUICKJS = "quickjs"
    RUST = "rust"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model as `bundle.yaml` names it; `name` is what the component passes to `load-by-name`."""

    name: str
    path: str
    encoding: str


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """A parsed `bundle.yaml`.

    Attributes:
        name: name of the bundle.
        version: its version.
        component: path of the component, relative to the manifest's folder like every other path.
        world: WIT world of the component.
        models: its models.
        optional_imports: interfaces that may be denied without refusing the agent.
        language: what the component is built from first; None: it is there already.
        annotations: what is said of the component: source, licences (image-spec 1.1, annotations.md).
    """

    name: str
    version: str
    component: str
    world: str
    models: tuple[ModelSource, ...] = ()
    optional_imports: tuple[str, ...] = ()
    language: Language | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """What `build_bundle` made: the index to sign, and every blob below it by digest."""

    index: bytes
    digest: str
    blobs: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model of a verified bundle."""

    name: str
    digest: str
    size: int
    encoding: str


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle whose documents are complete, consistent and pinned by the index. Made only by `open_bundle`.

    Attributes:
        name: name of the bundle.
        version: its version.
        digest: digest of the index.
        world: WIT world that the component was built for.
        component: the component, not read yet.
        models: its models, not read yet.
        optional_imports: interfaces that may be denied.
        imports: interfaces that the component says it imports; admission reads them again from its bytes.
        exports: interfaces and functions that the component says it exports.
        blobs: everything below the index, for fetching, completeness and garbage collection.
        annotations: what the signer said of the component; decides nothing.
    """

    name: str
    version: str
    digest: str
    world: str
    component: BlobRef
    models: tuple[ModelRef, ...]
    optional_imports: tuple[str, ...]
    imports: tuple[str, ...]
    exports: tuple[str, ...]
    blobs: tuple[BlobRef, ...]
    annotations: Mapping[str, str]


def parse_bundle_manifest(data: bytes, name: str) -> BundleManifest:
    """Read a `bundle.yaml`.

    Raises:
        FleetError: BUNDLE_INVALID with the place; LIMIT_EXCEEDED.
    """
    with Reader(load_yaml(data, Code.BUNDLE_INVALID, name), Code.BUNDLE_INVALID, name) as top:
        expect(top, "schema", MANIFEST_SCHEMA)
        bundle_name, version = _identity(top)
        manifest = BundleManifest(
            name=bundle_name,
            version=version,
            component=_relative(top, "component"),
            world=_visible(top, "world"),
            models=tuple(_model_source(item, place) for item, place in top.items("models", MAX_MODELS)),
            optional_imports=top.texts("optional_imports", MAX_INTERFACES),
            language=top.section("build", _language) if top.has("build") else None,
            annotations=read_annotations(top),
        )
        _distinct(top, "models", [model.name for model in manifest.models])
        _distinct(top, "optional_imports", manifest.optional_imports)
    return manifest


def build_bundle(manifest: BundleManifest, component: bytes, models: Mapping[str, bytes]) -> BuiltBundle:
    """Make a bundle of a parsed `bundle.yaml`, its component and, by name, exactly its models.

    Raises:
        FleetError: LIMIT_EXCEEDED; COMPONENT_INVALID; BUNDLE_INVALID when the models differ from the manifest's or an
            optional import is none of the component's imports.
    """
    if models.keys() != {model.name for model in manifest.models}:
        raise FleetError(Code.BUNDLE_INVALID, "the models are not those of the manifest", place=manifest.name)
    check_size(len(component), MAX_COMPONENT, manifest.component)
    for model in manifest.models:
        check_size(len(models[model.name]), MAX_MODEL, model.path)
    info = read_component(component)
    for optional in manifest.optional_imports:
        if not _imports(info.imports, optional):
            raise FleetError(Code.BUNDLE_INVALID, f"the component does not import {optional}", place=manifest.name)
    blobs: dict[str, bytes] = {}

    def put(media_type: str, data: bytes) -> dict[str, object]:
        digest = digest_of(data)
        blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def artifact(kind: str, media_type: str, data: bytes) -> dict[str, object]:
        layer = put(media_type, data)
        document = {"schemaVersion": 2, "mediaType": ARTIFACT_TYPE, "artifactType": kind, "layers": [layer]}
        return put(ARTIFACT_TYPE, dump_json({**document, "config": put(EMPTY_TYPE, EMPTY)})) | {"artifactType": kind}

    layer = put(WASM_LAYER_TYPE, component)
    config = {
        "created": CREATED,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer["digest"]],
        "component": {"imports": list(info.imports), "exports": list(info.exports)},
    }
    wasm: dict[str, object] = {"schemaVersion": 2, "mediaType": ARTIFACT_TYPE, "layers": [layer]}
    if manifest.annotations:
        wasm["annotations"] = dict(manifest.annotations)
    entries = [put(ARTIFACT_TYPE, dump_json({**wasm, "config": put(WASM_CONFIG_TYPE, dump_json(config))}))]
    described = []
    for model in sorted(manifest.models, key=lambda model: model.name):
        data = models[model.name]
        entries.append(artifact(MODEL_TYPE, f"{MODEL_LAYER}{model.encoding}", data))
        described.append({"name": model.name, "digest": digest_of(data), "size": len(data), "encoding": model.encoding})
    fleet_manifest = {
        "schema": MANIFEST_SCHEMA,
        "name": manifest.name,
        "version": manifest.version,
        "world": manifest.world,
        "models": described,
        "optional_imports": sorted(manifest.optional_imports),
        "imports": list(info.imports),
        "exports": list(info.exports),
    }
    document = dump_json(fleet_manifest)
    check_size(len(document), MAX_MANIFEST, "fleet manifest")
    entries.append(artifact(MANIFEST_TYPE, MANIFEST_LAYER_TYPE, document))
    index = dump_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "artifactType": BUNDLE_TYPE, "manifests": entries})
    check_size(len(index), MAX_INDEX, "index")
    return BuiltBundle(index, digest_of(index), MappingProxyType(blobs))


def open_bundle(index: bytes, read: Callable[[str, int], bytes]) -> VerifiedBundle:
    """Verify the documents of a bundle. Component and models are not read; their digests and sizes are returned.

    Checks, in this order:
        1. The index is at most MAX_INDEX bytes of strict JSON, an OCI index of the bundle type.
        2. It lists one Wasm artifact, then model artifacts, then one fleet manifest, and nothing else.
        3. Every document read has the size and the digest that its descriptor names, and sizes are bounded first.
        4. The Wasm artifact has the Wasm config and exactly one Wasm layer, which the config names.
        5. Every model artifact has exactly one layer of a known encoding.
        6. The fleet manifest is valid, and its models are exactly the model artifacts, in order.
        7. Its imports and exports are those of the Wasm config, and its optional imports are among the imports.

    Args:
        index: the bytes that the code role signed (`Target.check`).
        read: returns the content of a digest of the given size; it may raise BLOB_MISSING.

    Raises:
        FleetError: BUNDLE_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED, and what `read` raises.
    """
    wasm, *models, manifest = open_index(index)  # 1, 2
    blobs: dict[str, BlobRef] = {}

    def document(descriptor: Descriptor) -> bytes:  # 3
        data = read(descriptor.digest, descriptor.size)
        if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
            raise FleetError(Code.DIGEST_MISMATCH, "not the document that the index pins", place=descriptor.digest)
        return data

    def artifact(descriptor: Descriptor, limit: int) -> Artifact:
        opened = open_artifact(document(descriptor), descriptor, limit)
        for part in (descriptor, opened.config, opened.layer):
            blobs[part.digest] = BlobRef(part.digest, part.size)
        return opened

    code = artifact(wasm, MAX_COMPONENT)  # 4
    expect_type(code.config, WASM_CONFIG_TYPE)
    expect_type(code.layer, WASM_LAYER_TYPE)
    imports, exports = open_wasm_config(document(code.config), code.layer.digest)
    found = [artifact(model, MAX_MODEL).layer for model in models]  # 5
    encodings = [_encoding(layer) for layer in found]
    layer = artifact(manifest, MAX_MANIFEST).layer  # 6
    expect_type(layer, MANIFEST_LAYER_TYPE)
    verified = _open_manifest(document(layer), digest_of(index), code, tuple(blobs.values()))
    listed = [(model.digest, model.size, model.encoding) for model in verified.models]
    if listed != [(part.digest, part.size, encoding) for part, encoding in zip(found, encodings, strict=True)]:
        raise invalid("its models are not the model artifacts", "fleet manifest: models")
    if (verified.imports, verified.exports) != (imports, exports):  # 7
        raise invalid("imports or exports differ from the Wasm config", "fleet manifest")
    if not all(_imports(imports, optional) for optional in verified.optional_imports):
        raise invalid("not among the imports", "fleet manifest: optional_imports")
    return verified


def _imports(imports: Sequence[str], optional: str) -> bool:
    """Whether an optional import, written with or without a version, is among the imports."""
    return any(optional in {name, name.partition("@")[0]} for name in imports)


def _open_manifest(data: bytes, digest: str, code: Artifact, blobs: tuple[BlobRef, ...]) -> VerifiedBundle:
    with open_json(data, "fleet manifest") as top:
        expect(top, "schema", MANIFEST_SCHEMA)
        name, version = _identity(top)
        verified = VerifiedBundle(
            name=name,
            version=version,
            digest=digest,
            world=_visible(top, "world"),
            component=BlobRef(code.layer.digest, code.layer.size),
            models=tuple(_model_ref(item, place) for item, place in top.items("models", MAX_MODELS)),
            optional_imports=top.texts("optional_imports", MAX_INTERFACES),
            imports=top.texts("imports", MAX_INTERFACES),
            exports=top.texts("exports", MAX_INTERFACES),
            blobs=blobs,
            annotations=code.annotations,
        )
        _distinct(top, "models", [model.name for model in verified.models])
    return verified


def _model_ref(item: Value, place: str) -> ModelRef:
    with Reader(item, Code.BUNDLE_INVALID, place) as entry:
        return ModelRef(_name(entry), read_digest(entry), entry.integer("size", 0, MAX_MODEL), entry.text("encoding"))


def _model_source(item: Value, place: str) -> ModelSource:
    with Reader(item, Code.BUNDLE_INVALID, place) as entry:
        encoding = entry.text("encoding", "onnx")
        if encoding not in ENCODINGS:
            entry.fail("encoding", f"expected one of {', '.join(sorted(ENCODINGS))}")
        return ModelSource(_name(entry), _relative(entry, "path"), encoding)


def _language(entry: Reader) -> Language:
    text = entry.text("language")
    if text not in set(Language):
        entry.fail("language", f"expected one of {', '.join(Language)}")
    return Language(text)


def _encoding(layer: Descriptor) -> str:
    encoding = layer.media_type.removeprefix(MODEL_LAYER)
    if encoding not in ENCODINGS or encoding == layer.media_type:
        raise invalid(f"no node loads {layer.media_type}", layer.place)
    return encoding


def _name(reader: Reader) -> str:
    name = reader.text("name")
    if not is_name(name):
        reader.fail("name", "expected lower-case words joined by hyphens")
    return name


def _identity(reader: Reader) -> tuple[str, str]:
    version = reader.text("version")
    if not is_version(version):
        reader.fail("version", "expected a version such as 1.4.0")
    return _name(reader), version


def _relative(reader: Reader, key: str) -> str:
    """Read a path below the manifest's folder: what a bundle holds must not depend on the machine that builds it."""
    path = reader.text(key)
    if not path or "\0" in path or path.startswith("/") or ".." in path.split("/"):
        reader.fail(key, "expected a path below the manifest's folder")
    return path


def _visible(reader: Reader, key: str) -> str:
    text = reader.text(key)
    if not text or len(text) > MAX_WORLD or not text.isprintable():
        reader.fail(key, f"expected up to {MAX_WORLD} printable characters")
    return text


def _distinct(reader: Reader, key: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        reader.fail(key, "an entry occurs twice")

"""Bundles: the same input gives the same bytes, and only the shape that the builder makes is opened."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import bundle
from fleet.bundle import BuiltBundle, Language, VerifiedBundle, build_bundle, open_bundle, parse_bundle_manifest
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.oci import EMPTY, MAX_INDEX, MAX_MANIFEST, MAX_MODELS, digest_of
from tests.fakes.refusals import code_of

if TYPE_CHECKING:
    from collections.abc import Callable

COMPONENT = (Path(__file__).parents[2] / "components/context-agent/context_agent.wasm").read_bytes()
TEXT = b"""\
schema: fleet.bundle/v1
name: context-agent
version: 1.4.0
component: context_agent.wasm
world: syuthd:agent-mesh/agent-world
models:
  - {name: second, path: model/second.onnx, encoding: onnx}
  - {name: context, path: model/context.onnx}
optional_imports: ["wasi:nn/graph", "wasi:logging/logging@0.1.0-draft"]
"""
MANIFEST = parse_bundle_manifest(TEXT, "bundle.yaml")
MODELS = {"context": b"first model", "second": b"second model"}
BUILT = build_bundle(MANIFEST, COMPONENT, MODELS)


def opened(built: BuiltBundle) -> VerifiedBundle:
    return open_bundle(built.index, lambda digest, _: built.blobs[digest])


def refused(code: Code, built: BuiltBundle) -> FleetError:
    with pytest.raises(FleetError) as caught:
        opened(built)
    assert caught.value.code is code
    return caught.value


def test_a_bundle_opens_as_what_was_built() -> None:
    verified = opened(BUILT)
    assert (verified.name, verified.version, verified.digest) == ("context-agent", "1.4.0", digest_of(BUILT.index))
    assert verified.component.digest == digest_of(COMPONENT)
    assert [(model.name, model.size, model.encoding) for model in verified.models] == [
        ("context", 11, "onnx"),
        ("second", 12, "onnx"),
    ]
    assert "wasi:keyvalue/store@0.2.0-draft2" in verified.imports
    assert verified.exports
    assert not verified.annotations
    assert {ref.digest: ref.size for ref in verified.blobs} == {
        digest: len(data) for digest, data in BUILT.blobs.items()
    }


def test_the_same_input_gives_the_same_bytes() -> None:
    reordered = dict(reversed(MODELS.items()))
    assert build_bundle(parse_bundle_manifest(TEXT, "again"), COMPONENT, reordered).index == BUILT.index


def test_component_and_models_are_not_read_on_opening() -> None:
    heavy = {digest_of(data) for data in (COMPONENT, *MODELS.values())}

    def read(digest: str, size: int) -> bytes:
        assert digest not in heavy
        assert size == len(BUILT.blobs[digest])
        return BUILT.blobs[digest]

    open_bundle(BUILT.index, read)


def test_what_reading_raises_passes_through() -> None:
    def read(digest: str, _: int) -> bytes:
        raise FleetError(Code.BLOB_MISSING, "not here", digest=digest)

    assert code_of(open_bundle, BUILT.index, read) is Code.BLOB_MISSING


def test_what_is_said_of_a_component_is_kept_and_decides_nothing() -> None:
    said = b"annotations: {org.opencontainers.image.licenses: MIT, note: 'two\n\n  lines'}\n"
    built = build_bundle(parse_bundle_manifest(TEXT + said, "bundle.yaml"), COMPONENT, MODELS)
    verified = opened(built)
    assert verified.annotations == {"org.opencontainers.image.licenses": "MIT", "note": "two\nlines"}
    assert replace(verified, annotations={}, digest="", blobs=()) == replace(
        opened(BUILT), annotations={}, digest="", blobs=()
    )


def test_annotations_are_bounded() -> None:
    many = dump_json({str(i): "" for i in range(33)})
    assert code_of(parse_bundle_manifest, TEXT + b"annotations: " + many, "bundle.yaml") is Code.BUNDLE_INVALID
    refused(Code.BUNDLE_INVALID, edited(lambda d: d.artifacts[0].update(annotations={"long": "x" * 1025})))
    refused(Code.BUNDLE_INVALID, edited(lambda d: d.artifacts[-1].update(annotations={"any": "thing"})))


# A delta may become an artifact beside a bundle, and nothing of the format changes


def test_a_component_may_come_out_of_a_delta() -> None:
    """A bundle says which bytes, never how they came: here out of an older version and what differs."""
    older = COMPONENT[:100_000] + b"older" + COMPONENT[100_000:]
    packer = zlib.compressobj(zdict=older[-16_000:])
    delta = packer.compress(COMPONENT[-16_000:]) + packer.flush()
    assert len(delta) < 1_000

    def read(digest: str, _: int) -> bytes:
        if digest != digest_of(COMPONENT):
            return BUILT.blobs[digest]
        unpacker = zlib.decompressobj(zdict=older[-16_000:])
        return COMPONENT[:-16_000] + unpacker.decompress(delta)

    verified = open_bundle(BUILT.index, read)
    assert digest_of(read(verified.component.digest, verified.component.size)) == verified.component.digest


@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_2_an_unknown_artifact_in_the_signed_index_is_refused(place: int) -> None:
    """The index is closed on purpose: what a node does not know it does not run, and does not fetch."""
    delta = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(b"delta"), "size": 5}

    def add(d: Documents) -> None:
        d.index["manifests"].insert(place, {**delta, "artifactType": "application/vnd.fleet.delta.v1"})

    documents = Documents()
    add(documents)
    refused(Code.BUNDLE_INVALID, BuiltBundle(dump_json(documents.index), "", documents.blobs))


# Changing one document and everything that pins it, as a hostile code signer could


class Documents:
    """The JSON documents of a bundle, open for editing."""

    def __init__(self) -> None:
        self.index = json.loads(BUILT.index)
        self.blobs = dict(BUILT.blobs)
        self.artifacts = [json.loads(self.blobs[entry["digest"]]) for entry in self.index["manifests"]]
        self.config = json.loads(self.blobs[self.artifacts[0]["config"]["digest"]])
        self.manifest = json.loads(self.blobs[self.artifacts[-1]["layers"][0]["digest"]])

    def put(self, descriptor: dict[str, object], document: object) -> None:
        data = dump_json(document)
        descriptor.update(digest=digest_of(data), size=len(data))
        self.blobs[digest_of(data)] = data

    def built(self) -> BuiltBundle:
        if self.artifacts and self.artifacts[0]["config"]["mediaType"].startswith("application/vnd.wasm"):
            self.put(self.artifacts[0]["config"], self.config)
        for layer in self.artifacts[-1]["layers"]:
            self.put(layer, self.manifest)
        for entry, artifact in zip(self.index["manifests"], self.artifacts, strict=False):
            self.put(entry, artifact)
        index = dump_json(self.index)
        return BuiltBundle(index, digest_of(index), self.blobs)


def edited(change: Callable[[Documents], object]) -> BuiltBundle:
    documents = Documents()
    change(documents)
    return documents.built()


def test_editing_nothing_changes_nothing() -> None:
    assert edited(lambda _: None).index == BUILT.index


# The numbers are those of open_bundle.


@pytest.mark.parametrize("index", [b"", b"[]", b"{}", BUILT.index[:-1], BUILT.index.replace(b"{", b'{"a":1,', 1)])
def test_1_only_a_strict_index_is_read(index: bytes) -> None:
    refused(Code.BUNDLE_INVALID, BuiltBundle(index, "", BUILT.blobs))


def test_1_the_index_has_a_limit() -> None:
    refused(Code.LIMIT_EXCEEDED, BuiltBundle(BUILT.index + b" " * MAX_INDEX, "", BUILT.blobs))


@pytest.mark.parametrize(
    "change", [{"schemaVersion": 1}, {"mediaType": "other"}, {"artifactType": "other"}, {"annotations": {}}]
)
def test_1_only_an_index_of_the_bundle_type_is_read(change: dict[str, object]) -> None:
    refused(Code.BUNDLE_INVALID, edited(lambda d: d.index.update(change)))


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries.clear(),
        lambda entries: entries.pop(),
        lambda entries: entries.pop(0),
        lambda entries: entries.reverse(),
        lambda entries: entries.append(entries[-1]),
        lambda entries: entries[1].update(artifactType="other"),
        lambda entries: entries[0].update(mediaType="other"),
        lambda entries: entries[0].update(digest="sha256:AB"),
        lambda entries: entries[0].update(size=-1),
    ],
)
def test_2_an_index_lists_one_component_its_models_and_one_manifest(
    change: Callable[[list[dict[str, object]]], object],
) -> None:
    index = json.loads(BUILT.index)
    change(index["manifests"])
    error = refused(Code.BUNDLE_INVALID, BuiltBundle(dump_json(index), "", BUILT.blobs))
    assert str(error.detail["place"]).startswith("index: manifests")


@pytest.mark.parametrize("number", [1, -1])
def test_2_every_artifact_says_what_it_is(number: int) -> None:
    def silence(d: Documents) -> None:
        del d.index["manifests"][number]["artifactType"], d.artifacts[number]["artifactType"]

    refused(Code.BUNDLE_INVALID, edited(silence))


def test_2_there_is_a_limit_of_models() -> None:
    refused(Code.BUNDLE_INVALID, edited(lambda d: d.index["manifests"].extend([d.index["manifests"][1]] * MAX_MODELS)))


@pytest.mark.parametrize("number", range(3))
def test_3_every_document_is_checked_against_its_digest(number: int) -> None:
    documents = Documents()
    digest = [
        documents.index["manifests"][0]["digest"],
        documents.artifacts[0]["config"]["digest"],
        documents.artifacts[-1]["layers"][0]["digest"],
    ][number]
    for data in (BUILT.blobs[digest] + b" ", b" " + BUILT.blobs[digest][1:]):
        refused(Code.DIGEST_MISMATCH, BuiltBundle(BUILT.index, "", {**BUILT.blobs, digest: data}))


@pytest.mark.parametrize("wrong", [-1, 1])
def test_3_every_document_has_the_size_that_its_descriptor_names(wrong: int) -> None:
    index = json.loads(BUILT.index)
    index["manifests"][0]["size"] += wrong
    refused(Code.DIGEST_MISMATCH, BuiltBundle(dump_json(index), "", BUILT.blobs))


@pytest.mark.parametrize(("artifact", "limit"), [(0, bundle.MAX_COMPONENT), (1, bundle.MAX_MODEL), (-1, MAX_MANIFEST)])
def test_3_sizes_are_bounded_before_anything_is_read(artifact: int, limit: int) -> None:
    documents = Documents()
    documents.artifacts[artifact]["layers"][0]["size"] = limit + 1
    documents.put(documents.index["manifests"][artifact], documents.artifacts[artifact])
    refused(Code.LIMIT_EXCEEDED, BuiltBundle(dump_json(documents.index), "", documents.blobs))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.artifacts[0]["layers"].append(d.artifacts[1]["layers"][0]),
        lambda d: d.artifacts[0].update(layers=[]),
        lambda d: d.artifacts[0].update(artifactType="other"),
        lambda d: d.artifacts[0].update(schemaVersion=3),
        lambda d: d.artifacts[0].update(mediaType="other"),
        lambda d: d.artifacts[0]["layers"][0].update(mediaType="application/octet-stream"),
        lambda d: d.artifacts[0]["config"].update(mediaType="other"),
        lambda d: d.config.update(layerDigests=[digest_of(b"other")]),
        lambda d: d.config.update(layerDigests=[]),
        lambda d: d.config.update(created="2026-01-01T00:00:00Z"),
        lambda d: d.config.update(os="linux"),
        lambda d: d.config.update(architecture="amd64"),
        lambda d: d.config["component"].update(target="x"),
    ],
)
def test_4_the_wasm_artifact_is_strict(change: Callable[[Documents], object]) -> None:
    refused(Code.BUNDLE_INVALID, edited(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.artifacts[1].update(layers=[]),
        lambda d: d.artifacts[1].update(artifactType="other"),
        lambda d: d.artifacts[1]["layers"][0].update(mediaType="application/vnd.fleet.model.pickle"),
        lambda d: d.artifacts[1]["config"].update(mediaType="other"),
        lambda d: d.artifacts[1]["config"].update(digest=digest_of(EMPTY + b" ")),
    ],
)
def test_5_a_model_artifact_has_one_layer_of_a_known_encoding(change: Callable[[Documents], object]) -> None:
    refused(Code.BUNDLE_INVALID, edited(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.artifacts[-1]["layers"][0].update(mediaType="application/json"),
        lambda d: d.manifest.update(schema="fleet.bundle/v2"),
        lambda d: d.manifest.update(name="Context"),
        lambda d: d.manifest.update(version="1"),
        lambda d: d.manifest.update(world=""),
        lambda d: d.manifest.update(world="a\nb"),
        lambda d: d.manifest["models"].reverse(),
        lambda d: d.manifest["models"].pop(),
        lambda d: d.manifest["models"][0].update(digest=digest_of(b"poisoned")),
        lambda d: d.manifest["models"][0].update(size=1),
        lambda d: d.manifest["models"][0].update(encoding="openvino"),
        lambda d: d.manifest["models"][0].update(name="second"),
    ],
)
def test_6_the_fleet_manifest_fits_the_artifacts(change: Callable[[Documents], object]) -> None:
    refused(Code.BUNDLE_INVALID, edited(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.manifest["imports"].pop(),
        lambda d: d.manifest["exports"].append("wasi:cli/run"),
        lambda d: d.config["component"]["imports"].append("wasi:sockets/tcp"),
        lambda d: d.manifest["optional_imports"].append("wasi:sockets/tcp"),
    ],
)
def test_7_imports_and_exports_agree(change: Callable[[Documents], object]) -> None:
    refused(Code.BUNDLE_INVALID, edited(change))


@given(st.data())
def test_no_changed_byte_of_a_document_goes_unnoticed(data: st.DataObject) -> None:
    small = sorted(digest for digest, blob in BUILT.blobs.items() if blob.startswith(b"{") and len(blob) > 2)
    digest = data.draw(st.sampled_from(small))
    blob = bytearray(BUILT.blobs[digest])
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refused(Code.DIGEST_MISMATCH, BuiltBundle(BUILT.index, "", {**BUILT.blobs, digest: bytes(blob)}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["index", "artifact", "config", "manifest"]), st.data(), JSON)
def test_no_nonsense_raises_anything_but_a_fleet_error(kind: str, data: st.DataObject, value: object) -> None:
    documents = Documents()
    target = {
        "index": documents.index,
        "artifact": documents.artifacts[data.draw(st.integers(0, 3))],
        "config": documents.config,
        "manifest": documents.manifest,
    }[kind]
    field = data.draw(st.sampled_from(sorted(target)))
    if kind == "index":
        built = BuiltBundle(dump_json({**documents.index, field: value}), "", documents.blobs)
    elif kind == "artifact":
        number = documents.artifacts.index(target)
        documents.put(documents.index["manifests"][number], {**target, field: value})
        built = BuiltBundle(dump_json(documents.index), "", documents.blobs)
    else:
        target[field] = value
        built = documents.built()
    code_of(opened, built)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_fleet_error(data: bytes) -> None:
    assert code_of(open_bundle, data, lambda *_: data) is not None
    assert code_of(parse_bundle_manifest, data, "bundle.yaml") is not None


# bundle.yaml


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"fleet.bundle/v1", b"fleet.bundle/v2"),
        (b"name: context-agent", b"name: Context"),
        (b"1.4.0", b"1.4"),
        (b"1.4.0", b"1.4.0+build"),
        (b"component: context_agent.wasm", b"component: /etc/passwd"),
        (b"component: context_agent.wasm", b"component: ../secret"),
        (b"component: context_agent.wasm", b"component: ''"),
        (b"model/context.onnx", b"a/../../b"),
        (b"name: second", b"name: context"),
        (b"encoding: onnx", b"encoding: pickle"),
        (b"wasi:nn/graph", b"wasi:logging/logging@0.1.0-draft"),
        (b"world:", b"more: 1\nworld:"),
        (b"world:", b"build: {language: cobol}\nworld:"),
        (b"world:", b"build: {}\nworld:"),
        (b"world:", b"build: {language: rust, command: make}\nworld:"),
        (b"world:", b"build: rust\nworld:"),
        (b"world:", b"annotations: {licence: 1}\nworld:"),
        (b"world:", b'annotations: {licence: "\\e[31m"}\nworld:'),
        (b"world:", b"annotations: {'': MIT}\nworld:"),
    ],
)
def test_other_manifests_are_refused(old: bytes, new: bytes) -> None:
    changed = TEXT.replace(old, new, 1)
    assert changed != TEXT
    assert code_of(parse_bundle_manifest, changed, "bundle.yaml") is Code.BUNDLE_INVALID


@pytest.mark.parametrize("language", Language)
def test_a_manifest_may_name_what_its_component_is_built_from(language: Language) -> None:
    assert MANIFEST.language is None
    built = parse_bundle_manifest(TEXT + f"build: {{language: {language}}}\n".encode(), "bundle.yaml")
    assert built == replace(MANIFEST, language=language)
    assert build_bundle(built, COMPONENT, MODELS).index == BUILT.index


def test_the_builder_takes_exactly_the_models_of_the_manifest() -> None:
    assert code_of(build_bundle, MANIFEST, COMPONENT, {"context": b""}) is Code.BUNDLE_INVALID
    assert code_of(build_bundle, MANIFEST, COMPONENT, MODELS | {"third": b""}) is Code.BUNDLE_INVALID


def test_the_builder_refuses_what_no_node_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    other = parse_bundle_manifest(TEXT.replace(b"wasi:nn/graph", b"wasi:sockets/tcp"), "bundle.yaml")
    assert code_of(build_bundle, other, COMPONENT, MODELS) is Code.BUNDLE_INVALID
    assert code_of(build_bundle, MANIFEST, b"no component", MODELS) is Code.COMPONENT_INVALID
    for limit in ("MAX_COMPONENT", "MAX_MODEL", "MAX_MANIFEST", "MAX_INDEX"):
        with monkeypatch.context() as patch:
            patch.setattr(bundle, limit, 10)
            assert code_of(build_bundle, MANIFEST, COMPONENT, MODELS) is Code.LIMIT_EXCEEDED

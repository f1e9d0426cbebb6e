"""Wasm artifacts of others: what makes a bundle is found, and everything else is passed over or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.oci import ARTIFACT_TYPE, BUNDLE_TYPE, INDEX_TYPE, MAX_INDEX, MAX_MANIFEST, BlobRef, digest_of
from fleet.wasm_artifact import WasmArtifact, find_wasm_artifact, is_index, open_wasm_artifact, read_wasm_config
from tests.fakes.refusals import code_of

AUTHORS = "org.opencontainers.image.authors"
COMPONENT = digest_of(b"component")
CONFIG = digest_of(b"config")

# As wkg 0.13 and rust-oci-wasm write them; `created` is the moment, and `author` null where nobody said.
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": ARTIFACT_TYPE,
    "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": CONFIG, "size": 6},
    "layers": [{"mediaType": "application/wasm", "digest": COMPONENT, "size": 9}],
    "annotations": {"org.opencontainers.image.version": "1.2.3", "org.opencontainers.image.licenses": "Apache-2.0"},
}
SAID: dict[str, Any] = {
    "created": "2026-05-01T10:00:00.123456Z",
    "author": None,
    "architecture": "wasm",
    "os": "wasip2",
    "layerDigests": [COMPONENT],
    "component": {"exports": ["wasi:http/incoming-handler@0.2.0"], "imports": ["wasi:not/told@1.0.0"], "target": None},
}
ARTIFACT = open_wasm_artifact(dump_json(MANIFEST), "artifact")


def index(*entries: dict[str, object], **more: object) -> bytes:
    return dump_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries, **more})


def entry(number: int, **more: object) -> dict[str, object]:
    return {"mediaType": ARTIFACT_TYPE, "digest": digest_of(bytes([number])), "size": number, **more}


def found(document: bytes) -> BlobRef:
    return find_wasm_artifact(document, "index")


def test_an_artifact_names_its_component_its_config_and_what_was_said() -> None:
    assert ARTIFACT.component == BlobRef(COMPONENT, 9)
    assert ARTIFACT.config == BlobRef(CONFIG, 6)
    assert ARTIFACT.annotations == MANIFEST["annotations"]


def test_keys_of_others_are_passed_over() -> None:
    more = {**MANIFEST, "artifactType": "application/vnd.wasm.component.v1+wasm", "subject": {"digest": "?"}}
    del more["mediaType"]
    assert open_wasm_artifact(dump_json(more), "artifact") == ARTIFACT


# The numbers are those of open_wasm_artifact


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schemaVersion":2,"schemaVersion":2}'])
def test_1_only_a_manifest_is_read(data: bytes) -> None:
    assert code_of(open_wasm_artifact, data, "artifact") is Code.BUNDLE_INVALID


def test_1_a_manifest_has_a_limit() -> None:
    assert code_of(open_wasm_artifact, dump_json(MANIFEST) + b" " * MAX_MANIFEST, "artifact") is Code.LIMIT_EXCEEDED


def changed(place: str, value: object) -> bytes:
    manifest = {**MANIFEST, "config": dict(MANIFEST["config"]), "layers": [dict(MANIFEST["layers"][0])]}
    target: Any = {"": manifest, "config": manifest["config"], "layer": manifest["layers"][0]}[place.partition(".")[0]]
    target[place.partition(".")[2]] = value
    return dump_json(manifest)


@pytest.mark.parametrize(
    ("place", "value", "code"),
    [
        (".schemaVersion", 1, Code.BUNDLE_INVALID),  # 1
        (".mediaType", INDEX_TYPE, Code.BUNDLE_INVALID),
        ("config.mediaType", "application/vnd.oci.image.config.v1+json", Code.BUNDLE_INVALID),  # 2
        ("config.size", MAX_MANIFEST + 1, Code.LIMIT_EXCEEDED),
        ("config.digest", "sha512:00", Code.BUNDLE_INVALID),
        (".layers", [], Code.BUNDLE_INVALID),  # 3
        (".layers", MANIFEST["layers"] * 2, Code.BUNDLE_INVALID),
        ("layer.mediaType", "application/vnd.wasm.content.layer.v1+wasm", Code.BUNDLE_INVALID),
        ("layer.size", 2**40, Code.LIMIT_EXCEEDED),
        ("layer.size", -1, Code.BUNDLE_INVALID),
        ("layer.digest", "sha256:AA", Code.BUNDLE_INVALID),
        (".annotations", {"title": "\x1b[31mred"}, Code.BUNDLE_INVALID),  # 4
        (".annotations", {"title": 1}, Code.BUNDLE_INVALID),
    ],
)
def test_what_is_no_wasm_artifact_is_refused(place: str, value: object, code: Code) -> None:
    assert code_of(open_wasm_artifact, changed(place, value), "artifact") is code


def test_2_another_kind_of_artifact_is_named_with_a_remedy() -> None:
    with pytest.raises(FleetError, match=r"vnd\.oci\.image\.config") as caught:
        open_wasm_artifact(changed("config.mediaType", "application/vnd.oci.image.config.v1+json"), "artifact")
    assert "wkg oci push" in caught.value.remedy


# The numbers are those of read_wasm_config


def said(**changes: object) -> bytes:
    return dump_json({**SAID, **changes})


@pytest.mark.parametrize("config", [dump_json(SAID), b"{}", said(os="linux")])
def test_a_config_adds_nothing_but_an_author(config: bytes) -> None:
    assert read_wasm_config(config, ARTIFACT, "config") == ARTIFACT.annotations


def test_an_author_is_kept_unless_an_annotation_names_one() -> None:
    assert read_wasm_config(said(author="Ada"), ARTIFACT, "config") == {**ARTIFACT.annotations, AUTHORS: "Ada"}
    named = WasmArtifact(ARTIFACT.config, ARTIFACT.component, {AUTHORS: "Grace"})
    assert read_wasm_config(said(author="Ada"), named, "config") == {AUTHORS: "Grace"}


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (b"[]", Code.BUNDLE_INVALID),  # 1
        (said(architecture="amd64"), Code.BUNDLE_INVALID),  # 2
        (said(os="wasip1"), Code.COMPONENT_INVALID),
        (said(layerDigests=[CONFIG]), Code.BUNDLE_INVALID),  # 3
        (said(layerDigests=[COMPONENT, COMPONENT]), Code.BUNDLE_INVALID),
        (said(author=7), Code.BUNDLE_INVALID),
        (said(author="\x07"), Code.BUNDLE_INVALID),
    ],
)
def test_a_config_of_something_else_is_refused(config: bytes, code: Code) -> None:
    assert code_of(read_wasm_config, config, ARTIFACT, "config") is code


# The numbers are those of find_wasm_artifact


@pytest.mark.parametrize(
    "document",
    [
        index(entry(1)),
        index(
            entry(1, platform={"architecture": "wasm", "os": "wasip2"}), entry(2, platform={"architecture": "amd64"})
        ),
        index(entry(2), entry(1, artifactType="application/vnd.wasm.config.v0+json"), entry(3, platform={})),
        index({"mediaType": INDEX_TYPE, "digest": CONFIG, "size": 1}, entry(1), annotations={"any": "thing"}),
        index(entry(1, mediaType=INDEX_TYPE), entry(2, mediaType="application/octet-stream")),
    ],
)
def test_3_the_wasm_artifact_is_found_among_others(document: bytes) -> None:
    assert found(document) == BlobRef(digest_of(b"\x01"), 1)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", Code.BUNDLE_INVALID),  # 1
        (b" " * (MAX_INDEX + 1), Code.LIMIT_EXCEEDED),
        (index(*[entry(1)] * 65), Code.BUNDLE_INVALID),
        (index(entry(1), artifactType=BUNDLE_TYPE), Code.BUNDLE_INVALID),  # 2
        (index(), Code.BUNDLE_INVALID),  # 3
        (index(entry(1), entry(2)), Code.BUNDLE_INVALID),
        (index(entry(1, mediaType=INDEX_TYPE), entry(2, mediaType=INDEX_TYPE)), Code.BUNDLE_INVALID),
        (index(entry(1, size=2**50)), Code.LIMIT_EXCEEDED),
        (index(entry(1, platform="wasm")), Code.BUNDLE_INVALID),
    ],
)
def test_an_index_without_the_one_artifact_is_refused(document: bytes, code: Code) -> None:
    assert code_of(found, document) is code


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (index(), True),
        (b'{"manifests":[]}', True),
        (dump_json(MANIFEST), False),
        (b"{}", False),
        (b'{"manifests":[],"layers":[]}', False),
    ],
)
def test_an_index_is_told_from_a_manifest(document: bytes, expected: bool) -> None:
    assert is_index(document, "document") is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*MANIFEST, *SAID, "manifests", "platform"]), JSON, st.binary(max_size=60))
def test_no_nonsense_raises_anything_but_a_fleet_error(key: str, value: object, noise: bytes) -> None:
    for document in (dump_json({**MANIFEST, **SAID, "manifests": [entry(1)], key: value}), noise):
        code_of(open_wasm_artifact, document, "artifact")
        code_of(found, document)
        code_of(read_wasm_config, document, ARTIFACT, "config")
        code_of(is_index, document, "document")

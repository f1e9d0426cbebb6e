"""What is fuzzed, of documents that people, registries and other tools hand over.

Policies, manifests, staged changes, crash reports, OCI layouts and artifacts of others, exports of the audit log.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from datetime import timedelta
from pathlib import Path

from fleet.bundle import parse_bundle_manifest
from fleet.component import read_component
from fleet.crash import (
    decode_recording,
    decode_report,
    encode_recording,
    encode_report,
)
from fleet.documents import dump_json
from fleet.grants import parse_break_glass, parse_ceilings
from fleet.manifest import parse_application
from fleet.oci import digest_of
from fleet.release import add_target
from fleet.release.changes import RemoveDocument, Renew
from fleet.release.keys import NamedKey, format_named_key, parse_named_key
from fleet.release.staging import encode_staged, parse_staged, sign_staged, stage
from fleet.trust import open_release
from fleet.wasm_artifact import find_wasm_artifact, is_index, open_wasm_artifact, read_wasm_config
from orchestrator.audit_export import SCHEMA, open_export
from orchestrator.cli.layout import write_layout
from orchestrator.cli.sources import open_layout
from orchestrator.guardrails import default_text, load_guardrails
from tests.endurance.parsers.parser import Parser
from tests.fakes.crash import REPORT
from tests.fakes.fleet import bundle, component
from tests.fakes.publisher import NOW, Publisher, key

_BUNDLE = bundle("one", "1.0.0", models={"m": b"weights"})
_PUBLISHER = Publisher()
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzzed-")
"""For what is only read from files; removed at the end of the process."""


def _ceilings(data: bytes) -> None:
    parse_ceilings(data, "policy/ceilings.yaml")


def _break_glass(data: bytes) -> None:
    parse_break_glass(data)


def _guardrails(data: bytes) -> None:
    load_guardrails(data)


def _application(data: bytes) -> None:
    parse_application(data)


def _manifest(data: bytes) -> None:
    parse_bundle_manifest(data, "bundle.yaml")


def _component(data: bytes) -> None:
    read_component(data)


def _named_key(data: bytes) -> None:
    found = parse_named_key(data.decode("utf-8", "replace"), "key")
    assert parse_named_key(format_named_key(found), "key") == found


def _staged(data: bytes) -> None:
    staged = parse_staged(data, _PUBLISHER.root, "change.json")
    assert parse_staged(encode_staged(staged), _PUBLISHER.root, "change.json") == staged


def _metadata(data: bytes) -> None:
    """One file of a release, named by its first line."""
    name, _, content = data.partition(b"\n")
    files = {**_PUBLISHER.files, name.decode("utf-8", "replace"): content}
    open_release(files, root=_PUBLISHER.root, now=NOW, allow_dev=True)


def _crash(data: bytes) -> None:
    report = decode_report(data, "crash.json")
    assert decode_report(encode_report(report), "crash.json") == report


def _recording(data: bytes) -> None:
    recording = decode_recording(data)
    assert decode_recording(encode_recording(recording)) == recording


def _layout(data: bytes) -> None:
    """An `index.json` beside the blobs of a bundle."""
    folder = Path(_FOLDER.name) / "layout"
    if not folder.exists():
        write_layout(folder, _BUNDLE.index, _BUNDLE.blobs.items(), "1.0.0")
    (folder / "index.json").write_bytes(data)
    open_layout(folder)


def _index_of_others(data: bytes) -> None:
    if is_index(data, "index.json"):
        find_wasm_artifact(data, "index.json")


def _artifact_of_others(data: bytes) -> None:
    """A manifest and a config, one on each side of an empty line."""
    manifest, _, config = data.partition(b"\n\n")
    read_wasm_config(config, open_wasm_artifact(manifest, "manifest"), "config")


def _export(data: bytes) -> None:
    file = Path(_FOLDER.name) / "export.tar"
    file.write_bytes(data)
    with open_export(file) as export:
        export.header()
        export.metadata()
        for _ in export.items("leaves"):
            pass


def _staged_seed() -> bytes:
    path = "bundles/default/one/1.0.0.json"
    _PUBLISHER.files = add_target(_PUBLISHER.files, _PUBLISHER.keys, path, _BUNDLE.index, {}, NOW)
    _PUBLISHER.publish()
    base = open_release(_PUBLISHER.files, root=_PUBLISHER.root, now=NOW, allow_dev=True)
    staged = stage(base, (RemoveDocument(path), Renew("targets")), "withdraw", NOW + timedelta(hours=1), {})
    return encode_staged(sign_staged(staged, [key("code-default")]))


def _layout_seed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_layout(Path(folder) / "one", _BUNDLE.index, _BUNDLE.blobs.items(), "1.0.0")
        return (Path(folder) / "one" / "index.json").read_bytes()


def _artifact_seed() -> bytes:
    data = component()
    config = json.dumps(
        {"architecture": "wasm", "os": "wasip2", "author": "somebody", "layerDigests": [digest_of(data)]}
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _described("application/vnd.wasm.config.v0+json", config),
        "layers": [_described("application/wasm", data)],
        "annotations": {"org.opencontainers.image.title": "one"},
    }
    return json.dumps(manifest).encode() + b"\n\n" + config


def _index_seed() -> bytes:
    manifest, _, _ = _artifact_seed().partition(b"\n\n")
    entry = _described("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["platform"] = {"architecture": "wasm", "os": "wasip2"}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    ).encode()


def _described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _export_seed() -> bytes:
    files = {
        "export.json": dump_json({"schema": SCHEMA, "fleet": "demo", "size": 1, "rows_size": 0}),
        "leaves": (4).to_bytes(4, "big") + b"leaf",
        "trust/1.root.json": b"{}",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


_STAGED = _staged_seed()
_CEILINGS = b"""\
schema: fleet.ceilings/v1
ceilings:
  - {name: all, nodes: {labels: {site: oslo}}, caps: {wasi:logging/logging: []}, limits: {memory: 1MiB}}
"""
_BREAK_GLASS = b"""\
schema: fleet.break-glass/v1
max_validity: 4h
caps: {'wasi:keyvalue/store': [{buckets: [one], ops: [get]}]}
"""
_APPLICATION = b"""\
schema: fleet.application/v1
application: climate
agents:
  - {name: context, bundle: context-agent@0.1.0, config: {a: b}, placement: {labels: {site: oslo}}}
rollout: {waves: [1, 50%, 100%]}
"""
_MANIFEST = b"""\
schema: fleet.bundle/v1
name: one
version: 1.0.0
component: one.wasm
world: test:agent/agent
models: [{name: m, path: m.onnx, encoding: onnx}]
"""

PARSERS: dict[str, Parser] = {
    "fleet ceilings": Parser(_ceilings, [_CEILINGS]),
    "break-glass policy": Parser(_break_glass, [_BREAK_GLASS]),
    "guardrails": Parser(_guardrails, [default_text().encode()], longest=16 * 1024),
    "application manifest": Parser(_application, [_APPLICATION]),
    "bundle manifest": Parser(_manifest, [_MANIFEST]),
    "component": Parser(_component, [component("wasi:logging/logging@0.1.0-draft")]),
    "named key": Parser(_named_key, [format_named_key(NamedKey(key("a").public, "ann")).encode()], longest=512),
    "staged change": Parser(_staged, [_STAGED], longest=64 * 1024),
    "release metadata": Parser(
        _metadata,
        [f"{name}\n".encode() + data for name, data in sorted(_PUBLISHER.files.items())],
        longest=16 * 1024,
    ),
    "crash report": Parser(_crash, [encode_report(REPORT)]),
    "recording": Parser(_recording, [encode_recording(REPORT.recording)]),
    "OCI layout": Parser(_layout, [_layout_seed()]),
    "OCI index of others": Parser(_index_of_others, [_index_seed()]),
    "OCI artifact of others": Parser(_artifact_of_others, [_artifact_seed()]),
    "audit export": Parser(_export, [_export_seed()], longest=32 * 1024),
}

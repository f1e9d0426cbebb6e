"""A release that is carried to a node in a folder, as `fleetctl trust export` writes one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from fleet.model import DesiredState
from fleet.oci import digest_of
from tests.fakes.fleet import FleetWorld


def write_out(world: FleetWorld, folder: Path, desired: DesiredState | None = None) -> Path:
    """Write a folder as `fleetctl trust export` does."""
    for name, data in world.publisher.files.items():
        put(folder / "metadata" / name, data)
    for data in world.blobs.values():
        put(folder / "blobs" / "sha256" / digest_of(data).removeprefix("sha256:"), data)
    put(folder / "documents" / "trust" / "fleet.json", world.publisher.document)
    if desired is not None:
        put(folder / "desired" / "node-1.json", encode(desired))
    return folder


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def encode(desired: DesiredState, **changes: object) -> bytes:
    texts = {
        "schema": "fleet.desired/v1",
        "assignment": base64.b64encode(desired.envelope).decode(),
        "proof": base64.b64encode(desired.proof).decode(),
        "base": desired.base,
        "consistency": [base64.b64encode(item).decode() for item in desired.consistency],
    }
    return json.dumps({**texts, **changes}).encode()

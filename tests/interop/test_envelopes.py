"""Envelopes are verified by an encoder of others and by the openssl program, and tampered ones are refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fleet.assignment import ASSIGNMENT_TYPE
from fleet.signing import PublicKey, decode_base64, encode_base64, pre_authentication_encoding, sign_envelope
from orchestrator.building.tools import program
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import key
from tests.interop.tools import TIMEOUT_S, run_javascript

pytestmark = pytest.mark.slow

ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
"""DER of a SubjectPublicKeyInfo up to the key's 32 bytes (RFC 8410, section 4)."""


@pytest.fixture
def assignment() -> dict[str, object]:
    world = FleetWorld()
    document: dict[str, object] = json.loads(world.assign(world.agent()).envelope)
    return document


def openssl(document: dict[str, object], public: PublicKey, folder: Path) -> bool:
    """Whether `openssl pkeyutl` accepts the envelope's first signature over type and payload."""
    payload = decode_base64(str(document["payload"]))
    signature = decode_base64(document["signatures"][0]["sig"])  # type: ignore[index]
    message = pre_authentication_encoding(str(document["payloadType"]), payload)
    for name, data in {"message": message, "signature": signature, "key.der": ED25519_SPKI + public.raw}.items():
        (folder / name).write_bytes(data)
    options = [
        "-verify",
        "-pubin",
        "-keyform",
        "DER",
        "-inkey",
        "key.der",
        "-rawin",
        "-in",
        "message",
        "-sigfile",
        "signature",
    ]
    tool = program("openssl", "Install it: `apt-get install openssl`.")
    done = subprocess.run([tool, "pkeyutl", *options], cwd=folder, capture_output=True, timeout=TIMEOUT_S, check=False)
    return done.returncode == 0


def javascript(document: dict[str, object], public: PublicKey, folder: Path) -> bool:
    """Whether @sigstore/core and Node's crypto accept one of the envelope's signatures."""
    (folder / "envelope.json").write_text(json.dumps(document))
    return "refused" not in run_javascript("envelope", folder / "envelope.json", public.hex)


verifiers = pytest.mark.parametrize("verify", [openssl, javascript])


@verifiers
def test_an_assignment_verifies(verify, assignment, tmp_path) -> None:
    assert verify(assignment, key("director").public, tmp_path)


@verifiers
def test_another_key_another_type_and_other_bytes_do_not(verify, assignment, tmp_path) -> None:
    public = key("director").public
    payload = decode_base64(assignment["payload"])
    assert not verify(assignment, key("thief").public, tmp_path)
    assert not verify({**assignment, "payloadType": ASSIGNMENT_TYPE.replace("assignment", "receipt")}, public, tmp_path)
    assert not verify({**assignment, "payload": encode_base64(payload[:-1] + b" ")}, public, tmp_path)


@verifiers
@pytest.mark.parametrize("payload", [b"", b"\0\xff", "{} ünï".encode(), bytes(100_000)])
def test_every_payload_is_encoded_alike(verify, payload, tmp_path) -> None:
    document = json.loads(sign_envelope("text/plain; name=\u00e9", payload, [key("a")]))
    assert verify(document, key("a").public, tmp_path)

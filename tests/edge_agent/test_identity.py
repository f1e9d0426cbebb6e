"""The identity on disk: parts that are spoiled or do not fit each other are never presented, and never fatal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.disk import replace_file
from edge_agent.identity import Identity, IdentityStore, make_request
from fleet.errors import Code
from orchestrator import pki, principals
from tests.fakes.disk import MemoryDisk
from tests.fakes.refusals import code_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FOLDER = Path("/node")
IDENTITY = Identity("node-1", "demo", 1, 1, "a:1", "b:2", "00" * 32)
AUTHORITY = pki.new_authority("a", NOW)
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = pki.issue_node(
    AUTHORITY, "demo", principals.NodeIdentity("node-1", 1, NOW + timedelta(days=1)), make_request(KEY), NOW
)

EDITS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


def stored() -> tuple[IdentityStore, MemoryDisk]:
    disk = MemoryDisk()
    store = IdentityStore(disk, FOLDER)
    store.save(IDENTITY, KEY, CERTIFICATE, AUTHORITY.certificate)
    return store, disk


def test_what_was_saved_is_presented() -> None:
    store, _ = stored()
    found = store.tls()
    assert found is not None
    assert (found.private_key, found.certificate, found.ca_certificates) == (
        pem(KEY),
        CERTIFICATE,
        AUTHORITY.certificate,
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tls.pem", pem(OTHER) + CERTIFICATE),
        ("tls.pem", CERTIFICATE),
        ("tls.pem", pem(KEY)),
        ("ca.pem", pki.new_authority("a", NOW).certificate),
        ("ca.pem", b""),
    ],
)
def test_parts_that_do_not_fit_are_not_presented(name: str, content: bytes) -> None:
    store, disk = stored()
    replace_file(disk, FOLDER / "keys" / name, content)
    assert store.tls() is None


@given(st.sampled_from(["tls.pem", "ca.pem"]), EDITS)
def test_no_edit_of_a_file_is_fatal(name: str, edits: list[tuple[int, int, bytes]]) -> None:
    store, disk = stored()
    path = FOLDER / "keys" / name
    replace_file(disk, path, edited(disk.read(path, 0, 10**6), edits))
    store.tls()


@given(EDITS, st.booleans())
def test_no_answer_of_a_coordinator_is_fatal(edits: list[tuple[int, int, bytes]], of_certificate: bool) -> None:
    certificate = edited(CERTIFICATE, edits) if of_certificate else CERTIFICATE
    authorities = AUTHORITY.certificate if of_certificate else edited(AUTHORITY.certificate, edits)
    disk = MemoryDisk()
    store = IdentityStore(disk, FOLDER)
    code = code_of(store.save, IDENTITY, KEY, certificate, authorities)
    assert code in {None, Code.CERTIFICATE_INVALID}
    assert code is None or store.load() is None

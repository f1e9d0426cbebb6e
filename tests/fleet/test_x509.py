"""X.509 from outside: what the library cannot read is refused with a code, whatever it raises."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.x509 import (
    certificate_digest,
    fingerprint,
    fingerprints,
    is_issued_by,
    load_certificate,
    load_certificates,
    load_der_certificate,
    load_request,
    p256_key_of,
    reading,
    uris_of,
)

NOW = datetime(2026, 7, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
NODE = "spiffe://demo/node/one"

VERSION_3 = bytes.fromhex("a003020102")
"""The version field of a certificate (RFC 5280, section 4.1.2.1)."""


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | None = None, *, uris: tuple[str, ...] = (NODE,)
) -> x509.Certificate:
    """A certificate signed by KEY, as "authority"."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("authority"))
        .issuer_name(name("authority"))
        .public_key(public or KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


GOOD = certificate()
DER = GOOD.public_bytes(serialization.Encoding.DER)
PEM = GOOD.public_bytes(serialization.Encoding.PEM)
OF_VERSION_11 = DER.replace(VERSION_3, VERSION_3[:-1] + b"\x0a")
"""The library's error for it is not a ValueError."""
CURVE_UNKNOWN = DER.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f"))
NAMES_MALFORMED = DER.replace(b"\x86\x16" + NODE.encode(), b"\x8f\x16" + NODE.encode())


def code_of(error: pytest.ExceptionInfo[FleetError]) -> Code:
    return error.value.code


def test_the_specimens_are_what_they_are_called() -> None:
    assert len({DER, OF_VERSION_11, CURVE_UNKNOWN, NAMES_MALFORMED}) == 4


def test_a_good_certificate_is_read() -> None:
    assert load_certificate(PEM) == load_der_certificate(DER) == GOOD
    assert load_certificates(PEM + PEM) == [GOOD, GOOD]
    assert uris_of(GOOD) == [NODE]
    assert p256_key_of(GOOD) == KEY.public_key()


@pytest.mark.parametrize("data", [b"", b"text", PEM[:-40], pem(OF_VERSION_11)], ids=["empty", "text", "cut", "version"])
def test_what_cannot_be_read_is_refused_with_the_code_and_place_asked_for(data: bytes) -> None:
    for load in (load_certificate, load_certificates):
        with pytest.raises(FleetError) as error:
            load(data, Code.TRUST_INVALID, "trust/fleet.json")
        assert (code_of(error), error.value.detail["place"]) == (Code.TRUST_INVALID, "trust/fleet.json")


def test_der_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(FleetError) as error:
        load_der_certificate(OF_VERSION_11)
    assert "place" not in error.value.detail
    assert code_of(error) is Code.CERTIFICATE_INVALID


def test_a_request_that_cannot_be_read_is_refused() -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(name("one")).sign(OTHER, hashes.SHA256())
    der = request.public_bytes(serialization.Encoding.DER)
    assert p256_key_of(load_request(der)) == OTHER.public_key()
    for broken in (b"", der[:-1], der.replace(bytes.fromhex("020100"), bytes.fromhex("020109"), 1)):
        with pytest.raises(FleetError) as error:
            load_request(broken)
        assert code_of(error) is Code.MESSAGE_INVALID


def test_alternative_names_may_be_missing_and_are_refused_when_malformed() -> None:
    assert uris_of(certificate(uris=())) == []
    with pytest.raises(FleetError) as error:
        uris_of(load_der_certificate(NAMES_MALFORMED), Code.AUDIT_INVALID)
    assert code_of(error) is Code.AUDIT_INVALID


@pytest.mark.parametrize(
    "subject",
    [
        certificate(ed25519.Ed25519PrivateKey.generate().public_key()),
        certificate(ec.generate_private_key(ec.SECP384R1()).public_key()),
        load_der_certificate(CURVE_UNKNOWN),
    ],
    ids=["ed25519", "p384", "unknown curve"],
)
def test_a_key_that_is_not_p256_is_refused(subject: x509.Certificate) -> None:
    with pytest.raises(FleetError) as error:
        p256_key_of(subject)
    assert code_of(error) is Code.CERTIFICATE_INVALID


def test_an_authority_vouches_by_its_name_and_its_signature() -> None:
    assert is_issued_by(GOOD, GOOD)
    assert is_issued_by(certificate(OTHER.public_key()), GOOD)
    assert not is_issued_by(GOOD, certificate(OTHER.public_key()))
    assert not is_issued_by(GOOD, load_der_certificate(CURVE_UNKNOWN))


def test_a_fault_of_the_program_is_not_taken_for_a_bad_certificate() -> None:
    with pytest.raises(KeyError), reading():
        raise KeyError("a fault")


def test_a_fingerprint_is_of_the_certificate_in_der() -> None:
    assert fingerprint(GOOD) == hashlib.sha256(GOOD.public_bytes(serialization.Encoding.DER)).hexdigest()


@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_an_edited_certificate_is_read_or_refused(edits: list[tuple[int, int]]) -> None:
    data = bytearray(DER)
    for at, value in edits:
        data[at] = value
    with contextlib.suppress(FleetError):
        found = load_der_certificate(bytes(data))
        is_issued_by(found, GOOD)
        uris_of(found)
        p256_key_of(found)


def test_certificates_are_named_by_the_digest_of_their_der() -> None:
    assert fingerprint(GOOD) == hashlib.sha256(DER).hexdigest()
    assert certificate_digest(GOOD) == f"sha256:{fingerprint(GOOD)}"
    other = certificate(OTHER.public_key())
    both = PEM + other.public_bytes(serialization.Encoding.PEM)
    assert fingerprints(both) == {fingerprint(GOOD), fingerprint(other)}
    with pytest.raises(FleetError):
        fingerprints(b"")

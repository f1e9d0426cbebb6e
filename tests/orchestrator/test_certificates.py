"""What certificates may say: one failing case per numbered rule of `read_identity`, then malformed bytes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.x509 import load_certificate
from orchestrator import pki, principals
from tests.fakes.fleet_fixture import make_csr
from tests.fakes.refusals import refusal

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NODES = pki.new_authority("nodes", NOW)
OPERATORS = pki.new_authority("operators", NOW, path_length=1)
LOGIN = pki.issue_authority(OPERATORS, "operators, login", NOW)
STRANGERS = pki.new_authority("nodes", NOW)  # the same name, another key
KEY = ec.generate_private_key(ec.SECP256R1())
NODE = "spiffe://demo/node/n1"
USER = "spiffe://demo/user/alice"
EPOCH = (NameOID.SERIAL_NUMBER, "7")
ADMIN = (NameOID.ORGANIZATIONAL_UNIT_NAME, "admin")


def certificate(
    authority: pki.KeyPair, uris: Sequence[str] | None, *subject: tuple[x509.ObjectIdentifier, str]
) -> x509.Certificate:
    """A certificate that says whatever the test wants; `uris` None leaves the extension out."""
    key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(kind, text) for kind, text in subject]))
        .issuer_name(load_certificate(authority.certificate).subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if uris is not None:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def identity(found: x509.Certificate) -> principals.NodeIdentity | principals.OperatorIdentity:
    return principals.read_identity(
        found,
        "demo",
        principals.Authorities(
            nodes=(load_certificate(NODES.certificate),),
            operators=load_certificate(OPERATORS.certificate),
            login=load_certificate(LOGIN.certificate),
        ),
    )


def refused(found: x509.Certificate, rule: int) -> None:
    with pytest.raises(FleetError, match=f"rule {rule}") as caught:
        identity(found)
    assert caught.value.code is Code.CERTIFICATE_INVALID


def test_both_kinds_are_read() -> None:
    assert identity(certificate(NODES, [NODE], EPOCH)) == principals.NodeIdentity("n1", 7, NOW + timedelta(days=1))
    assert identity(certificate(OPERATORS, [USER], ADMIN)) == principals.OperatorIdentity(
        "alice", frozenset({principals.Role.ADMIN}), NOW + timedelta(days=1)
    )


def test_a_login_certificate_carries_its_invitation() -> None:
    found = identity(certificate(LOGIN, [USER], ADMIN, EPOCH))
    assert found == principals.OperatorIdentity(
        "alice", frozenset({principals.Role.ADMIN}), NOW + timedelta(days=1), epoch=7
    )
    refused(certificate(LOGIN, [USER], ADMIN), 3)
    refused(certificate(LOGIN, [NODE], EPOCH), 2)


@pytest.mark.parametrize(
    "uris",
    [
        None,
        [],
        [NODE, NODE],
        [NODE, "spiffe://demo/node/n2"],
        ["spiffe://elsewhere/node/n1"],
        ["spiffe://demo/robot/n1"],
        ["https://demo/node/n1"],
        ["spiffe://demo/node/N1"],
        ["spiffe://demo/node/"],
        ["spiffe://demo/node/n1/more"],
        ["spiffe:demo/node/n1"],
        [""],
    ],
)
def test_1_exactly_one_id_of_this_fleet(uris: list[str] | None) -> None:
    refused(certificate(NODES, uris, EPOCH), 1)


@pytest.mark.parametrize(
    ("authority", "uri", "subject"),
    [
        (OPERATORS, NODE, EPOCH),
        (NODES, USER, ADMIN),
        (STRANGERS, NODE, EPOCH),
        (STRANGERS, USER, ADMIN),
    ],
)
def test_2_each_authority_vouches_for_its_own_kind(
    authority: pki.KeyPair, uri: str, subject: tuple[x509.ObjectIdentifier, str]
) -> None:
    refused(certificate(authority, [uri], subject), 2)


@pytest.mark.parametrize("epochs", [[], ["7", "8"], ["seven"], ["-1"], ["0"], ["9" * 16]])
def test_3_a_node_has_one_epoch(epochs: list[str]) -> None:
    refused(certificate(NODES, [NODE], *((NameOID.SERIAL_NUMBER, text) for text in epochs)), 3)


@pytest.mark.parametrize("roles", [[], ["root"], ["admin", "root"], ["Admin"]])
def test_3_an_operator_has_known_roles(roles: list[str]) -> None:
    refused(certificate(OPERATORS, [USER], *((NameOID.ORGANIZATIONAL_UNIT_NAME, text) for text in roles)), 3)


URIS = st.lists(
    st.one_of(
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40),
        st.lists(st.sampled_from(["spiffe:", "", "demo", "node", "user", "n1", "/", ".."]), max_size=7).map("/".join),
    ),
    max_size=3,
)
SUBJECTS = st.lists(
    st.tuples(
        st.sampled_from([NameOID.SERIAL_NUMBER, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME]),
        st.text("0123456789admin-viewer ", min_size=1, max_size=20),
    ),
    max_size=3,
)


@given(st.sampled_from([NODES, OPERATORS]), URIS, SUBJECTS)
def test_nothing_that_is_signed_raises_anything_else(
    authority: pki.KeyPair, uris: list[str], subject: list[tuple[x509.ObjectIdentifier, str]]
) -> None:
    made = certificate(authority, uris, *subject)
    error = refusal(lambda: identity(made))
    assert error is None or error.code is Code.CERTIFICATE_INVALID


PEM = certificate(NODES, [NODE], EPOCH).public_bytes(serialization.Encoding.PEM)
DER = certificate(NODES, [NODE], EPOCH).public_bytes(serialization.Encoding.DER)


def pem_of(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def edit(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, new in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


EDITS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3)


@given(st.one_of(st.binary(max_size=100), EDITS.map(lambda edits: edit(PEM, edits))))
def test_no_pem_raises_anything_else(data: bytes) -> None:
    check_certificate(data)


@given(EDITS)
def test_no_edited_certificate_raises_anything_else_or_passes(edits: list[tuple[int, int, bytes]]) -> None:
    der = edit(DER, edits)
    if der != DER:
        assert check_certificate(pem_of(der)) is not None


def check_certificate(data: bytes) -> FleetError | None:
    error = refusal(lambda: identity(load_certificate(data)))
    assert error is None or error.code is Code.CERTIFICATE_INVALID
    return error


CSR = make_csr(KEY)


def sign_request(csr: bytes) -> bytes:
    return pki.issue_node(NODES, "demo", principals.NodeIdentity("n1", 7, NOW + timedelta(days=1)), csr, NOW)


@given(st.one_of(st.binary(max_size=100), EDITS.map(lambda edits: edit(CSR, edits))))
def test_no_request_raises_anything_else(csr: bytes) -> None:
    if csr != CSR:
        error = refusal(lambda: sign_request(csr))
        assert error is not None
        assert error.code is Code.MESSAGE_INVALID


def test_a_request_has_a_limit() -> None:
    error = refusal(lambda: sign_request(CSR + bytes(pki.MAX_CSR)))
    assert error is not None
    assert error.code is Code.LIMIT_EXCEEDED


def test_a_request_proves_possession_of_a_p256_key() -> None:
    def request(key: object, public: object = None) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n1")])
        algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
        return made.public_bytes(serialization.Encoding.DER)

    other = ec.generate_private_key(ec.SECP256R1())
    mine, theirs = (
        key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        for key in (KEY, other)
    )
    for csr in (
        CSR.replace(mine, theirs),  # somebody else's key under my signature
        request(ec.generate_private_key(ec.SECP384R1())),
        request(ed25519.Ed25519PrivateKey.generate()),
    ):
        error = refusal(lambda csr=csr: sign_request(csr))
        assert error is not None
        assert error.code is Code.MESSAGE_INVALID

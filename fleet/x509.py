"""X.509 read from outside: the one place that knows what its library raises.

The library parses a certificate piece by piece, when a piece is asked for, and its errors have no common base: an
unknown version and a repeated extension are not even ValueErrors. Whoever reads a certificate does so through here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
"""What reading hostile X.509 raises."""


@contextlib.contextmanager
def reading(code: Code = Code.CERTIFICATE_INVALID, text: str = "not a certificate", place: str = "") -> Iterator[None]:
    """Refuse what the library cannot read within this block.

    Raises:
        FleetError: `code` with the text and the place.
    """
    try:
        yield
    except MALFORMED as error:
        raise FleetError(code, text, **({"place": place} if place else {})) from error


def load_certificate(pem: bytes, code: Code = Code.CERTIFICATE_INVALID, place: str = "") -> x509.Certificate:
    """Parse the first PEM certificate.

    Raises:
        FleetError: `code`.
    """
    with reading(code, "not a PEM certificate", place):
        return x509.load_pem_x509_certificate(pem)


def load_certificates(pem: bytes, code: Code = Code.CERTIFICATE_INVALID, place: str = "") -> list[x509.Certificate]:
    """Parse all PEM certificates, at least one.

    Raises:
        FleetError: `code`.
    """
    with reading(code, "not PEM certificates", place):
        return x509.load_pem_x509_certificates(pem)


def load_der_certificate(der: bytes) -> x509.Certificate:
    """Parse one DER certificate, such as a TLS peer shows.

    Raises:
        FleetError: CERTIFICATE_INVALID.
    """
    with reading(text="not a certificate in DER"):
        return x509.load_der_x509_certificate(der)


def load_request(der: bytes) -> x509.CertificateSigningRequest:
    """Parse one DER certificate signing request (RFC 2986).

    Raises:
        FleetError: MESSAGE_INVALID.
    """
    with reading(Code.MESSAGE_INVALID, "not a certificate signing request"):
        return x509.load_der_x509_csr(der)


def uris_of(certificate: x509.Certificate, code: Code = Code.CERTIFICATE_INVALID) -> list[str]:
    """Return the URIs that the certificate is for (subject alternative names; RFC 5280, section 4.2.1.6).

    Raises:
        FleetError: `code` for names that are not readable; a certificate may have none.
    """
    with (
        reading(code, "the certificate's alternative names are not readable"),
        contextlib.suppress(x509.ExtensionNotFound),
    ):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.UniformResourceIdentifier)
    return []


def p256_key_of(
    subject: x509.Certificate | x509.CertificateSigningRequest, code: Code = Code.CERTIFICATE_INVALID
) -> ec.EllipticCurvePublicKey:
    """Return the key that it is for.

    Raises:
        FleetError: `code` for a key that is unreadable or not P-256.
    """
    with reading(code, "the key is not readable"):
        key = subject.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FleetError(code, "not for a P-256 key")
    return key


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether the authority's name and signature are on the certificate; its dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(authority)
    except MALFORMED:
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate in DER, hexadecimal: what people compare."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def fingerprints(pem: bytes) -> frozenset[str]:
    """Return the fingerprints of all PEM certificates, at least one.

    Raises:
        FleetError: CERTIFICATE_INVALID.
    """
    return frozenset(map(fingerprint, load_certificates(pem)))


def certificate_digest(certificate: x509.Certificate) -> str:
    """Return `sha256:...` of a certificate's DER, as signed actions name it."""
    return f"sha256:{fingerprint(certificate)}"

"""Who calls: the identities that client certificates carry, and who may vouch for which.

Owns: reading an identity out of a certificate. Identity of a client certificate (SPIFFE X509-SVID, section 2: exactly
one URI SAN): `spiffe://FLEET/node/NAME` with the epoch as the subject's serial number, or `spiffe://FLEET/user/NAME`
with the roles as organizational units; certificates made at a login carry the epoch of the invitation as well. Never
signs anything: `pki` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cryptography.x509.oid import NameOID

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.x509 import fingerprint, is_issued_by, reading, uris_of

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

_EPOCH = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)


class Role(StrEnum):
    """What an operator may do; stated in the certificate that the operator authority signed."""

    VIEWER = "viewer"
    DEPLOYER = "deployer"
    APPROVER = "approver"
    NODE_ADMIN = "node-admin"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a node's certificate says it is; `authority` is the fingerprint of the authority that signed it."""

    name: str
    epoch: int
    expires: datetime
    authority: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """Who an operator's certificate says it is.

    Attributes:
        epoch: number of the invitation; 0 when the offline authority vouches for it.
        team: whose applications alone a deployer may change; empty for all. Not in the certificate: the coordinator
            knows it.
    """

    name: str
    roles: frozenset[Role]
    expires: datetime
    epoch: int = 0
    team: str = ""


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who may vouch for whom.

    Attributes:
        nodes: sign nodes; two while one succeeds the other.
        operators: signs operators; its key is not with the coordinator.
        login: signs operators when they log in; None where nobody can.
    """

    nodes: tuple[x509.Certificate, ...]
    operators: x509.Certificate
    login: x509.Certificate | None = None


def read_identity(
    certificate: x509.Certificate, fleet: str, authorities: Authorities
) -> NodeIdentity | OperatorIdentity:
    """Read who a client certificate names; TLS has checked its validity, this checks who may vouch for what.

    1. Exactly one URI, of this fleet, of kind node or user, with a valid name.
    2. A node is vouched for by the node authority, an operator by an operator authority: the node authority must not
       be able to make operators.
    3. A node has an epoch; an operator has roles, all of them known, and an epoch exactly if the login authority
       vouches for it.

    Raises:
        FleetError: CERTIFICATE_INVALID naming the rule.
    """
    kind, name = _spiffe(certificate, fleet)
    trusted = authorities.nodes if kind == "node" else (authorities.operators, authorities.login)
    issuer = next((authority for authority in trusted if authority and is_issued_by(certificate, authority)), None)
    if issuer is None:
        raise FleetError(Code.CERTIFICATE_INVALID, f"rule 2: another authority vouches for the {kind}")
    expires = certificate.not_valid_after_utc
    try:
        if kind == "node":
            return NodeIdentity(name, _epoch(certificate.subject), expires, fingerprint(issuer))
        epoch = _epoch(certificate.subject) if issuer is authorities.login else 0
        return OperatorIdentity(name, _roles(certificate.subject), expires, epoch)
    except ValueError as error:
        raise FleetError(
            Code.CERTIFICATE_INVALID, f"rule 3: no epoch, or no or an unknown role of the {kind}"
        ) from error


def _epoch(subject: x509.Name) -> int:
    (serial,) = subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
    if _EPOCH.fullmatch(str(serial.value)) is None:
        raise ValueError(serial.value)
    return int(serial.value)


def _roles(subject: x509.Name) -> frozenset[Role]:
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not units:
        raise ValueError("no organizational unit")
    return frozenset(Role(str(unit.value)) for unit in units)


def _spiffe(certificate: x509.Certificate, fleet: str) -> tuple[str, str]:
    with reading(text="rule 1: not exactly one SPIFFE id"):
        (uri,) = uris_of(certificate)
        scheme, _, domain, kind, name = uri.split("/")
    if scheme != "spiffe:" or domain != fleet or kind not in {"node", "user"} or not is_name(name):
        raise FleetError(Code.CERTIFICATE_INVALID, "rule 1: the SPIFFE id is not of this fleet")
    return kind, name

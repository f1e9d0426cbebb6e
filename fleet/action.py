"""Signed actions: an operator's own statement of what they asked the coordinator to do.

Owns: the payload `application/vnd.fleet.action.v1+json` in a DSSE envelope. Whoever holds the audit log and the
operators' authority can check, without the coordinator, who asked for what and when. The request itself is named by its
digest: its bytes may hold whole releases. Never decides who may do what: that is the coordinator's rule table.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.names import is_digest, is_name
from fleet.signing import sign_envelope, verify_envelope
from fleet.times import MAX_MS, from_ms, to_ms

if TYPE_CHECKING:
    from datetime import datetime

    from fleet.signing import Signer, VerifyingKey

ACTION_TYPE = "application/vnd.fleet.action.v1+json"
SCHEMA = "fleet.action/v1"

MAX_ENVELOPE = 4096
"""Bytes of an envelope: it travels in the metadata of a call, of which gRPC takes 8 KiB."""

NONCE_BYTES = 16

WINDOW = timedelta(minutes=5)
"""How far an operator's clock may be from the coordinator's; nonces are remembered for longer than twice this."""

_METHOD = re.compile(r"/[A-Za-z0-9_.]{1,100}/[A-Za-z0-9_]{1,100}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Action:
    """What was asked for.

    Attributes:
        fleet: name of the fleet.
        operator: name of the operator.
        method: full name of the RPC, `/package.Service/Method`.
        request: digest of the request's bytes as they were sent.
        at: when it was signed, by the operator's clock.
        nonce: 16 random bytes; each passes once.
        certificate: digest of the operator's certificate (DER), which the log shows before the first action under it.
    """

    fleet: str
    operator: str
    method: str
    request: str
    at: datetime
    nonce: bytes
    certificate: str


def encode_action(action: Action) -> bytes:
    """Write the payload."""
    return dump_json(
        {
            "schema": SCHEMA,
            "fleet": action.fleet,
            "operator": action.operator,
            "method": action.method,
            "request": action.request,
            "at_ms": to_ms(action.at),
            "nonce": action.nonce.hex(),
            "certificate": action.certificate,
        }
    )


def decode_action(payload: bytes) -> Action:
    """Read a payload whose signature was verified.

    Raises:
        FleetError: ACTION_INVALID.
    """
    with Reader(load_json(payload, Code.ACTION_INVALID, "action"), Code.ACTION_INVALID, "action") as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        action = Action(
            fleet=top.text("fleet"),
            operator=top.text("operator"),
            method=top.text("method"),
            request=top.text("request"),
            at=from_ms(top.integer("at_ms", 0, MAX_MS)),
            nonce=bytes.fromhex(nonce) if _NONCE.fullmatch(nonce := top.text("nonce")) else b"",
            certificate=top.text("certificate"),
        )
    well_formed = {
        "fleet": is_name(action.fleet),
        "operator": is_name(action.operator),
        "method": _METHOD.fullmatch(action.method) is not None,
        "request": is_digest(action.request),
        "nonce": len(action.nonce) == NONCE_BYTES,
        "certificate": is_digest(action.certificate),
    }
    for field, valid in well_formed.items():
        if not valid:
            raise FleetError(Code.ACTION_INVALID, "malformed", place=f"action: {field}")
    return action


def sign_action(action: Action, key: Signer) -> bytes:
    """Make the envelope with the operator's key."""
    return sign_envelope(ACTION_TYPE, encode_action(action), [key])


def open_action(envelope: bytes, *, fleet: str, operator: str, certificate: str, key: VerifyingKey) -> Action:
    """Check whose action an envelope is; all that can be checked without the request.

    Checks, in this order:
        1. The envelope is at most MAX_ENVELOPE bytes.
        2. The operator's key signed it, and as an action (DSSE payload type).
        3. The payload is a valid action.
        4. It names the fleet, the operator and the certificate that the key belongs to.

    Raises:
        FleetError: ACTION_INVALID naming the rule.
    """
    if len(envelope) > MAX_ENVELOPE:  # 1
        raise _invalid(1, f"an envelope of {len(envelope)} bytes")
    try:
        payload = verify_envelope(envelope, ACTION_TYPE, [key])  # 2
    except FleetError as error:
        raise _invalid(2, error.private) from error
    action = decode_action(payload)  # 3
    if (action.fleet, action.operator, action.certificate) != (fleet, operator, certificate):  # 4
        raise _invalid(4, f"signed as {action.operator} of {action.fleet}, or under another certificate")
    return action


def check_call(action: Action, *, method: str, request: bytes, now: datetime) -> None:
    """Check that an action is for the call that it came with; goes on where `open_action` ends.

    Checks, in this order:
        5. It names this method and exactly these bytes of a request.
        6. It was signed at most WINDOW before or after `now`.

    That its nonce is new is for the coordinator to check, which remembers them.

    Raises:
        FleetError: ACTION_INVALID naming the rule.
    """
    if (action.method, action.request) != (method, digest_of_request(request)):  # 5
        raise _invalid(5, f"signed for another call: {action.method}")
    if abs(now - action.at) > WINDOW:  # 6
        raise FleetError(
            Code.ACTION_INVALID,
            f"rule 6: signed at {action.at:%Y-%m-%dT%H:%M:%SZ}, here it is {now:%Y-%m-%dT%H:%M:%SZ}",
            remedy="Set this machine's clock, then run the command again.",
        )


def digest_of_request(request: bytes) -> str:
    """Digest of a request's bytes."""
    return f"sha256:{hashlib.sha256(request).hexdigest()}"


def _invalid(rule: int, text: str) -> FleetError:
    return FleetError(Code.ACTION_INVALID, f"rule {rule}: {text}")

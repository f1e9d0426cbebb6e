"""What a machine says with the key of its join token: this is the key that I am known by from now on.

Owns: the statement that binds a node's bound key to the token that an operator made for it. The private half of a
token's key is made by the operator's machine and given to the node's, never to the coordinator, which has the public
half alone. Whoever made the token can therefore tell the node that used it from one that the coordinator invented or
enrolled anew. The name is not in the statement: a machine learns it from the coordinator. It is the operator's own
record that says for which node a token was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError
from fleet.signing import encode_base64, read_base64, sign_envelope, verify_envelope

if TYPE_CHECKING:
    from fleet.signing import Signer, VerifyingKey

JOIN_TYPE: Final = "application/vnd.fleet.join.v1+json"
SCHEMA: Final = "fleet.join/v1"

MAX_STATEMENT: Final = 2 * 1024
"""Bytes of one statement."""


def sign_join(bound_key: bytes, key: Signer) -> bytes:
    """Make the envelope of a statement.

    Args:
        bound_key: public key of the machine, as `fleet.keys.read_public_key` takes it.
        key: private key of the join token.
    """
    return sign_envelope(JOIN_TYPE, dump_json({"schema": SCHEMA, "bound_key": encode_base64(bound_key)}), [key])


def check_join(envelope: bytes, *, bound_key: bytes, key: VerifyingKey) -> None:
    """Verify that who held a join token chose this bound key.

    Checks, in this order:
        1. The envelope is at most MAX_STATEMENT bytes.
        2. The token's key signed it, and as this statement (DSSE payload type).
        3. The payload is a valid statement.
        4. It names this bound key.

    Raises:
        FleetError: TOKEN_INVALID naming the rule.
    """
    if len(envelope) > MAX_STATEMENT:  # 1
        raise _invalid(1, f"an envelope of {len(envelope)} bytes")
    try:
        payload = verify_envelope(envelope, JOIN_TYPE, [key])  # 2
    except FleetError as error:
        raise _invalid(2, error.private) from error
    with Reader(load_json(payload, Code.TOKEN_INVALID, "join"), Code.TOKEN_INVALID, "join") as top:  # 3
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA!r}")
        said = read_base64(top, "bound_key")
    if said != bound_key:  # 4
        raise _invalid(4, "it names another bound key")


def _invalid(rule: int, text: str) -> FleetError:
    return FleetError(Code.TOKEN_INVALID, f"join statement, rule {rule}: {text}")

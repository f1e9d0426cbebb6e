"""Join tokens that were made on this machine: the key in each, and for which node it was.

Owns: the part of a token that the coordinator never sees, and the record by which `fleetctl` later knows the node that
used it (`fleet.joining`). Of a node the newest token counts alone: who made another one wants another machine, or the
same one anew. The record is `joins/NODE.pub` in the trust directory, the public key in hexadecimal.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.signing import KEY_BYTES, PublicKey, SigningKey
from fleet.v1 import control_pb2 as pb
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.cli.client import Client
    from orchestrator.cli.trust import TrustDirectory

MAX_FILE = 256
"""Bytes of one record."""


def make_token(
    client: Client, directory: TrustDirectory, node: str, labels: Mapping[str, str], ttl_s: int
) -> pb.CreateJoinTokenReply:
    """Have a join token made, and complete it with a key that only this machine and the node will have.

    Args:
        client: the coordinator, which gets the public half.
        directory: where the public half is remembered.
        node: name of the node.
        labels: of the node.
        ttl_s: seconds for which the token is good.

    Raises:
        FleetError: what the coordinator refuses.
    """
    seed = secrets.token_bytes(KEY_BYTES)
    public = SigningKey.from_seed(seed).public
    request = pb.CreateJoinTokenRequest(node=node, labels=labels, ttl_s=ttl_s, key=public.raw)
    reply = client.call(client.stub.CreateJoinToken, request)
    directory.write(_file(node), f"{public.hex}\n".encode())
    own = base64.urlsafe_b64encode(seed).rstrip(b"=").decode()
    return pb.CreateJoinTokenReply(
        token=f"{reply.token}.{own}", enrolment_address=reply.enrolment_address, expires_ms=reply.expires_ms
    )


def token_key(directory: TrustDirectory, node: str) -> PublicKey | None:
    """Return the key of the newest join token that was made here for a node; None: none was.

    Raises:
        FleetError: CONFIG_INVALID when the record is spoiled: it is then for a person to look why.
    """
    path = directory.path / _file(node)
    try:
        return PublicKey.from_hex(read_bounded(path, MAX_FILE).decode("ascii", "replace").strip())
    except FileNotFoundError:
        return None
    except FleetError as error:
        raise FleetError(Code.CONFIG_INVALID, "not the key of a join token", place=str(path)) from error


def _file(node: str) -> str:
    return f"joins/{node}.pub"

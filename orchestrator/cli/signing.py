"""Signs every call of an operator, on the operator's machine and with the operator's own key.

Owns: the statement that goes with a call (`fleet.action`): what was asked for, when, and by whom. The coordinator
demands it of calls that change something and keeps it in the audit log. Requests are serialised here once, so that
exactly the bytes that are signed are sent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from fleet.action import NONCE_BYTES, Action, digest_of_request, sign_action
from fleet.errors import Code
from fleet.keys import P256SigningKey
from fleet.x509 import certificate_digest, load_certificate, reading, uris_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

METADATA = "fleet-action-bin"


class ActionSigner:
    """Makes the statements of one operator.

    Args:
        certificate: the operator's certificate, PEM; it may be followed by its authority's.
        key: its private key, PEM.
        now: the clock of this machine.

    Raises:
        FleetError: CONFIG_INVALID when a file holds something else, or they do not fit each other.
    """

    def __init__(self, certificate: bytes, key: bytes, now: Callable[[], datetime]) -> None:
        self._key = P256SigningKey.from_pem(key)
        self._now = now
        parsed = load_certificate(certificate, Code.CONFIG_INVALID)
        with reading(Code.CONFIG_INVALID, "the context's certificate is not an operator's"):
            (uri,) = uris_of(parsed, Code.CONFIG_INVALID)
            _, _, self._fleet, _, self._operator = uri.split("/")
        self._digest = certificate_digest(parsed)

    def statement(self, method: str, request: bytes) -> bytes:
        """Sign what is asked for now."""
        action = Action(
            fleet=self._fleet,
            operator=self._operator,
            method=method,
            request=digest_of_request(request),
            at=self._now(),
            nonce=secrets.token_bytes(NONCE_BYTES),
            certificate=self._digest,
        )
        return sign_action(action, self._key)


class SigningChannel:
    """A channel whose unary calls carry a statement; stands where a stub expects a channel."""

    def __init__(self, channel: grpc.Channel, signer: ActionSigner) -> None:
        self._channel = channel
        self._signer = signer
        self.unary_stream = channel.unary_stream
        self.stream_unary = channel.stream_unary
        self.stream_stream = channel.stream_stream

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool = False,  # noqa: FBT001, FBT002 - the signature that generated stubs call
    ) -> Callable[..., Any]:
        """Return what makes one kind of call."""
        send = self._channel.unary_unary(method, None, response_deserializer)

        def call(request: Any, timeout: float | None = None) -> Any:
            data = request_serializer(request)
            return send(data, timeout=timeout, metadata=((METADATA, self._signer.statement(method, data)),))

        return call

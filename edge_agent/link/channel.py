"""Channels to the coordinator and the translation of their errors.

Owns every gRPC option and the way back from a failed call to a `FleetError`. Never decides when to connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import grpc

from fleet.errors import Code, FleetError
from fleet.v1 import error_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.identity import TlsIdentity

ERROR_METADATA = "fleet-error-bin"
"""Trailing metadata with the `ErrorDetail` of a failed call."""

MAX_PUSH = 256 * 1024
"""Bytes of one message of the coordinator: a push of 64 KiB with its proof, and room."""

MAX_REPLY = 16 * 1024 * 1024
"""Bytes of one reply on the fetching channel: trust metadata comes in one message."""

MAX_TEXT = 1_024
"""Characters that are taken over from an error of the coordinator."""

ENROLMENT_NAME = "enrolment.fleet.internal"
"""Name in the enrolment port's certificate; its key is what is trusted, so the address may be anything."""

# A silent peer is noticed after 40 s (the default is minutes to hours); measured values, see the coordinator's side.
_LIVENESS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_retries", 0),
)

_BY_STATUS = {
    grpc.StatusCode.UNAVAILABLE: Code.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAUTHENTICATED: Code.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Code.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Code.LIMIT_EXCEEDED,
    grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    grpc.StatusCode.CANCELLED: Code.UNAVAILABLE,
}


def open_session_channel(address: str, identity: TlsIdentity) -> grpc.aio.Channel:
    """Channel with mutual TLS for the session."""
    options = (*_LIVENESS, ("grpc.max_receive_message_length", MAX_PUSH))
    return grpc.aio.secure_channel(address, _credentials(identity), options=options)


def open_fetch_channel(address: str, identity: TlsIdentity) -> grpc.aio.Channel:
    """Channel with mutual TLS and a connection of its own, so that a large blob never delays the session."""
    own = ("grpc.use_local_subchannel_pool", 1)
    options = (*_LIVENESS, own, ("grpc.max_receive_message_length", MAX_REPLY))
    return grpc.aio.secure_channel(address, _credentials(identity), options=options)


def open_enrolment_channel(address: str, certificate: bytes) -> grpc.aio.Channel:
    """Channel to the enrolment port whose certificate (PEM) was checked against the pin; it is the only root."""
    credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
    options = (
        ("grpc.ssl_target_name_override", ENROLMENT_NAME),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_PUSH),
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def _credentials(identity: TlsIdentity) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(identity.ca_certificates, identity.private_key, identity.certificate)


def to_fleet_error(error: grpc.aio.AioRpcError) -> FleetError:
    """Translate a failed call: the coordinator's own detail when it sent one, else the status."""
    # The stubs call it a mapping; it iterates over pairs (grpc.aio.Metadata).
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key == ERROR_METADATA and isinstance(value, bytes):
            detail = error_pb2.ErrorDetail.FromString(value)
            code = Code(detail.code) if detail.code in set(Code) else Code.INTERNAL
            facts: dict[str, str | int] = {"remedy": detail.remedy[:MAX_TEXT]} if detail.remedy else {}
            return FleetError(code, detail.message[:MAX_TEXT], **facts)
    status = error.code()
    text = (error.details() or status.name)[:MAX_TEXT]
    return FleetError(_BY_STATUS.get(status, Code.INTERNAL), text)

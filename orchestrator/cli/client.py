"""The gRPC door of fleetctl: one channel with mutual TLS, a deadline on every call, errors back to `FleetError`.

Never decides anything: commands call the stub's methods through `Client.call` and `Client.stream`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2 as pb
from fleet.v1 import control_pb2_grpc, error_pb2
from orchestrator.cli.signing import ActionSigner, SigningChannel
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from orchestrator.cli.context import Context

Q = TypeVar("Q")
R = TypeVar("R")

UNARY_TIMEOUT_S = 30.0
"""Deadline of an ordinary call; commands that wait pass their own."""

BULK_TIMEOUT_S = 600.0
"""Deadline for moving one blob."""

CHUNK = 256 * 1024
"""Bytes per message when a blob is sent."""

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one reply that fleetctl accepts."""

MAX_PEM = 256 * 1024
"""Bytes of a file with certificates or a key."""

ERROR_METADATA = "fleet-error-bin"

UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""What gRPC says of a server whose certificate it does not believe."""

BRACKETED = re.compile(r"\[([a-z_]+)=([^\]]*)\]")
"""A fact at the end of an error's public text."""


def _read(path: Path, what: str) -> bytes:
    try:
        return read_bounded(path, MAX_PEM)
    except OSError as error:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"the {what} cannot be read: {error.strerror}",
            place=str(path),
            remedy="Check the context's paths in config.yaml, or run `fleetctl init`.",
        ) from error


def from_detail(detail: error_pb2.ErrorDetail) -> FleetError:
    """Rebuild the error that the coordinator raised.

    What a node refused comes as the fact `reason`, one text: the sentence that is the message already, and facts in
    brackets (`FleetError.public`), which become facts again.
    """
    facts: dict[str, str | int] = dict(detail.detail)
    reason = str(facts.pop("reason", "")).removeprefix(detail.message).strip()
    for key, value in BRACKETED.findall(reason):
        facts.setdefault(key, value)
    if rest := BRACKETED.sub("", reason).strip():
        facts["reason"] = rest
    if detail.remedy:
        facts["remedy"] = detail.remedy
    if detail.request_id:
        facts["request_id"] = detail.request_id
    code = Code(detail.code) if detail.code in set(Code) else Code.INTERNAL
    return FleetError(code, detail.message, **facts)


def to_fleet_error(error: grpc.RpcError, address: str) -> FleetError:
    """Translate a failed call: the detail of the coordinator at `address` when it sent one, else the status."""
    call = cast("grpc.Call", error)  # an RpcError raised by a stub is a Call too (grpc.RpcError documentation)
    for key, value in call.trailing_metadata() or ():
        if key == ERROR_METADATA and isinstance(value, bytes):
            return from_detail(error_pb2.ErrorDetail.FromString(value))
    status = call.code()
    by_status = {
        grpc.StatusCode.UNAVAILABLE: Code.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAUTHENTICATED: Code.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED: Code.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Code.LIMIT_EXCEEDED,
        grpc.StatusCode.NOT_FOUND: Code.NOT_FOUND,
    }
    code = by_status.get(status, Code.INTERNAL)
    details = call.details() or status.name
    if code is Code.UNAVAILABLE and UNTRUSTED in details:
        return FleetError(
            Code.CERTIFICATE_INVALID,
            f"{address} shows a certificate that no node authority known here signed",
            place=address,
            remedy="When the node authority was rotated, `fleetctl login` fetches the present one; without a login,"
            " copy keys/node-ca.crt of the coordinator to the context's `ca`. Else somebody else answers there.",
        )
    if code is Code.UNAVAILABLE:
        # gRPC tells the whole story of its attempts; the last one is what a person wants to know.
        return FleetError(code, f"no coordinator answers at {address}", reason=details.rpartition("last error: ")[2])
    return FleetError(code, details)


class Client:
    """A connection to one coordinator; use it as a context manager."""

    def __init__(self, channel: grpc.Channel, address: str, signer: ActionSigner) -> None:
        self._channel = channel
        self.address = address
        # Implements what stubs use of a channel.
        self.stub = control_pb2_grpc.ControlServiceStub(cast("grpc.Channel", SigningChannel(channel, signer)))

    def call(self, method: grpc.UnaryUnaryMultiCallable[Q, R], request: Q, timeout_s: float = UNARY_TIMEOUT_S) -> R:
        """Make one unary call.

        Raises:
            FleetError: whatever the coordinator answered, or UNAVAILABLE / DEADLINE_EXCEEDED.
        """
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise to_fleet_error(error, self.address) from error

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Q, R], request: Q, timeout_s: float | None = None
    ) -> Iterator[R]:
        """Iterate over a server stream; leaving the loop early cancels it.

        Raises:
            FleetError: as `call`.
        """
        replies = method(request, timeout=timeout_s)
        try:
            yield from replies
        except grpc.RpcError as error:
            raise to_fleet_error(error, self.address) from error
        finally:
            replies.cancel()  # type: ignore[no-untyped-call]  # grpc-stubs leaves it untyped

    def put_blob(self, digest: str, data: bytes) -> None:
        """Upload one blob in chunks; the coordinator checks the digest.

        Raises:
            FleetError: DIGEST_MISMATCH, LIMIT_EXCEEDED, or as `call`.
        """

        def messages() -> Iterator[pb.PutBlobRequest]:
            yield pb.PutBlobRequest(digest=digest, size=len(data))
            for start in range(0, len(data), CHUNK):
                yield pb.PutBlobRequest(data=data[start : start + CHUNK])

        try:
            self.stub.PutBlob(messages(), timeout=BULK_TIMEOUT_S)
        except grpc.RpcError as error:
            raise to_fleet_error(error, self.address) from error

    def get_blob(self, digest: str, limit: int) -> bytes:
        """Download one blob of at most `limit` bytes. The caller checks the digest against what was signed.

        Raises:
            FleetError: BLOB_MISSING, LIMIT_EXCEEDED, or as `call`.
        """
        parts: list[bytes] = []
        received = 0
        for chunk in self.stream(self.stub.GetBlob, pb.GetBlobRequest(digest=digest), timeout_s=BULK_TIMEOUT_S):
            received += len(chunk.data)
            if received > limit:
                raise FleetError(Code.LIMIT_EXCEEDED, f"the blob is larger than {limit} bytes", digest=digest)
            parts.append(chunk.data)
        return b"".join(parts)


@contextmanager
def connect(context: Context, now: Callable[[], datetime]) -> Iterator[Client]:
    """Open a connection with mutual TLS; the first call finds out whether the coordinator is there.

    Raises:
        FleetError: CONFIG_INVALID when a certificate or key cannot be read.
    """
    key = _read(context.key, "operator's key")
    certificate = _read(context.certificate, "operator's certificate")
    authorities = _read(context.ca, "coordinator's CA certificate")
    signer = ActionSigner(certificate, key, now)
    credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.ssl_target_name_override", "coordinator.fleet.internal"),
    ]
    with grpc.secure_channel(context.address, credentials, options=options) as channel:
        yield Client(channel, context.address, signer)

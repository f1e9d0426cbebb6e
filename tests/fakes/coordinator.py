"""A coordinator in this process, over real gRPC and real TLS on the loopback: what nodes are tested against.

It keeps what nodes tell it and says what tests want said, also what a correct coordinator never says.
"""

# ruff: noqa: N802 - methods have the names of the protocol

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fleet import wire
from fleet.checkpoint import parse_proof
from fleet.errors import Code, FleetError
from fleet.merkle import consistency_proof
from fleet.model import DesiredState, Event, LogLine, ObservedState
from fleet.v1 import enrolment_pb2, enrolment_pb2_grpc, error_pb2, node_pb2_grpc
from fleet.v1 import node_pb2 as pb
from orchestrator import pki, principals
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import MemoryLog

SECRET = bytes(range(32))
TOKEN_ID = "token-1"


async def abort(context: grpc.aio.ServicerContext, error: FleetError) -> None:
    """End a call as the coordinator does: with the detail in the trailing metadata."""
    detail = error_pb2.ErrorDetail(code=str(error.code), message=error.public, remedy=error.remedy)
    metadata = (("fleet-error-bin", detail.SerializeToString()),)
    await context.abort(grpc.StatusCode[error.row.grpc_status], error.public, metadata)


@dataclass
class NodeSession:
    """One stream of a node, as the coordinator sees it."""

    hello: pb.Hello
    log: MemoryLog
    seen: int = 0
    outgoing: asyncio.Queue[pb.CoordinatorMessage | None] = field(default_factory=asyncio.Queue)

    def push(self, desired: DesiredState) -> None:
        """Offer the checkpoint that proves the order, then the order, as the coordinator does."""
        note = parse_proof(desired.proof).note
        size = int(note.split(b"\n")[1])
        between = consistency_proof(self.log.read, *sorted((self.seen, size)))
        if size > self.seen:
            offer = pb.CheckpointOffer(note=note, old_size=self.seen, consistency=between)
            self.outgoing.put_nowait(pb.CoordinatorMessage(checkpoint=offer))
        desired = replace(desired, base=self.seen, consistency=between)
        self.seen = max(self.seen, size)
        self.outgoing.put_nowait(pb.CoordinatorMessage(desired=wire.to_pb_desired(desired)))

    def go_away(self, retry_after_ms: int) -> None:
        self.outgoing.put_nowait(pb.CoordinatorMessage(go_away=pb.GoAway(retry_after_ms=retry_after_ms)))

    def command(self, command: pb.Command) -> None:
        self.outgoing.put_nowait(pb.CoordinatorMessage(command=command))

    def logs(self, *, enabled: bool) -> None:
        self.outgoing.put_nowait(pb.CoordinatorMessage(logs=pb.LogSubscription(enabled=enabled)))

    def end(self) -> None:
        self.outgoing.put_nowait(None)


@dataclass
class FakeCoordinator(node_pb2_grpc.NodeServiceServicer, enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Both ports. `refuse` makes every new session fail; `lose_replies` swallows that many issued certificates."""

    world: FleetWorld = field(default_factory=FleetWorld)
    certificate_life: timedelta = timedelta(hours=24)
    sessions: list[NodeSession] = field(default_factory=list)
    observed: list[ObservedState] = field(default_factory=list)
    receipts: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    line_messages: int = 0
    results: dict[str, pb.CommandResult] = field(default_factory=dict)
    refuse: FleetError | None = None
    refusals: int = 0
    lose_replies: int = 0
    renewals: list[tuple[int, int]] = field(default_factory=list)
    bound_key: bytes = b""
    join_statement: bytes = b""
    sequence: int = 0
    confirmed: int = 0
    silent: bool = False

    async def open(self) -> None:
        now = datetime.now(UTC)
        self.authority = pki.new_authority("node CA", now)
        session = pki.issue_server(self.authority, ["localhost", "127.0.0.1"], now)
        self.enrolment = pki.new_enrolment_certificate(now)
        self.server = grpc.aio.server()
        mutual = grpc.ssl_server_credentials(
            [(session.key, session.certificate)], self.authority.certificate, require_client_auth=True
        )
        one_sided = grpc.ssl_server_credentials([(self.enrolment.key, self.enrolment.certificate)])
        self.session_port = self.server.add_secure_port("127.0.0.1:0", mutual)
        self.enrolment_port = self.server.add_secure_port("127.0.0.1:0", one_sided)
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, self.server)
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(self, self.server)
        await self.server.start()

    async def close(self) -> None:
        for session in self.sessions:
            session.end()
        await self.server.stop(None)

    @property
    def enrolment_address(self) -> str:
        return f"127.0.0.1:{self.enrolment_port}"

    def token(self, *, pin: bytes | None = None, secret: bytes = SECRET) -> str:
        return ".".join(("flt1", _text(pin or pki.spki_pin(self.enrolment.certificate)), TOKEN_ID, _text(secret)))

    # NodeService

    async def Session(
        self, requests: AsyncIterator[pb.NodeMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.CoordinatorMessage]:
        if self.refuse is not None:
            self.refusals += 1
            await abort(context, self.refuse)
        hello = (await anext(requests)).hello
        session = NodeSession(hello, self.world.log, hello.seen_size)
        self.sessions.append(session)
        if self.silent:
            await asyncio.Event().wait()
        yield pb.CoordinatorMessage(welcome=pb.Welcome(report_interval_ms=60_000, now_ms=1))
        reading = asyncio.create_task(self._read(requests))
        try:
            while (message := await session.outgoing.get()) is not None:
                yield message
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[pb.NodeMessage]) -> None:
        async for message in requests:
            match message.WhichOneof("message"):
                case "observed":
                    self.observed.append(wire.from_pb_observed(message.observed))
                case "receipt":
                    self.receipts.append(message.receipt)
                case "events":
                    self.events += [wire.from_pb_event(event) for event in message.events.events]
                case "logs":
                    self.line_messages += 1
                    self.lines += [wire.from_pb_log_line(line) for line in message.logs.lines]
                case "result":
                    self.results[message.result.id] = message.result

    async def FetchBlob(
        self, request: pb.FetchBlobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.BlobChunk]:
        try:
            async for data, total in self.world.fetch_blob(request.digest, request.offset):
                yield pb.BlobChunk(data=data, total=total)
        except FleetError as error:
            await abort(context, error)

    async def FetchTrust(self, request: pb.FetchTrustRequest, context: grpc.aio.ServicerContext) -> pb.TrustMetadata:
        return pb.TrustMetadata(files=dict(await self.world.fetch_trust(request.known_root_version)))

    # EnrolmentService

    async def Enroll(
        self, requests: AsyncIterator[enrolment_pb2.EnrollRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[enrolment_pb2.EnrollReply]:
        assert (await anext(requests)).hello.token_id == TOKEN_ID
        nonce = secrets.token_bytes(32)
        yield enrolment_pb2.EnrollReply(challenge=enrolment_pb2.Challenge(nonce=nonce))
        proof = (await anext(requests)).proof
        mac = hmac.digest(SECRET, b"fleet-enroll-v1" + nonce + proof.bound_key + proof.csr, "sha256")
        if not hmac.compare_digest(mac, proof.mac):
            await abort(context, FleetError(Code.TOKEN_INVALID, "wrong proof"))
        self.bound_key, self.join_statement = proof.bound_key, proof.statement
        self.sequence += 1
        yield self._issue(proof.csr)

    async def Renew(
        self, requests: AsyncIterator[enrolment_pb2.RenewRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[enrolment_pb2.EnrollReply]:
        assert (await anext(requests)).hello.node == "node-1"
        nonce = secrets.token_bytes(32)
        yield enrolment_pb2.EnrollReply(challenge=enrolment_pb2.Challenge(nonce=nonce))
        proof = (await anext(requests)).proof
        state = proof.epoch.to_bytes(8, "big") + proof.sequence.to_bytes(8, "big")
        self.renewals.append((proof.epoch, proof.sequence))
        try:
            message = b"fleet-renew-v1" + nonce + state + proof.csr
            Ed25519PublicKey.from_public_bytes(self.bound_key).verify(proof.signature, message)
        except InvalidSignature:
            await abort(context, FleetError(Code.CERTIFICATE_INVALID, "wrong signature"))
        if proof.sequence not in (self.sequence, self.confirmed):
            await abort(context, FleetError(Code.NODE_LOCKED, "a copy"))
        self.confirmed, self.sequence = proof.sequence, self.sequence + 1
        if self.lose_replies:
            self.lose_replies -= 1
            await abort(context, FleetError(Code.UNAVAILABLE, "the reply was lost"))
        yield self._issue(proof.csr)

    def _issue(self, csr: bytes) -> enrolment_pb2.EnrollReply:
        now = datetime.now(UTC)
        identity = principals.NodeIdentity("node-1", 1, now + self.certificate_life)
        certificate = pki.issue_node(self.authority, "demo", identity, csr, now)
        issued = enrolment_pb2.Issued(
            node="node-1",
            fleet="demo",
            epoch=1,
            sequence=self.sequence,
            certificate=certificate,
            ca_certificates=self.authority.certificate,
            session_address=f"127.0.0.1:{self.session_port}",
            labels={"site": "oslo"},
        )
        return enrolment_pb2.EnrollReply(issued=issued)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

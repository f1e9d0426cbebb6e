"""A complete coordinator from nothing: keys, certificates, release repository and data directory in a folder.

`FleetFixture` plays `fleetctl init` and the publisher; `serving` runs the coordinator on the loop of the test;
`Operator` and `NodeClient` are clients over real mutual TLS on loopback.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc import aio

from fleet.action import NONCE_BYTES, Action, digest_of_request, sign_action
from fleet.assignment import Receipt, ReceiptAgent, VerifiedAssignment, open_assignment, sign_receipt
from fleet.bundle import digest_of
from fleet.checkpoint import format_vkey
from fleet.errors import Code, FleetError
from fleet.keys import P256SigningKey
from fleet.model import ObservedAgent, ObservedState, Phase
from fleet.release import RoleKeys, add_target, new_release, publish, remove_target
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH, bundle_path, grant_path
from fleet.trust import FleetTrust, Profile, encode_fleet_trust
from fleet.v1 import (
    control_pb2,
    control_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    error_pb2,
    model_pb2,
    node_pb2,
    node_pb2_grpc,
)
from fleet.wire import from_pb_desired, to_pb_observed
from fleet.x509 import certificate_digest, load_certificate
from orchestrator import pki, principals
from orchestrator.config import Settings, load_settings
from orchestrator.rpc.auth import ACTION_METADATA
from orchestrator.server import Coordinator, start
from tests.fakes.fleet import bundle
from tests.fakes.publisher import key, role_keys
from tests.fakes.stores import put_empty

FLEET = "demo"
SERVER_NAME = "coordinator.fleet.internal"
CALL_S = 60.0
"""Deadline of every call in tests: only a hanging test meets it."""

_WRITE_FAILED = "Internal error from Core"
"""What gRPC says instead of a stream's status when a write meets its end."""

MANIFEST = """\
schema: fleet.application/v1
application: climate
agents:
  - name: context
    bundle: context@1.0.0
rollout: {waves: [1, 100%], healthy_for: 1ms, deadline: 30s}
"""


class ShiftedClock:
    """The machine's clock with an offset that a test can move."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def advance(self, **period: float) -> None:
        self.offset += timedelta(**period)


def utc_now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def grant_text(
    agent: str, name: str, revision: int = 1, caps: str = "{}", labels: str = "{}", today: datetime | None = None
) -> bytes:
    """A grant that is valid now, whenever the test runs."""
    today = today or datetime.now(UTC)
    first, last = today - timedelta(days=2), today + timedelta(days=300)
    return f"""\
schema: fleet.grant/v1
agent: {agent}
revision: {revision}
applies_to:
  bundle: {{name: {name}, versions: ">=1.0.0"}}
  nodes: {{labels: {labels}}}
validity: {{not_before: {first:%Y-%m-%dT%H:%M:%SZ}, not_after: {last:%Y-%m-%dT%H:%M:%SZ}}}
lease: {{max_stale: 30d, on_lapse: continue}}
caps: {caps}
""".encode()


@dataclass
class FleetFixture:
    """Everything that is outside of the coordinator, and its data directory in `folder`.

    Attributes:
        clock: the publisher's; the machine's unless a test owns the time.
    """

    folder: Path
    clock: Callable[[], datetime] = utc_now
    role_keys: RoleKeys = field(default_factory=role_keys)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = self.clock()
        self.director, self.log_key = key("director"), key("log")
        self.node_ca = pki.new_authority("nodes", self.now)
        self.operator_ca = pki.new_authority("operators", self.now, path_length=1)
        self.login_ca = pki.issue_authority(self.operator_ca, "operators, login", self.now)
        self.trust = FleetTrust(
            FLEET,
            (self.director.public,),
            (format_vkey(f"{FLEET}/audit", self.log_key.public),),
            self.node_ca.certificate,
            Profile.DEV,
        )
        self.document = encode_fleet_trust(self.trust)
        self.files = new_release(
            self.role_keys, profile=Profile.DEV, now=self.now, documents={TRUST_PATH: self.document}
        )
        self.documents = {digest_of(self.document): self.document}
        server = pki.issue_server(self.node_ca, [SERVER_NAME, "localhost", "127.0.0.1"], self.now)
        enrolment = pki.new_enrolment_certificate(self.now)
        content = {
            "trust/root.json": self.files["1.root.json"],
            "keys/director.pem": self.director.to_pem(),
            "keys/log.pem": self.log_key.to_pem(),
            "keys/node-ca.pem": self.node_ca.key,
            "keys/node-ca.crt": self.node_ca.certificate,
            "keys/operator-ca.crt": self.operator_ca.certificate,
            "keys/login-ca.pem": self.login_ca.key,
            "keys/login-ca.crt": self.login_ca.certificate,
            "tls/server.pem": server.key,
            "tls/server.crt": server.certificate,
            "tls/enrolment.pem": enrolment.key,
            "tls/enrolment.crt": enrolment.certificate,
            "coordinator.toml": (
                f'fleet = "{FLEET}"\n[listen]\nsession = "127.0.0.1:0"\nenrolment = "127.0.0.1:0"\n'
            ).encode(),
        }
        for name, data in content.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        put_empty(load_settings(self.config, {}, {}).files.database)

    @property
    def config(self) -> Path:
        """The coordinator's configuration file."""
        return self.folder / "coordinator.toml"

    def settings(self, **limits: int) -> Settings:
        """Settings with some limits changed."""
        settings = load_settings(self.config, {}, {})
        return replace(settings, limits=replace(settings.limits, **limits))

    def operator(self, name: str = "alice", *roles: principals.Role) -> pki.KeyPair:
        """An operator's certificate; an administrator's when no role is named."""
        chosen = roles or (principals.Role.ADMIN,)
        return pki.issue_operator(self.operator_ca, FLEET, name, chosen, self.now, timedelta(days=1))

    def add_bundle(self, name: str, version: str, *imports: str, models: Mapping[str, bytes] | None = None) -> str:
        """Sign a bundle; returns its digest. Takes effect with `publish`."""
        built = bundle(name, version, *imports, models=models)
        self.blobs.update(built.blobs)
        self.add(bundle_path(name, version), built.index)
        return built.digest

    def add_grant(self, agent: str, revision: int = 1, caps: str = "{}", labels: str = "{}") -> str:
        """Approve a grant; returns its digest. Takes effect with `publish`."""
        document = grant_text(agent, agent.partition("/")[2], revision, caps, labels, self.clock())
        self.add(grant_path(agent, revision), document)
        return digest_of(document)

    def remove(self, path: str) -> None:
        """Withdraw a document."""
        self.files = remove_target(self.files, self.role_keys, path, self.clock())

    def publish(self) -> tuple[dict[str, bytes], list[bytes]]:
        """Sign snapshot and timestamp; returns the metadata and every document."""
        self.files = publish(self.files, self.role_keys, self.clock())
        return self.files, list(self.documents.values())

    def list_node_authorities(self, pem: bytes) -> None:
        """Say which authorities vouch for nodes. Takes effect with `publish`."""
        self.trust = replace(self.trust, node_ca_pem=pem)
        self.document = encode_fleet_trust(self.trust)
        self.add(TRUST_PATH, self.document)

    def release(self, version: str = "1.0.0", agent: str = "climate/context") -> None:
        """Sign one bundle without imports, and the agent's grant at version 1.0.0."""
        self.add_bundle(agent.partition("/")[2], version)
        if version == "1.0.0":
            self.add_grant(agent)

    def add(self, path: str, data: bytes, custom: Mapping[str, object] | None = None) -> None:
        """List a document. Takes effect with `publish`."""
        self.documents[digest_of(data)] = data
        self.files = add_target(self.files, self.role_keys, path, data, custom or {}, self.clock())


@asynccontextmanager
async def serving(fleet: FleetFixture, clock: ShiftedClock | None = None, **limits: int) -> AsyncIterator[Coordinator]:
    """Run the coordinator until the block ends."""
    coordinator = await start(fleet.settings(**limits), clock or ShiftedClock())
    try:
        yield coordinator
    finally:
        await coordinator.stop()


def error_of(error: aio.AioRpcError) -> error_pb2.ErrorDetail:
    """The detail that came with a failed call."""
    for name, value in error.trailing_metadata() or ():
        if name == "fleet-error-bin":
            return error_pb2.ErrorDetail.FromString(value)
    raise AssertionError(f"no detail in {error!r}")


def channel(fleet: FleetFixture, coordinator: Coordinator, identity: pki.KeyPair | None) -> aio.Channel:
    """A channel to the session port."""
    credentials = grpc.ssl_channel_credentials(
        fleet.node_ca.certificate, identity and identity.key, identity and identity.certificate
    )
    options = (
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.http2.bdp_probe", 0),  # keeps the receive window at 64 KiB, so that not reading is felt soon
    )
    return aio.secure_channel(str(coordinator.session), credentials, options=options)


class SigningChannel:
    """A channel whose calls carry the operator's signed statement; `statements` makes it, so that a test may lie."""

    def __init__(self, inner: aio.Channel, identity: pki.KeyPair, clock: Callable[[], datetime] = utc_now) -> None:
        self._inner = inner
        self._clock = clock
        self._key = P256SigningKey.from_pem(identity.key)
        self._certificate = load_certificate(identity.certificate)
        self.sign = self.statement

    def statement(self, method: str, request: bytes) -> bytes:
        """The honest statement about a call."""
        (name,) = self._certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        digest, certificate = digest_of_request(request), certificate_digest(self._certificate)
        nonce = secrets.token_bytes(NONCE_BYTES)
        action = Action(FLEET, str(name.value), method, digest, self._clock(), nonce, certificate)
        return sign_action(action, self._key)

    def unary_unary(
        self, method: str, request_serializer: object, response_deserializer: object, **_: object
    ) -> object:
        send = self._inner.unary_unary(method, None, response_deserializer)

        def call(message: object, **options: object) -> object:
            data = request_serializer(message)
            return send(data, metadata=((ACTION_METADATA, self.sign(method, data)),), **options)

        return call

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class Operator:
    """An operator's client."""

    def __init__(self, fleet: FleetFixture, coordinator: Coordinator, identity: pki.KeyPair | None = None) -> None:
        self.fleet = fleet
        identity = identity or fleet.operator()
        services = getattr(coordinator, "services", None)  # a coordinator in another process has the machine's clock
        clock = utc_now if services is None else services.clock
        self.channel = channel(fleet, coordinator, identity)
        self.control = control_pb2_grpc.ControlServiceStub(SigningChannel(self.channel, identity, clock))

    async def push(self) -> control_pb2.PublishReply:
        """Upload what is missing and publish."""
        missing = await self.control.HasBlobs(
            control_pb2.HasBlobsRequest(digests=list(self.fleet.blobs)), timeout=CALL_S
        )
        for digest in missing.missing:
            data = self.fleet.blobs[digest]
            pieces = [control_pb2.PutBlobRequest(digest=digest, size=len(data), data=data[:1000])]
            pieces += [control_pb2.PutBlobRequest(data=data[at : at + 1000]) for at in range(1000, len(data), 1000)]
            await self.control.PutBlob(iter(pieces), timeout=CALL_S)
        files, documents = self.fleet.publish()
        request = control_pb2.PublishRequest(
            files=files, documents=[model_pb2.Blob(digest=digest_of(data), content=data) for data in documents]
        )
        return await self.control.Publish(request, timeout=CALL_S)

    async def deploy(self, manifest: str = MANIFEST, base: str = "") -> str:
        """Deploy and return the deployment's id."""
        reply = await self.control.Deploy(
            control_pb2.DeployRequest(manifest=manifest.encode(), base=base), timeout=CALL_S
        )
        return reply.deployment

    async def watch(self, deployment: str) -> control_pb2.Deployment:
        """Wait for the end of a deployment."""
        request = control_pb2.WatchDeploymentRequest(id=deployment)
        seen = [message async for message in self.control.WatchDeployment(request, timeout=CALL_S)]
        return seen[-1]

    async def token(self, node: str, labels: Mapping[str, str] | None = None, ttl_s: int = 3600) -> str:
        """A join token."""
        request = control_pb2.CreateJoinTokenRequest(node=node, labels=labels or {}, ttl_s=ttl_s)
        return (await self.control.CreateJoinToken(request, timeout=CALL_S)).token


def make_csr(tls: ec.EllipticCurvePrivateKey) -> bytes:
    """A request whose subject lies."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone-else")])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(tls, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


class NodeClient:
    """A node as the coordinator sees it: it joins, opens a session, and reports what the test tells it to."""

    def __init__(self, fleet: FleetFixture, coordinator: Coordinator, name: str) -> None:
        self.fleet = fleet
        self.coordinator = coordinator
        self.name = name
        self.bound = key(f"bound-{name}")
        self.tls = ec.generate_private_key(ec.SECP256R1())
        self.identity: pki.KeyPair | None = None
        self.epoch = self.sequence = 0
        self.generation, self.digest = 0, ""
        self.news = 0
        self.accepted: VerifiedAssignment | None = None
        self.channel: aio.Channel | None = None
        self.boot_id, self.root_version, self.release_version = "boot", 0, 0
        self.sealing_key = b""
        self.ceiling: model_pb2.NodeCeiling | None = None

    async def join(self, token: str) -> enrolment_pb2.Issued:
        """Enrol as a node does: compare the pin before anything is sent."""
        _, pin, token_id, secret = token.split(".")
        address = self.coordinator.enrolment
        certificate = (self.fleet.folder / "tls/enrolment.crt").read_bytes()
        assert unpadded(pin) == pki.spki_pin(certificate)
        credentials = grpc.ssl_channel_credentials(certificate)
        options = (("grpc.ssl_target_name_override", pki.ENROLMENT_NAME),)
        async with aio.secure_channel(str(address), credentials, options=options) as door:
            stream = enrolment_pb2_grpc.EnrolmentServiceStub(door).Enroll(timeout=CALL_S)
            await stream.write(enrolment_pb2.EnrollRequest(hello=enrolment_pb2.EnrollHello(token_id=token_id)))
            nonce = (await _read(stream)).challenge.nonce
            csr = make_csr(self.tls)
            raw = self.bound.public.raw
            mac = hmac.digest(unpadded(secret), b"fleet-enroll-v1" + nonce + raw + csr, "sha256")
            proof = enrolment_pb2.EnrollProof(mac=mac, bound_key=raw, csr=csr, agent_version="test")
            await stream.write(enrolment_pb2.EnrollRequest(proof=proof))
            issued = (await _read(stream)).issued
        self._adopt(issued)
        return issued

    async def renew(self) -> enrolment_pb2.Issued:
        """Get the next certificate by the bound key alone."""
        credentials = grpc.ssl_channel_credentials((self.fleet.folder / "tls/enrolment.crt").read_bytes())
        options = (("grpc.ssl_target_name_override", pki.ENROLMENT_NAME),)
        async with aio.secure_channel(str(self.coordinator.enrolment), credentials, options=options) as door:
            stream = enrolment_pb2_grpc.EnrolmentServiceStub(door).Renew(timeout=CALL_S)
            await stream.write(enrolment_pb2.RenewRequest(hello=enrolment_pb2.RenewHello(node=self.name)))
            nonce = (await _read(stream)).challenge.nonce
            csr = make_csr(self.tls)
            numbers = self.epoch.to_bytes(8, "big") + self.sequence.to_bytes(8, "big")
            signature = self.bound.sign(b"fleet-renew-v1" + nonce + numbers + csr)
            proof = enrolment_pb2.RenewProof(epoch=self.epoch, sequence=self.sequence, signature=signature, csr=csr)
            await stream.write(enrolment_pb2.RenewRequest(proof=proof))
            issued = (await _read(stream)).issued
        self._adopt(issued)
        return issued

    def _adopt(self, issued: enrolment_pb2.Issued) -> None:
        pem = self.tls.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.identity = pki.KeyPair(pem, issued.certificate)
        self.epoch, self.sequence = issued.epoch, issued.sequence

    async def connect(self, coordinator: Coordinator | None = None) -> node_pb2.Welcome:
        """Open a session and say hello."""
        self.coordinator = coordinator or self.coordinator
        if self.channel is not None:
            await self.channel.close()
        self.channel = channel(self.fleet, self.coordinator, self.identity)
        self.stub = node_pb2_grpc.NodeServiceStub(self.channel)
        self.stream = self.stub.Session()
        hello = node_pb2.Hello(
            boot_id=self.boot_id,
            root_version=self.root_version,
            release_version=self.release_version,
            sealing_key=self.sealing_key,
            ceiling=self.ceiling,
            agent_version="1.2.3",
            architecture="x86_64",
            accepted_generation=self.generation,
            accepted_digest=self.digest,
            observed=to_pb_observed(ObservedState(self.generation, self.digest, datetime.now(UTC))),
        )
        try:
            await self.stream.write(node_pb2.NodeMessage(hello=hello))
            return (await self.receive()).welcome
        except aio.AioRpcError as error:
            if error.details() != _WRITE_FAILED:
                raise
        return await self.connect()  # turned away before hello was sent: the next answer says why

    async def receive(self) -> node_pb2.CoordinatorMessage:
        """The next message; log subscriptions and checkpoints are skipped, and news of releases counted."""
        while True:
            message = await _read(self.stream)
            kind = message.WhichOneof("message")
            self.news += kind == "release"
            if kind not in {"logs", "checkpoint", "release"}:
                return message

    async def accept(self) -> VerifiedAssignment:
        """Receive a desired state, verify it as a node does, and take it over."""
        message = await self.receive()
        assert message.WhichOneof("message") == "desired", message
        desired = from_pb_desired(message.desired)
        opened = open_assignment(desired, self.fleet.trust, node=self.name, epoch=self.epoch, now=datetime.now(UTC))
        assert opened.assignment.generation > self.generation
        self.accepted, self.generation, self.digest = opened, opened.assignment.generation, opened.digest
        return opened

    async def report(self, phase: Phase = Phase.RUNNING, restarts: int = 0) -> None:
        """Report every assigned agent in one phase, running for a minute."""
        assert self.accepted is not None
        now = datetime.now(UTC)
        agents = tuple(
            ObservedAgent(
                name=agent.name,
                phase=phase,
                bundle_digest=agent.bundle.digest,
                grant_digest=agent.grant.digest,
                restarts=restarts,
                running_since=now - timedelta(minutes=1) if phase is Phase.RUNNING else None,
            )
            for agent in self.accepted.assignment.agents
        )
        observed = to_pb_observed(ObservedState(self.generation, self.digest, now, agents))
        await self.stream.write(node_pb2.NodeMessage(observed=observed))

    async def run(self) -> VerifiedAssignment:
        """Accept the next desired state and report it as running."""
        opened = await self.accept()
        await self.report()
        return opened

    def receipt(self, signer: SigningKey | None = None) -> bytes:
        """A receipt for what was accepted."""
        assert self.accepted is not None
        agents = tuple(
            ReceiptAgent(agent.name, agent.bundle.digest, agent.grant.digest)
            for agent in self.accepted.assignment.agents
        )
        receipt = Receipt(FLEET, self.name, self.epoch, self.generation, self.digest, datetime.now(UTC), agents)
        return sign_receipt(receipt, signer or self.bound)

    async def close(self) -> None:
        """Leave without a word."""
        if self.channel is not None:
            await self.channel.close()


async def _read(stream: aio.StreamStreamCall) -> object:
    message = await stream.read()
    if message is aio.EOF:
        raise FleetError(Code.UNAVAILABLE, "the stream ended")
    return message


def unpadded(text: str) -> bytes:
    """Decode base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))

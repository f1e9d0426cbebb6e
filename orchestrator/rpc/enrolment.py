"""EnrolmentService: one stream per enrolment, renewal or login, on its own port without client certificates.

Owns: the order hello, challenge, proof, issued; the challenge itself, which lives and dies with its stream; and how
much of the coordinator strangers may take up.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.names import is_name
from fleet.v1 import enrolment_pb2, enrolment_pb2_grpc
from orchestrator.enrolment import EnrollProof, RenewProof
from orchestrator.operators import LoginProof
from orchestrator.rpc.auth import check_tls
from orchestrator.rpc.limiting import Rates, Slots, network_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from orchestrator.config import Limits
    from orchestrator.enrolment import Issued
    from orchestrator.rpc.interceptor import Context
    from orchestrator.rpc.services import Services

CHALLENGE_SECONDS = 60.0
"""How long a challenge is good, and the whole exchange may take."""

MAX_CHALLENGES = 512
"""Exchanges under way at once."""

MAX_CHALLENGES_OF_ONE = 32
"""Exchanges under way at once from one address."""


@asynccontextmanager
async def strangers(_method: str, context: Context, _request: bytes | None = None) -> AsyncIterator[None]:
    """Let in whoever speaks TLS 1.3.

    Raises:
        FleetError: UNAUTHENTICATED.
    """
    check_tls(context)
    yield


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """The door for machines that have no valid certificate.

    Args:
        fleet: name of the fleet.
        ca_certificates: returns what a node checks the coordinator against now, PEM.
        session_address: where the node finds NodeService.
    """

    def __init__(
        self,
        *,
        services: Services,
        fleet: str,
        ca_certificates: Callable[[], bytes],
        session_address: str,
        limits: Limits,
    ) -> None:
        self._enrolment = services.enrolment
        self._operators = services.operators
        self._workers = services.workers
        self._fleet = fleet
        self._ca_certificates = ca_certificates
        self._session_address = session_address
        self._under_way = Slots("enrolments", MAX_CHALLENGES_OF_ONE, MAX_CHALLENGES)
        self._rates = Rates("enrolments", limits.enrolments_per_minute)

    async def Enroll(  # type: ignore[override]  # noqa: N802 - writes to the context
        self, requests: AsyncIterator[enrolment_pb2.EnrollRequest], context: Context
    ) -> None:
        """Turn a join token into a node."""
        async with self._admitted(context):
            hello = await anext(requests, None)
            if hello is None or hello.WhichOneof("step") != "hello":
                raise FleetError(Code.MESSAGE_INVALID, "enrolment begins with hello", place="step")
            # Challenged whether or not the token exists: a stranger learns nothing from the answer.
            nonce = self._enrolment.nonce()
            await context.write(enrolment_pb2.EnrollReply(challenge=enrolment_pb2.Challenge(nonce=nonce)))
            message = await anext(requests, None)
            if message is None or message.WhichOneof("step") != "proof":
                raise FleetError(Code.MESSAGE_INVALID, "after the challenge comes the proof", place="step")
            proof = EnrollProof(
                mac=message.proof.mac,
                bound_key=message.proof.bound_key,
                csr=message.proof.csr,
                agent_version=message.proof.agent_version,
                statement=message.proof.statement,
            )
            issued = await self._workers.run(self._enrolment.enroll, hello.hello.token_id, nonce, proof)
            await context.write(self._reply(issued))

    async def Renew(  # type: ignore[override]  # noqa: N802 - writes to the context
        self, requests: AsyncIterator[enrolment_pb2.RenewRequest], context: Context
    ) -> None:
        """Give a node its next certificate."""
        async with self._admitted(context):
            hello = await anext(requests, None)
            if hello is None or hello.WhichOneof("step") != "hello" or not is_name(hello.hello.node):
                raise FleetError(Code.MESSAGE_INVALID, "renewal begins with hello", place="step")
            nonce = self._enrolment.nonce()
            await context.write(enrolment_pb2.EnrollReply(challenge=enrolment_pb2.Challenge(nonce=nonce)))
            message = await anext(requests, None)
            if message is None or message.WhichOneof("step") != "proof":
                raise FleetError(Code.MESSAGE_INVALID, "after the challenge comes the proof", place="step")
            proof = RenewProof(
                epoch=message.proof.epoch,
                sequence=message.proof.sequence,
                signature=message.proof.signature,
                csr=message.proof.csr,
            )
            issued = await self._workers.run(self._enrolment.renew, hello.hello.node, nonce, proof)
            await context.write(self._reply(issued))

    async def Login(  # type: ignore[override]  # noqa: N802 - writes to the context
        self, requests: AsyncIterator[enrolment_pb2.LoginRequest], context: Context
    ) -> None:
        """Give an operator a certificate, by a bootstrap token or by the key that is bound already."""
        async with self._admitted(context):
            hello = await anext(requests, None)
            if hello is None or hello.WhichOneof("step") != "hello":
                raise FleetError(Code.MESSAGE_INVALID, "a login begins with hello", place="step")
            token, name = hello.hello.token_id, hello.hello.operator
            if bool(token) == bool(name) or (name and not is_name(name)):
                raise FleetError(Code.MESSAGE_INVALID, "a login needs a token or a name", place="hello")
            nonce = self._enrolment.nonce()
            await context.write(enrolment_pb2.LoginReply(challenge=enrolment_pb2.Challenge(nonce=nonce)))
            message = await anext(requests, None)
            if message is None or message.WhichOneof("step") != "proof":
                raise FleetError(Code.MESSAGE_INVALID, "after the challenge comes the proof", place="step")
            offered = message.proof
            proof = LoginProof(offered.csr, offered.mac, offered.signature, offered.sequence)
            use = self._operators.login if token else self._operators.renew
            issued = await self._workers.run(use, token or name, nonce, proof)
            logged_in = enrolment_pb2.LoggedIn(
                operator=issued.operator,
                fleet=self._fleet,
                certificate=issued.chain,
                ca_certificates=self._ca_certificates(),
                session_address=self._session_address,
                roles=issued.roles,
                team=issued.team,
                sequence=issued.sequence,
            )
            await context.write(enrolment_pb2.LoginReply(issued=logged_in))

    @asynccontextmanager
    async def _admitted(self, context: Context) -> AsyncIterator[None]:
        """Run an exchange, if whoever comes may have one more, and not for too long."""
        peer = network_of(context.peer())
        self._rates.take(peer, asyncio.get_running_loop().time())
        with self._under_way.taken(peer):
            try:
                async with asyncio.timeout(CHALLENGE_SECONDS):
                    yield
            except TimeoutError as error:
                raise FleetError(Code.DEADLINE_EXCEEDED, "the challenge is too old") from error

    def _reply(self, issued: Issued) -> enrolment_pb2.EnrollReply:
        return enrolment_pb2.EnrollReply(
            issued=enrolment_pb2.Issued(
                node=issued.node,
                fleet=self._fleet,
                epoch=issued.epoch,
                sequence=issued.sequence,
                certificate=issued.certificate,
                ca_certificates=self._ca_certificates(),
                session_address=self._session_address,
                labels=dict(issued.labels),
            )
        )

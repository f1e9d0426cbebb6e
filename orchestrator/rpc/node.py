"""NodeService: the session stream, blobs and trust metadata.

Owns: one reader and one writer per session. The writer has one message in flight and a deadline for it; when a node
does not read, or says something that makes no sense, or too much of it, that session ends and no other notices. Also
how much of the coordinator one node may take up.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from fleet.errors import Code, FleetError
from fleet.merkle import MAX_SIZE
from fleet.times import to_ms
from fleet.v1 import node_pb2, node_pb2_grpc
from fleet.wire import (
    from_pb_ceiling,
    from_pb_crash,
    from_pb_event,
    from_pb_log_line,
    from_pb_observed,
    to_pb_desired,
)
from orchestrator.nodes import Greeting
from orchestrator.rpc.auth import principal_node
from orchestrator.rpc.duplex import hold
from orchestrator.rpc.limiting import Allowance, Slots
from orchestrator.rpc.services import MAX_NUMBER
from orchestrator.sessions import (
    CallCommand,
    CheckpointOut,
    CommandAnswer,
    CommandOut,
    CrashesCommand,
    DesiredOut,
    GoAwayOut,
    LogsOut,
    ReleaseOut,
    SecretsOut,
    SendCommand,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.blobs import Blobs
    from orchestrator.clock import Clock
    from orchestrator.config import Limits
    from orchestrator.fetching import Fetching
    from orchestrator.logs import Logs
    from orchestrator.nodes import Nodes
    from orchestrator.principals import NodeIdentity
    from orchestrator.releases import Releases
    from orchestrator.rpc.interceptor import Context
    from orchestrator.sealed_secrets import SealedSecrets
    from orchestrator.sessions import Session as NodeSession
    from orchestrator.sessions import Sessions
    from orchestrator.witnessing import Offer, Witnessing
    from orchestrator.workers import Workers

MAX_MESSAGE = 1024 * 1024
"""Bytes of one message of a node."""

MAX_BATCH = 1_000
"""Events or log lines in one message."""

MAX_ANSWER = 256 * 1024
"""Characters of a command's answer."""

MAX_BOOT_ID = 64

HELLO_TIMEOUT_S = 10.0
"""How long a new stream may take to say hello."""

SILENT_REPORTS = 4
"""Missed reports after which a session counts as dead; keep-alive pings usually notice earlier."""

STREAMS_PER_NODE = 4
"""Session streams of one node at once: the newest wins, and those that it sent away may still be ending."""

CHUNK_TIMEOUT_S = 60.0
"""How long a node may take to make room for one chunk of a blob."""

_BURST_SECONDS = 4


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """The door for nodes."""

    def __init__(  # noqa: PLR0913 - a composition root calls it once, by keyword
        self,
        *,
        nodes: Nodes,
        sessions: Sessions,
        logs: Logs,
        blobs: Blobs,
        fetching: Fetching,
        releases: Releases,
        witnessing: Witnessing,
        secrets: SealedSecrets,
        workers: Workers,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._nodes = nodes
        self._sessions = sessions
        self._logs = logs
        self._blobs = blobs
        self._fetching = fetching
        self._releases = releases
        self._witnessing = witnessing
        self._secrets = secrets
        self._workers = workers
        self._limits = limits
        self._clock = clock
        self._streams = Slots("session streams", STREAMS_PER_NODE)
        self._fetches_of_node = Slots("fetches", limits.fetches_per_node)
        self._fetches = asyncio.Semaphore(limits.fetches)

    async def Session(  # type: ignore[override]  # noqa: N802 - writes to the context, each message with a deadline
        self, requests: AsyncIterator[node_pb2.NodeMessage], context: Context
    ) -> None:
        """Hold one node's session until either side ends it."""
        identity = principal_node()
        with self._streams.taken(identity.name):
            await self._session(identity, requests, context)

    async def _session(
        self, identity: NodeIdentity, requests: AsyncIterator[node_pb2.NodeMessage], context: Context
    ) -> None:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = _hello(await anext(requests, None))
        except TimeoutError as error:
            raise FleetError(Code.DEADLINE_EXCEEDED, "no hello in time", node=identity.name) from error
        greeting = _greeting(hello)
        session = self._sessions.open(identity.name, identity.epoch)
        session.seen = min(hello.seen_size, MAX_SIZE)
        reason = "the stream ended"
        try:
            await self._workers.run(self._nodes.open, identity, session.id, greeting)
            if hello.sealing_key:
                await self._workers.run(self._secrets.declare, identity.name, identity.epoch, hello.sealing_key)
                session.takes_secrets = True
            told = (greeting.accepted_generation, greeting.accepted_digest)
            reading, writing = self._read(session, identity, requests), self._write(session, context, told)
            await hold(reading, writing, session.writing)
        except FleetError as error:
            reason = str(error.code)
            raise
        finally:
            self._sessions.close(session)
            # Shielded: a cancelled stream must still be noted as closed.
            await asyncio.shield(self._workers.run(self._nodes.close, identity.name, session.id, reason))

    async def FetchBlob(  # type: ignore[override]  # noqa: N802 - writes to the context, each chunk with a deadline
        self, request: node_pb2.FetchBlobRequest, context: Context
    ) -> None:
        """Send a blob from an offset on."""
        node = principal_node().name
        with self._fetches_of_node.taken(node):
            async with self._fetches:
                total = await self._workers.run(self._fetching.size, node, request.digest)
                chunks = self._blobs.chunks(request.digest, request.offset)
                first = True
                while (piece := await self._workers.run(next, chunks, None)) is not None or first:
                    chunk = node_pb2.BlobChunk(data=piece or b"", total=total)
                    await _write_in_time(context, chunk, CHUNK_TIMEOUT_S, node)
                    first = False

    async def FetchTrust(  # noqa: N802
        self,
        request: node_pb2.FetchTrustRequest,
        context: Context,  # noqa: ARG002
    ) -> node_pb2.TrustMetadata:
        """Send the trust metadata that the node lacks."""
        files = await self._workers.run(self._releases.files_after, request.known_root_version)
        return node_pb2.TrustMetadata(files=dict(files))

    async def _read(
        self, session: NodeSession, identity: NodeIdentity, requests: AsyncIterator[node_pb2.NodeMessage]
    ) -> None:
        silence_s = SILENT_REPORTS * self._limits.report_interval_ms / 1000 + HELLO_TIMEOUT_S
        rate = self._limits.messages_per_second
        allowance = Allowance("messages", rate, rate * _BURST_SECONDS, asyncio.get_running_loop().time())
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    message = await anext(requests, None)
            except TimeoutError as error:
                raise FleetError(Code.DEADLINE_EXCEEDED, f"silent for {silence_s:.0f} s", node=session.node) from error
            if message is None:
                return
            # One answer to each command was asked for: how fast operators call says nothing against the node.
            if not (message.WhichOneof("message") == "result" and session.awaits(message.result.id)):
                allowance.take(asyncio.get_running_loop().time())
            await self._take(session, identity, message)

    async def _take(self, session: NodeSession, identity: NodeIdentity, message: node_pb2.NodeMessage) -> None:
        if message.ByteSize() > MAX_MESSAGE:
            raise FleetError(Code.LIMIT_EXCEEDED, f"a message of {message.ByteSize()} bytes", limit=MAX_MESSAGE)
        match message.WhichOneof("message"):
            case "observed":
                await self._workers.run(self._nodes.record, session.node, from_pb_observed(message.observed))
            case "receipt":
                await self._workers.run(self._nodes.record_receipt, identity, message.receipt)
            case "events":
                _check_batch(len(message.events.events))
                events = [from_pb_event(event) for event in message.events.events]
                await self._workers.run(self._nodes.record_events, session.node, events)
            case "logs":
                _check_batch(len(message.logs.lines))
                lines = [replace(from_pb_log_line(line), node=session.node) for line in message.logs.lines]
                self._logs.append(session.node, lines)
            case "witness":
                session.correct(min(message.witness.seen_size, MAX_SIZE))
                await self._workers.run(self._witnessing.register, identity, message.witness.certificate)
                await self._workers.run(self._witnessing.begin_round)
                session.ask()
            case "cosigned":
                await self._cosigned(session, identity, message.cosigned)
            case "result":
                session.answer(message.result.id, _answer(message.result))
            case other:
                raise FleetError(Code.MESSAGE_INVALID, f"{other or 'nothing known'} is no message here")

    async def _cosigned(self, session: NodeSession, identity: NodeIdentity, answer: node_pb2.Cosigned) -> None:
        """Take what a node said to a checkpoint; where it had seen another log than was thought, it is asked anew."""
        seen = min(answer.seen_size, MAX_SIZE)
        if answer.line:
            session.seen = max(session.seen, seen)  # later checkpoints may be on their way to the node
            await self._workers.run(self._witnessing.take, identity, min(answer.size, MAX_SIZE), answer.line)
        elif answer.error_code:
            session.seen = seen
            await self._workers.run(self._witnessing.alarm, identity.name, answer.size, answer.seen_size)
        else:
            session.correct(seen)

    async def _write(self, session: NodeSession, context: Context, told: tuple[int, str]) -> None:
        now = to_ms(self._clock())
        welcome = node_pb2.Welcome(report_interval_ms=self._limits.report_interval_ms, now_ms=now)
        await self._send(session, context, node_pb2.CoordinatorMessage(welcome=welcome))
        while True:
            outgoing = await session.next()
            if isinstance(outgoing, DesiredOut):
                order = await self._workers.run(self._witnessing.order, session.node, session.seen)
                if order is None or ((order.generation, order.digest) == told and not outgoing.again):
                    continue
                if order.offer is not None:
                    await self._offer(session, context, order.offer)
                message = node_pb2.CoordinatorMessage(desired=to_pb_desired(order.state))
                told = (order.generation, order.digest)
            elif isinstance(outgoing, SecretsOut):
                envelopes = await self._workers.run(self._secrets.of_node, session.node)
                message = node_pb2.CoordinatorMessage(secrets=node_pb2.SealedSecrets(envelopes=envelopes))
            elif isinstance(outgoing, CheckpointOut):
                offer = await self._workers.run(self._witnessing.offer, session.seen)
                if offer is not None:
                    await self._offer(session, context, offer)
                continue
            else:
                message = _encode(outgoing)
            await self._send(session, context, message)
            if isinstance(outgoing, GoAwayOut):
                return

    async def _offer(self, session: NodeSession, context: Context, offer: Offer) -> None:
        checkpoint = node_pb2.CheckpointOffer(note=offer.note, old_size=offer.old_size, consistency=offer.consistency)
        await self._send(session, context, node_pb2.CoordinatorMessage(checkpoint=checkpoint))
        session.seen = max(session.seen, offer.size)  # the node takes messages in order, and says where it differs

    async def _send(self, session: NodeSession, context: Context, message: node_pb2.CoordinatorMessage) -> None:
        async with session.writing:
            await _write_in_time(context, message, self._limits.write_deadline_ms / 1000, session.node)


async def _write_in_time(context: Context, message: object, timeout_s: float, node: str) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await context.write(message)
    except TimeoutError as error:
        raise FleetError(Code.DEADLINE_EXCEEDED, "the node does not read", node=node) from error


def _hello(message: node_pb2.NodeMessage | None) -> node_pb2.Hello:
    if message is None or message.WhichOneof("message") != "hello":
        raise FleetError(Code.MESSAGE_INVALID, "a session begins with hello", place="hello")
    if message.ByteSize() > MAX_MESSAGE:
        raise FleetError(Code.LIMIT_EXCEEDED, f"a hello of {message.ByteSize()} bytes", limit=MAX_MESSAGE)
    return message.hello


def _greeting(hello: node_pb2.Hello) -> Greeting:
    return Greeting(
        agent_version=hello.agent_version,
        architecture=hello.architecture,
        accepted_generation=hello.accepted_generation,
        accepted_digest=hello.accepted_digest,
        observed=from_pb_observed(hello.observed) if hello.HasField("observed") else None,
        boot_id=hello.boot_id[:MAX_BOOT_ID],
        root_version=min(hello.root_version, MAX_NUMBER),
        release_version=min(hello.release_version, MAX_NUMBER),
        ceiling=from_pb_ceiling(hello.ceiling) if hello.HasField("ceiling") else None,
    )


def _answer(result: node_pb2.CommandResult) -> CommandAnswer:
    if len(result.output) > MAX_ANSWER:
        raise FleetError(Code.LIMIT_EXCEEDED, f"an answer of {len(result.output)} characters", limit=MAX_ANSWER)
    _check_batch(len(result.crashes))
    return CommandAnswer(
        output=result.output,
        delivered=result.delivered,
        crashes=tuple(from_pb_crash(crash) for crash in result.crashes),
        document=result.document,
        error_code=result.error_code,
        error_message=result.error_message,
        error_remedy=result.error_remedy,
    )


def _check_batch(count: int) -> None:
    if count > MAX_BATCH:
        raise FleetError(Code.LIMIT_EXCEEDED, f"{count} items in one message", limit=MAX_BATCH)


def _encode(outgoing: ReleaseOut | LogsOut | CommandOut | GoAwayOut) -> node_pb2.CoordinatorMessage:
    match outgoing:
        case ReleaseOut():
            return node_pb2.CoordinatorMessage(release=node_pb2.ReleaseNews())
        case LogsOut():
            return node_pb2.CoordinatorMessage(logs=node_pb2.LogSubscription(enabled=outgoing.enabled))
        case GoAwayOut():
            away = node_pb2.GoAway(retry_after_ms=outgoing.retry_after_ms, reason=outgoing.reason)
            return node_pb2.CoordinatorMessage(go_away=away)
        case CommandOut():
            command = node_pb2.Command(id=outgoing.id, deadline_ms=outgoing.deadline_ms)
            match outgoing.what:
                case CallCommand(agent, invocation):
                    command.call.agent = agent
                    command.call.invocation = invocation
                case SendCommand(topic, payloads):
                    command.send.topic = topic
                    command.send.payloads.extend(payloads)
                case CrashesCommand(agent, identifier):
                    command.crashes.agent = agent
                    command.crashes.id = identifier
            return node_pb2.CoordinatorMessage(command=command)
        case _:
            assert_never(outgoing)

"""One session: one stream to the coordinator, from hello to its end.

Owns what is said over the stream; what commands do is in `commands`. Level-triggered both ways: the coordinator's
newest desired state replaces one that still waits, and the node's report is always complete. Reading never waits for
writing or for work: a desired state goes into a slot, a command becomes a task. Never decides when to connect again:
that is `link`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import grpc

from edge_agent.link.channel import to_fleet_error
from edge_agent.link.commands import Commanded, failed, obey
from edge_agent.link.hello import hello_of
from edge_agent.link.refreshing import Refreshing, renewal_due
from edge_agent.link.witnessing import Checkpoints, Witnessed
from fleet import wire
from fleet.errors import Code, FleetError
from fleet.grants import OwnCeiling
from fleet.v1 import node_pb2 as pb
from fleet.v1 import node_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from random import Random

    from edge_agent.clock import Clock
    from edge_agent.journal import Journal
    from edge_agent.link.remote import CoordinatorRemote
    from fleet.model import DesiredState, ObservedState

WRITE_TIMEOUT_S = 10.0
"""A coordinator that takes nothing for this long is given up."""

WELCOME_TIMEOUT_S = 30.0
MAX_COMMANDS = 16
"""Commands at work at once; the next one is answered AGENT_BUSY."""

MAX_DEADLINE_MS = 600_000
DEFAULT_DEADLINE_MS = 30_000
MAX_BATCH = 100
"""Events or log lines in one message."""

MIN_REPORT_MS, MAX_REPORT_MS = 100, 3_600_000
JITTER = 0.2
"""Full reports come at the interval, this share earlier or later, so that a fleet does not report in step."""

SETTLING_S = 0.5
"""Delay of the next full report after a change; it doubles from report to report up to the interval.

A rollout counts an agent as healthy once a report says that it has run long enough, so news of a change comes soon."""

RETRY_INITIAL_S, RETRY_CAP_S = 1.0, 60.0
"""Bounds of the delay before blobs are asked for again, for a desired state or for a repair."""

_log = logging.getLogger(__name__)


class Node(Commanded, Witnessed, Protocol):
    """What a session needs from the rest of the node."""

    changed: asyncio.Event
    missing: asyncio.Event
    reissue: asyncio.Event
    journal: Journal

    def observed(self) -> ObservedState:
        """Return what the node runs."""
        ...

    def release_versions(self) -> tuple[int, int]:
        """Return root version and timestamp version of the adopted release; zeros when there is none."""
        ...

    def receipt(self) -> bytes | None:
        """Return the signed receipt of the newest applied desired state."""
        ...

    def sealing_key(self) -> bytes:
        """Return the signed statement about the key that secrets are sealed for; may be empty."""
        ...

    def keep_secrets(self, envelopes: Sequence[bytes]) -> None:
        """Take the whole set of the node's secrets in, soon."""
        ...

    async def accept(self, desired: DesiredState, remote: CoordinatorRemote) -> None:
        """Take a desired state in. Raises FleetError."""
        ...

    async def repair(self, remote: CoordinatorRemote) -> None:
        """Fetch blobs that were lost. Raises FleetError."""
        ...

    async def refresh(self, remote: CoordinatorRemote) -> None:
        """Adopt the newest release. Raises FleetError."""
        ...


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Numbers of a session.

    Attributes:
        report_interval_ms: between full reports, until the coordinator says otherwise.
        coalesce_ms: in which changes are gathered.
        trust_refresh_ms: between looks at the release.
        reissue_spread_ms: in which nodes renew, each at its own moment, that hear together that they should.
        ceiling: what the node says of its own, which it reads once, when it starts.
    """

    boot_id: str
    agent_version: str
    report_interval_ms: int
    coalesce_ms: int
    trust_refresh_ms: int
    reissue_spread_ms: int
    ceiling: OwnCeiling = field(default_factory=OwnCeiling)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended: when the coordinator wants the node back, and whether it was ever welcome."""

    retry_after_ms: int | None
    reason: str


class Session:
    """One stream. `run` once."""

    def __init__(
        self, node: Node, remote: CoordinatorRemote, settings: SessionSettings, clock: Clock, random: Random
    ) -> None:
        self._node = node
        self._remote = remote
        self._settings = settings
        self._clock = clock
        self._random = random
        self._report_ms = settings.report_interval_ms
        self._writing = asyncio.Lock()
        self._desired: DesiredState | None = None
        self._has_desired = asyncio.Event()
        self._refreshing = Refreshing(
            lambda: self._checkpoints.after(self._node.refresh(self._remote)),
            lambda error: self._node.journal.error(self._clock.now(), "trust:release:refused", error),
            settings.trust_refresh_ms / 1000,
            clock,
            random,
        )
        self._commands: set[asyncio.Task[None]] = set()
        self._sent_receipt: bytes | None = None
        self._checkpoints = Checkpoints(
            node, self._write, lambda kind, error: node.journal.error(clock.now(), kind, error)
        )
        self.welcomed = False
        """Whether the coordinator answered the hello."""

    async def run(self, channel: grpc.aio.Channel, until: datetime) -> Ended:
        """Speak until the coordinator ends the stream, or until the certificate wants to be renewed.

        Raises:
            FleetError: what the coordinator said, UNAVAILABLE, DEADLINE_EXCEEDED, MESSAGE_INVALID.
        """
        self._stream = node_pb2_grpc.NodeServiceStub(channel).Session(None)
        try:
            await self._welcome()
            return await self._exchange(until)
        except grpc.aio.AioRpcError as error:
            raise to_fleet_error(error) from error
        finally:
            self._stream.cancel()
            self._node.journal.listen(enabled=False)

    async def _exchange(self, until: datetime) -> Ended:
        """Run the jobs beside the reader; the first to end ends the session."""
        reader = asyncio.create_task(self._read())
        jobs = {
            reader,
            asyncio.create_task(self._expire(until)),
            asyncio.create_task(self._report()),
            asyncio.create_task(self._tell()),
            asyncio.create_task(self._adopt()),
            asyncio.create_task(self._repair()),
            asyncio.create_task(self._refresh()),
            asyncio.create_task(self._witness()),
        }
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            return (reader if reader in done else done.pop()).result()
        finally:
            tasks = [*jobs, *self._commands]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _welcome(self) -> None:
        await self._write(pb.NodeMessage(hello=hello_of(self._node, self._settings)))
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                message = await self._stream.read()
        except TimeoutError as error:
            raise FleetError(Code.DEADLINE_EXCEEDED, "the coordinator does not answer the hello") from error
        if not isinstance(message, pb.CoordinatorMessage) or message.WhichOneof("message") != "welcome":
            raise FleetError(Code.MESSAGE_INVALID, "expected a welcome")
        self._set_interval(message.welcome.report_interval_ms)
        self.welcomed = True

    async def _read(self) -> Ended:
        while True:
            message = await self._stream.read()
            if not isinstance(message, pb.CoordinatorMessage):
                return Ended(None, "the coordinator ended the stream")
            match message.WhichOneof("message"):
                case "desired":
                    self._desired = wire.from_pb_desired(message.desired)
                    self._has_desired.set()
                case "checkpoint":
                    self._checkpoints.take(message.checkpoint)
                case "command":
                    await self._begin(message.command)
                case "secrets":
                    self._node.keep_secrets(message.secrets.envelopes)
                case "logs":
                    self._node.journal.listen(enabled=message.logs.enabled)
                case "welcome":
                    self._set_interval(message.welcome.report_interval_ms)
                case "release":
                    self._refreshing.hear()
                case "go_away":
                    return Ended(message.go_away.retry_after_ms, message.go_away.reason[:200])
                case _:
                    pass  # A newer coordinator may say more; what this release does not know asks nothing of it.

    def _set_interval(self, milliseconds: int) -> None:
        if milliseconds:
            self._report_ms = min(max(milliseconds, MIN_REPORT_MS), MAX_REPORT_MS)

    async def _expire(self, until: datetime) -> Ended:
        spread_s = self._settings.reissue_spread_ms / 1000
        await renewal_due(until, self._node.reissue, self._clock, lambda: self._random.uniform(0, spread_s))
        return Ended(0, "the certificate is to be renewed")

    async def _report(self) -> Ended:
        """Report on change, gathered for a moment, and in full at the interval; receipts follow their report."""
        settling_s = SETTLING_S
        while True:
            interval_s = min(settling_s, self._report_ms / 1000) * self._random.uniform(1 - JITTER, 1 + JITTER)
            due = asyncio.create_task(self._clock.sleep(interval_s))
            change = asyncio.create_task(self._node.changed.wait())
            try:
                await asyncio.wait((due, change), return_when=asyncio.FIRST_COMPLETED)
            finally:
                due.cancel()
                change.cancel()
            await self._clock.sleep(self._settings.coalesce_ms / 1000)
            settling_s = SETTLING_S if self._node.changed.is_set() else settling_s * 2
            self._node.changed.clear()
            await self._write(pb.NodeMessage(observed=wire.to_pb_observed(self._node.observed())))
            receipt = self._node.receipt()
            if receipt is not None and receipt != self._sent_receipt:
                await self._write(pb.NodeMessage(receipt=receipt))
                self._sent_receipt = receipt

    async def _tell(self) -> Ended:
        """Send events and log lines in batches, lines gathered for a moment; an unsent event waits for a session."""
        journal = self._node.journal
        while True:
            await journal.pending.wait()
            events = journal.take_events(MAX_BATCH, self._clock.now())
            if events:
                batch = pb.EventBatch(events=[wire.to_pb_event(event) for event in events])
                try:
                    await self._write(pb.NodeMessage(events=batch))
                except BaseException:
                    journal.untake_events(events)
                    raise
            lines = journal.take_lines(MAX_BATCH)
            if lines:
                logs = pb.LogBatch(lines=[wire.to_pb_log_line(line) for line in lines])
                await self._write(pb.NodeMessage(logs=logs))
            journal.settle()
            if 0 < len(lines) < MAX_BATCH:  # a message for each line would be a flood to the coordinator
                await self._clock.sleep(self._settings.coalesce_ms / 1000)

    async def _adopt(self) -> Ended:
        """Take in the newest desired state; try again what failed for want of bytes, tell what was refused."""
        failures = 0
        while True:
            await self._has_desired.wait()
            self._has_desired.clear()
            desired = self._desired
            if desired is None:
                continue
            await self._checkpoints.settled()
            try:
                await self._checkpoints.after(self._node.accept(desired, self._remote))
                failures = 0
            except FleetError as error:
                self._node.journal.error(self._clock.now(), "assignment:desired:refused", error)
                # Wrong bytes say nothing about those that the coordinator serves next.
                passing = error.row.retryable or error.code is Code.DIGEST_MISMATCH
                if passing and error.code is not Code.GENERATION_CONFLICT:
                    failures += 1
                    await self._either(self._random.uniform(0, _bound_s(failures)))
                    self._has_desired.set()

    async def _either(self, seconds: float) -> None:
        """Sleep, or wake at a newer desired state."""
        sleep = asyncio.create_task(self._clock.sleep(seconds))
        newer = asyncio.create_task(self._has_desired.wait())
        try:
            await asyncio.wait((sleep, newer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            newer.cancel()

    async def _repair(self) -> Ended:
        """Fetch again what the node lost, until it has it; a session that ends first leaves the rest to the next.

        There is a pause after a success too: a disk that spoils what it is given must not make the node fetch without
        end.
        """
        tries, missing = 0, self._node.missing
        while True:
            if not missing.is_set():
                tries = 0
                await missing.wait()
            missing.clear()
            try:
                await self._node.repair(self._remote)
            except BaseException as error:
                missing.set()
                if not isinstance(error, FleetError):
                    raise
                self._node.journal.error(self._clock.now(), "blob:repair:failed", error)
            tries += 1
            await self._clock.sleep(self._random.uniform(0.5, 1) * _bound_s(tries))

    async def _refresh(self) -> Ended:
        await self._refreshing.run()

    async def _witness(self) -> Ended:
        await self._checkpoints.run()
        return Ended(None, "the witness ended")

    async def _begin(self, command: pb.Command) -> None:
        if len(self._commands) >= MAX_COMMANDS:
            # Answered here, not in a task of its own: a coordinator that sends too much is read more slowly.
            error = FleetError(Code.AGENT_BUSY, f"{MAX_COMMANDS} commands are at work already")
            await self._write(pb.NodeMessage(result=failed(command.id, error)))
            return
        task = asyncio.create_task(self._obey(command))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _obey(self, command: pb.Command) -> None:
        """Do one command and answer it; the stream's own fate is the reader's business."""
        deadline_ms = min(command.deadline_ms or DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS)
        try:
            async with asyncio.timeout(deadline_ms / 1000):
                result = await obey(self._node, command, deadline_ms)
        except TimeoutError:
            result = failed(command.id, FleetError(Code.DEADLINE_EXCEEDED, f"not done within {deadline_ms} ms"))
        except FleetError as error:
            result = failed(command.id, error)
        except Exception:  # noqa: BLE001 - the edge of the process: whoever asked is told, and the session goes on
            _log.exception("command %s failed", command.id)
            result = failed(command.id, FleetError(Code.INTERNAL, "unexpected"))
        try:
            await self._write(pb.NodeMessage(result=result))
        except (FleetError, grpc.aio.AioRpcError):
            return

    async def _write(self, message: pb.NodeMessage) -> None:
        async with self._writing:
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._stream.write(message)
            except TimeoutError as error:
                raise FleetError(Code.DEADLINE_EXCEEDED, "the coordinator does not read") from error
            except asyncio.InvalidStateError as error:
                raise FleetError(Code.UNAVAILABLE, "the stream has ended") from error


def _bound_s(failures: int) -> float:
    """Largest delay after so many failures in a row, in seconds."""
    return min(RETRY_CAP_S, RETRY_INITIAL_S * 2.0 ** min(failures - 1, 10))

"""Crash reports of this node: kept on disk, bounded, told to the coordinator as events.

Owns: `Crashes`, the store, and `CrashKeeper`, which makes a report of what the runtime knows of an end and of what the
supervisor knows of the agent. A report is a file that is written once and removed when newer ones need its place, so a
power cut costs at most the newest. Nothing that an agent does makes the supervisor wait here: ends that come faster
than the disk takes them are counted and told.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from edge_agent.disk import replace_file
from fleet.crash import (
    ID,
    MAX_BACKTRACE,
    MAX_LOG_LINES,
    MAX_REPORT,
    CrashLine,
    CrashReport,
    decode_recording,
    decode_report,
    encode_report,
)
from fleet.errors import Code, FleetError
from fleet.times import to_ms

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.clock import Clock
    from edge_agent.disk import Disk
    from edge_agent.journal import Journal
    from edge_agent.runtime import AgentCrashed, AgentStart
    from fleet.model import AssignedAgent, LogLine

MAX_PER_AGENT = 8
"""Reports of one agent; the newest stay."""

MAX_REPORTS = 256
"""Reports of a node."""

MAX_BYTES = 32 << 20
"""Bytes of all reports of a node."""

MAX_WAITING = 16
"""Ends that may wait until their report is written; more are counted."""

MAX_EVENT_MESSAGE = 500
"""Characters of a cause and message that an event repeats."""

_FILE = re.compile(r"([0-9]{15})-([0-9a-f]{16})\.json\Z")

_log = logging.getLogger(__name__)


@cache
def engine_name() -> str:
    """Name and version of the engine, for reports."""
    return f"wasmtime {version('wasmtime')}"


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    agent: str
    size: int


class Crashes:
    """The reports in one folder. Used by one thread at a time.

    Args:
        disk: all of its reads and writes.
        folder: holds nothing else.
    """

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self._kept: list[_Kept] | None = None

    def keep(self, report: CrashReport) -> CrashReport:
        """Store a report durably, and remove the oldest ones that it leaves no room for; return it as it is kept.

        Raises:
            FleetError: STORAGE_FULL; LIMIT_EXCEEDED when it cannot be made small enough.
        """
        kept = self._index()
        data = encode_report(report)
        written = decode_report(data, "report")  # it may have lost a part, and then has another identifier
        name = f"{min(written.at_ms, 10**15 - 1):015d}-{written.id}.json"
        replace_file(self._disk, self._folder / name, data)
        kept[:] = sorted((*(k for k in kept if k.name != name), _Kept(name, report.agent, len(data))), key=_by_name)
        self._make_room(kept)
        return written

    def reports(self, agent: str = "") -> tuple[CrashReport, ...]:
        """Return the reports of an agent, or all, oldest first; what cannot be read any more is left out."""
        found = [self._read(kept.name) for kept in self._index() if agent in {"", kept.agent}]
        return tuple(report for report in found if report is not None)

    def document(self, identifier: str) -> bytes:
        """Return one report as it was written.

        Raises:
            FleetError: NOT_FOUND.
        """
        for kept in self._index():
            if ID.match(identifier) and kept.name.endswith(f"-{identifier}.json"):
                return self._disk.read(self._folder / kept.name, 0, MAX_REPORT + 1)
        raise FleetError(Code.NOT_FOUND, f"no crash report {identifier[:32]!r} is kept here")

    def _index(self) -> list[_Kept]:
        """What is kept, oldest first; a file that holds no report is removed."""
        if self._kept is None:
            self._kept = []
            for name in self._disk.names(self._folder):
                report = self._read(name) if _FILE.match(name) else None
                if report is None:
                    self._disk.remove(self._folder / name)
                else:
                    size = self._disk.size(self._folder / name) or 0
                    self._kept.append(_Kept(name, report.agent, size))
        return self._kept

    def _read(self, name: str) -> CrashReport | None:
        try:
            return decode_report(self._disk.read(self._folder / name, 0, MAX_REPORT + 1), name)
        except (FleetError, OSError) as error:
            _log.warning("%s: %s", name, error)
            return None

    def _make_room(self, kept: list[_Kept]) -> None:
        per_agent = Counter(k.agent for k in kept)
        size = sum(k.size for k in kept)
        for oldest in kept[:-1]:
            if per_agent[oldest.agent] > MAX_PER_AGENT or len(kept) > MAX_REPORTS or size > MAX_BYTES:
                self._disk.remove(self._folder / oldest.name)
                kept.remove(oldest)
                per_agent[oldest.agent] -= 1
                size -= oldest.size


@dataclass(frozen=True, slots=True)
class _Waiting:
    report: CrashReport
    recording: str


class CrashKeeper:
    """Makes and keeps the reports of one node. `run` beside the supervisor.

    Args:
        crashes: where they are kept.
        journal: has the agents' log lines, and takes the events.
        clock: time of the events.
        node: this node's name.
        engine: name and version of what runs components.
    """

    def __init__(self, crashes: Crashes, journal: Journal, clock: Clock, node: str, engine: str) -> None:
        self._crashes = crashes
        self._journal = journal
        self._clock = clock
        self._node = node
        self._engine = engine
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._lost = 0

    def take(self, crashed: AgentCrashed, spec: AssignedAgent, start: AgentStart, generation: int) -> None:
        """Note an end; the report is written by and by."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        report = CrashReport(
            node=self._node,
            agent=crashed.agent,
            generation=generation,
            bundle=spec.bundle.digest,
            grant=spec.grant.digest,
            component=start.component_digest,
            authority=start.authority.decode(),
            engine=self._engine,
            cause=crashed.exit.cause,
            message=crashed.exit.message,
            at_ms=to_ms(crashed.exit.at),
            backtrace=crashed.backtrace[:MAX_BACKTRACE],
            invocation=crashed.invocation,
            log=tuple(map(_line, self._journal.lines(crashed.agent)[-MAX_LOG_LINES:])),
        )
        self._waiting.append(_Waiting(report, crashed.recording))
        self._wake.set()

    async def run(self) -> None:
        """Write reports until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._keep(self._waiting.popleft())
            if self._lost:
                lost, self._lost = self._lost, 0
                self._tell("", "node:crashes:lost", f"{lost} ends came too fast for a report", lost=str(lost))

    async def list(self, agent: str) -> tuple[CrashReport, ...]:
        """Return the reports of an agent, or all when it is "", oldest first."""
        async with self._turn:
            return await asyncio.to_thread(self._crashes.reports, agent)

    async def document(self, identifier: str) -> bytes:
        """Return one report as it was written.

        Raises:
            FleetError: NOT_FOUND.
        """
        async with self._turn:
            return await asyncio.to_thread(self._crashes.document, identifier)

    async def _keep(self, waiting: _Waiting) -> None:
        agent = waiting.report.agent
        try:
            async with self._turn:
                report = await asyncio.to_thread(self._write, waiting)
        except (FleetError, OSError) as error:
            _log.warning("no crash report of %s: %s", agent, error)
            public = error.public if isinstance(error, FleetError) else "the report cannot be written"
            self._tell(agent, "agent:crash:not-recorded", public)
        else:
            self._tell(agent, "agent:crash:recorded", f"{report.cause}: {report.message}", id=report.id)

    def _write(self, waiting: _Waiting) -> CrashReport:
        report = waiting.report
        if waiting.recording:
            # From a runner, which may be in the hands of its guest: what cannot be read is no reason to lose the rest.
            try:
                report = replace(report, recording=decode_recording(waiting.recording.encode()))
            except FleetError as error:
                _log.warning("the record of %s: %s", report.agent, error)
        return self._crashes.keep(report)

    def _tell(self, agent: str, kind: str, message: str, **detail: str) -> None:
        self._journal.event(self._clock.now(), agent, kind, message[:MAX_EVENT_MESSAGE], **detail)


def _by_name(kept: _Kept) -> str:
    return kept.name


def _line(line: LogLine) -> CrashLine:
    return CrashLine(to_ms(line.at), line.level, line.context, line.message)

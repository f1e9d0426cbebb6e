"""One agent inside a runner: its thread, its queue of jobs, its instance.

Owns: `AgentThread`. The instance is made, called and freed by this thread alone, as the engine demands. A trap ends
the agent and nothing else; what the guest kept in `wasi:keyvalue` is there for its next start.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import AgentContext, EndAgentError
from edge_agent.runner.deliveries import ChangeJob, watches
from edge_agent.runner.engine import Trap
from edge_agent.runner.exchange import AgentExchange, Mailbox, Watchers
from edge_agent.runner.host_calls import limit_rate
from edge_agent.runner.http_requests import open_server
from edge_agent.runner.instantiation import START_SECONDS, instantiate
from edge_agent.runner.job_queue import JobQueue
from edge_agent.runner.last_words import LastWords
from edge_agent.runner.linking import link
from edge_agent.runner.messages import (
    AgentEnded,
    AgentStarted,
    AgentStopped,
    Counters,
    Fault,
    LogEntry,
    StartFailed,
)
from edge_agent.runner.recorder import RecordedInstance, Recorder
from fleet.crash import MAX_BACKTRACE
from fleet.errors import Code, FleetError
from fleet.model import ExitCause, QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from edge_agent.capabilities.base import HostInterface, LogRecord
    from edge_agent.runner.agent_links import Links
    from edge_agent.runner.engine import Component, Engine, Instance
    from edge_agent.runner.jobs import Job
    from edge_agent.runner.memory_meter import MemoryMeter
    from edge_agent.runner.outbox import Outbox
    from edge_agent.runner.ticker import Ticker
    from edge_agent.runtime import ModelFile
    from fleet.grants import Authority

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """What one agent runs with."""

    name: str
    authority: Authority
    deny_stubs: tuple[str, ...]
    config: dict[str, str]
    models: dict[str, ModelFile]
    state_dir: Path
    on_full_queue: QueuePolicy
    links: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunnerServices:
    """What the agents of one runner share."""

    outbox: Outbox
    ticker: Ticker
    memory: MemoryMeter
    links: Links
    watchers: Watchers = field(default_factory=Watchers)


class AgentThread:
    """Runs one agent from its start to its end.

    Args:
        plan: what to run with.
        load: gives the component; called in the agent's thread.
        services: shared with the other agents.
        ended: called last, in the agent's thread, with this object.
    """

    def __init__(
        self,
        plan: AgentPlan,
        load: Callable[[], Component],
        services: RunnerServices,
        ended: Callable[[AgentThread], None],
    ) -> None:
        self._plan = plan
        self._load = load
        self._services = services
        self._ended = ended
        self._changed = threading.Condition()
        self._queue = JobQueue["Job"](plan.authority.limits.queue, plan.on_full_queue)
        self._ordered = False
        """Whether a stop was ordered."""
        self._over = False
        """Whether the last word is said; nothing comes from the thread after it."""
        self._instance: Instance | None = None
        self._recorder = Recorder()
        self._engine: Engine | None = None
        self._deadline = 0.0
        """Monotonic second at which whatever runs must end."""
        self._interrupted = threading.Event()
        self._stirred = threading.Event()
        """Set to end a wait of the guest early."""
        self._calls = 0
        self._words = LastWords()
        self._agent_context: AgentContext | None = None
        self.mailbox = Mailbox(self._stirred.set)
        """Where the answers to the agent's questions are put; for any thread."""
        self.thread = threading.Thread(target=self._run, name=plan.name, daemon=True)

    @property
    def name(self) -> str:
        """`application/agent`."""
        return self._plan.name

    @property
    def authority(self) -> Authority:
        """What the agent may do."""
        return self._plan.authority

    def context(self) -> AgentContext:
        """Return what the agent's capabilities work with; in the agent's thread, once it has started."""
        if self._agent_context is None:
            raise RuntimeError("a context before the start")
        return self._agent_context

    def counters(self) -> Counters:
        """Return what the agent has done since its start; for any thread."""
        trapped = self._instance is not None and self._instance.trapped
        memory_bytes = self._services.memory.bytes_of(self._plan.name)
        return Counters(self._calls, int(trapped), memory_bytes, self._queue.dropped)

    def submit(self, job: Job, patience_s: float = 0.0) -> None:
        """Queue a job, or refuse one: this, or an older one for it. From any thread.

        Args:
            job: what to do.
            patience_s: how long the calling thread may wait where a full queue makes its sources wait. The default is
                for the supervisor's jobs, which have waited before they were sent.
        """
        with self._changed:
            if self._plan.on_full_queue is QueuePolicy.BLOCK and patience_s > 0:
                self._changed.wait_for(lambda: self._ordered or self._over or self._queue.has_room, patience_s)
            gone = job if self._ordered or self._over else self._queue.offer(job, waited=patience_s > 0)
            fault = self._refusal(is_own=gone is job)
            self._changed.notify_all()
        if gone is not None:
            gone.refuse(fault)

    def _refusal(self, *, is_own: bool) -> Fault:
        name, waiting = self._plan.name, len(self._queue)
        if self._ordered or self._over:
            return Fault(Code.AGENT_NOT_RUNNING, f"{name} is stopping")
        if is_own:
            return Fault(Code.AGENT_BUSY, f"{waiting} calls wait for {name}")
        return Fault(Code.AGENT_BUSY, f"dropped from the queue of {name} for a newer call")

    def stop(self, grace_ms: int) -> None:
        """Take no more jobs; interrupt the one that runs after `grace_ms`; `AgentStopped` is the answer."""
        with self._changed:
            if self._over:
                self._services.outbox.post(AgentStopped(self._plan.name))
                return
            self._ordered = True
            self._changed.notify_all()
        self._services.links.stop(self._plan.name)
        timer = threading.Timer(grace_ms / 1000, self._interrupt)
        timer.daemon = True
        timer.start()

    def _interrupt(self) -> None:
        instance = self._instance
        if instance is not None:
            instance.interrupt()
            self._interrupted.set()
            self._stirred.set()

    # --- in the agent's thread ---

    def _run(self) -> None:
        last_word: AgentEnded | StartFailed | AgentStopped = AgentStopped(self._plan.name)
        try:
            # The instance is freed before what its host functions work with.
            with ExitStack() as held:
                self._start(held)
                while (job := self._next()) is not None:
                    self._take(job)
        except Trap as trap:
            last_word = self._ended_by(trap)
        except FleetError as error:
            if self._instance is None:
                last_word = StartFailed(self._plan.name, Fault.of(error))
            else:
                last_word = self._ended_by(Trap(ExitCause.HOST_ERROR, error.private))
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: a fault of ours ends this agent only
            _log.exception("%s", self._plan.name)
            last_word = self._ended_by(Trap(ExitCause.HOST_ERROR, f"{type(error).__name__}: {error}"))
        finally:
            self._close(last_word)

    def _ended_by(self, trap: Trap) -> AgentEnded | StartFailed:
        name, backtrace, instance = self._plan.name, trap.backtrace[:MAX_BACKTRACE], self._instance
        is_order = trap.cause is ExitCause.STOPPED
        recording = "" if is_order else self._recorder.recording(instance.exports if instance else {}).decode()
        if instance is None:
            return StartFailed(name, Fault.of(trap), backtrace, recording)
        return AgentEnded(name, trap.cause, trap.message, backtrace, recording)

    def _start(self, held: ExitStack) -> None:
        component = self._load()
        self._engine = component.engine
        context = self._agent_context = self._context()
        held.callback(context.close)
        server = open_server(self.name, self.authority, component.exports, self.submit, self.context)
        if server is not None:
            held.callback(server.close)
        interfaces = limit_rate(self._interfaces(component, context, held), context)
        with self._services.ticker.running(component.engine), self._services.memory.attributing(self._plan.name):
            self._deadline = time.monotonic() + START_SECONDS
            self._instance = instantiate(
                lambda limits: RecordedInstance(
                    component, interfaces, limits, self._recorder, lambda: self._words.quote(time.time_ns())
                ),
                self._plan.authority.limits,
            )
        held.callback(self._instance.close)
        if watches(self._instance):
            name, tell = self._plan.name, lambda change: self.submit(ChangeJob(change, self.context))
            self._services.watchers.add(name, self._plan.authority, tell)
            held.callback(self._services.watchers.remove, name)
        if server is not None:
            server.start()
        self._services.outbox.post(AgentStarted(self._plan.name, self.counters()))

    def _interfaces(self, component: Component, context: AgentContext, held: ExitStack) -> Iterable[HostInterface]:
        """What the node serves, and what other agents do."""
        links, plan = self._services.links, self._plan
        links.join(plan.name, component.types, plan.links)
        held.callback(links.leave, plan.name)
        own = link(component, context, plan.authority, plan.deny_stubs)
        others = links.interfaces(component.types, plan.links, context, lambda: self._deadline - time.monotonic())
        return [*own, *others] if others else own

    def _next(self) -> Job | None:
        with self._changed:
            while not self._queue and not self._ordered:
                self._changed.wait()
            job = None if self._ordered else self._queue.take()
            self._changed.notify_all()  # there is room for those who wait for it
            return job

    def _take(self, job: Job) -> None:
        instance, engine = self._instance, self._engine
        if instance is None or engine is None:
            raise RuntimeError("a job before the start")
        deadline_ms = self._plan.authority.limits.deadline_ms
        if job.deadline_ms is not None:
            deadline_ms = min(deadline_ms, job.deadline_ms)
        self._calls += 1
        self._deadline = time.monotonic() + deadline_ms / 1000
        with self._services.ticker.running(engine):
            job.run(instance, deadline_ms / 1000)

    def _close(self, last_word: AgentEnded | StartFailed | AgentStopped) -> None:
        """Answer what waits; the supervisor hears of the end last, so that a restart finds nothing in use."""
        self._services.memory.forget(self._plan.name)
        with self._changed:
            self._over = True
            self._changed.notify_all()
            for job in self._queue.drain():
                job.refuse(Fault(Code.AGENT_NOT_RUNNING, f"{self._plan.name} has ended"))
            if not isinstance(last_word, AgentStopped):
                self._services.outbox.post(last_word)
            if self._ordered:
                self._services.outbox.post(AgentStopped(self._plan.name))
        self._ended(self)

    def _context(self) -> AgentContext:
        plan = self._plan
        return AgentContext(
            agent=plan.name,
            application=plan.name.partition("/")[0],
            authority=plan.authority,
            config=plan.config,
            state_dir=plan.state_dir,
            models=plan.models,
            log=self._log,
            clock=time,
            wait=self._wait,
            entropy=os.urandom,
            wake=self._stirred.set,
            exchange=AgentExchange(
                plan.name, self._services.outbox, self.mailbox, self._services.watchers, self._wait
            ),
        )

    def _wait(self, nanoseconds: int) -> None:
        """Let a guest wait in the host, where the engine cannot stop it."""
        left = self._deadline - time.monotonic()
        self._stirred.wait(max(0.0, min(nanoseconds / 1e9, left)))
        self._stirred.clear()
        if self._interrupted.is_set():
            raise EndAgentError(ExitCause.STOPPED, "the call was interrupted while it waited")
        if time.monotonic() >= self._deadline:
            raise EndAgentError(ExitCause.DEADLINE, "the call was still waiting at its deadline")

    def _log(self, record: LogRecord) -> None:
        self._words.note(record)
        at_ms = record.time_ns // 1_000_000
        self._services.outbox.log(LogEntry(self._plan.name, at_ms, record.level, record.context, record.message))

"""One instance of an agent, and its thread.

Owns: `AgentThread`. The instance is made, called and freed by this thread alone, as the engine demands. A trap ends
the instance and nothing else; what the guest kept in `wasi:keyvalue` is there for its next start. Which job an instance
takes, and what its end means for the agent, is for `edge_agent.runner.hosted_agent` to say.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from edge_agent.capabilities.base import AgentContext, EndAgentError
from edge_agent.held_secret import Mask
from edge_agent.runner.calls_in_flight import CallsInFlight
from edge_agent.runner.deliveries import ChangeJob, watches
from edge_agent.runner.engine import Trap
from edge_agent.runner.exchange import AgentExchange, Mailbox
from edge_agent.runner.host_calls import limit_rate
from edge_agent.runner.instantiation import START_SECONDS, instantiate
from edge_agent.runner.last_words import LastWords
from edge_agent.runner.linking import link
from edge_agent.runner.message_values import LogEntry
from edge_agent.runner.messages import AgentEnded, Fault, StartFailed
from edge_agent.runner.recorder import RecordedInstance, Recorder
from edge_agent.runner.thread_stack import give_back_stack
from fleet.crash import MAX_BACKTRACE
from fleet.errors import FleetError
from fleet.model import ExitCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import HostInterface, LogRecord
    from edge_agent.runner.agent_plan import AgentPlan, RunnerServices
    from edge_agent.runner.engine import Component, Engine, Instance
    from edge_agent.runner.jobs import Job
    from fleet.wit_types import FuncType

MAX_SLEEP_S = 60.0
"""A thread whose calls all wait looks around after this, whether it was woken or not."""

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Whose instance a thread runs. What takes the thread is called in it."""

    def submit(self, job: Job, patience_s: float = 0.0) -> None:
        """Queue a job for the agent. From any thread."""
        ...

    def context(self) -> AgentContext:
        """Return the context of the instance that runs a job now; in its thread."""
        ...

    def serve(self, thread: AgentThread, exports: Mapping[str, FuncType]) -> None:
        """Listen for what the component answers from outside, before it exists; raises as `open_server`."""
        ...

    def started(self, thread: AgentThread) -> None:
        """Hear that the instance exists."""
        ...

    def next(self, thread: AgentThread) -> Job | None:
        """Wait for the next job; None tells the instance to end."""
        ...

    def beside(self, thread: AgentThread) -> Job | None:
        """Return another job for an instance that runs one already; None when there is none for it."""
        ...

    def give_back(self, job: Job) -> None:
        """Take a job back that has not begun."""
        ...

    def served(self, thread: AgentThread, job: Job) -> None:
        """Hear that the job has ended and the instance lives."""
        ...

    def ended(self, thread: AgentThread, last_word: AgentEnded | StartFailed | None) -> None:
        """Hear that the instance is gone; `last_word` is None when it was told to end. Called once, last."""
        ...


class _Wakeup:
    """Ends a wait of one thread early, or the next one; an event takes a kilobyte more, in every agent."""

    __slots__ = ("_unset",)

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """End the wait. For any thread."""
        with suppress(RuntimeError):  # it is set already
            self._unset.release()

    def wait(self, seconds: float) -> None:
        """Wait until it is set, at most so long; it is not set any more then."""
        self._unset.acquire(timeout=seconds)


class AgentThread:
    """Runs one instance from its start to its end.

    Args:
        plan: what to run with.
        load: gives the component; called in the instance's thread.
        services: shared with the other agents.
        host: gives the jobs.
    """

    def __init__(
        self,
        plan: AgentPlan,
        load: Callable[[], Component],
        services: RunnerServices,
        host: Host,
    ) -> None:
        self._plan = plan
        self._load = load
        self._services = services
        self._host = host
        self._instance: Instance | None = None
        self._recorder = Recorder()
        self._engine: Engine | None = None
        self._deadline = 0.0
        """Monotonic second at which whatever runs must end."""
        self._interrupted = False
        self._stirred = _Wakeup()
        """Set to end a wait of the guest early."""
        self._words = LastWords()
        self._mask = Mask(plan.secrets.values())
        """Takes secrets out of what is told about the agent."""
        self._agent_context: AgentContext | None = None
        self.mailbox = Mailbox(self._stirred.set, services.questions)
        """Where the answers to the agent's questions are put; for any thread."""
        self.thread = threading.Thread(target=self._run, name=plan.name, daemon=True)

    @property
    def plan(self) -> AgentPlan:
        """What the instance runs with."""
        return self._plan

    @property
    def trapped(self) -> bool:
        """Whether a job ended the instance."""
        return self._instance is not None and self._instance.trapped

    @property
    def host_calls(self) -> Mapping[str, int]:
        """How often the instance has called each interface of the host; for any thread."""
        return self._recorder.host_calls

    def watch(self) -> None:
        """Let the agent be told of the changes that this instance takes, and of no others; once it has started."""
        plan, watchers = self._plan, self._services.watchers
        if self._instance is not None and watches(self._instance):
            context = self._host.context
            watchers.add(plan.name, plan.authority, lambda change: self._host.submit(ChangeJob(change, context)))
        else:
            watchers.remove(plan.name)

    def context(self) -> AgentContext:
        """Return what the agent's capabilities work with; in the agent's thread, once it has started."""
        if self._agent_context is None:
            raise RuntimeError("a context before the start")
        return self._agent_context

    def stir(self) -> None:
        """End a wait early: there may be another job. For any thread."""
        self._stirred.set()

    def interrupt(self) -> None:
        """End the job that runs, if one does. For any thread."""
        instance = self._instance
        if instance is not None:
            instance.interrupt()
            self._interrupted = True
            self._stirred.set()

    # --- in the instance's thread ---

    def _run(self) -> None:
        last_word: AgentEnded | StartFailed | None = None
        try:
            try:
                self._start()
                give_back_stack()
                self._host.started(self)
                while (job := self._host.next(self)) is not None:
                    self._take(job)
            finally:
                self._free()
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
            self._services.memory.forget(self)
            self._host.ended(self, last_word)

    def _ended_by(self, trap: Trap) -> AgentEnded | StartFailed:
        name, backtrace, instance = self._plan.name, trap.backtrace[:MAX_BACKTRACE], self._instance
        # Neither is a fault that a replay could show.
        is_verdict = trap.cause in (ExitCause.STOPPED, ExitCause.UNHEALTHY)
        recording = "" if is_verdict else self._recorder.recording(instance.exports if instance else {}).decode()
        recording = self._mask(recording)
        if instance is None:
            return StartFailed(name, Fault.of(trap), backtrace, recording)
        return AgentEnded(name, trap.cause, trap.message, backtrace, recording)

    def _free(self) -> None:
        """Free the instance, and then what its host functions work with."""
        try:
            if self._instance is not None:
                self._instance.close()
        finally:
            if self._agent_context is not None:
                self._agent_context.close()

    def _start(self) -> None:
        component = self._load()
        self._engine = component.engine
        context = self._agent_context = self._context()
        self._host.serve(self, component.exports)
        interfaces = limit_rate(self._interfaces(component, context), context)
        with self._services.ticker.running(component.engine), self._services.memory.attributing(self):
            self._deadline = time.monotonic() + START_SECONDS
            self._instance = instantiate(
                lambda limits: RecordedInstance(
                    component, interfaces, limits, self._recorder, lambda: self._words.quote(time.time_ns())
                ),
                self._plan.authority.limits,
            )

    def _interfaces(self, component: Component, context: AgentContext) -> Iterable[HostInterface]:
        """What the node serves, and what other agents do."""
        links, plan = self._services.links, self._plan
        links.join(plan.name, component.types, plan.links, self)
        own = link(component, context, plan.authority, plan.deny_stubs)
        others = links.interfaces(component.types, plan.links, context, lambda: self._deadline - time.monotonic())
        return [*own, *others] if others else own

    def _take(self, job: Job) -> None:
        instance, engine = self._instance, self._engine
        if instance is None or engine is None:
            raise RuntimeError("a job before the start")
        with self._services.ticker.running(engine):
            prepared = job.prepare(instance)
            if prepared is not None:
                limit = self._plan.authority.limits.calls_in_flight
                instance.serve(CallsInFlight((job, prepared), instance, limit, self))
                return
            seconds = self.seconds_for(job)
            self._deadline = time.monotonic() + seconds
            job.run(instance, seconds)
        self._host.served(self, job)

    # --- for the calls in flight (see `Turns`) ---

    def beside(self) -> Job | None:
        """As `Turns` says."""
        return self._host.beside(self)

    def give_back(self, job: Job) -> None:
        """As `Turns` says."""
        self._host.give_back(job)

    def served(self, job: Job) -> None:
        """As `Turns` says."""
        self._host.served(self, job)

    def seconds_for(self, job: Job) -> float:
        """As `Turns` says: the grant's deadline, or the job's own where that is earlier."""
        deadline_ms = self._plan.authority.limits.deadline_ms
        if job.deadline_ms is not None:
            deadline_ms = min(deadline_ms, job.deadline_ms)
        return deadline_ms / 1000

    def wait(self, seconds: float) -> None:
        """As `Turns` says."""
        self._stirred.wait(min(seconds, MAX_SLEEP_S))

    def until(self, end: float) -> None:
        """As `Turns` says."""
        self._deadline = end

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
            overdue=self._overdue,
            inference=plan.inference,
            entropy=os.urandom,
            wake=self._stirred.set,
            http_authorities=plan.http_authorities,
            volumes=plan.volumes,
            secrets=plan.secrets,
            exchange=AgentExchange(plan.name, self._services.outbox, self.mailbox, self._services.watchers, self._wait),
        )

    def _wait(self, nanoseconds: int) -> None:
        """Let a guest wait in the host, where the engine cannot stop it."""
        left = self._deadline - time.monotonic()
        self._stirred.wait(max(0.0, min(nanoseconds / 1e9, left)))
        if (reason := self._overdue()) is not None:
            raise reason

    def _overdue(self) -> EndAgentError | None:
        """Why what runs in the host must end now; for any thread."""
        if self._interrupted:
            return EndAgentError(ExitCause.STOPPED, "the call was interrupted while it waited")
        if time.monotonic() >= self._deadline:
            return EndAgentError(ExitCause.DEADLINE, "the call was still waiting at its deadline")
        return None

    def _log(self, record: LogRecord) -> None:
        record = replace(record, context=self._mask(record.context), message=self._mask(record.message))
        self._words.note(record)
        at_ms = record.time_ns // 1_000_000
        self._services.outbox.log(LogEntry(self._plan.name, at_ms, record.level, record.context, record.message))

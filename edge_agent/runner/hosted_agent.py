"""One agent of a runner: its queue of jobs, and the instances that serve it one after the other.

Owns: `HostedAgent`. It decides which instance takes the next job: the only one, as a rule. While an agent is replaced
there are two. The new instance is made beside the old one, takes the queue over as it stands, and begins when the job
that the old one runs has ended, or all of them: no job is lost, none runs twice, and never do two run at the same time
unless the component itself can have several calls in flight, so a guest that reads a value and writes it back later is
as safe as ever. The old instance then waits until the new one has proved
itself; should the new one end before, the old one takes the queue back. An instance without a job is asked how it does
from time to time, where it can tell. Never calls a guest: `AgentThread` does.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.runner.agent_thread import AgentThread
from edge_agent.runner.http_requests import open_server
from edge_agent.runner.job_queue import JobQueue
from edge_agent.runner.measurements import Measurements
from edge_agent.runner.messages import (
    AgentConfirmed,
    AgentEnded,
    AgentMeasured,
    AgentReplaced,
    AgentRestored,
    AgentStarted,
    AgentStopped,
    Counters,
    Fault,
    ReplaceFailed,
    StartFailed,
)
from edge_agent.runner.probes import ProbeJob, Probes, find_health
from edge_agent.runner.running_jobs import RunningJobs
from fleet.errors import Code
from fleet.model import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.http_server import HttpServer
    from edge_agent.runner.agent_plan import AgentPlan, RunnerServices
    from edge_agent.runner.engine import Component
    from edge_agent.runner.exchange import Mailbox
    from edge_agent.runner.jobs import Job
    from edge_agent.runtime import Probation
    from fleet.grants import Authority
    from fleet.wit_types import FuncType


@dataclass(slots=True)
class _Waiting:
    """The old instance, while the new one is on probation."""

    thread: AgentThread
    jobs_left: int
    until: float


class HostedAgent:
    """One agent, from its start to its end.

    Args:
        plan: what its first instance runs with.
        load: gives the component; called in the instance's thread.
        services: shared with the other agents.
        ended: called last, with this object.
    """

    def __init__(
        self,
        plan: AgentPlan,
        load: Callable[[], Component],
        services: RunnerServices,
        ended: Callable[[HostedAgent], None],
    ) -> None:
        self.name = plan.name
        self._services = services
        self._ended = ended
        self._changed = threading.Condition()
        self._queue = _queue_for(plan)
        self._ordered = False
        """Whether a stop was ordered."""
        self._timers: list[threading.Timer] = []
        """Of the grace that stops give."""
        self._over = False
        """Whether it takes no more jobs because it has ended by itself."""
        self._plan = plan
        self._first = AgentThread(plan, load, services, self)
        self._threads = {self._first}
        self._active: AgentThread | None = None
        self._candidate: tuple[AgentThread, Probation] | None = None
        self._waiting: _Waiting | None = None
        self._numbers = Measurements()
        self._running = RunningJobs(self._numbers)
        self._probes: dict[AgentThread, Probes] = {}
        """Questions to the instances that can tell how they do."""
        self._server: HttpServer | None = None

    @property
    def authority(self) -> Authority:
        """What the agent may do."""
        return self._plan.authority

    def start(self) -> None:
        """Make the first instance; `AgentStarted` or `StartFailed` is the answer."""
        self._first.thread.start()

    def replace(self, plan: AgentPlan, load: Callable[[], Component], probation: Probation) -> bool:
        """Make a new instance and let it take over; `AgentReplaced` or `ReplaceFailed` is the answer.

        Returns whether there is anything to replace; False has no answer, and `load` is never called.

        An older instance that still waits because of an earlier replacement goes when the new one takes over.
        """
        with self._changed:
            if self._active is not None and self._candidate is None and not self._ordered:
                thread = AgentThread(plan, load, self._services, self)
                self._threads.add(thread)
                self._candidate = thread, probation
                thread.thread.start()
                return True
        return False

    def counters(self) -> Counters:
        """Return what the agent has done since its start; for any thread."""
        threads = tuple(self._threads)
        errors = self._numbers.errors + sum(thread.trapped for thread in threads)
        memory = sum(self._services.memory.bytes_of(thread) for thread in threads)
        self._numbers.note_memory(memory)
        return Counters(self._numbers.calls, errors, memory, self._numbers.dropped + self._queue.dropped)

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
            if not self._queue.has_room:
                self._report(time.monotonic())
            self._changed.notify_all()
            busy = self._running.thread
        if busy is not None:
            busy.stir()  # it may have room for one more call in flight
        if gone is not None:
            gone.refuse(fault)

    def _refusal(self, *, is_own: bool) -> Fault:
        if self._ordered or self._over:
            return Fault(Code.AGENT_NOT_RUNNING, f"{self.name} is stopping")
        if is_own:
            return Fault(Code.AGENT_BUSY, f"{len(self._queue)} calls wait for {self.name}")
        return Fault(Code.AGENT_BUSY, f"dropped from the queue of {self.name} for a newer call")

    @property
    def mailbox(self) -> Mailbox:
        """Where the answers to the agent's questions are put: only the instance that runs a job asks any."""
        return (self._running.thread or self._active or self._first).mailbox

    def context(self) -> AgentContext:
        """Return what the capabilities of the instance that runs a job work with; in its thread."""
        if self._running.thread is None:
            raise RuntimeError("a context without a job")
        return self._running.thread.context()

    def stop(self, grace_ms: int) -> None:
        """Take no more jobs; interrupt the one that runs after `grace_ms`; `AgentStopped` is the answer."""
        with self._changed:
            if not self._threads:
                self._services.outbox.post(AgentStopped(self.name))
                return
            self._ordered = True
            timer = threading.Timer(grace_ms / 1000, _interrupt, (tuple(self._threads),))
            timer.daemon = True
            timer.start()
            self._timers.append(timer)
            self._changed.notify_all()
        self._services.links.stop(self.name)

    def join(self, until: float) -> None:
        """Wait for the end of every instance until the monotonic second `until`."""
        for thread in tuple(self._threads):
            thread.thread.join(max(0.0, until - time.monotonic()))

    # --- in the instances' threads ---

    def serve(self, thread: AgentThread, exports: Mapping[str, FuncType]) -> None:
        """Find out what the instance can tell; listen for requests, once for all instances, which share the address.

        Raises:
            FleetError: what `find_health` and `open_server` raise.
        """
        function = find_health(exports)
        if function is not None:
            self._probes[thread] = Probes(function, thread.plan.health, time.monotonic())
        if thread is self._first:
            self._server = open_server(self.name, self.authority, exports, self.submit, self.context)

    def started(self, thread: AgentThread) -> None:
        """Hear that an instance exists: the first begins, a later one takes over."""
        with self._changed:
            if self._over:
                return
            if self._candidate is None or thread is not self._candidate[0]:
                self._active = thread
                thread.watch()
                if self._server is not None:
                    self._server.start()
                if thread in self._probes:  # before it counts as ready
                    self._report(time.monotonic(), at_once=True)
                self._services.outbox.post(AgentStarted(self.name, self.counters()))
                return
            older = self._active
            if self._ordered or older is None:
                return
            probation, self._candidate = self._candidate[1], None
            self._take_over(thread)
            self._report(time.monotonic(), at_once=True)
            self._services.outbox.post(AgentReplaced(self.name, self.counters()))
            if probation.jobs:
                self._waiting = _Waiting(older, probation.jobs, time.monotonic() + probation.ms / 1000)
            else:
                self._waiting = None
                self._services.outbox.post(AgentConfirmed(self.name))
            self._changed.notify_all()

    def next(self, thread: AgentThread) -> Job | None:
        """Wait for a job; None tells the instance to end."""
        with self._changed:
            while not self._ordered:
                self._end_probation()
                if thread is self._active:
                    if self._running.thread is None and (job := self._take(thread)) is not None:
                        return job
                    self._changed.wait(self._idle_s(thread))
                elif self._waiting is not None and thread is self._waiting.thread:
                    self._changed.wait(self._waiting.until - time.monotonic())
                else:
                    break
            return None

    def beside(self, thread: AgentThread) -> Job | None:
        """Give the instance that runs a job another one, if one waits."""
        with self._changed:
            if self._ordered or self._over or thread is not self._active or (job := self._queue.take()) is None:
                return None
            self._begin_job(thread, job)
            return job

    def give_back(self, job: Job) -> None:
        """Take a job back that has not begun: it is the next, and runs alone."""
        with self._changed:
            self._running.take_back(job)
            self._queue.put_back(job)
            self._changed.notify_all()  # another instance may have taken over

    def served(self, thread: AgentThread, job: Job) -> None:
        """Hear that a job has ended and the instance lives."""
        with self._changed:
            was_question = self._running.end(job)
            if thread is self._active and self._waiting is not None and not was_question:
                self._waiting.jobs_left -= 1
                self._end_probation()
            self._report(time.monotonic(), at_once=was_question)
            self._changed.notify_all()

    def ended(self, thread: AgentThread, last_word: AgentEnded | StartFailed | None) -> None:
        """Hear that an instance is gone; `last_word` is None for one that was sent away."""
        with self._changed:
            self._threads.discard(thread)
            self._services.links.leave(self.name, thread)
            self._probes.pop(thread, None)
            self._numbers.bury(thread.host_calls, trapped=thread.trapped)
            if self._running.thread is thread:
                self._running.lose()
            if self._candidate is not None and thread is self._candidate[0]:
                self._give_up(last_word.fault if isinstance(last_word, StartFailed) else self._gone())
            elif self._waiting is not None and thread is self._waiting.thread:
                self._confirm()  # with nothing to go back to
            elif thread is self._active or (self._active is None and not self._over):
                self._lose(last_word)
            if not self._threads:
                for timer in self._timers:  # one that goes on would keep its thread and the component for all its time
                    timer.cancel()
                self._refuse_all()
                if self._ordered:
                    self._services.outbox.post(AgentStopped(self.name))
            self._changed.notify_all()
        if not self._threads:
            if self._server is not None:
                self._server.close()
            self._services.watchers.remove(self.name)
            self._ended(self)

    def _take(self, thread: AgentThread) -> Job | None:
        """Return what the instance has to do now: the next job; else the question how it does, when it is time."""
        if (job := self._queue.take()) is not None:
            self._begin_job(thread, job)
            return job
        probes = self._probes.get(thread)
        if probes is None or probes.wait_s(time.monotonic()) != 0:
            return None
        question = ProbeJob(probes)
        self._running.ask(thread, question)
        return question

    def _begin_job(self, thread: AgentThread, job: Job) -> None:
        self._running.begin(thread, job)
        self._report(time.monotonic())
        self._changed.notify_all()  # there is room for those who wait for it

    def _idle_s(self, thread: AgentThread) -> float | None:
        """Report when it is time; return the seconds after which there is something to do without a job."""
        now = time.monotonic()
        self._report(now)
        waits = [self._numbers.wait_s(now)]
        if self._running.thread is None and (probes := self._probes.get(thread)) is not None:
            waits.append(probes.wait_s(now))
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _report(self, now: float, *, at_once: bool = False) -> None:
        """Tell the supervisor how the agent does, if it is time for that."""
        if not at_once and self._numbers.wait_s(now) != 0:
            return
        probes = None if self._active is None else self._probes.get(self._active)
        living = [thread.host_calls for thread in tuple(self._threads)]
        counters = self.counters()
        measures = self._numbers.report(now, len(self._queue), self._plan.authority.limits.queue, probes, living)
        self._services.outbox.post(AgentMeasured(self.name, counters, measures))

    def _take_over(self, thread: AgentThread) -> None:
        """Give the jobs that wait to an instance, whose grant may let fewer or more of them wait."""
        self._active, self._plan = thread, thread.plan
        self._services.links.take_over(self.name, thread)
        thread.watch()
        self._numbers.renew()
        waiting, self._queue = self._queue, _queue_for(thread.plan, self._queue.drain())
        self._numbers.dropped += waiting.dropped

    def _lose(self, last_word: AgentEnded | StartFailed | None) -> None:
        """Go back to the old instance where there is one; the supervisor hears of the end last, when nothing waits."""
        self._active = None
        if self._waiting is not None and isinstance(last_word, AgentEnded):
            self._take_over(self._waiting.thread)
            self._waiting = None
            self._services.outbox.post(AgentRestored(self.name, last_word, self.counters()))
            return
        self._refuse_all()
        if last_word is not None:
            if self._candidate is not None:
                self._give_up(self._gone())
            if isinstance(last_word, AgentEnded):
                self._report(time.monotonic(), at_once=True)
            self._services.outbox.post(last_word)

    def _give_up(self, fault: Fault) -> None:
        """Answer that there is no new instance; what is made of it by now is of no use to anybody."""
        self._candidate = None
        self._services.outbox.post(ReplaceFailed(self.name, fault))

    def _end_probation(self) -> None:
        waiting = self._waiting
        if waiting is not None and (waiting.jobs_left <= 0 or waiting.until <= time.monotonic()):
            self._confirm()

    def _confirm(self) -> None:
        """Let the old instance go."""
        self._waiting = None
        self._services.outbox.post(AgentConfirmed(self.name))
        self._changed.notify_all()

    def _refuse_all(self) -> None:
        self._over = True
        for job in self._queue.drain():
            job.refuse(self._gone())

    def _gone(self) -> Fault:
        return Fault(Code.AGENT_NOT_RUNNING, f"{self.name} has ended")


def _queue_for(plan: AgentPlan, waiting: Iterable[Job] = ()) -> JobQueue[Job]:
    return JobQueue(plan.authority.limits.queue, plan.on_full_queue, waiting)


def _interrupt(threads: tuple[AgentThread, ...]) -> None:
    for thread in threads:
        thread.interrupt()

"""Makes the node run what it accepted: interprets lifecycle actions and feeds one event back for each.

Owns the state of every agent and the one place where events meet it (`_feed`). Level-triggered: whatever happened,
the loop compares everything that is desired with everything that is known and closes the gap, so a lost wake-up costs
time, never correctness. Never decides: what to change is `reconciler.diff`, what follows from an event is
`lifecycle.step`, whether an agent may run is `admission`. Never touches the network or the disk.

Everything here happens on one event loop; between two awaits nothing changes underneath.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge_agent import lifecycle, reconciler
from edge_agent import lifecycle_events as events
from edge_agent.clock import sleep_until
from edge_agent.lifecycle_state import AgentState, Moment
from edge_agent.observation import exit_of, may_pass, observe, refusal_of, rejected
from edge_agent.runtime import (
    AgentAskedSensors,
    AgentConfirmed,
    AgentCrashed,
    AgentExited,
    AgentHealthChanged,
    AgentLogged,
    AgentPublished,
    AgentReplaced,
    AgentReplied,
    AgentRequested,
    AgentRestored,
    CacheEntryRefused,
    Probation,
    RunnerLost,
)
from edge_agent.succession import HinderedError, Succession
from edge_agent.supervision import NOTHING, Work
from edge_agent.traffic import Traffic
from fleet.errors import Code, FleetError
from fleet.grants import Authority
from fleet.model import AssignedAgent, Exit, ExitCause, ObservedAgent, ObservedState, Phase, SwapPolicy

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from edge_agent.admission import AdmittedAgent
    from edge_agent.supervision import Accepted, Parts

EMERGENCY = "agent:grant:break-glass"
"""Kind of the event that tells of a start under an emergency grant."""

SETTLED = frozenset({Phase.RUNNING, Phase.BACKOFF, Phase.FAILED})
"""Phases in which a desired state counts as applied to an agent: it runs, or it was tried and said why not."""

MISSING = frozenset({Code.BLOB_MISSING, Code.BLOB_CORRUPT})


class Supervisor:
    """Runs the accepted desired state. `run` does everything; the other methods may be called while it runs."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._runtime, self._journal, self._clock = parts.runtime, parts.journal, parts.clock
        self._accepted = NOTHING
        self._applied: Accepted | None = None
        self._states: dict[str, AgentState] = {}
        self._work: dict[str, Work] = {}
        self._admissions = asyncio.Semaphore(parts.max_admissions)
        self._succession = Succession(self._admitted, parts.granted)
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.traffic = Traffic(parts.runtime, parts.inputs, parts.clock, self._report)
        """What reaches the agents that run."""
        self.changed = asyncio.Event()
        """Set when something that `observed` tells has changed, other than by a call: counters and outputs go with the
        next full report, or every call of an agent would make a message. Whoever reports clears it."""
        self.missing = asyncio.Event()
        """Set when admission lacked a blob; whoever fetches clears it, and sets it again when it could not."""

    @property
    def applied(self) -> Accepted | None:
        """The newest desired state that every agent has settled in."""
        return self._applied

    def desire(self, accepted: Accepted) -> None:
        """Run this from now on; it replaces everything desired before."""
        self._accepted = accepted
        self._wake.set()
        self.changed.set()

    def reconsider(self) -> None:
        """Ask admission again about every agent that was refused or runs: what it depends on has changed."""
        self.changed.set()
        for name, state in list(self._states.items()):
            if state.phase is Phase.FAILED and state.spec is not None:
                self._feed(name, events.Desired(state.spec))
            elif state.phase is Phase.BACKOFF and state.refusal is not None:
                self._feed(name, events.TimerFired(state.attempt))
            elif state.phase is Phase.RUNNING and state.spec is not None:
                if state.failed is not None and may_pass(state.failed.refusal):
                    self._feed(name, events.Desired(state.failed.spec))
                work = self._work[name]
                self._spawn(work, self._reconsider(name, state.attempt, state.spec))
                if state.older is not None and work.older is not None:
                    self._spawn(work, self._reconsider_older(name, state.attempt, state.older.spec, work.older))

    async def run(self) -> None:
        """Supervise until cancelled. The runtime stays open: whoever made it closes it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._listen())
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    self._reconcile()
        finally:
            self.traffic.close()
            self._group = None

    async def call(self, agent: str, invocation: str, deadline_ms: int | None) -> str:
        """Call an exported function (`function(arguments)` in WAVE) and return its result as WAVE text.

        Raises:
            FleetError: AGENT_NOT_RUNNING, AGENT_BUSY, AGENT_TRAPPED, EXPORT_NOT_FOUND, WAVE_INVALID, RUNNER_LOST.
        """
        state = self._states.get(agent)
        if state is None or state.phase is not Phase.RUNNING:
            phase = "not assigned" if state is None else str(state.phase)
            raise FleetError(Code.AGENT_NOT_RUNNING, f"{agent} is {phase}", agent=agent)
        return await self.traffic.call(agent, invocation, deadline_ms)

    async def publish(self, topic: str, payloads: Iterable[str]) -> int:
        """Hand payloads (WAVE text) to the agents that listen to a topic, in order; return how many were taken."""
        return await self.traffic.publish(topic, payloads)

    def observed(self) -> ObservedState:
        """What the node runs now, complete."""
        agents = tuple(self._observe(state) for _, state in sorted(self._states.items()))
        return ObservedState(self._accepted.generation, self._accepted.digest, self._clock.now(), agents)

    def _observe(self, state: AgentState) -> ObservedAgent:
        return observe(state, self._runtime.stats(state.name), self.traffic.last_output(state.name))

    def _reconcile(self) -> None:
        for change in reconciler.diff(self._accepted.agents, self._states):
            self._states.setdefault(change.agent, AgentState(change.agent))
            self._work.setdefault(change.agent, Work())
            self._feed(change.agent, change.event)
        names = {spec.name for spec in self._accepted.agents}
        settled = names == self._states.keys() and all(state.phase in SETTLED for state in self._states.values())
        if settled and self._applied != self._accepted and self._accepted is not NOTHING:
            self._applied = self._accepted
            self.changed.set()

    def _feed(self, name: str, event: events.Event) -> None:
        """Apply one event and begin what follows from it: the only place where an agent's state changes."""
        before = self._states.get(name)
        if before is None:
            return
        moment = Moment(self._clock.now(), self._parts.random.random())
        after, actions = lifecycle.step(before, event, moment)
        self._states[name] = after
        if before.phase is Phase.RUNNING and after.phase is not Phase.RUNNING:
            self.traffic.disarm(name)
            swapping = self._work[name].swapping
            if swapping is not None and swapping is not asyncio.current_task():
                swapping.cancel()
        elif after.phase is Phase.RUNNING and after.spec is not None and after.running_since != before.running_since:
            self.traffic.arm(after.spec, self._authority(name))
        for action in actions:
            self._carry_out(name, action)
        self._wake.set()
        self.changed.set()

    def _authority(self, name: str) -> Authority:
        """What an agent that runs may do."""
        admitted = self._work[name].admitted
        if admitted is None:
            raise RuntimeError(f"{name} runs without admission")
        return Authority.decode(admitted.start.authority)

    def _carry_out(self, name: str, action: events.Action) -> None:
        work = self._work[name]
        match action:
            case events.Admit():
                self._spawn(work, self._admit(name, action))
            case events.Start():
                work.starting = self._spawn(work, self._start(name, action))
            case events.Swap():
                work.swapping = self._spawn(work, self._swap(name, action))
            case events.Interrupt():
                self._spawn(work, self._interrupt(name, action))
            case events.SetTimer():
                if work.timer is not None:
                    work.timer.cancel()
                work.timer = self._spawn(work, self._wait(name, action))
            case events.Release():
                for task in work.tasks:
                    task.cancel()
                del self._states[name], self._work[name]
                self.traffic.forget(name)
            case events.Report():
                self._report(name, action.kind, action.message)

    def _spawn(self, work: Work, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the supervisor does not run")
        task = self._group.create_task(job)
        work.tasks.add(task)
        task.add_done_callback(work.tasks.discard)
        return task

    async def _admitted(self, spec: AssignedAgent) -> AdmittedAgent:
        """Ask admission when it is this agent's turn."""
        try:
            async with self._admissions:
                return await self._parts.admit(spec)
        except FleetError as error:
            if error.code in MISSING:
                self.missing.set()
            raise

    async def _admit(self, name: str, action: events.Admit) -> None:
        try:
            admitted = await self._admitted(action.spec)
        except FleetError as error:
            self._feed(name, rejected(action.attempt, error))
            return
        if self._states[name].attempt == action.attempt:
            self._work[name].admitted = admitted
        self._feed(name, events.Admitted(action.attempt, admitted.valid_until))

    async def _reconsider(self, name: str, attempt: int, spec: AssignedAgent) -> None:
        """Extend what still may run as it does; end what may not, so that admission says why."""
        try:
            self._parts.listed(spec)  # first, and of all agents at once: it waits for nobody's turn
            admitted = await self._admitted(spec)
        except FleetError as error:
            if not error.row.retryable:
                self._feed(name, events.Lapsed(attempt, at_once=error.code is Code.REVOKED))
            return
        if self._states[name].spec != spec:
            return
        before = self._work[name].admitted
        if before is not None and admitted.start == before.start:
            self._feed(name, events.Admitted(attempt, admitted.valid_until))
        else:
            self._feed(name, events.Lapsed(attempt))

    async def _reconsider_older(self, name: str, attempt: int, spec: AssignedAgent, before: AdmittedAgent) -> None:
        """End what may not come back any more; it does not run, but would without being asked for."""
        try:
            unchanged = (await self._admitted(spec)).start == before.start
        except FleetError as error:
            unchanged = error.row.retryable
        older = self._states[name].older
        if not unchanged and older is not None and older.spec == spec:
            self._feed(name, events.Lapsed(attempt))

    async def _start(self, name: str, action: events.Start) -> None:
        work = self._work[name]
        if work.admitted is None:
            raise RuntimeError(f"{name} starts without admission")
        work.instance = action.attempt
        try:
            await self._runtime.start(work.admitted.start)
        except FleetError as error:
            if error.code in (Code.AGENT_TRAPPED, Code.RUNNER_LOST):
                self._feed(name, events.Exited(action.attempt, exit_of(error, self._clock.now())))
            else:
                self._feed(name, rejected(action.attempt, error))
            return
        self._tell_emergency(name, work.admitted)
        self._feed(name, events.Started(action.attempt))

    async def _swap(self, name: str, action: events.Swap) -> None:
        """Prepare what takes over; that it has taken over is told by the runtime's event."""
        work, older = self._work[name], self._states[name].spec
        if older is None or work.admitted is None:
            raise RuntimeError(f"{name} runs without admission")
        try:
            work.newer = await self._succession.prepare(older, work.admitted, action.spec)
            await self._runtime.replace(work.newer.start, _probation(action.spec))
        except HinderedError as hindrance:
            self._feed(name, events.SwapHindered(action.attempt, str(hindrance)))
        except FleetError as error:
            if error.code not in (Code.AGENT_NOT_RUNNING, Code.RUNNER_LOST):  # the end of the instance says the rest
                self._feed(name, events.SwapFailed(action.attempt, refusal_of(error)))

    def _hear_of_swap(self, agent: str, event: AgentReplaced | AgentConfirmed | AgentRestored) -> None:
        work = self._work.get(agent)
        if work is None:
            return
        match event:
            case AgentReplaced():
                if work.newer is None:
                    raise RuntimeError(f"{agent} was replaced by nothing that is known")
                work.older, work.admitted = work.admitted, work.newer
                self._tell_emergency(agent, work.newer)
                self._feed(agent, events.Swapped(work.instance, work.newer.valid_until))
                work.instance += 1
            case AgentConfirmed():
                self._feed(agent, events.Confirmed(work.instance))
            case AgentRestored(_, ended):
                work.admitted = work.older
                self._feed(agent, events.Restored(work.instance, ended))

    async def _interrupt(self, name: str, action: events.Interrupt) -> None:
        end = asyncio.create_task(self._end(name, action))
        patience = asyncio.create_task(self._clock.sleep(action.patience_ms / 1000))
        try:
            await asyncio.wait((end, patience), return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                end.result()
                stopped = Exit(ExitCause.STOPPED, "stopped by order", self._clock.now())
                self._feed(name, events.Exited(action.attempt, stopped))
            else:
                self._feed(name, events.StopTimedOut(action.attempt))
        finally:
            end.cancel()
            patience.cancel()

    async def _end(self, name: str, action: events.Interrupt) -> None:
        """Stop the instance of this attempt: after its start has ended, and only while it is still the current one."""
        starting = self._work[name].starting
        if starting is not None and not starting.done():
            await asyncio.wait((starting,))
        if name in self._states and self._states[name].attempt == action.attempt:
            await self._runtime.stop(name, action.grace_ms)

    async def _wait(self, name: str, action: events.SetTimer) -> None:
        await sleep_until(self._clock, action.at)
        self._feed(name, events.TimerFired(action.attempt))

    async def _listen(self) -> None:
        while True:
            event = await self._runtime.next_event()
            match event:
                case AgentLogged(line):
                    self._journal.log(line)
                case AgentHealthChanged():
                    self.changed.set()
                case AgentExited(agent, ended):
                    self._lose(agent, ended)
                case AgentCrashed(agent):
                    self._tell_crash(agent, event)
                case AgentPublished() | AgentRequested() | AgentReplied() | AgentAskedSensors():
                    self.traffic.hear(event)
                case AgentReplaced(agent) | AgentConfirmed(agent) | AgentRestored(agent):
                    self._hear_of_swap(agent, event)
                case CacheEntryRefused(component):
                    self._report("", "cache:entry:refused", "compiled code was not this node's", component=component)
                case RunnerLost(application, agents, ended):
                    self._report("", "runner:process:lost", f"{application}: {ended.message}", cause=str(ended.cause))
                    for agent in agents:
                        self._lose(agent, ended)

    def _tell_crash(self, agent: str, event: AgentCrashed) -> None:
        state, work = self._states.get(agent), self._work.get(agent)
        if self._parts.keep_crash is None or state is None or work is None:
            return
        if state.spec is not None and work.admitted is not None:
            self._parts.keep_crash(event, state.spec, work.admitted.start, self._accepted.generation)

    def _lose(self, agent: str, ended: Exit) -> None:
        work = self._work.get(agent)
        if work is not None:
            self._feed(agent, events.Exited(work.instance, ended))

    def _tell_emergency(self, agent: str, admitted: AdmittedAgent) -> None:
        """Tell of every start under an emergency grant."""
        for reason in admitted.emergencies:
            self._report(agent, EMERGENCY, f"BREAK-GLASS: it runs under an emergency grant: {reason}")

    def _report(self, agent: str, kind: str, message: str, **detail: str) -> None:
        self._journal.event(self._clock.now(), agent, kind, message, **detail)


def _probation(spec: AssignedAgent) -> Probation:
    policy = spec.swap or SwapPolicy()
    return Probation(policy.calls, spec.restart.stable_ms if policy.within_ms is None else policy.within_ms)

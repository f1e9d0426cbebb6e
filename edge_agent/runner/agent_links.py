"""Calls between two agents of one runner that each have a store of their own.

Owns: `Links`, which knows the linked agents of a runner and whether their types agree, and `LinkedCall`, the job that
one agent puts into the queue of another. An agent that starts is checked against all that run, whichever side of a link
it is on, so that no call ever meets a type that was not compared.

An agent that cannot answer never takes its caller along where the signature has room to say so. It has none, one of its
calls ends, or it does not answer in time: the caller gets the error side of the function's `result`, when that is
absent, a `string`, or an enum or variant with one of `FAILED_CASES`; any other caller ends with a host error.

An agent that is told to stop is mostly about to be replaced: a call that it no longer takes waits for the next one of
its name, as far as the caller's time allows, and is made once. A call that began is never made again.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities.base import EndAgentError, HostFunction, HostInterface
from edge_agent.capabilities.deny import error_value
from edge_agent.runner.engine import ROOT, Trap
from edge_agent.runner.jobs import Job
from edge_agent.runner.messages import Fault
from fleet.errors import Code, FleetError
from fleet.links import answering_export, check_types
from fleet.model import ExitCause
from fleet.wit_types import ResultType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.runner.engine import ComponentTypes, Instance, InterfaceType
    from fleet.wit_types import FuncType, WitValue

    class Target(Protocol):
        """An agent that takes jobs."""

        def submit(self, job: Job, patience_s: float = 0.0) -> None:
            """Queue a job, or refuse it."""


FAILED_CASES = ("unavailable", "failed", "internal-error", "internal", "other", "unknown")
"""Error cases, without payload or with text, that say "the other side could not answer"; the clearest first."""

_ANSWERER_SHARE = 0.90
"""Share of its caller's time that a linked call may take: the caller needs the rest to make use of the answer."""

RETURN_S = 10.0
"""How long after an ordered stop a call waits for the agent to come back."""

_PATIENCE_SHARE = 0.95
"""Share of its own time that a caller waits: an answer about a deadline that has passed arrives a tick later."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One instance of an agent."""

    types: ComponentTypes
    links: Mapping[str, str]


class Links:
    """The linked agents of one runner.

    Args:
        find: returns the agent of a name that takes jobs, None when there is none.
    """

    def __init__(self, find: Callable[[str], Target | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._members: dict[str, dict[object, _Member]] = {}
        """Instances by agent; the first is the one that answers. An agent has two while it is replaced."""
        self._stopped: dict[str, float] = {}
        """Agents that were told to stop and have not joined again, and the monotonic second."""
        self._waiting: set[Callable[[], None]] = set()
        """What wakes the agents that wait for one of those."""

    def join(self, agent: str, types: ComponentTypes, links: Mapping[str, str], instance: object) -> None:
        """Add an instance that starts; it has to fit every instance of the others, whichever of them answers.

        Args:
            agent: its name.
            types: of its component.
            links: import, as the component names it, to the agent that answers.
            instance: stands for it.

        Raises:
            FleetError: LINK_INVALID when it does not fit an agent that it is linked to, or one that is linked to it.
        """
        for imported in links:
            _check_free_of_resources(imported, types.imports.get(imported), agent)
        with self._lock:
            for imported, target in links.items():
                for member in self._members.get(target, {}).values():
                    _check(imported, agent, types, target, member.types)
            for user, member in self._users(agent):
                for imported, target in member.links.items():
                    if target == agent:
                        _check(imported, user, member.types, agent, types)
            self._members.setdefault(agent, {})[instance] = _Member(types, links)
            self._stopped.pop(agent, None)
            waiting = tuple(self._waiting)
        for wake in waiting:
            wake()

    def take_over(self, agent: str, instance: object) -> None:
        """Let an instance answer from now on."""
        with self._lock:
            members = self._members[agent]
            self._members[agent] = {instance: members[instance], **members}

    def leave(self, agent: str, instance: object) -> None:
        """Forget an instance that ended."""
        with self._lock:
            members = self._members.get(agent, {})
            members.pop(instance, None)
            if not members:
                self._members.pop(agent, None)

    def _users(self, agent: str) -> list[tuple[str, _Member]]:
        return [
            (user, member) for user, members in self._members.items() for member in members.values() if user != agent
        ]

    def stop(self, agent: str) -> None:
        """Note that an agent was told to stop."""
        with self._lock:
            self._stopped[agent] = time.monotonic()

    def interfaces(
        self, types: ComponentTypes, links: Mapping[str, str], context: AgentContext, left: Callable[[], float]
    ) -> list[HostInterface]:
        """Return what an agent is linked with: one interface for each of its links.

        Args:
            types: of its component.
            links: import to the agent that answers.
            context: the agent's; a call waits by it.
            left: seconds that the agent's running call still has.
        """
        return [
            HostInterface(
                imported,
                {
                    name: self._function(imported, name, kind, target, context, left)
                    for name, kind in types.imports[imported].functions.items()
                },
            )
            for imported, target in links.items()
        ]

    def _function(
        self,
        imported: str,
        name: str,
        kind: FuncType,
        target: str,
        context: AgentContext,
        left: Callable[[], float],
    ) -> HostFunction:
        def call(*arguments: WitValue) -> WitValue:
            seconds = left()
            began = time.monotonic()
            until = began + _ANSWERER_SHARE * seconds
            while True:
                answered = LinkedCall(self._export(imported, target), name, arguments, until, context.wake)
                self._ask(target, answered, until - time.monotonic())
                answered.wait(context, began + _PATIENCE_SHARE * seconds)
                if answered.fault is None:
                    return answered.value
                if answered.fault.code is not Code.AGENT_NOT_RUNNING or not self._returns(target, until, context):
                    return _failed(kind, target, answered.fault)

        def later(*arguments: WitValue) -> _Answer:
            until = time.monotonic() + _ANSWERER_SHARE * left()

            def finish(fault: Fault) -> WitValue:
                if fault.code is Code.AGENT_NOT_RUNNING and target in self._stopped:
                    return call(*arguments)  # it is mostly about to come back: wait for it
                return _failed(kind, target, fault)

            asked = LinkedCall(self._export(imported, target), name, arguments, until, context.wake)
            self._ask(target, asked, 0)
            return _Answer(asked, finish)

        return HostFunction(kind, call, later=later)

    def _ask(self, target: str, asked: LinkedCall, patience_s: float) -> None:
        """Put a call into the queue of another agent."""
        agent = self._find(target)
        if agent is None:
            asked.refuse(Fault(Code.AGENT_NOT_RUNNING, f"{target} is not running"))
        else:
            agent.submit(asked, patience_s)

    def _returns(self, target: str, until: float, context: AgentContext) -> bool:
        """Wait for an agent that was told to stop; whether there is one of its name again."""
        stopped = self._stopped.get(target)
        if stopped is None:
            return False
        until = min(until, stopped + RETURN_S)
        with self._lock:
            self._waiting.add(context.wake)
        try:
            while target in self._stopped:
                if (left := until - time.monotonic()) <= 0:
                    return False
                context.wait(int(left * 1e9))
            return True
        finally:
            with self._lock:
                self._waiting.discard(context.wake)

    def _export(self, imported: str, target: str) -> str:
        """Export that answers an import; the import itself when nothing of that name runs."""
        member = next(iter(self._members.get(target, {}).values()), None)
        return imported if member is None else answering_export(imported, member.types.exports, "", target)


class LinkedCall(Job):
    """A call of one agent that waits in the queue of another (see `edge_agent.runner.jobs.Job`).

    Args:
        export: interface of the answering component.
        function: name of the function in it.
        arguments: values as the caller gave them.
        until: monotonic second at which it must be over.
        answered: called once there is an answer; from any thread.
    """

    def __init__(
        self, export: str, function: str, arguments: tuple[WitValue, ...], until: float, answered: Callable[[], None]
    ) -> None:
        self.function = f"{export}#{function}"
        self.arguments = arguments
        self._until = until
        self._answered = answered
        self._done = threading.Event()
        self.value: WitValue = None
        self.fault: Fault | None = None

    @property
    def deadline_ms(self) -> int | None:
        """What is left of the caller's time when its turn comes."""
        return max(1, int((self._until - time.monotonic()) * 1000))

    def run(self, instance: Instance, seconds: float) -> None:
        """Call the guest, unless its caller waits no more; in the answering agent's thread."""
        if self._done.is_set() or time.monotonic() >= self._until:
            self.refuse(Fault(Code.DEADLINE_EXCEEDED, "its turn came too late"))
            return
        try:
            self.returned(instance.call(self.function, *self.arguments, seconds=seconds))
        except Trap as trap:
            self.failed(trap)
            raise
        except FleetError as error:
            self.failed(error)

    def prepare(self, instance: Instance) -> LinkedCall | None:
        """As `Job` says."""
        if self.function not in instance.concurrent or self._done.is_set() or time.monotonic() >= self._until:
            return None
        return self

    def returned(self, value: WitValue) -> None:
        """As `PreparedCall` says."""
        if not self._done.is_set():
            self.value = value
            self._done.set()
            self._answered()

    def failed(self, error: FleetError) -> None:
        """As `PreparedCall` says."""
        self.refuse(Fault.of(error))

    def left_ns(self) -> int:
        """Return nanoseconds until there is an answer or nobody waits for one any more; 0 when it is so."""
        return 0 if self._done.is_set() else max(0, int((self._until - time.monotonic()) * 1e9))

    def give_up(self) -> None:
        """Wait no more; in the caller's thread."""
        self.refuse(Fault(Code.DEADLINE_EXCEEDED, "no answer in time"))

    def refuse(self, fault: Fault) -> None:
        """Answer with a fault; in any thread."""
        if not self._done.is_set():
            self.fault = fault
            self._done.set()
            self._answered()

    def wait(self, context: AgentContext, until: float) -> None:
        """Wait for the answer; one that does not come until then counts as a fault. In the caller's thread.

        Raises:
            EndAgentError: the caller's own time is up, or it is told to stop; the answer will be nobody's.
        """
        try:
            while not self._done.is_set() and (left := until - time.monotonic()) > 0:
                context.wait(int(left * 1e9))
        finally:
            if not self._done.is_set():
                self.fault = Fault(Code.DEADLINE_EXCEEDED, "no answer in time")
                self._done.set()


class _Answer:
    """The answer of another agent, while the other calls of the one that asked go on.

    Args:
        asked: on its way.
        finish: what to do when it was not answered: an error value, or the question once more and a wait.
    """

    __slots__ = ("_asked", "_finish", "left_ns")

    def __init__(self, asked: LinkedCall, finish: Callable[[Fault], WitValue]) -> None:
        self._asked = asked
        self._finish = finish
        self.left_ns = asked.left_ns

    def result(self) -> WitValue:
        """As `Later` says."""
        self._asked.give_up()
        return self._asked.value if self._asked.fault is None else self._finish(self._asked.fault)


def _failed(kind: FuncType, target: str, fault: Fault) -> WitValue:
    """The error value for a call that was not answered, or the end of the caller."""
    message = f"{target}: {fault.code}: {fault.message}"
    answer = error_value(kind.result.err, FAILED_CASES, message) if isinstance(kind.result, ResultType) else None
    if answer is None:
        raise EndAgentError(ExitCause.HOST_ERROR, message)
    return answer


def _check(imported: str, agent: str, types: ComponentTypes, target: str, offered: ComponentTypes) -> None:
    export = answering_export(imported, (name for name in offered.exports if name != ROOT), agent, target)
    check_types(
        types.imports[imported].functions,
        offered.exports[export].functions,
        interface=imported,
        agent=agent,
        target=target,
    )


def _check_free_of_resources(imported: str, declared: InterfaceType | None, agent: str) -> None:
    if declared is None:
        raise FleetError(Code.LINK_INVALID, f"{agent} does not import {imported}", agent=agent, imports=imported)
    if declared.resources:
        raise FleetError(
            Code.LINK_INVALID,
            f"{imported} has resources ({', '.join(declared.resources)}), which do not leave their store",
            agent=agent,
            imports=imported,
            remedy="Fuse the two agents: `isolation: none` on the link in fleet.yaml.",
        )

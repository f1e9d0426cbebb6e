"""What the supervisor needs from whatever runs its agents: one protocol and the values it exchanges.

Owns: the `Runtime` protocol and its frozen dataclasses. Pure: no process, no engine, no clock. The real one is
`edge_agent.runner.host`; the scripted one for tests is `tests/fakes/runtime.py`; `tests/edge_agent/runner/
test_runtime_contract.py` holds both to the words below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from edge_agent.health import AgentStats as AgentStats  # noqa: PLC0414, TC001 - part of what a runtime exchanges
from fleet.health import HealthPolicy
from fleet.model import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edge_agent.fusion import Fusion
    from fleet.model import Exit, LogLine

_NO_CONFIG: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model as it was admitted. Its file may change afterwards: whoever reads it compares the digest of the bytes.

    Attributes:
        path: where its bytes are.
        digest: `sha256:...` of them, from the verified bundle.
    """

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class VolumeFolder:
    """A folder that the node's operator lets agents use, under a name.

    Attributes:
        path: where it is; agents are never told.
        writable: whether any of them may write to it.
    """

    path: Path
    writable: bool = False


_NO_MODELS: Mapping[str, ModelFile] = MappingProxyType({})
_NO_VOLUMES: Mapping[str, VolumeFolder] = MappingProxyType({})
_NO_LINKS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AgentStart:
    """Everything that is needed to start one agent; already admitted.

    Attributes:
        name: `application/agent`. Agents of one application share one runner process.
        component: file with the component; its digest is checked again on the bytes that are compiled.
        component_digest: `sha256:...` of the component, from the verified bundle.
        authority: effective authority as `fleet.grants` encodes it (`Authority.encode()`), limits included.
        deny_stubs: imported interfaces that are optional and not granted; each call answers an error value.
        config: configuration of the assignment, visible through `wasi:config`.
        models: model name -> file with the digest that the bytes given to the engine must have.
        state_dir: directory of the application's own data; made when missing.
        on_full_queue: what happens to one more call when as many wait as the grant allows.
        health: how it is asked, where it exports `fleet:agent/health`.
        links: imports, as the component names them, that another agent of the application answers, and its name.
        fusion: what runs instead of the component alone, where other agents are fused into this one.
        volumes: volume name -> folder of the node; those that the grant names, and no others.
        secrets: name -> version of those that it is given in clear when it starts.
    """

    name: str
    component: Path
    component_digest: str
    authority: bytes
    state_dir: Path
    deny_stubs: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=lambda: _NO_CONFIG)
    models: Mapping[str, ModelFile] = field(default_factory=lambda: _NO_MODELS)
    on_full_queue: QueuePolicy = QueuePolicy.REJECT
    health: HealthPolicy = field(default_factory=HealthPolicy)
    links: Mapping[str, str] = field(default_factory=lambda: _NO_LINKS)
    fusion: Fusion | None = None
    volumes: Mapping[str, VolumeFolder] = field(default_factory=lambda: _NO_VOLUMES)
    secrets: Mapping[str, str] = field(default_factory=lambda: _NO_CONFIG)

    @property
    def application(self) -> str:
        """Application part of the name."""
        return self.name.partition("/")[0]

    @property
    def code_digest(self) -> str:
        """Names the code that runs: the component, or what it is fused into."""
        return self.component_digest if self.fusion is None else self.fusion.digest


@dataclass(frozen=True, slots=True)
class Probation:
    """What a new instance must do without ending, before the one that it replaced goes: either bound ends it.

    Attributes:
        jobs: calls and other work that it must have done; 0 for no probation at all.
        ms: milliseconds since it took over.
    """

    jobs: int
    ms: int


@dataclass(frozen=True, slots=True)
class CallResult:
    """A finished call: its result as WAVE text ("" for a function without a result) and its duration."""

    output: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class AgentExited:
    """An agent ended by itself: its instance is gone, its runner and the runner's other agents go on."""

    agent: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class AgentHealthChanged:
    """An agent that runs does better or worse than it did; `Runtime.stats` says how."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentCrashed:
    """What is known of an end that nobody ordered; comes for ends while starting too.

    Follows the end, but comes before `AgentRestored`, after which another instance is the agent.

    Attributes:
        agent: `application/agent`.
        exit: how it ended.
        backtrace: the engine's text; names in it were chosen by the guest.
        recording: as `fleet.crash.encode_recording` writes it, not checked yet; "" for none.
        invocation: WAVE text of the call that ran, "" for none or where the recording has it.
    """

    agent: str
    exit: Exit
    backtrace: str = ""
    recording: str = ""
    invocation: str = ""


@dataclass(frozen=True, slots=True)
class RunnerLost:
    """A runner process ended and all of its agents with it; each of them may be started again at once."""

    application: str
    agents: tuple[str, ...]
    exit: Exit


@dataclass(frozen=True, slots=True)
class CacheEntryRefused:
    """Compiled code of a component was not this node's and was not used; the component is compiled again."""

    component: str


@dataclass(frozen=True, slots=True)
class AgentReplaced:
    """A new instance of an agent has taken over from the one that ran: `replace` has succeeded."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentConfirmed:
    """The instance that replaced another has proved itself; the other one is gone."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentRestored:
    """The instance that replaced another ended on probation, and the other one takes the calls again."""

    agent: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class AgentLogged:
    """An agent wrote one line to its log."""

    line: LogLine


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A message on the node's bus.

    Attributes:
        topic: where it was sent; "" on an answer.
        data: its bytes.
        content_type: media type of the bytes; "" when the sender named none.
        metadata: names and values by turns.
        reply_to: names the request that an answer belongs to, in words of the bus; "" when nobody waits for one.
    """

    topic: str
    data: bytes
    content_type: str = ""
    metadata: tuple[str, ...] = ()
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class SensorState:
    """What is known about one source of the node.

    Attributes:
        source: its name.
        kind: `host`, `file`, `stream` or `mqtt`.
        unit: unit of its values; "" when none is declared.
        state: `good`, `out-of-range`, `stale` or `unavailable`.
        value: decimal text of the newest value that a 64-bit float reads back; "" before the first.
        taken_ns: when it was taken, nanoseconds since the Unix epoch.
        fault: what keeps it from giving values, in words; "" when nothing does.
    """

    source: str
    kind: str
    unit: str
    state: str
    value: str = ""
    taken_ns: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class AgentPublished:
    """An agent sent a message to the bus."""

    agent: str
    message: BusMessage


@dataclass(frozen=True, slots=True)
class AgentRequested:
    """An agent sent a message to the bus and waits for answers to it.

    Attributes:
        request: the agent's number for it, for `Runtime.answer`.
        replies: how many answers it takes.
        timeout_ms: how long it waits.
    """

    agent: str
    request: int
    replies: int
    timeout_ms: int
    message: BusMessage


@dataclass(frozen=True, slots=True)
class AgentReplied:
    """An agent answers a message that it was given; `reply_to` of the answer is that of the message."""

    agent: str
    message: BusMessage


@dataclass(frozen=True, slots=True)
class AgentAskedSensors:
    """An agent waits for what is known about a source of the node, "" for all; `request` is for `Runtime.answer`."""

    agent: str
    request: int
    source: str


Said = AgentPublished | AgentRequested | AgentReplied | AgentAskedSensors
"""What agents have to say to their node."""

RuntimeEvent = (
    AgentExited
    | AgentHealthChanged
    | AgentReplaced
    | AgentConfirmed
    | AgentRestored
    | AgentCrashed
    | RunnerLost
    | CacheEntryRefused
    | AgentLogged
    | Said
)

Answer = BusMessage | tuple[SensorState, ...]
"""What an agent waits for inside a call: one answer to its request, or what is known about sources."""


class Runtime(Protocol):
    """Runs agents. Every method may be called from one event loop only; all faults are `FleetError`."""

    async def prepare(self, component: Path, digest: str, fusion: Fusion | None = None) -> None:
        """Compile a component, or what it is fused into, so that `start` is quick. Idempotent.

        Raises:
            FleetError: BLOB_MISSING, DIGEST_MISMATCH, COMPONENT_INVALID, COMPONENT_UNSUPPORTED, LIMIT_EXCEEDED;
                LINK_INVALID when the parts of a fusion do not fit.
        """
        ...

    async def start(self, agent: AgentStart) -> None:
        """Start an agent; returns when its instance exists and can be called.

        Raises:
            FleetError: whatever `prepare` raises; ALREADY_EXISTS when it runs already; IMPORT_NOT_GRANTED and
                COMPONENT_UNSUPPORTED when it cannot be linked; LINK_INVALID when it and an agent that it is linked to,
                or that is linked to it, have different types; AGENT_TRAPPED when its start function traps;
                RUNNER_LOST when its runner ends meanwhile.
        """
        ...

    async def call(self, agent: str, invocation: str, deadline_ms: int | None = None) -> CallResult:
        """Call an exported function.

        Args:
            agent: `application/agent`.
            invocation: WAVE text `function(argument, ...)`. The function is `interface#function` or the bare name
                where that is unique among the exports.
            deadline_ms: wall-clock limit of the call; the smaller of this and the grant's limit holds.

        Returns when the call has. Where the agent's full queue makes its sources wait, that comes on top: it ends with
        AGENT_BUSY after `deadline_ms`, and without `deadline_ms` when there is room.

        Raises:
            FleetError: AGENT_NOT_RUNNING, AGENT_BUSY, EXPORT_NOT_FOUND, WAVE_INVALID; AGENT_TRAPPED (detail `cause`
                is an `ExitCause`) when the call ended the agent, which `next_event` then tells too; RUNNER_LOST.
        """
        ...

    async def replace(self, agent: AgentStart, probation: Probation) -> None:
        """Let a new instance take over from the one that runs; returns when it takes the calls.

        `AgentReplaced` tells so too, in its place among the other events: a new instance may have ended when this
        returns.
        Calls that wait go over to it, and it begins when the call that runs has ended: none is lost, none runs twice,
        no two run at once. The older instance stays in reserve until the new one is past its probation
        (`AgentConfirmed`). If the new one ends before, the older one takes the calls again, those that wait included
        (`AgentRestored`). When this raises, the agent goes on as it was.

        Raises:
            FleetError: whatever `start` raises but ALREADY_EXISTS; AGENT_NOT_RUNNING when there is nothing to replace.
        """
        ...

    async def deliver(self, agent: str, message: BusMessage) -> CallResult:
        """Call the handler of messages that an agent exports; waits its turn in the agent's queue as a call does.

        Returns:
            The handler's result as WAVE text: `ok`, or the error that it returned.

        Raises:
            FleetError: as `call`; EXPORT_NOT_FOUND when the agent has no handler.
        """
        ...

    def answer(self, agent: str, request: int, answer: Answer) -> None:
        """Hand an agent what it waits for inside a call. One that does not wait any more never hears of it."""
        ...

    async def stop(self, agent: str, grace_ms: int) -> None:
        """Let the call that runs finish within `grace_ms`, then end the agent with all its instances. No event follows.

        Returns when the agent is gone; nothing happens when it does not run.
        """
        ...

    def stats(self, agent: str) -> AgentStats:
        """Counters of an agent by its runner's last report."""
        ...

    async def next_event(self) -> RuntimeEvent:
        """Next thing that happened, oldest first; waits for it."""
        ...

    async def close(self) -> None:
        """End every agent and every process that belongs to this runtime. Idempotent."""
        ...

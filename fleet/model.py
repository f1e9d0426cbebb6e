"""The nouns that coordinator and supervisor exchange, as frozen dataclasses.

Owns: what an application asks for (`Application`, from fleet.yaml), what one node is ordered to run
(`Assignment`, `DesiredState`) and what it runs (`ObservedState`, `Event`, `LogLine`). Parsing of documents is in
`fleet.manifest` and `fleet.assignment`; protobuf is in `fleet.wire`. Times are `datetime` in UTC; names carry units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.health import HealthPolicy, Vitals
from fleet.names import is_agent_name as is_agent_name  # noqa: PLC0414
from fleet.names import is_name as is_name  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_EMPTY: Mapping[str, str] = MappingProxyType({})


class Phase(StrEnum):
    """Where an agent stands on its node; `edge_agent.lifecycle` owns the transitions."""

    PENDING = "pending"
    ADMITTING = "admitting"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    FAILED = "failed"


class ExitCause(StrEnum):
    """Why an agent ended; each has a test with a guest that does it."""

    QUOTA = "quota"
    DEADLINE = "deadline"
    FUEL = "fuel"
    STACK_OVERFLOW = "stack-overflow"
    UNREACHABLE = "unreachable"
    OUT_OF_BOUNDS = "out-of-bounds"
    DIVIDE = "divide"
    TRAP = "trap"
    HOST_ERROR = "host-error"
    GUEST_EXIT = "guest-exit"
    ENGINE_CRASH = "engine-crash"
    KILLED = "killed"
    ADMISSION_REFUSED = "admission-refused"
    UNHEALTHY = "unhealthy"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Exit:
    """How an agent ended."""

    cause: ExitCause
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TimerTrigger:
    """Call `function` every `every_ms` with the WAVE text `arguments` (without parentheses)."""

    every_ms: int
    function: str
    arguments: str


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """Call `function` with the payload of each local event on `topic`; the payload is WAVE text."""

    topic: str
    function: str


@dataclass(frozen=True, slots=True)
class TelemetryTrigger:
    """Call `function` every `every_ms` with one reading per source of the host: cpu, memory, temperature.

    The reading is the WAVE record `{source: string, value: f32, timestamp: u64}`: per cent or degrees Celsius, and
    seconds since the Unix epoch. A source that the host does not have is left out.
    """

    every_ms: int
    function: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MessageTrigger:
    """Hand each message on `topic` to the agent's `wasi:messaging/incoming-handler`.

    A topic that ends in `/*` stands for all topics below it. The grant decides which of the messages arrive.
    """

    topic: str


@dataclass(frozen=True, slots=True)
class SensorTrigger:
    """Call `function` with readings of a source that the node's operator declared.

    A function of `fleet:sensors/handler` takes the reading of that package. Any other takes the record that a
    telemetry trigger gives.

    Attributes:
        every_ms: call with the newest reading so often; None: with each new reading.
    """

    source: str
    function: str
    every_ms: int | None = None


Trigger = TimerTrigger | EventTrigger | TelemetryTrigger | MessageTrigger | SensorTrigger


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential back-off of an agent that ended by itself. The delay is capped, the number of restarts never is.

    Attributes:
        initial_ms: delay before the first restart.
        cap_ms: largest delay.
        stable_ms: an agent that ran this long starts again at `initial_ms`.
    """

    initial_ms: int = 500
    cap_ms: int = 60_000
    stable_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class SwapPolicy:
    """What a newer version must do without ending, after it took over from a running one, before there is no way back.

    Either bound ends the probation.

    Attributes:
        calls: calls that it must have answered.
        within_ms: milliseconds that it must have run; None: the stable period of the agent's restart policy.
    """

    calls: int = 3
    within_ms: int | None = None


class QueuePolicy(StrEnum):
    """What happens to one more call for an agent whose queue is full.

    `REJECT` refuses it. `DROP_OLDEST` takes it and refuses the one that has waited longest. `BLOCK` lets its source
    wait for room.
    """

    REJECT = "reject"
    DROP_OLDEST = "drop-oldest"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class TargetRef:
    """A document in the release repository: its TUF target path and its digest."""

    path: str
    digest: str


class Isolation(StrEnum):
    """What stands between the two agents of a link."""

    STORE = "store"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Link:
    """An import of one agent that an export of another agent of the application answers.

    Attributes:
        interface: the import as the component names it; the version may be left out where one is imported.
        agent: who answers: its name in fleet.yaml, `application/agent` in an assignment.
        isolation: `STORE`: each runs by itself, and one that ends leaves the other running. `NONE`: the answering agent
            is fused into the calling one, and they live and end as one.
    """

    interface: str
    agent: str
    isolation: Isolation = Isolation.STORE


@dataclass(frozen=True, slots=True)
class FusedAgent:
    """An agent that is a part of another one: its component and the grant that bounds what that component imports."""

    name: str
    bundle: TargetRef
    grant: TargetRef
    links: tuple[Link, ...] = ()
    narrow: str = ""


@dataclass(frozen=True, slots=True)
class AssignedAgent:
    """One agent of an assignment: exactly what to run and under which grant.

    Attributes:
        swap: how this takes over from an older version that runs; None: the older one is stopped first.
        links: what answers its imports beside the node.
        fused: every agent that its links without isolation reach; they are parts of it on this node.
        narrow: what is taken away from its grant, as `fleet.grants.narrowing` writes it; empty for nothing.
    """

    name: str
    bundle: TargetRef
    grant: TargetRef
    config: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    triggers: tuple[Trigger, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    on_full_queue: QueuePolicy = QueuePolicy.REJECT
    health: HealthPolicy = field(default_factory=HealthPolicy)
    swap: SwapPolicy | None = SwapPolicy()
    links: tuple[Link, ...] = ()
    fused: tuple[FusedAgent, ...] = ()
    narrow: str = ""

    @property
    def parts(self) -> tuple[AssignedAgent | FusedAgent, ...]:
        """The agent and what is fused into it: each has a bundle and a grant of its own."""
        return (self, *self.fused)

    @property
    def application(self) -> str:
        """Application part of the name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Assignment:
    """The coordinator's signed order for one node; it replaces every earlier one."""

    fleet: str
    node: str
    epoch: int
    generation: int
    issued: datetime
    expires: datetime
    agents: tuple[AssignedAgent, ...]


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What a node shall run, as bytes that verify by themselves.

    Attributes:
        envelope: DSSE envelope (JSON) whose payload is the assignment.
        proof: C2SP tlog-proof that the envelope is a leaf of the audit log.
        base: size of the tree, of those that the node has seen, which `consistency` is about.
        consistency: consistency proof between that tree and the one of the proof, whichever is larger.
    """

    envelope: bytes
    proof: bytes
    base: int = 0
    consistency: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node did not start an agent."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ObservedAgent:
    """What one agent does on one node."""

    name: str
    phase: Phase
    bundle_digest: str = ""
    grant_digest: str = ""
    restarts: int = 0
    last_exit: Exit | None = None
    next_attempt_at: datetime | None = None
    running_since: datetime | None = None
    calls: int = 0
    errors: int = 0
    memory_bytes: int = 0
    last_output: str = ""
    refusal: Refusal | None = None
    vitals: Vitals = field(default_factory=Vitals)


@dataclass(frozen=True, slots=True)
class ObservedState:
    """What a node runs; complete, never a difference. `trust_digest` is of the `trust/fleet.json` that it has adopted.

    `generation` and `digest` name the desired state that the node has accepted (0 and "" before the first).
    """

    generation: int
    digest: str
    at: datetime
    agents: tuple[ObservedAgent, ...] = ()
    trust_digest: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, named `source:subject:action`."""

    at: datetime
    node: str
    agent: str
    kind: str
    message: str
    detail: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that an agent logged."""

    at: datetime
    node: str
    agent: str
    level: str
    context: str
    message: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Which nodes an agent runs on: every joined node whose labels contain `labels`, or the first `count` by name."""

    labels: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    count: int | None = None


@dataclass(frozen=True, slots=True)
class ApplicationAgent:
    """One agent as fleet.yaml asks for it.

    Attributes:
        bundle: `name@version` in the release repository.
        grant_revision: revision of the grant, of an emergency grant if `break_glass`; None: the newest approved one.
        swap: how a newer version takes over from one that runs; None: that one is stopped first.
    """

    name: str
    bundle: str
    placement: Placement
    grant_revision: int | None = None
    break_glass: bool = False
    config: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    triggers: tuple[Trigger, ...] = ()
    restart: RestartPolicy = RestartPolicy()
    on_full_queue: QueuePolicy = QueuePolicy.REJECT
    health: HealthPolicy = field(default_factory=HealthPolicy)
    swap: SwapPolicy | None = SwapPolicy()
    links: tuple[Link, ...] = ()
    narrow: str = ""


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """How a deployment spreads over the fleet.

    Attributes:
        waves: cumulative sizes, each a number of nodes (int) or a share (float in (0, 1]); the last takes the rest.
        healthy_for_ms: how long every agent of a wave must run before the next wave begins.
        deadline_ms: how long a wave may take to become healthy before it counts as failed.
        max_failures: failed nodes that are tolerated in one wave.
    """

    waves: tuple[int | float, ...] = (1, 1.0)
    healthy_for_ms: int = 3_000
    deadline_ms: int = 60_000
    max_failures: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """A parsed fleet.yaml."""

    name: str
    agents: tuple[ApplicationAgent, ...]
    rollout: RolloutPolicy = RolloutPolicy()

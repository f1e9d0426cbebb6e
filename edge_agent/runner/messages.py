"""Messages between the supervisor and, in this order, zygote, compile workers and runners.

Owns: one frozen dataclass per message; the values inside them are in `message_values`. How they are written is in
`edge_agent.runner.protocol`. `FDS` is the number of file descriptors that travel with a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias, get_args

# Whoever reads or writes messages has the first two from here.
from edge_agent.runner.message_values import Counters as Counters  # noqa: PLC0414, TC001
from edge_agent.runner.message_values import Fault as Fault  # noqa: PLC0414, TC001
from fleet.health import HealthPolicy
from fleet.model import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.fusion import Wire
    from edge_agent.runner.message_values import LogEntry, Measures, ModelEntry, PartEntry, Role, SecretEntry
    from edge_agent.runtime import BusMessage, SensorState
    from fleet.model import ExitCause


@dataclass(frozen=True, slots=True)
class _Message:
    FDS: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class Hello(_Message):
    """First message of a zygote: it takes requests."""

    pid: int


@dataclass(frozen=True, slots=True)
class Fork(_Message):
    """Fork a child; the descriptor is its control socket. `child` is the supervisor's number for it."""

    FDS: ClassVar[int] = 1
    child: int
    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class Forked(_Message):
    """The child runs."""

    child: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed(_Message):
    """The system has no room for another process."""

    child: int
    message: str


@dataclass(frozen=True, slots=True)
class Kill(_Message):
    """End a child with SIGKILL; one that has ended already is ignored."""

    child: int


@dataclass(frozen=True, slots=True)
class ChildExited(_Message):
    """A child ended: exit status `status`, or killed by signal number `signal` (0 when it was not)."""

    child: int
    status: int
    signal: int


@dataclass(frozen=True, slots=True)
class Describe(_Message):
    """Ask what the engine compiles to."""


@dataclass(frozen=True, slots=True)
class EngineDescribed(_Message):
    """Version, configuration and processor of the engine as one hash, without and with counting of fuel."""

    plain: str
    fuel: str


@dataclass(frozen=True, slots=True)
class Compile(_Message):
    """Compile the component in the descriptor, if its digest is this one; `fuel` is 1 for an engine that counts it."""

    FDS: ClassVar[int] = 1
    digest: str
    fuel: int


@dataclass(frozen=True, slots=True)
class Fuse(_Message):
    """Fuse and compile the components that the descriptor holds one after the other; the first is the whole's own."""

    FDS: ClassVar[int] = 1
    parts: tuple[PartEntry, ...]
    wires: tuple[Wire, ...]
    fuel: int


@dataclass(frozen=True, slots=True)
class Compiled(_Message):
    """The descriptor is a sealed memory file with the machine code."""

    FDS: ClassVar[int] = 1
    size: int


@dataclass(frozen=True, slots=True)
class CompileFailed(_Message):
    """The component does not compile."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class StartAgent(_Message):
    """Start an agent; the descriptor is the sealed memory file with the machine code of `component` (a digest).

    `volumes` are folders that the node's operator declared, by name.
    `links` says which agent of the same runner answers an import; `http_authorities` is a file, or empty;
    `inference` is what the operator decided about models, empty for the default.
    """

    FDS: ClassVar[int] = 1
    agent: str
    component: str
    authority: str
    deny_stubs: tuple[str, ...]
    config: Mapping[str, str]
    models: tuple[ModelEntry, ...]
    state_dir: str
    on_full_queue: QueuePolicy = QueuePolicy.REJECT
    health: HealthPolicy = field(default_factory=HealthPolicy)
    links: Mapping[str, str] = field(default_factory=dict)
    http_authorities: str = ""
    volumes: Mapping[str, str] = field(default_factory=dict)
    writable_volumes: tuple[str, ...] = ()
    inference: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplaceAgent(_Message):
    """Let a new instance take over from the one that runs, which comes back if the new one ends on probation.

    The probation is over after `probation_jobs` jobs (0: there is none) or `probation_ms`. The descriptor is as in
    `StartAgent`.
    """

    FDS: ClassVar[int] = 1
    start: StartAgent
    probation_jobs: int
    probation_ms: int


@dataclass(frozen=True, slots=True)
class AgentStarted(_Message):
    """The instance exists and can be called."""

    agent: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class StartFailed(_Message):
    """The agent does not run; the rest as in `AgentEnded`, where it ended while it started."""

    agent: str
    fault: Fault
    backtrace: str = ""
    recording: str = ""


@dataclass(frozen=True, slots=True)
class AgentReplaced(_Message):
    """The new instance takes the jobs from now on; `AgentConfirmed` or `AgentRestored` follows."""

    agent: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class ReplaceFailed(_Message):
    """There is no new instance; the old one goes on as if nothing had been asked."""

    agent: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class AgentConfirmed(_Message):
    """The probation of the new instance is over; the old one is gone, or on its way out."""

    agent: str


@dataclass(frozen=True, slots=True)
class CallAgent(_Message):
    """Call an exported function; `call` is the supervisor's number for it."""

    call: int
    agent: str
    invocation: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class CallDone(_Message):
    """The call returned `output` (WAVE text, empty for no result)."""

    call: int
    agent: str
    output: str
    duration_us: int
    counters: Counters


@dataclass(frozen=True, slots=True)
class CallFailed(_Message):
    """The call did not return."""

    call: int
    agent: str
    fault: Fault
    counters: Counters


@dataclass(frozen=True, slots=True)
class StopAgent(_Message):
    """End an agent after the call that runs, or after `grace_ms`."""

    agent: str
    grace_ms: int


@dataclass(frozen=True, slots=True)
class AgentStopped(_Message):
    """Answer to `StopAgent`: the agent is gone, or never was."""

    agent: str


@dataclass(frozen=True, slots=True)
class AgentEnded(_Message):
    """The agent ended by itself; `backtrace` is the engine's, `recording` is written as `fleet.crash` says."""

    agent: str
    cause: ExitCause
    message: str
    backtrace: str
    recording: str = ""


@dataclass(frozen=True, slots=True)
class AgentRestored(_Message):
    """The new instance ended on probation, as `ended` says, and the old one takes the jobs again."""

    agent: str
    ended: AgentEnded
    counters: Counters


@dataclass(frozen=True, slots=True)
class AgentMeasured(_Message):
    """How an agent does, once in a while and before its end."""

    agent: str
    counters: Counters
    measures: Measures


@dataclass(frozen=True, slots=True)
class Logged(_Message):
    """What agents logged, oldest first; `dropped` lines were lost because the supervisor was slow."""

    entries: tuple[LogEntry, ...]
    dropped: int


@dataclass(frozen=True, slots=True)
class Published(_Message):
    """An agent sends a message to the node's bus."""

    agent: str
    message: BusMessage


@dataclass(frozen=True, slots=True)
class Requested(_Message):
    """An agent sends a message to the node's bus and takes up to `replies` answers within `timeout_ms`."""

    agent: str
    request: int
    replies: int
    timeout_ms: int
    message: BusMessage


@dataclass(frozen=True, slots=True)
class Replied(_Message):
    """An agent answers the message whose `reply_to` the answer carries."""

    agent: str
    message: BusMessage


@dataclass(frozen=True, slots=True)
class AskSensors(_Message):
    """An agent waits for what is known about a source of the node, "" for all of them."""

    agent: str
    request: int
    source: str


@dataclass(frozen=True, slots=True)
class DeliverMessage(_Message):
    """Call the agent's handler of messages; answered by `CallDone` or `CallFailed`, as a call is."""

    call: int
    agent: str
    deadline_ms: int
    message: BusMessage


@dataclass(frozen=True, slots=True)
class ReplyArrived(_Message):
    """One answer to `Requested`."""

    agent: str
    request: int
    message: BusMessage


@dataclass(frozen=True, slots=True)
class SensorsAnswered(_Message):
    """The answer to `AskSensors`."""

    agent: str
    request: int
    states: tuple[SensorState, ...]


Message: TypeAlias = (
    Hello
    | Fork
    | Forked
    | ForkFailed
    | Kill
    | ChildExited
    | Describe
    | EngineDescribed
    | Compile
    | Fuse
    | Compiled
    | CompileFailed
    | StartAgent
    | ReplaceAgent
    | AgentStarted
    | StartFailed
    | AgentReplaced
    | ReplaceFailed
    | AgentConfirmed
    | AgentRestored
    | CallAgent
    | CallDone
    | CallFailed
    | StopAgent
    | AgentStopped
    | AgentEnded
    | AgentMeasured
    | Logged
    | Published
    | Requested
    | Replied
    | AskSensors
    | DeliverMessage
    | ReplyArrived
    | SensorsAnswered
)

KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}
"""Message classes by name."""

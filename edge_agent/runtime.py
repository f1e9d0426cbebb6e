"""What the supervisor needs from whatever runs its agents: one protocol and the values it exchanges.

Owns: the `Runtime` protocol and its frozen dataclasses. Pure: no process, no engine, no clock. The real one is
`edge_agent.runner.host`; the scripted one for tests is `tests/fakes/runtime.py`; `tests/edge_agent/runner/
test_runtime_contract.py` holds both to the words below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from fleet.model import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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


_NO_MODELS: Mapping[str, ModelFile] = MappingProxyType({})


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

    @property
    def application(self) -> str:
        """Application part of the name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class CallResult:
    """A finished call: its result as WAVE text ("" for a function without a result) and its duration."""

    output: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class AgentStats:
    """Counters of one agent since its first start, restarts included; all zero before it and after `stop`.

    Attributes:
        calls: calls that began, the failed ones included.
        errors: calls that trapped or passed their deadline.
        memory_bytes: linear memory that the agent holds, by its last report; 0 while it does not run.
        dropped: calls that were refused because the queue was full, or gave way to newer ones there.
    """

    calls: int = 0
    errors: int = 0
    memory_bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class AgentExited:
    """An agent ended by itself: its instance is gone, its runner and the runner's other agents go on."""

    agent: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class RunnerLost:
    """A runner process ended and all of its agents with it; each of them may be started again at once."""

    application: str
    agents: tuple[str, ...]
    exit: Exit


@dataclass(frozen=True, slots=True)
class AgentLogged:
    """An agent wrote one line to its log."""

    line: LogLine


RuntimeEvent = AgentExited | RunnerLost | AgentLogged


class Runtime(Protocol):
    """Runs agents. Every method may be called from one event loop only; all faults are `FleetError`."""

    async def prepare(self, component: Path, digest: str) -> None:
        """Compile a component, or find it compiled already, so that `start` is quick. Idempotent.

        Raises:
            FleetError: BLOB_MISSING, DIGEST_MISMATCH, COMPONENT_INVALID, COMPONENT_UNSUPPORTED, LIMIT_EXCEEDED.
        """
        ...

    async def start(self, agent: AgentStart) -> None:
        """Start an agent; returns when its instance exists and can be called.

        Raises:
            FleetError: whatever `prepare` raises; ALREADY_EXISTS when it runs already; IMPORT_NOT_GRANTED and
                COMPONENT_UNSUPPORTED when it cannot be linked; AGENT_TRAPPED when its start function traps;
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

        Raises:
            FleetError: AGENT_NOT_RUNNING, AGENT_BUSY, EXPORT_NOT_FOUND, WAVE_INVALID; AGENT_TRAPPED (detail `cause`
                is an `ExitCause`) when the call ended the agent, which `next_event` then tells too; RUNNER_LOST.
        """
        ...

    async def stop(self, agent: str, grace_ms: int) -> None:
        """Let the call that runs finish within `grace_ms`, then end the agent. No event follows.

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

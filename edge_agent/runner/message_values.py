"""Values inside the messages between supervisor, zygote, runners and compile workers.

Owns: one frozen dataclass each. The messages themselves are in `edge_agent.runner.messages`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from edge_agent.health import Health
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.sealing import SecretKind


class Role(StrEnum):
    """What a forked child becomes."""

    RUNNER = "runner"
    COMPILER = "compiler"


@dataclass(frozen=True, slots=True)
class Fault:
    """A `FleetError` on its way to another process of the same node."""

    code: Code
    message: str
    detail: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: FleetError) -> Fault:
        """Describe an error."""
        return cls(error.code, error.private, {key: str(value) for key, value in error.detail.items()})

    def error(self) -> FleetError:
        """Return the error again."""
        return FleetError(self.code, self.message, **self.detail)


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals of one agent since its start; `dropped` jobs were refused because its queue was full."""

    calls: int = 0
    errors: int = 0
    memory_bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class HostCalls:
    """How often an agent has called functions of one interface."""

    interface: str
    calls: int


@dataclass(frozen=True, slots=True)
class Measures:
    """How an agent does; what does not say otherwise counts from its start in this runner.

    Attributes:
        p50_us: microseconds that half of its recent calls took at most (`edge_agent.runner.latencies` says how recent).
        p99_us: the same for 99 of 100.
        peak_bytes: most linear memory that was seen.
        queue: calls that wait.
        queue_limit: how many may.
        returned: calls of the instance that takes them now, which returned.
        health: what that instance says about itself.
        health_message: its words, where it is not well.
        host_calls: by interface, each once.
    """

    p50_us: int = 0
    p99_us: int = 0
    peak_bytes: int = 0
    queue: int = 0
    queue_limit: int = 0
    returned: int = 0
    health: Health = Health.UNSERVED
    health_message: str = ""
    host_calls: tuple[HostCalls, ...] = ()


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line that an agent logged; `at_ms` is milliseconds since the Unix epoch."""

    agent: str
    at_ms: int
    level: str
    context: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model that an agent may load by name: its file, and the digest that its bytes must have."""

    name: str
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """One secret in clear on its way into the runner of its agent; never printed."""

    name: str
    kind: SecretKind
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One component of several in a file: the agent it belongs to, the digest its bytes must have, and their number."""

    agent: str
    digest: str
    size: int

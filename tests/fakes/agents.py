"""What capability tests share: contexts of agents with real authority, and a clock that tests own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.capabilities.base import AgentContext, HostInterface, LogRecord
from edge_agent.runtime import ModelFile
from fleet.documents import dump_json
from fleet.grants import Authority
from fleet.wit_types import WitValue

Capabilities = Mapping[str, list[dict[str, object]]]


@dataclass
class ManualClock:
    """Time that stands still until a test moves it."""

    wall_ns: int = 1_800_000_000_000_000_000
    steady_ns: int = 5_000_000_000

    def time_ns(self) -> int:
        return self.wall_ns

    def monotonic_ns(self) -> int:
        return self.steady_ns

    def wait(self, nanoseconds: int) -> None:
        """Waiting takes no time of a test."""
        self.wall_ns += nanoseconds
        self.steady_ns += nanoseconds

    def advance(self, seconds: float) -> None:
        self.wall_ns += int(seconds * 1e9)
        self.steady_ns += int(seconds * 1e9)


def authority(capabilities: Capabilities, **limits: str | int) -> Authority:
    """Authority as a runner gets it: decoded from its encoding."""
    document = {"schema": "fleet.authority/v1", "capabilities": dict(capabilities), "limits": limits}
    return Authority.decode(dump_json(document))


@dataclass
class Node:
    """Makes contexts of agents whose application keeps its state in one directory."""

    state_dir: Path
    clock: ManualClock = field(default_factory=ManualClock)
    lines: list[LogRecord] = field(default_factory=list)
    contexts: list[AgentContext] = field(default_factory=list)
    entropy: random.Random = field(default_factory=lambda: random.Random(7))

    def agent(
        self,
        capabilities: Capabilities,
        *,
        name: str = "app/agent",
        config: Mapping[str, str] | None = None,
        models: Mapping[str, ModelFile] | None = None,
        **limits: str | int,
    ) -> AgentContext:
        context = AgentContext(
            agent=name,
            application=name.partition("/")[0],
            authority=authority(capabilities, **limits),
            config=config or {},
            state_dir=self.state_dir,
            models=models or {},
            log=self.lines.append,
            clock=self.clock,
            wait=self.clock.wait,
            entropy=self.entropy.randbytes,
        )
        self.contexts.append(context)
        return context

    def close(self) -> None:
        for context in self.contexts:
            context.close()


def functions(interfaces: tuple[HostInterface, ...], name: str) -> dict[str, Callable[..., WitValue]]:
    """Functions of one interface as plain callables."""
    (interface,) = (interface for interface in interfaces if interface.name == name)
    return {name: function.call for name, function in interface.functions.items()}

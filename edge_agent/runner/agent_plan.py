"""What an agent of a runner is given: its own orders, and what it shares with the others.

Owns: `AgentPlan` and `RunnerServices`. What is done with them is `edge_agent.runner.agent_thread`'s business.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.inference import Inference
from edge_agent.runner.exchange import Watchers
from fleet.health import HealthPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edge_agent.held_secret import HeldSecret
    from edge_agent.runner.agent_links import Links
    from edge_agent.runner.memory_meter import MemoryMeter
    from edge_agent.runner.outbox import Outbox
    from edge_agent.runner.ticker import Ticker
    from edge_agent.runtime import ModelFile, VolumeFolder
    from fleet.grants import Authority
    from fleet.model import QueuePolicy


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """What one agent runs with."""

    name: str
    authority: Authority
    deny_stubs: tuple[str, ...]
    config: dict[str, str]
    models: dict[str, ModelFile]
    state_dir: Path
    on_full_queue: QueuePolicy
    health: HealthPolicy = field(default_factory=HealthPolicy)
    links: dict[str, str] = field(default_factory=dict)
    http_authorities: Path | None = None
    volumes: dict[str, VolumeFolder] = field(default_factory=dict)
    inference: Inference = field(default_factory=Inference)
    secrets: dict[str, HeldSecret] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunnerServices:
    """What the agents of one runner share."""

    outbox: Outbox
    ticker: Ticker
    memory: MemoryMeter
    links: Links
    watchers: Watchers = field(default_factory=Watchers)
    questions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Numbers of what agents ask: an answer that comes too late never meets the question of another instance."""

"""Who hears what a runner does: what `RunnerClient` needs of whoever made it.

Owns: the protocol `RunnerOwner`. `edge_agent.runner.host` is the real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_agent.runner.message_values import Measures
    from edge_agent.runner.messages import (
        AgentEnded,
        AskSensors,
        Counters,
        Logged,
        Published,
        Replied,
        Requested,
        StartFailed,
    )
    from edge_agent.runner.runner_client import RunnerClient
    from fleet.model import ExitCause


class RunnerOwner(Protocol):
    """Who hears what a runner does."""

    def agent_ended(self, message: AgentEnded | StartFailed) -> None:
        """Hear that an agent ended by itself, before its start was over or later."""
        ...

    def agent_replaced(self, agent: str) -> None:
        """Hear that a new instance has taken over."""
        ...

    def agent_confirmed(self, agent: str) -> None:
        """Hear that the instance that replaced another is past its probation."""
        ...

    def agent_restored(self, message: AgentEnded) -> None:
        """Hear that the instance that replaced another ended, and the other one takes the calls again."""
        ...

    def agent_changed(self, agent: str) -> None:
        """Hear that an agent does better or worse than before; `RunnerClient.numbers` says how."""
        ...

    def agent_gone(self, agent: str, counters: Counters, measures: Measures) -> None:
        """Take the last numbers of an agent that has ended in whatever way; the events follow."""
        ...

    def agents_logged(self, batch: Logged) -> None:
        """Take log lines."""
        ...

    def agent_spoke(self, message: Published | Requested | Replied | AskSensors) -> None:
        """Take what an agent has to say to the node."""
        ...

    def runner_ended(self, runner: RunnerClient, agents: tuple[str, ...], cause: ExitCause, message: str) -> None:
        """Hear that the process is gone, and which agents ran in it."""
        ...

"""How an emergency grant is told of, wherever it is used: nobody breaks the glass unseen.

Owns: the words of events and warnings about emergency grants (`fleet.grants.break_glass`). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.grants.document import format_instant
from fleet.model import Event
from fleet.targets import is_break_glass, revision_of_grant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fleet.grants.document import Grant
    from fleet.model import AssignedAgent

APPROVED = "release:grant:break-glass"
ORDERED = "rollout:grant:break-glass"
"""Kinds of events; a node tells of the use itself as `agent:grant:break-glass`."""


def describe(grant: Grant) -> str:
    """Say which emergency grant it is, until when, and why."""
    return (
        f"BREAK-GLASS: emergency grant r{grant.revision} of {grant.agent} until {format_instant(grant.not_after)}: "
        f"{grant.reason}"
    )


def tell(grant: Grant, kind: str, now: datetime, operator: str) -> Event:
    """Return the event that somebody approved an emergency grant, or ordered an agent to run under it."""
    detail = {"agent": grant.agent, "revision": str(grant.revision), "operator": operator}
    return Event(now, "", grant.agent, kind, f"{describe(grant)}; by {operator}", detail)


def warnings_of(agents: Iterable[AssignedAgent]) -> tuple[str, ...]:
    """Return a warning for each agent, or part of one, that a node is ordered to run under an emergency grant."""
    return tuple(
        f"BREAK-GLASS: {part.name} under emergency grant r{revision_of_grant(part.grant.path)}"
        for agent in agents
        for part in agent.parts
        if is_break_glass(part.grant.path)
    )

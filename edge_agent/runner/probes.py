"""Asking an agent how it does.

Owns: `find_health`, which finds the export of `fleet:agent/health`; `Probes`, which knows when it is time to ask and
what the answers lead to; and `ProbeJob`, one question. Never decides whether the agent is idle: that is
`edge_agent.runner.hosted_agent`. Seconds are those of `time.monotonic`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.health import Health
from edge_agent.runner.engine import Trap
from edge_agent.runner.jobs import Job
from fleet.errors import Code, FleetError
from fleet.health import HEALTH_INTERFACE, HEALTH_VERSION
from fleet.model import ExitCause
from fleet.wit import compatible, parse_interface
from fleet.wit_text import parse_signature
from fleet.wit_types import Err

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.runner.engine import Instance
    from edge_agent.runner.messages import Fault
    from fleet.health import HealthPolicy
    from fleet.wit_types import FuncType

FUNCTION = "health"

MAX_MESSAGE = 512
"""Characters that are kept of a guest's error."""

_SIGNATURE = parse_signature("func() -> result<_, string>")


def find_health(exports: Mapping[str, FuncType]) -> str | None:
    """Return the full name of the function that tells how an agent does; None where it exports none that is known.

    Raises:
        FleetError: COMPONENT_UNSUPPORTED when it has another type.
    """
    known = parse_interface(f"{HEALTH_INTERFACE}@{HEALTH_VERSION}")
    for name, signature in exports.items():
        interface, _, function = name.rpartition("#")
        if function != FUNCTION or interface.partition("@")[0] != HEALTH_INTERFACE:
            continue
        if not compatible(parse_interface(interface), known):
            continue
        if signature != _SIGNATURE:
            raise FleetError(Code.COMPONENT_UNSUPPORTED, f"is {signature}, not {_SIGNATURE}", place=name)
        return name
    return None


class Probes:
    """The questions to one instance: the first at once, each next one some time after the answer.

    Args:
        function: what `find_health` found.
        policy: how often, how long, how many errors.
        now: when the instance begins.
    """

    def __init__(self, function: str, policy: HealthPolicy, now: float) -> None:
        self.function = function
        self.policy = policy
        self.health = Health.UNASKED
        self.message = ""
        """What the guest said with its last answer, where that was an error."""
        self._due = now
        self._failures = 0

    def wait_s(self, now: float) -> float:
        """Seconds until it is time to ask; 0 when it is."""
        return max(0.0, self._due - now)

    def answered(self, error: str | None, now: float) -> bool:
        """Take an answer, None for a good one; return whether it was one error too many."""
        self._due = now + self.policy.every_ms / 1000
        if error is None:
            self.health, self.message, self._failures = Health.OK, "", 0
            return False
        self.health, self.message = Health.FAILING, error[:MAX_MESSAGE]
        self._failures += 1
        return self._failures >= self.policy.failures


@dataclass(frozen=True, slots=True)
class ProbeJob(Job):
    """One question; never waits in a queue (see `edge_agent.runner.jobs.Job`)."""

    probes: Probes

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says."""
        return self.probes.policy.deadline_ms

    def run(self, instance: Instance, seconds: float) -> None:
        """Ask, and end an agent that is not well: the engine lets nothing continue whose deadline has passed.

        Raises:
            Trap: cause `unhealthy`, or that of a guest which trapped by itself.
        """
        probes = self.probes
        try:
            answer = instance.call(probes.function, seconds=seconds)
        except Trap as trap:
            if trap.cause is not ExitCause.DEADLINE:
                raise
            message = f"{FUNCTION} did not answer within {seconds:g} s"
            raise Trap(ExitCause.UNHEALTHY, message, trap.backtrace) from trap
        error = str(answer.value) if isinstance(answer, Err) else None
        if probes.answered(error, time.monotonic()):
            times = f"{probes.policy.failures} times in a row" if probes.policy.failures > 1 else "once"
            raise Trap(ExitCause.UNHEALTHY, f'{FUNCTION} answered with an error {times}: "{probes.message}"')

    def refuse(self, fault: Fault) -> None:
        """As `Job` says: nobody waits for the answer."""

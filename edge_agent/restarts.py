"""When an agent that ended by itself starts again.

Pure: the caller passes how long the agent ran and a random number. The delay doubles per failure up to a cap, the
number of restarts has none; an agent that ran for the stable period begins again at the initial delay. Full jitter
(a uniform share of the whole delay) keeps the agents of a node, and the nodes of a fleet, from restarting in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.model import RestartPolicy


@dataclass(frozen=True, slots=True)
class Restart:
    """What to do after an exit.

    Attributes:
        failures: consecutive failures, this one included; feed it back at the next exit.
        delay_ms: how long to wait before the next attempt.
    """

    failures: int
    delay_ms: int


def ceiling_ms(policy: RestartPolicy, failures: int) -> int:
    """Largest delay after `failures` consecutive failures (1 or more), in milliseconds."""
    doublings = failures - 1
    # Past this many doublings every initial delay of a millisecond or more is above every cap that fits 63 bits.
    if doublings >= policy.cap_ms.bit_length():
        return policy.cap_ms
    return int(min(policy.cap_ms, policy.initial_ms << doublings))


def after_exit(policy: RestartPolicy, failures: int, ran_ms: float, jitter: float) -> Restart:
    """Decide when to start again.

    Args:
        policy: the agent's policy.
        failures: consecutive failures before this one.
        ran_ms: how long the agent ran before it ended; 0 when it never started.
        jitter: random number in [0, 1).
    """
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter {jitter} is not in [0, 1)")
    counted = 1 if ran_ms >= policy.stable_ms else failures + 1
    return Restart(counted, int(ceiling_ms(policy, counted) * jitter))

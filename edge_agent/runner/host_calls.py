"""The rate at which an agent may call the host.

Owns: `limit_rate`. Calls beyond the rate are not refused: most functions of the host have no room for such an answer.
They wait, and the wait ends with the call's deadline as every other wait of the host does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from edge_agent.capabilities.lazy import changed
from edge_agent.runner.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edge_agent.capabilities.base import AgentContext, HostInterface
    from fleet.wit_types import WitValue

T = TypeVar("T")


def limit_rate(interfaces: Iterable[HostInterface], context: AgentContext) -> Iterable[HostInterface]:
    """Return the interfaces with every function under the agent's limit `host_calls_per_second`, all in one sum.

    Lazy interfaces stay lazy. Destructors are not counted: a guest has no more of them than calls that gave it one.
    """
    rate = context.authority.limits.host_calls_per_second
    if rate is None:
        return interfaces
    bucket = TokenBucket(rate, context.clock.monotonic_ns() / 1e9)

    def limited(call: Callable[..., T]) -> Callable[..., T]:
        @wraps(call)
        def wait_and_call(*arguments: WitValue) -> T:
            now = context.clock.monotonic_ns()
            turn = now + int(bucket.take(now / 1e9) * 1e9)
            while now < turn:  # a wait ends early when something that the guest may be waiting for has changed
                context.wait(turn - now)
                now = context.clock.monotonic_ns()
            return call(*arguments)

        return wait_and_call

    def change(interface: HostInterface) -> HostInterface:
        functions = {
            name: replace(
                function, call=limited(function.call), later=None if function.later is None else limited(function.later)
            )
            for name, function in interface.functions.items()
        }
        return replace(interface, functions=functions)

    return changed(interfaces, change)

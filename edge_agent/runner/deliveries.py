"""What hands an agent what happened elsewhere: a message of the bus, a change to a bucket.

Owns: `deliver` and `ChangeJob`. Delivery is at most once: what an agent's queue has no room for is refused and
counted there. Never decides who is told: that is `edge_agent.bus`, and `Watchers` for buckets.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.messaging import message_for
from edge_agent.capabilities.messaging_wit import HANDLER, VERSION
from edge_agent.runner.engine import Trap
from edge_agent.runner.exchange import WATCHER
from edge_agent.runner.jobs import Job
from fleet.errors import Code, FleetError
from fleet.wave_print import print_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.runner.engine import Instance
    from edge_agent.runner.exchange import Change
    from edge_agent.runner.messages import Fault
    from edge_agent.runtime import BusMessage

HANDLE = f"{HANDLER}@{VERSION}#handle"

_log = logging.getLogger(__name__)


def deliver(instance: Instance, context: AgentContext, message: BusMessage, seconds: float) -> str:
    """Call the agent's handler of messages; returns the text of its result.

    Args:
        instance: the agent.
        context: of the agent, which keeps the message for the guest.
        message: what came over the bus.
        seconds: time that the guest has.

    Raises:
        FleetError: EXPORT_NOT_FOUND.
        Trap: the guest ended.
    """
    kind = instance.exports.get(HANDLE)
    if kind is None or kind.result is None:
        raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no {HANDLE}", function=HANDLE)
    result = instance.call(HANDLE, message_for(context, message), seconds=seconds)
    return print_value(result, kind.result)


@dataclass(frozen=True, slots=True)
class ChangeJob(Job):
    """A change to a bucket that the agent watches; nobody waits for an answer.

    Attributes:
        change: what happened.
        context: of the agent, once it runs.
    """

    change: Change
    context: Callable[[], AgentContext]

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says: the grant's deadline holds."""
        return None

    def run(self, instance: Instance, seconds: float) -> None:
        """As `Job` says. A component that exports both versions is told in both."""
        change = self.change
        for version in keyvalue.VERSIONS:
            watcher = f"{WATCHER}@{version}"
            function = f"{watcher}#on-delete" if change.value is None else f"{watcher}#on-set"
            if function not in instance.exports:
                continue
            value = () if change.value is None else (change.value,)
            try:
                bucket = keyvalue.bucket_for(self.context(), version, change.bucket)
                instance.call(function, bucket, change.key, *value, seconds=seconds)
            except Trap:
                raise
            except FleetError as error:
                _log.warning("%s: %s", watcher, error)

    def refuse(self, fault: Fault) -> None:
        """As `Job` says: the queue has counted it."""


def watches(instance: Instance) -> bool:
    """Whether a component takes changes to buckets."""
    return any(name.startswith(f"{WATCHER}@") for name in instance.exports)

"""Jobs that hand an agent what happened elsewhere: a message of the bus, a change to a bucket.

Owns: `MessageJob` and `ChangeJob`. Delivery is at most once: what an agent's queue has no room for is refused and
counted there. Never decides who is told: that is `edge_agent.bus`, and `Watchers` for buckets.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.capabilities import keyvalue
from edge_agent.capabilities.messaging import message_for
from edge_agent.capabilities.messaging_wit import HANDLER, VERSION
from edge_agent.runner.engine import Trap
from edge_agent.runner.exchange import WATCHER
from edge_agent.runner.jobs import check_output
from edge_agent.runner.messages import CallDone, CallFailed, Fault
from fleet.errors import Code, FleetError
from fleet.wave_print import print_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.runner.engine import Instance
    from edge_agent.runner.exchange import Change
    from edge_agent.runner.messages import Counters, DeliverMessage
    from edge_agent.runner.outbox import Outbox

HANDLE = f"{HANDLER}@{VERSION}#handle"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MessageJob:
    """A message that the supervisor delivers.

    Attributes:
        message: what it sent.
        context: of the agent, once it runs.
        outbox: takes the answer.
        counters: the agent's, as they go with the answer.
        max_output: bytes of the result's text.
    """

    message: DeliverMessage
    context: Callable[[], AgentContext]
    outbox: Outbox
    counters: Callable[[], Counters]
    max_output: int

    @property
    def deadline_ms(self) -> int | None:
        """As `Job` says."""
        return self.message.deadline_ms

    def run(self, instance: Instance, seconds: float) -> None:
        """As `Job` says."""
        began = time.monotonic()
        try:
            output = self._handle(instance, seconds)
            duration_us = int((time.monotonic() - began) * 1_000_000)
            self.outbox.post(CallDone(self.message.call, self.message.agent, output, duration_us, self.counters()))
        except Trap as trap:
            self.refuse(Fault.of(trap))
            raise
        except FleetError as error:
            self.refuse(Fault.of(error))

    def _handle(self, instance: Instance, seconds: float) -> str:
        kind = instance.exports.get(HANDLE)
        if kind is None or kind.result is None:
            raise FleetError(Code.EXPORT_NOT_FOUND, f"the component exports no {HANDLE}", function=HANDLE)
        handle = message_for(self.context(), self.message.message)
        result = instance.call(HANDLE, handle, seconds=seconds)
        output = print_value(result, kind.result)
        check_output(output, self.max_output)
        return output

    def refuse(self, fault: Fault) -> None:
        """As `Job` says."""
        self.outbox.post(CallFailed(self.message.call, self.message.agent, fault, self.counters()))


@dataclass(frozen=True, slots=True)
class ChangeJob:
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

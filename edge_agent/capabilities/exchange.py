"""What an agent shares with the node around its runner: the bus, the node's sensors, and changes that others watch.

Owns: the protocol `Exchange` that capabilities use, and `NO_EXCHANGE` for an agent that shares nothing. Never decides
what an agent may do: the capability has asked the authority, and the supervisor asks it again. The real one is
`edge_agent.runner.exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.runtime import BusMessage, SensorState


class Exchange(Protocol):
    """The way out of a runner for one agent. Called in the agent's thread."""

    def publish(self, message: BusMessage) -> None:
        """Send a message to the bus; returns when it is on its way.

        Raises:
            FleetError: UNAVAILABLE when too much waits to leave the runner already.
        """
        ...

    def request(self, message: BusMessage, replies: int, timeout_ms: int) -> list[BusMessage]:
        """Send a message to the bus and wait for `replies` answers; returns those that came within `timeout_ms`.

        Raises:
            FleetError: UNAVAILABLE as `publish`.
            EndAgentError: the deadline of the call came first, or the agent is told to stop.
        """
        ...

    def reply(self, message: BusMessage) -> None:
        """Answer the message whose `reply_to` this one carries.

        Raises:
            FleetError: UNAVAILABLE as `publish`.
        """
        ...

    def sensors(self, source: str) -> tuple[SensorState, ...]:
        """What the node knows about a source, nothing when it has none of that name; about all of them for "".

        Raises:
            FleetError: UNAVAILABLE, also when the node does not answer in time.
            EndAgentError: as `request`.
        """
        ...

    def changed(self, bucket: str, key: str, value: bytes | None) -> None:
        """Tell the agents of the application that watch a bucket: `value` was stored, or None: the key was removed."""
        ...


class _NoExchange:
    """Every call is refused; nobody watches."""

    def publish(self, message: BusMessage) -> None:
        raise _refused(message.topic)

    def request(self, message: BusMessage, replies: int, timeout_ms: int) -> list[BusMessage]:  # noqa: ARG002 - as `Exchange`
        raise _refused(message.topic)

    def reply(self, message: BusMessage) -> None:
        raise _refused(message.reply_to)

    def sensors(self, source: str) -> tuple[SensorState, ...]:
        raise _refused(source)

    def changed(self, bucket: str, key: str, value: bytes | None) -> None:
        pass


def _refused(what: str) -> FleetError:
    return FleetError(Code.CALL_DENIED, f"the agent shares nothing with its node, {what!r} included")


NO_EXCHANGE: Exchange = _NoExchange()
"""For an agent that shares nothing with its node."""

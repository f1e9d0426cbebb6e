"""What a coordinator may ask of a node over the session: call an agent, deliver an event, show crash reports.

Owns: the bounds on what is asked and the form of the answers. Never reads or writes the stream: `session` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fleet import wire
from fleet.errors import Code, FleetError
from fleet.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.crash import CrashSummary

MAX_PAYLOADS = 1_000
MAX_TEXT = 64 * 1024
"""Characters of one invocation or payload."""


class Commanded(Protocol):
    """What answers commands needs from the rest of the node."""

    async def call(self, agent: str, invocation: str, deadline_ms: int) -> str:
        """Call an agent. Raises FleetError."""
        ...

    async def publish(self, topic: str, payloads: Iterable[str]) -> int:
        """Hand payloads to the agents that listen to a topic."""
        ...

    async def crashes(self, agent: str) -> tuple[CrashSummary, ...]:
        """Return what is kept of the ends of an agent, or of all when it is ""."""
        ...

    async def crash(self, identifier: str) -> bytes:
        """Return one crash report. Raises FleetError."""
        ...


async def obey(node: Commanded, command: pb.Command, deadline_ms: int) -> pb.CommandResult:
    """Do one command.

    Raises:
        FleetError: LIMIT_EXCEEDED, MESSAGE_INVALID, and whatever the node says.
    """
    match command.WhichOneof("what"):
        case "call" if len(command.call.invocation) <= MAX_TEXT:
            output = await node.call(command.call.agent, command.call.invocation, deadline_ms)
            return pb.CommandResult(id=command.id, output=output)
        case "send" if len(command.send.payloads) <= MAX_PAYLOADS:
            payloads = tuple(command.send.payloads)
            if any(len(payload) > MAX_TEXT for payload in payloads):
                raise FleetError(Code.LIMIT_EXCEEDED, f"a payload of more than {MAX_TEXT} characters")
            delivered = await node.publish(command.send.topic, payloads)
            return pb.CommandResult(id=command.id, delivered=delivered)
        case "call" | "send":
            raise FleetError(Code.LIMIT_EXCEEDED, "the command is too long")
        case "crashes" if command.crashes.id:
            return pb.CommandResult(id=command.id, document=await node.crash(command.crashes.id))
        case "crashes":
            found = await node.crashes(command.crashes.agent)
            return pb.CommandResult(id=command.id, crashes=[wire.to_pb_crash(crash, "") for crash in found])
        case _:
            raise FleetError(Code.MESSAGE_INVALID, "a command that this release does not know")


def failed(identifier: str, error: FleetError) -> pb.CommandResult:
    """Answer that a command could not be done."""
    return pb.CommandResult(
        id=identifier,
        error_code=str(error.code),
        error_message=error.public[:1_024],
        error_remedy=error.remedy[:1_024],
    )

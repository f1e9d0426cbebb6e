"""Whether an agent's triggers fit its component and its grant.

Owns: `check_triggers`. Messages and readings come to an agent by the assignment, which the coordinator signs; what may
come is the grant's to say. Pure: the supervisor and the coordinator decide by the same code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.grants.requests import propose_command
from fleet.model import MessageTrigger, SensorTrigger
from fleet.triggers import BELOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.grants.lattice import Authority
    from fleet.model import Trigger

MESSAGE_HANDLER = "wasi:messaging/incoming-handler"
SENSOR_HANDLER = "fleet:sensors/handler"


def check_triggers(
    triggers: Iterable[Trigger], exports: Iterable[str], authority: Authority, agent: str, bundle: str
) -> None:
    """Check that what an agent is to be given can reach it.

    A topic with `/*` needs the interface alone: which of the topics below it arrive is asked message by message. A
    grant whose lease took the interface away passes: nothing arrives.

    Args:
        triggers: the agent's.
        exports: top-level exports of its component.
        authority: the effective authority.
        agent: `application/agent`.
        bundle: `name@version`, for the remedy.

    Raises:
        FleetError: EXPORT_NOT_FOUND for messages to a component that takes none; IMPORT_NOT_GRANTED for a topic or a
            source that the grant does not name.
    """
    interfaces = {name.partition("@")[0] for name in exports}
    for trigger in triggers:
        match trigger:
            case MessageTrigger(topic):
                if MESSAGE_HANDLER not in interfaces:
                    raise FleetError(
                        Code.EXPORT_NOT_FOUND,
                        f"{agent} has a trigger for messages on {topic}, and {bundle} takes no messages",
                        agent=agent,
                        function=MESSAGE_HANDLER,
                        remedy=f"Export {MESSAGE_HANDLER} from {bundle}, or take the trigger out of fleet.yaml.",
                    )
                allowed = topic.endswith(BELOW) or authority.allows(MESSAGE_HANDLER, topic=topic)
                _check_granted(MESSAGE_HANDLER, f"topic {topic}", authority, agent, bundle, allowed=allowed)
            case SensorTrigger(source):
                allowed = authority.allows(SENSOR_HANDLER, source=source)
                _check_granted(SENSOR_HANDLER, f"source {source}", authority, agent, bundle, allowed=allowed)


def _check_granted(interface: str, what: str, authority: Authority, agent: str, bundle: str, *, allowed: bool) -> None:
    rules = authority.capabilities.get(interface)
    if rules is None:
        command = propose_command(agent, bundle, (interface,))
        raise FleetError(
            Code.IMPORT_NOT_GRANTED,
            f"{agent} has a trigger for {what} without a grant of {interface}; run: {command}",
            agent=agent,
            exports=interface,
            remedy=command,
        )
    if rules and not allowed:
        raise FleetError(
            Code.IMPORT_NOT_GRANTED,
            f"the grant of {agent} does not name {what} for {interface}",
            agent=agent,
            exports=interface,
            remedy=f"Add {what} to {interface} in a new revision of the grant of {agent}.",
        )

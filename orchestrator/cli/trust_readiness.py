"""Whether nodes can do without a key of the fleet: asked before one is withdrawn from `trust/fleet.json`.

Owns: what a node must have taken in before an old key may go, judged by what the coordinator says of every node
(`ListNodes`). A node that learns of the successor too late would refuse its coordinator, or, after a power cut, the
very order that it runs by: nobody withdraws a key on a hope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.cli.client import Client

ONLINE = "online"
REVOKED = "revoked"

MAX_NAMED = 20
"""Nodes that are named in one refusal."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What a node must have taken in before an old key may go.

    Attributes:
        trust_digest: of the published `trust/fleet.json`, which lists the successor.
        director_keys: ids of the keys that stay; the order that a node runs by has to be signed by one. None: orders
            have nothing to do with it.
        log_keys: names of the keys of the audit log that stay (`fleet.checkpoint.key_name`); one of them has to prove
            that order. None: as above.
        absent_follow: whether a node without a session may be behind, since it learns of the successor when it comes
            back. False for a key without which it cannot come back, or is not believed.
    """

    trust_digest: str
    director_keys: frozenset[str] | None = None
    log_keys: frozenset[str] | None = None
    absent_follow: bool = False


@dataclass(frozen=True, slots=True)
class Behind:
    """A node that is not ready, and what it lacks."""

    node: str
    lacks: str
    online: bool


def nodes_behind(nodes: Iterable[pb.Node], needed: Needed) -> tuple[Behind, ...]:
    """Return the nodes that are not ready, by name. Revoked ones do not count: they never come back by what they have.

    Checks of each node, in this order:
        1. It holds the `trust/fleet.json` that lists the successor.
        2. Its newest order is signed, and proven in the audit log, by keys that stay.
        3. It runs by that order. (An order that was only sent does not survive a power cut.)
    """
    found = []
    for node in sorted(nodes, key=lambda node: node.name):
        lacks = "" if node.state == REVOKED else _lacks(node, needed)
        if lacks:
            found.append(Behind(node.name, lacks, node.state == ONLINE))
    return tuple(found)


def _lacks(node: pb.Node, needed: Needed) -> str:
    if node.trust_digest != needed.trust_digest:  # 1
        return "has not adopted the newest trust/fleet.json"
    if (needed.director_keys is None and needed.log_keys is None) or not node.director_key:
        return ""
    if needed.director_keys is not None and node.director_key not in needed.director_keys:  # 2
        return f"was ordered by the key {node.director_key[:8]}, which would be withdrawn"
    if needed.log_keys is not None and needed.log_keys.isdisjoint(node.log_keys):
        return f"has an order that {' and '.join(node.log_keys) or 'nothing yet'} proved, and no key that stays"
    if node.observed_generation != node.desired_generation:  # 3
        return f"has not taken in order {node.desired_generation}"
    return ""


def check_ready(client: Client, needed: Needed) -> tuple[str, ...]:
    """Refuse to withdraw a key while a node still needs it.

    Returns:
        The nodes without a session that are behind and may be: they follow when they come back.

    Raises:
        FleetError: NODES_BEHIND with the nodes and what each lacks; else as `Client.call`.
    """
    behind = nodes_behind(client.call(client.stub.ListNodes, pb.ListNodesRequest()).nodes, needed)
    hindering = [one for one in behind if one.online or not needed.absent_follow]
    if hindering:
        named = "; ".join(f"{one.node} {one.lacks}" for one in hindering[:MAX_NAMED])
        more = f"; and {len(hindering) - MAX_NAMED} more" if len(hindering) > MAX_NAMED else ""
        absent = [one.node for one in hindering if not one.online]
        remedy = "Connected nodes follow within seconds: run the command again."
        if any(one.online and "order" in one.lacks for one in hindering):
            remedy += " Start the coordinator again where it does not use the new key yet."
        if absent:
            remedy += f" Bring {', '.join(absent[:MAX_NAMED])} online, or `fleetctl node revoke` what is gone for good."
        raise FleetError(Code.NODES_BEHIND, f"not ready: {named}{more}", nodes=len(hindering), remedy=remedy)
    return tuple(one.node for one in behind)

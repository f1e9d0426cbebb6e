"""What `edge-agent identity` prints: who this node is, for an operator to compare with what a coordinator shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.vault import SEALING
from fleet.sealing import fingerprint, public_of

if TYPE_CHECKING:
    from edge_agent.node_keys import NodeKeys


def describe(keys: NodeKeys) -> str:
    """Return the node's name and the fingerprints of its keys, a line each; needs no running node and no network.

    Raises:
        FleetError: CONFIG_INVALID when the machine has not joined; KEY_UNAVAILABLE.
    """
    identity = keys.identity.joined()
    facts = {
        "node": identity.node,
        "fleet": identity.fleet,
        "epoch": str(identity.epoch),
        "bound key": keys.identity.bound_key().key_id,
        "sealing key": fingerprint(public_of(keys.vault.key(SEALING))),
    }
    return "".join(f"{name:<12} {value}\n" for name, value in facts.items())

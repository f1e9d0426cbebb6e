"""What a node says of itself when it opens a session."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from fleet import wire
from fleet.v1 import node_pb2 as pb

if TYPE_CHECKING:
    from edge_agent.link.session import Node, SessionSettings


def hello_of(node: Node, settings: SessionSettings) -> pb.Hello:
    """Return the first message of a session."""
    observed = node.observed()
    root_version, release_version = node.release_versions()
    return pb.Hello(
        boot_id=settings.boot_id,
        agent_version=settings.agent_version,
        architecture=platform.machine(),
        accepted_generation=observed.generation,
        accepted_digest=observed.digest,
        observed=wire.to_pb_observed(observed),
        root_version=root_version,
        release_version=release_version,
        sealing_key=node.sealing_key(),
        seen_size=node.seen(),
        ceiling=wire.to_pb_ceiling(settings.ceiling),
    )

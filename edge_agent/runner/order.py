"""The message with which an agent is started: what was admitted, as its runner reads it.

Owns: `order`. Paths and the operator's decisions come from the node, secrets in clear from whoever may unseal them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.runner.message_values import ModelEntry, SecretEntry
from edge_agent.runner.messages import StartAgent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.held_secret import HeldSecret
    from edge_agent.runner.host import RunnerPaths
    from edge_agent.runtime import AgentStart


def order(agent: AgentStart, paths: RunnerPaths, secrets: Mapping[str, HeldSecret]) -> StartAgent:
    """Write the order to start an agent; the secrets are overwritten where they came from."""
    entries = tuple(SecretEntry(name, secret.kind, bytes(secret.data)) for name, secret in sorted(secrets.items()))
    for secret in secrets.values():
        secret.wipe()
    return StartAgent(
        agent=agent.name,
        component=agent.code_digest,
        authority=agent.authority.decode(),
        deny_stubs=agent.deny_stubs,
        config=dict(agent.config),
        models=tuple(ModelEntry(name, str(model.path), model.digest) for name, model in agent.models.items()),
        state_dir=str(agent.state_dir),
        on_full_queue=agent.on_full_queue,
        health=agent.health,
        links=dict(agent.links),
        http_authorities=str(paths.http_authorities or ""),
        volumes={name: str(volume.path) for name, volume in agent.volumes.items()},
        writable_volumes=tuple(name for name, volume in agent.volumes.items() if volume.writable),
        inference=paths.inference.encode(),
        secrets=entries,
    )

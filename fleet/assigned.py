"""One agent as an assignment carries it; the coordinator also stores its plans in this form.

Owns: `encode_agent` and `decode_agent`, the strict JSON of an `AssignedAgent`. What fits together is checked where all
agents of a node are known: `fleet.assignment`.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader
from fleet.errors import Code
from fleet.grants.narrowing import parse_narrowing
from fleet.health import HealthPolicy
from fleet.links import MAX_FUSED, MAX_LINKS, decode_link, encode_link
from fleet.manifest import MAX_CONFIG, MAX_TRIGGERS
from fleet.model import AssignedAgent, FusedAgent, QueuePolicy, SwapPolicy, TargetRef
from fleet.names import is_agent_name, is_digest
from fleet.targets import role_of
from fleet.triggers import (
    decode_restart,
    decode_trigger,
    encode_health,
    encode_restart,
    encode_swap,
    encode_trigger,
    parse_health,
    parse_queue_policy,
    parse_swap,
)

if TYPE_CHECKING:
    from fleet.documents import Value


def encode_agent(agent: AssignedAgent) -> dict[str, object]:
    """Write one agent.

    Links, narrowing, health, swaps and what a full queue does are written only where they are not the default, so that
    releases without them read everything else.
    """
    encoded: dict[str, object] = {
        **_encode_part(agent),
        "config": dict(agent.config),
        "triggers": [encode_trigger(trigger) for trigger in agent.triggers],
        "restart": encode_restart(agent.restart),
    }
    if agent.on_full_queue is not QueuePolicy.REJECT:
        encoded["on_full_queue"] = str(agent.on_full_queue)
    if agent.health != HealthPolicy():
        encoded["health"] = encode_health(agent.health)
    if agent.swap != SwapPolicy():
        encoded["swap"] = encode_swap(agent.swap)
    if agent.fused:
        encoded["fused"] = [_encode_part(part) for part in agent.fused]
    return encoded


def _encode_part(part: AssignedAgent | FusedAgent) -> dict[str, object]:
    encoded: dict[str, object] = {
        "name": part.name,
        "bundle": {"path": part.bundle.path, "digest": part.bundle.digest},
        "grant": {"path": part.grant.path, "digest": part.grant.digest},
    }
    if part.links:
        encoded["links"] = [encode_link(link) for link in part.links]
    if part.narrow:
        encoded["narrow"] = json.loads(part.narrow)
    return encoded


def decode_agent(item: Value, place: str) -> AssignedAgent:
    """Read what `encode_agent` wrote.

    Raises:
        FleetError: ASSIGNMENT_INVALID with the place.
    """
    with Reader(item, Code.ASSIGNMENT_INVALID, place) as entry:
        part = _decode_part(entry)
        return AssignedAgent(
            name=part.name,
            bundle=part.bundle,
            grant=part.grant,
            links=part.links,
            narrow=part.narrow,
            fused=tuple(_decode_fused(item, at) for item, at in entry.items("fused", MAX_FUSED)),
            config=MappingProxyType(dict(entry.mapping("config", MAX_CONFIG))),
            triggers=tuple(
                decode_trigger(trigger, Code.ASSIGNMENT_INVALID, at)
                for trigger, at in entry.items("triggers", MAX_TRIGGERS)
            ),
            restart=decode_restart(entry.take("restart"), Code.ASSIGNMENT_INVALID, entry.at("restart")),
            on_full_queue=parse_queue_policy(entry),
            health=parse_health(entry),
            swap=parse_swap(entry),
        )


def _decode_fused(item: Value, place: str) -> FusedAgent:
    with Reader(item, Code.ASSIGNMENT_INVALID, place) as entry:
        return _decode_part(entry)


def _decode_part(entry: Reader) -> FusedAgent:
    return FusedAgent(
        name=entry.matching("name", is_agent_name),
        bundle=entry.section("bundle", lambda part: _target(part, "code-")),
        grant=entry.section("grant", lambda part: _target(part, "grants-")),
        links=tuple(decode_link(item, entry.code, at, is_agent_name) for item, at in entry.items("links", MAX_LINKS)),
        narrow=entry.section("narrow", parse_narrowing).encode() if entry.has("narrow") else "",
    )


def _target(reader: Reader, role_prefix: str) -> TargetRef:
    """Read a reference to a target; a grant is never taken for a bundle, nor the reverse."""
    path = reader.text("path")
    if not (role_of(path) or "").startswith(role_prefix):
        reader.fail("path", f"not a target of a role {role_prefix}TEAM")
    return TargetRef(path, reader.matching("digest", is_digest))

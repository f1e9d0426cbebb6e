"""The application manifest: fleet.yaml, schema `fleet.application/v1`.

Owns: reading what an operator asks for into `Application`. Strict, and pure: whether the bundles, grants and nodes
that it names exist is the plan's question.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.documents import Reader, Value, dump_json, load_yaml
from fleet.errors import Code, FleetError
from fleet.grants.narrowing import parse_narrowing
from fleet.links import MAX_LINKS, check_graph, decode_link
from fleet.model import Application, ApplicationAgent, Placement, RestartPolicy, RolloutPolicy, is_name
from fleet.semver import parse_version
from fleet.triggers import (
    decode_trigger,
    parse_health,
    parse_queue_policy,
    parse_restart,
    parse_swap,
    take_duration,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLICATION_SCHEMA = "fleet.application/v1"

MAX_AGENTS = 256
MAX_TRIGGERS = 32
MAX_CONFIG = 128
"""Configuration keys of one agent."""
MAX_CONFIG_KEY = 128
MAX_CONFIG_VALUE = 4096
"""Characters of one configuration value."""
MAX_LABELS = 32
MAX_NODES = 100_000
MAX_WAVES = 32
MAX_REVISION = 1 << 31
MAX_WAIT_MS = 7 * 86_400_000

_PER_CENT = re.compile(r"([1-9][0-9]?|100)%")
_CONFIG_KEY = re.compile(r"[A-Za-z0-9]+([-_./][A-Za-z0-9]+)*")


def parse_application(data: bytes, name: str = "fleet.yaml") -> Application:
    """Parse a manifest; one without agents asks for the application to be removed from the fleet.

    Args:
        data: the bytes of the file.
        name: file name for error places.

    Raises:
        FleetError: MANIFEST_INVALID with the place; LIMIT_EXCEEDED when too large.
    """
    with Reader(load_yaml(data, Code.MANIFEST_INVALID, name), Code.MANIFEST_INVALID, name) as reader:
        if reader.text("schema") != APPLICATION_SCHEMA:
            reader.fail("schema", f"expected {APPLICATION_SCHEMA}")
        application = reader.text("application")
        if not is_name(application):
            reader.fail("application", f"{application[:64]!r} is not a name such as climate")
        if not reader.has("agents"):
            # Written out even when it is empty: a forgotten key must not take the whole application away.
            reader.fail("agents", "expected a list; `agents: []` removes the application from the fleet")
        agents = tuple(_parse_agent(value, place) for value, place in reader.items("agents", MAX_AGENTS))
        names = [agent.name for agent in agents]
        for i, agent_name in enumerate(names):
            if agent_name in names[:i]:
                reader.fail(f"agents[{i}].name", f"{agent_name} appears twice")
        check_graph(
            {agent.name: agent.links for agent in agents},
            reader.code,
            lambda agent, i: f"{reader.at('agents')}[{names.index(agent)}].links[{i}]",
        )
        rollout = reader.section("rollout", _parse_rollout) if reader.has("rollout") else RolloutPolicy()
    return Application(application, agents, rollout)


def encode_removal(application: str) -> bytes:
    """Write the manifest that removes an application from the fleet."""
    return dump_json({"schema": APPLICATION_SCHEMA, "application": application, "agents": []})


def _parse_agent(value: Value, place: str) -> ApplicationAgent:
    with Reader(value, Code.MANIFEST_INVALID, place) as reader:
        name = reader.text("name")
        if not is_name(name):
            reader.fail("name", f"{name[:64]!r} is not a name such as context")
        emergency = reader.has("break_glass")
        if emergency and reader.has("grant"):
            reader.fail("break_glass", "an agent runs under an emergency grant or under an ordinary one, not both")
        key = "break_glass" if emergency else "grant"
        return ApplicationAgent(
            name=name,
            bundle=_parse_bundle(reader),
            placement=reader.section("placement", _parse_placement) if reader.has("placement") else Placement(),
            grant_revision=reader.integer(key, 1, MAX_REVISION) if reader.has(key) else None,
            break_glass=emergency,
            config=_parse_config(reader),
            triggers=tuple(
                decode_trigger(item, reader.code, at) for item, at in reader.items("triggers", MAX_TRIGGERS)
            ),
            restart=reader.section("restart", parse_restart) if reader.has("restart") else RestartPolicy(),
            on_full_queue=parse_queue_policy(reader),
            health=parse_health(reader),
            swap=parse_swap(reader),
            links=tuple(decode_link(item, reader.code, at, is_name) for item, at in reader.items("links", MAX_LINKS)),
            narrow=reader.section("narrow", parse_narrowing).encode() if reader.has("narrow") else "",
        )


def _parse_bundle(reader: Reader) -> str:
    bundle = reader.text("bundle")
    whose, _, version = bundle.partition("@")
    team, slash, name = whose.rpartition("/")
    # A version with build metadata would be a second spelling of the same version.
    if (
        not is_name(name)
        or (slash and not is_name(team))
        or str(parse_version(version, reader.code, reader.at("bundle"))) != version
    ):
        reader.fail("bundle", f"{bundle[:64]!r} is not name@version or team/name@version")
    return bundle


def _parse_placement(reader: Reader) -> Placement:
    labels = reader.mapping("labels", MAX_LABELS)
    count = reader.integer("count", 1, MAX_NODES) if reader.has("count") else None
    return Placement(MappingProxyType(dict(labels)), count)


def _parse_config(reader: Reader) -> Mapping[str, str]:
    config = reader.mapping("config", MAX_CONFIG)
    for key, value in config.items():
        place = f"{reader.at('config')}.{key[:64]}"
        if len(key) > MAX_CONFIG_KEY or _CONFIG_KEY.fullmatch(key) is None:
            raise FleetError(reader.code, "not a configuration key such as detector.threshold", place=place)
        if len(value) > MAX_CONFIG_VALUE:
            raise FleetError(reader.code, f"{len(value)} characters, the limit is {MAX_CONFIG_VALUE}", place=place)
    return MappingProxyType(dict(config))


def _parse_rollout(reader: Reader) -> RolloutPolicy:
    default = RolloutPolicy()
    return RolloutPolicy(
        waves=_parse_waves(reader) if reader.has("waves") else default.waves,
        healthy_for_ms=take_duration(reader, "healthy_for", 0, MAX_WAIT_MS, default.healthy_for_ms),
        deadline_ms=take_duration(reader, "deadline", 1, MAX_WAIT_MS, default.deadline_ms),
        max_failures=reader.integer("max_failures", 0, MAX_NODES, default.max_failures),
    )


def _parse_waves(reader: Reader) -> tuple[int | float, ...]:
    """Read cumulative sizes: numbers of nodes grow, shares grow; the two cannot be compared before the plan."""
    waves: list[int | float] = []
    for value, place in reader.items("waves", MAX_WAVES):
        wave = _parse_wave(value, place)
        if any(type(wave) is type(other) and wave <= other for other in waves):
            raise FleetError(reader.code, "waves are cumulative: each is larger than those before", place=place)
        waves.append(wave)
    if not waves:
        reader.fail("waves", "expected at least one wave")
    return tuple(waves)


def _parse_wave(value: Value, place: str) -> int | float:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_NODES:
        return value
    match = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise FleetError(Code.MANIFEST_INVALID, "expected a number of nodes, or a share such as 50%", place=place)
    return int(match[1]) / 100

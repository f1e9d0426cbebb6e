"""Contexts: which coordinator fleetctl talks to, as whom, and where the operator's keys are.

Owns: the config file (`$FLEET_HOME/config.yaml`), the connection flags and their environment variables. A flag wins
over the environment, which wins over the file. Never opens a connection; private keys are paths here, not bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fleet.documents import Reader, load_yaml
from fleet.errors import Code, FleetError
from fleet.names import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "fleet.config/v1"


@dataclass(frozen=True, slots=True)
class Context:
    """One way to reach one fleet.

    Attributes:
        address: host:port of ControlService.
        ca: certificate of the authority that signed the coordinator's certificate.
        certificate: the operator's client certificate.
        key: the operator's private key.
        trust: directory with the pinned root, the release repository and, on a signing machine, the role keys.
        team: whose grants a command means that names no team; empty: nobody's in particular.
    """

    address: str
    ca: Path
    certificate: Path
    key: Path
    trust: Path
    team: str = ""


_KEYS = tuple(field.name for field in fields(Context))


@dataclass(frozen=True, slots=True)
class Config:
    """The parsed config file."""

    current: str
    contexts: Mapping[str, Context]


def fleet_home(environment: Mapping[str, str]) -> Path:
    """Directory of the operator's files: `$FLEET_HOME`, or `~/.fleet`."""
    given = environment.get("FLEET_HOME")
    return Path(given) if given else Path.home() / ".fleet"


def _context(reader: Reader, base: Path) -> Context:
    team = reader.text("team", "")
    if team and not is_name(team):
        reader.fail("team", f"{team[:64]!r} is not a name")
    # Relative paths are relative to the config file, so that a fleet home can be moved.
    return Context(
        address=reader.text("address"),
        ca=base / reader.text("ca"),
        certificate=base / reader.text("certificate"),
        key=base / reader.text("key"),
        trust=base / reader.text("trust"),
        team=team,
    )


def load_config(path: Path) -> Config:
    """Read the config file.

    Raises:
        FleetError: CONFIG_INVALID with file and place; NOT_FOUND when there is no file, with the command that makes it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FleetError(
            Code.NOT_FOUND,
            "no fleet is set up here",
            place=str(path),
            remedy="Run `fleetctl init`, or set FLEET_HOME to an existing fleet's directory.",
        ) from error
    with Reader(load_yaml(data, Code.CONFIG_INVALID, str(path)), Code.CONFIG_INVALID, str(path)) as top:
        if top.text("schema") != SCHEMA:
            top.fail("schema", f"expected {SCHEMA}")
        current = top.text("current")
        section = top.take("contexts")
        if not isinstance(section, dict):
            top.fail("contexts", "expected a mapping")
        contexts = {}
        for name, value in section.items():
            with Reader(value, Code.CONFIG_INVALID, f"{path}: contexts.{name}") as reader:
                contexts[name] = _context(reader, path.parent)
    return Config(current, contexts)


def save_config(path: Path, config: Config) -> None:
    """Write the config file atomically; paths below the file's directory are written relative to it."""

    def portable(value: str | Path) -> str:
        if isinstance(value, Path) and value.is_relative_to(path.parent):
            return str(value.relative_to(path.parent))
        return str(value)

    document = {
        "schema": SCHEMA,
        "current": config.current,
        "contexts": {
            name: {key: portable(value) for key in _KEYS if (value := getattr(context, key))}
            for name, context in sorted(config.contexts.items())
        },
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Connection flags; click fills them from FLEET_* environment variables when a flag is absent."""

    context: str | None = None
    address: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    trust: Path | None = None


def resolve(home: Path, overrides: Overrides) -> Context:
    """Return the context in force.

    Raises:
        FleetError: CONFIG_INVALID, or NOT_FOUND for a missing file or an unknown context name.
    """
    flags = {field.name: getattr(overrides, field.name) for field in fields(overrides) if field.name != "context"}
    given = {name: value for name, value in flags.items() if value is not None}
    if overrides.context is None and len(given) == len(flags):
        return Context(**given)  # everything is on the command line or in the environment: no file needed
    config = load_config(home / "config.yaml")
    name = overrides.context or config.current
    if name not in config.contexts:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise FleetError(
            Code.NOT_FOUND, f"no context named {name!r}; known: {known}", remedy="Choose one with --context NAME."
        )
    return replace(config.contexts[name], **given)

"""Settings of the publisher, from one TOML file. Paths are relative to it::

name = "publisher"              # who publishes, for guardrails
trust = "."                     # trust directory: root.json, keys/ of snapshot and timestamp, repository/
inbox = "inbox"                 # staged changes are put here
poll_s = 5                      # seconds between looks at the inbox and at what is due

[coordinator]
address = "coordinator.example:7443"
ca = "node-ca.crt"
certificate = "publisher.crt"
key = "publisher.pem"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.documents import Reader
from fleet.errors import Code, FleetError
from fleet.names import is_name
from orchestrator.cli.context import Context
from orchestrator.files import read_named

if TYPE_CHECKING:
    from pathlib import Path

MAX_SETTINGS = 64 * 1024
MAX_POLL_S = 3_600


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides about a publisher.

    Attributes:
        name: who publishes, for guardrails.
        context: how it reaches the coordinator, and its trust directory.
        inbox: where staged changes are put.
        poll_s: seconds between looks.
    """

    name: str
    context: Context
    inbox: Path
    poll_s: int


def load_settings(path: Path) -> Settings:
    """Read the file.

    Raises:
        FleetError: CONFIG_INVALID with file and place.
    """
    try:
        document = tomllib.loads(read_named(path, MAX_SETTINGS).decode())
    except ValueError as error:
        raise FleetError(Code.CONFIG_INVALID, f"not valid TOML: {error}", place=str(path)) from error
    base = path.parent
    with Reader(document, Code.CONFIG_INVALID, str(path)) as top:
        name = top.text("name", "publisher")
        if not is_name(name):
            top.fail("name", "not a name")
        trust, inbox = base / top.text("trust", "."), base / top.text("inbox", "inbox")
        poll_s = top.integer("poll_s", 1, MAX_POLL_S, 5)
        context = top.section("coordinator", lambda reader: _context(reader, base, trust))
    return Settings(name, context, inbox, poll_s)


def _context(reader: Reader, base: Path, trust: Path) -> Context:
    return Context(
        address=reader.text("address"),
        ca=base / reader.text("ca"),
        certificate=base / reader.text("certificate"),
        key=base / reader.text("key"),
        trust=trust,
    )


def format_settings(address: str) -> str:
    """Write the settings of a publisher whose files lie beside them."""
    return f"""# Publisher of a fleet, written by `fleetctl trust promote-to-production`. Paths are relative to it.
name = "publisher"
trust = "."
inbox = "inbox"

[coordinator]
address = "{address}"
ca = "node-ca.crt"
certificate = "publisher.crt"
key = "publisher.pem"
"""

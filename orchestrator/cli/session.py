"""What every command is given: the operator's home, the context in force, the output, and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from fleet.names import is_agent_name, is_name
from orchestrator.cli import client
from orchestrator.cli.context import resolve
from orchestrator.cli.login import renew_when_due

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from orchestrator.cli.client import Client
    from orchestrator.cli.context import Context, Overrides
    from orchestrator.cli.render import Output


@dataclass(frozen=True, slots=True)
class Session:
    """One run of fleetctl.

    Attributes:
        home: the operator's directory.
        overrides: connection flags.
        output: where results and progress go.
        now: current time, UTC.
    """

    home: Path
    overrides: Overrides
    output: Output
    now: Callable[[], datetime]

    def context(self) -> Context:
        """Return the context in force.

        Raises:
            FleetError: NOT_FOUND, CONFIG_INVALID.
        """
        return resolve(self.home, self.overrides)

    def trust_folder(self) -> Path:
        """Return the trust directory; who only signs needs no more than `--trust`.

        Raises:
            FleetError: as `context`.
        """
        return self.overrides.trust if self.overrides.trust is not None else self.context().trust

    def connect(self) -> AbstractContextManager[Client]:
        """Open a connection to the context's coordinator; renews the certificate of a login that is due."""
        context = self.context()
        renew_when_due(context.certificate, context.key, self.now())
        return client.connect(context, self.now)

    def now_ms(self) -> int:
        """Return the current time in milliseconds since the Unix epoch."""
        return int(self.now().timestamp() * 1000)


class _Name(click.ParamType[str]):
    """A name, checked before anything is asked or written; what is optional may stay empty."""

    def __init__(self, name: str, valid: Callable[[str], bool], expected: str) -> None:
        self.name = name
        self._valid = valid
        self._expected = expected

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as wrong usage."""
        absent = value == "" and param is not None and not param.required
        if not absent and not self._valid(value):
            self.fail(f"{value!r}: expected {self._expected}", param, ctx)
        return value


NODE_NAME = _Name("name", is_name, "lower-case words joined by hyphens, at most 63 characters")
BUNDLE_NAME = _Name("name", is_name, "lower-case words joined by hyphens, at most 63 characters")
AGENT_NAME = _Name("application/agent", is_agent_name, "APPLICATION/AGENT, both lower-case words joined by hyphens")
AGENTS = _Name("application[/agent]", lambda text: is_name(text) or is_agent_name(text), "APPLICATION[/AGENT]")


def parse_labels(pairs: tuple[str, ...]) -> dict[str, str]:
    """Parse repeated `key=value` options.

    Raises:
        click.BadParameter: when a pair has no `=`, or a key is given twice.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key or key in result:
            raise click.BadParameter(f"{pair!r}: expected KEY=VALUE, each key once")
        result[key] = value
    return result

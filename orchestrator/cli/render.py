"""The only place of fleetctl that prints: results on stdout, progress and faults on stderr.

Owns: the output formats table, wide, json and yaml, and how times, digests and faults look. NO_COLOR and a stdout that
is not a terminal switch colours off (rich does it); a table on a pipe is never cut to the width of a terminal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import yaml
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.errors import FleetError

PIPE_WIDTH = 500
"""Columns assumed when stdout is not a terminal, so that no cell is cut."""

STYLES = {
    "running": "green",
    "online": "green",
    "healthy": "green",
    "succeeded": "green",
    "yes": "green",
    "start": "green",
    "backoff": "yellow",
    "pending": "yellow",
    "admitting": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "joined": "yellow",
    "waiting": "yellow",
    "replace": "yellow",
    "failed": "red",
    "offline": "red",
    "locked": "red",
    "rolled-back": "red",
    "stop": "red",
    "no": "yellow",
}
"""Colour of a cell that holds one of these words alone; the word itself says it all without colour."""


class Format(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its title, the key of the row, and whether only `-o wide` shows it."""

    title: str
    key: str
    wide: bool = False
    right: bool = False


class Output:
    """Prints results in the chosen format; progress and notes go to stderr."""

    def __init__(self, form: Format, *, quiet: bool = False) -> None:
        self.format = form
        self._out = Console(highlight=False, soft_wrap=False)
        if not self._out.is_terminal:
            self._out = Console(highlight=False, width=PIPE_WIDTH)
        self._err = Console(stderr=True, highlight=False, quiet=quiet)

    @property
    def machine(self) -> bool:
        """Whether a program reads the output."""
        return self.format in {Format.JSON, Format.YAML}

    def rows(self, columns: Sequence[Column], rows: Sequence[dict[str, object]], empty: str) -> None:
        """Print a list of rows; `empty` is the sentence for an empty table."""
        if self.machine:
            self.value(list(rows))
            return
        if not rows:
            self.note(empty)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        shown = [c for c in columns if self.format is Format.WIDE or not c.wide]
        for column in shown:
            table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row.get(column.key)) for column in shown))
        self._out.print(table)

    def value(self, value: object) -> None:
        """Print one value for a machine; as YAML when a person asked for a table of something that is not one."""
        if self.format is Format.JSON:
            self._out.file.write(json.dumps(value, indent=2, default=str) + "\n")
        else:
            self._out.file.write(yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True))

    def text(self, text: str) -> None:
        """Print plain text on stdout, as it is."""
        self._out.file.write(text if text.endswith("\n") else text + "\n")

    def line(self, *parts: tuple[str, str]) -> None:
        """Print one line of (text, style) parts on stdout."""
        self._out.print(Text.assemble(*parts), soft_wrap=True)

    def note(self, text: str) -> None:
        """Tell a person something on stderr."""
        self._err.print(Text(text), soft_wrap=True)

    def step(self, text: str, outcome: str = "done") -> None:
        """Report one finished step of a longer command on stderr."""
        self._err.print(
            Text.assemble(("  ", ""), (f"{outcome:<10}", STYLES.get(outcome, "green")), text), soft_wrap=True
        )

    def fault(self, error: FleetError) -> None:
        """Print an error on stderr: code, place, reason and remedy; never a stack trace."""
        detail = {k: v for k, v in error.detail.items() if k not in {"place", "remedy", "request_id"}}
        self._err.print(
            Text.assemble(("error ", "bold red"), (str(error.code), "bold"), ": ", error.private), soft_wrap=True
        )
        if "place" in error.detail:
            self._err.print(Text(f"  at      {error.detail['place']}"), soft_wrap=True)
        for key, value in sorted(detail.items()):
            self._err.print(Text(f"  {key:<7} {value}"), soft_wrap=True)
        self._err.print(Text(f"  remedy  {error.remedy}"), soft_wrap=True)


def _cell(value: object) -> Text:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(item) for item in value)
    text = "-" if value is None or value == "" else str(value)
    return Text(text, style=STYLES.get(text, ""))


def _plain(value: object) -> object:
    """JSON types only, so that YAML carries no Python tags."""
    return json.loads(json.dumps(value, default=str))


def short_digest(digest: str) -> str:
    """First twelve hex digits of a digest, enough for a person to tell two apart."""
    return digest.removeprefix("sha256:")[:12]


def when(milliseconds: int) -> str:
    """RFC 3339 time in UTC with seconds, or an empty text for 0."""
    if milliseconds == 0:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(milliseconds: int, now_ms: int) -> str:
    """How long ago, in the largest fitting unit: 12s, 5m, 3h, 2d."""
    if milliseconds == 0:
        return ""
    seconds = max(0, (now_ms - milliseconds) // 1000)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def size(value: int) -> str:
    """Bytes with a binary unit."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def labels(value: Iterable[tuple[str, str]]) -> str:
    """Labels as `key=value` pairs in order."""
    return ",".join(f"{k}={v}" for k, v in sorted(value))

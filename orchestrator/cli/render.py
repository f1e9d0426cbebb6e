"""The only place of fleetctl that prints: results on stdout, progress and faults on stderr.

Owns: the output formats table, wide, json and yaml, and how times, digests and faults look. NO_COLOR and a stdout that
is not a terminal switch colours off (rich does it); a table on a pipe is never folded to the width of a terminal, and
a text from elsewhere (an agent's log, a node's message) can never drive the terminal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet.errors import Code, FleetError
from fleet.wave import parse_value
from fleet.wit_types import Primitive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PIPE_WIDTH = 100_000
"""Columns assumed when stdout is not a terminal, so that no cell is folded."""

FOLDED_WIDTH = 16
"""Columns that a folding cell needs at least; in a terminal too narrow for that, each row becomes a block of lines."""

GAP = 2
"""Blanks between columns."""

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
    "revoked": "red",
    "invited": "yellow",
    "active": "green",
    "rolled-back": "red",
    "stop": "red",
    "no": "yellow",
}
"""Colour of a cell that holds one of these words alone; the word itself says it all without colour."""

_TRAILING = re.compile(r" +((?:\x1b\[0m)?)$", re.MULTILINE)


class Format(StrEnum):
    """Values of `--output`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        key: which cell of a row it shows.
        wide: whether only `-o wide` shows it.
        right: whether it is aligned to the right, as numbers are.
        fold: whether its cells may go over several lines in a narrow terminal.
    """

    title: str
    key: str
    wide: bool = False
    right: bool = False
    fold: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of a list.

    Attributes:
        record: what a program reads: exact values under stable keys.
        cells: what a person reads instead, where that differs.
    """

    record: Mapping[str, object]
    cells: Mapping[str, object] = field(default_factory=dict)

    def cell(self, key: str) -> object:
        """Value for a table."""
        return self.cells[key] if key in self.cells else self.record.get(key)


class _Console(Console):
    """A console that leaves it to the program what happens when the reader of a pipe goes away."""

    def on_broken_pipe(self) -> None:
        """Let the error through: rich would end the process as failed."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


class Output:
    """Prints results in the chosen format; progress and notes go to stderr."""

    def __init__(self, form: Format, *, quiet: bool = False) -> None:
        self.format = form
        self._out = _Console(highlight=False, soft_wrap=False)
        if not self._out.is_terminal:
            self._out = _Console(highlight=False, width=PIPE_WIDTH)
        self._err = _Console(stderr=True, highlight=False)
        self._quiet = quiet

    def in_format(self, form: Format) -> Output:
        """Return the same output in another format."""
        return Output(form, quiet=self._quiet)

    @property
    def machine(self) -> bool:
        """Whether a program reads the output."""
        return self.format in {Format.JSON, Format.YAML}

    @property
    def wide(self) -> bool:
        """Whether a person asked for everything."""
        return self.format is Format.WIDE

    def rows(self, columns: Sequence[Column], rows: Sequence[Row], empty: str, width: int = PIPE_WIDTH) -> None:
        """Print a list of rows; `empty` is the sentence for an empty table.

        A table that may be printed on paper has a `width`, in columns: cells that may fold do so on a pipe, too. A wide
        one is as wide as it is.
        """
        if self.machine:
            self.value([row.record for row in rows])
            return
        if not rows:
            self.note(empty)
            return
        shown = [c for c in columns if self.format is Format.WIDE or not c.wide]
        cells = [[_cell(row.cell(column.key)) for column in shown] for row in rows]
        if not self._fits(shown, cells):
            self._blocks(shown, cells)
            return
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for column in shown:
            justify: Literal["right", "left"] = "right" if column.right else "left"
            table.add_column(column.title, justify=justify, no_wrap=not column.fold, overflow="fold")
        for line in cells:
            table.add_row(*line)
        narrower = None if self.format is Format.WIDE or width >= self._out.width else width
        with self._out.capture() as captured:
            self._out.print(table, width=narrower)
        self._out.file.write(_TRAILING.sub(r"\1", captured.get()))

    def _blocks(self, columns: Sequence[Column], cells: Sequence[Sequence[Text]]) -> None:
        """Print each row as a block of lines, for a terminal that is too narrow for the table."""
        width = max(len(column.title) for column in columns) + GAP
        for number, line in enumerate(cells):
            if number:
                self._out.print()
            for column, cell in zip(columns, line, strict=True):
                self._out.print(Text.assemble((f"{column.title:<{width}}", "bold"), cell), soft_wrap=True)

    def _fits(self, columns: Sequence[Column], cells: Sequence[Sequence[Text]]) -> bool:
        """Whether the columns that never fold leave the others room to breathe."""
        needed = 0
        for number, column in enumerate(columns):
            widest = max(len(column.title), *(line[number].cell_len for line in cells))
            needed += GAP + (min(widest, FOLDED_WIDTH) if column.fold else widest)
        return needed - GAP <= self._out.width

    def value(self, value: object) -> None:
        """Print one value for a machine; as YAML when a person asked for a table of something that is not one."""
        if self.format is Format.JSON:
            self._out.file.write(json.dumps(value, indent=2, default=str) + "\n")
        else:
            self._out.file.write(yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True))

    def item(self, value: object) -> None:
        """Print one value of a stream for a machine: one line of JSON, or one YAML document."""
        if self.format is Format.JSON:
            self._out.file.write(json.dumps(value, default=str) + "\n")
        else:
            self._out.file.write("---\n" + yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True))
        self._out.file.flush()

    def text(self, text: str) -> None:
        """Print plain text on stdout."""
        self._out.file.write(printable(text.removesuffix("\n")) + "\n")

    def line(self, *parts: tuple[str, str]) -> None:
        """Print one line of (text, style) parts on stdout."""
        self._out.print(_assemble(parts), soft_wrap=True)

    def note(self, text: str) -> None:
        """Tell a person something on stderr."""
        self._tell((text, ""))

    def step(self, text: str, outcome: str = "done") -> None:
        """Report one finished step of a longer command on stderr."""
        self._tell(("  ", ""), (f"{outcome:<11}", STYLES.get(outcome, "green")), (text, ""))

    def _tell(self, *parts: tuple[str, str]) -> None:
        if not self._quiet:
            self._err.print(_assemble(parts), soft_wrap=True)

    def fault(self, error: FleetError) -> None:
        """Print an error on stderr, also a quiet one: code, place, reason and remedy; never a stack trace."""
        known = {"place", "remedy", "request_id"}
        facts = {key: str(value) for key, value in sorted(error.detail.items()) if key not in known}
        facts = ({"at": str(error.detail["place"])} if "place" in error.detail else {}) | facts
        facts["remedy"] = error.remedy
        if error.code is Code.INTERNAL and "request_id" in error.detail:
            facts["request"] = str(error.detail["request_id"])
        width = max(map(len, facts))
        title = (("error ", "bold red"), (str(error.code), "bold"), (f": {error.private}", ""))
        self._err.print(_assemble(title), soft_wrap=True)
        for key, value in facts.items():
            self._err.print(_assemble([(f"  {key:<{width}}  ", ""), (value, "")]), soft_wrap=True)


def printable(text: str) -> str:
    """`text` with everything that could drive a terminal written as an escape; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _assemble(parts: Iterable[tuple[str, str]]) -> Text:
    return Text.assemble(*((printable(text), style) for text, style in parts))


def _cell(value: object) -> Text:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(item) for item in value)
    text = "-" if value is None or value == "" else printable(str(value)).replace("\n", "\\n")
    return Text(text, style=STYLES.get(text, ""))


def _plain(value: object) -> object:
    """JSON types only, so that YAML carries no Python tags."""
    return json.loads(json.dumps(value, default=str))


def result_text(output: str) -> str:
    """Show the result of a call to a person: a string without its quotes and escapes, anything else as WAVE."""
    try:
        value = parse_value(output, Primitive.STRING)
    except FleetError:
        return output  # another type, or a string that was cut
    return str(value)


def grant_name(revision: int, *, emergency: bool) -> str:
    """Name of a grant among those of its agent: its revision, and a mark that nobody overlooks on an emergency's."""
    return f"r{revision} BREAK-GLASS" if emergency else f"r{revision}"


def short_digest(digest: str) -> str:
    """First twelve hex digits of a digest, enough for a person to tell two apart."""
    return digest.removeprefix("sha256:")[:12]


def when(milliseconds: int) -> str:
    """RFC 3339 time in UTC with seconds, or an empty text for 0."""
    if milliseconds == 0:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact(milliseconds: int) -> str | None:
    """RFC 3339 time in UTC with milliseconds for a program, or None for 0."""
    if milliseconds == 0:
        return None
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


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


def took(microseconds: int) -> str:
    """A duration with the unit that fits; "" for none."""
    if not microseconds:
        return ""
    amount = float(microseconds)
    for unit in ("us", "ms"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "us" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} s"


def labels(value: Iterable[tuple[str, str]]) -> str:
    """Labels as `key=value` pairs in order."""
    return ",".join(f"{k}={v}" for k, v in sorted(value))

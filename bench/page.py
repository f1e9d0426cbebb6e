"""The results page: what is measured, what the aims are, and how the figures are shown.

Owns the list of topics, the aims and the Markdown. Pure: it never measures and never looks at the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.measure import Row

HEAD = """# Benchmark results

Written by `make bench`; do not edit. Every time is a median, every size one reading, and every ratio compares two
medians of one run on one machine: ratios carry over to other machines, figures do not. How to read a topic in depth:
the docstring of its module in `bench/`."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One benchmark and its table.

    Attributes:
        name: what `--only` takes.
        module: run as `python -m MODULE`.
        title: heading.
        text: what was measured, in a sentence or two.
        reference: what it is compared with; empty when there is nothing to compare with.
        faster: whether the ratio tells how many times faster this project is, and not what it costs on top.
        arguments: of the module.
        limit_s: seconds after which the benchmark is given up.
    """

    name: str
    module: str
    title: str
    text: str
    reference: str = ""
    faster: bool = False
    arguments: tuple[str, ...] = ()
    limit_s: float = 120.0


TOPICS = (
    Topic(
        "start",
        "bench.start",
        "Start of an agent",
        "From a loaded component to its first call: link by the grant, make the store, instantiate. The committed "
        "Rust agents. The reference has a linker made beforehand, with functions that do nothing.",
        "stock `wasmtime.component`",
        faster=True,
    ),
    Topic(
        "calls",
        "bench.binding",
        "Warm calls",
        "Calls of one running agent through the engine binding.",
        "stock `wasmtime.component`",
        faster=True,
        arguments=("--json",),
    ),
    Topic(
        "throughput",
        "bench.throughput",
        "Throughput",
        "Calls through the whole runtime, from the supervisor's side to the agents and back, one caller per agent; and "
        "lists of numbers through the engine. A ratio of 1.00 is as much as the reference gets through.",
        "the same call in one process and thread; a string of as many bytes",
    ),
    Topic(
        "composition",
        "bench.composition",
        "Calls between agents",
        "One agent calls a function of another in a loop: each in a store of its own, and both fused into one.",
        "the same call fused",
    ),
    Topic(
        "limits",
        "bench.limits",
        "What limits cost",
        "The same code compiled with checks of the deadline (epochs, always on) and with counted instructions (fuel, "
        "for agents whose grant has a budget), all through the stock API.",
        "compiled without either",
    ),
    Topic(
        "restart",
        "bench.restart",
        "Trap to running again",
        "From the fault to the next answer of the restarted agent, between real processes; without the back-off that "
        "the supervisor adds on purpose.",
    ),
    Topic(
        "deploy",
        "bench.deploy",
        "Deploy to healthy",
        "`fleetctl deploy` from its start until every agent runs on every node; all nodes on this machine. The "
        "reference is everything but the rollout, so the difference is the rollout.",
        "`fleetctl plan` of the same manifest",
        limit_s=240.0,
    ),
    Topic(
        "memory",
        "bench.density",
        "Idle memory of a node",
        "Proportional set size of a real node with context-agents of one application, idle.",
        limit_s=180.0,
    ),
    Topic(
        "idle",
        "bench.idle",
        "A thousand idle agents",
        "Proportional set size of one runner with context-agents, idle, and what further agents add to it; and how "
        "long it takes to start one of them, from the supervisor's side.",
        limit_s=240.0,
    ),
    Topic(
        "languages",
        "bench.languages",
        "Languages",
        "The sample agent of `fleetctl bundle new` in each language, on a runner of its own, from the supervisor's "
        "side. A start makes the runner, too. A call counts in the store, runs a model and logs.",
        arguments=("--json",),
        limit_s=240.0,
    ),
    Topic(
        "trust",
        "bench.trust",
        "Release and orders",
        "What a publisher and a node pay for trust: signing and publishing; verifying a release, an order with its "
        "proof, a bundle and a grant, from nothing and again; orders for ten thousand nodes.",
        "as many raw Ed25519 signatures; for nodes, the release alone through python-tuf's public interface",
    ),
    Topic(
        "grants",
        "bench.grants",
        "Grant decisions",
        "What a host function pays to ask whether a call is allowed, with a grant of ten interfaces: a question that "
        "the agent has asked before, which its authority remembers, and one that is new.",
        "the same question looked up in a plain dict",
    ),
    Topic(
        "keyvalue",
        "bench.keyvalue",
        "Key-value store",
        "The host functions of `wasi:keyvalue`, and the same called by a guest: with what it costs to cross into the "
        "guest and back.",
        "plain `sqlite3`, same settings and durability",
    ),
    Topic(
        "nn",
        "bench.nn",
        "Inference",
        "The host functions of `wasi:nn` (input tensor, compute, output), and the same called by a guest: with what it "
        "costs to cross into the guest and back.",
        "`onnxruntime` called directly",
    ),
    Topic(
        "audit",
        "bench.audit",
        "Audit log",
        "A log of a million leaves of about 400 bytes on disk: appending in batches, proofs, and a check of the whole, "
        "streamed from the store: every leaf parsed, projections and root rebuilt.",
        "SHA-256 over the same bytes, for the check read from the same store",
        limit_s=1_200.0,
    ),
)

BY_GUEST = ", by a guest"
"""How the names of rows end that were measured from inside a component."""

IN_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark gave.

    Attributes:
        rows: what it measured.
        fault: why it did not finish; empty when it did.
        notes: what a reader has to know about this run.
    """

    rows: tuple[Row, ...] = ()
    fault: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and when it was measured.

    Attributes:
        facts: name -> value, in the order of the page.
        cores: number of them.
        load_before: one-minute load average at the beginning.
        load_after: the same at the end.
    """

    facts: Mapping[str, str]
    cores: int
    load_before: float
    load_after: float


@dataclass(frozen=True, slots=True)
class Aim:
    """Something the project wants to reach, judged by its worst row.

    Attributes:
        text: the aim.
        topic: whose rows are judged.
        limit: the largest value that meets it.
        value: what is judged of a row.
        show: the value for a reader.
        judged: whether a row counts.
    """

    text: str
    topic: str
    limit: float
    value: Callable[[Row], float]
    show: Callable[[float], str]
    judged: Callable[[Row], bool] = field(default=lambda _row: True)

    def line(self, results: Mapping[str, Result]) -> tuple[str, str, str]:
        """The aim, what was measured, and whether that meets it."""
        result = results.get(self.topic, Result())
        rows = [row for row in result.rows if self.judged(row)]
        if result.fault or not rows:
            return self.text, "not measured", "not met"
        worst = max(rows, key=self.value)
        met = "met" if self.value(worst) <= self.limit else "not met"
        return self.text, f"{self.show(self.value(worst))} ({worst.name})", met


def microseconds(row: Row) -> float:
    """Median of a duration."""
    return row.median * IN_MICROSECONDS[row.unit]


def ratio(row: Row) -> float:
    """Our median over the reference's."""
    return row.median / row.reference if row.reference else float("inf")


def _long(row: Row) -> bool:
    """Whether a call takes more than a millisecond; ours, so that no call becomes too short by a fast reference."""
    return microseconds(row) > 1000


def _long_by_guest(row: Row) -> bool:
    return _long(row) and row.name.endswith(BY_GUEST)


def _long_by_host(row: Row) -> bool:
    return _long(row) and not row.name.endswith(BY_GUEST)


def _percent(value: float) -> str:
    return f"{(value - 1) * 100:+.1f} %" if value < 10 else f"{value:.0f} times"


AIMS = (
    Aim(
        "start of the Rust agent under 50 us",
        "start",
        50,
        microseconds,
        lambda value: f"{value:.0f} us",
        lambda row: row.name == "context-agent, store to first call",
    ),
    Aim(
        "calls with a string, a record, 1 KiB and 1 MiB at least 5 times faster than stock",
        "calls",
        1 / 5,
        ratio,
        lambda value: f"{1 / value:.1f} times",
        lambda row: row.name.startswith(("string", "record", "1 KiB", "1 MiB")),
    ),
    Aim(
        "a call with a string under 10 us",
        "calls",
        10,
        microseconds,
        lambda value: f"{value:.1f} us",
        lambda row: row.name.startswith("string"),
    ),
    Aim(
        "1 MiB of bytes or floats in a call under 10 ms",
        "calls",
        10_000,
        microseconds,
        lambda value: f"{value / 1000:.1f} ms",
        lambda row: row.name.startswith("1 MiB"),
    ),
    *(
        Aim(f"{topic} under 20 % over {library} in calls above 1 ms, {where}", topic, 1.2, ratio, _percent, judged)
        for topic, library in (("keyvalue", "sqlite3"), ("nn", "onnxruntime"))
        for where, judged in (("at the host function", _long_by_host), ("called by a guest", _long_by_guest))
    ),
    Aim(
        "1,000 idle Rust agents under 64 MiB above the runner's own memory",
        "idle",
        64,
        lambda row: row.median,
        lambda value: f"{value:.0f} MiB",
        lambda row: row.name == "1,000 agents more",
    ),
    Aim(
        "trap to running again under 10 ms",
        "restart",
        10_000,
        microseconds,
        lambda value: f"{value / 1000:.1f} ms",
        lambda row: row.name == "restart after trap",
    ),
    Aim(
        "a grant decision that was asked before under 5 us",
        "grants",
        5,
        microseconds,
        lambda value: f"{value:.1f} us",
        lambda row: row.name.startswith("decision asked before"),
    ),
)


def render(results: Mapping[str, Result], surroundings: Surroundings) -> str:
    """Return the whole page."""
    parts = [HEAD, _surroundings(surroundings), "## Aims", _aims(results)]
    parts += [section(topic, results.get(topic.name, Result())) for topic in TOPICS]
    return "\n\n".join(parts) + "\n"


def section(topic: Topic, result: Result) -> str:
    """Return heading, explanation and table of one topic."""
    parts = [f"## {topic.title}", topic.text]
    if topic.reference:
        meaning = "reference / ours, so how many times faster" if topic.faster else "ours / reference"
        parts.append(f"Reference: {topic.reference}. Ratio: {meaning}.")
    if result.rows:
        parts.append(_rows(topic, result.rows))
    parts += result.notes
    if result.fault or not result.rows:
        parts.append(f"**Not complete:** {result.fault or 'it was not run'}.")
    return "\n\n".join(parts)


def _rows(topic: Topic, rows: Sequence[Row]) -> str:
    if not topic.reference:
        return _table(("measured", "ours"), [(row.name, _figure(row.median, row.unit)) for row in rows])
    lines = []
    for row in rows:
        against = "" if row.reference is None else _figure(row.reference, row.unit)
        factor = "" if row.reference is None else f"{1 / ratio(row) if topic.faster else ratio(row):.2f}"
        lines.append((row.name, _figure(row.median, row.unit), against, factor))
    return _table(("measured", "ours", "reference", "ratio"), lines)


def _surroundings(found: Surroundings) -> str:
    facts = {
        **found.facts,
        "load average before and after": f"{found.load_before:.2f}, {found.load_after:.2f}",
    }
    text = _table(("", "measured on"), list(facts.items()))
    if found.load_before > found.cores / 2:
        text += "\n\nOther work kept the machine busy: trust the ratios, and take every figure for an upper bound."
    return text


def _aims(results: Mapping[str, Result]) -> str:
    return _table(("aim", "measured, worst case", ""), [aim.line(results) for aim in AIMS])


def _figure(value: float, unit: str) -> str:
    if unit == "us" and value >= 1000:
        value, unit = value / 1000, "ms"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))

"""Commands for the ends of agents: crash list, show, replay.

A report comes from the node that keeps it, by way of the coordinator, and is checked here. A replay runs on this
machine, in a process of the node program: fleetctl itself never loads an engine and never imports the node.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from fleet.bundle import MAX_COMPONENT, open_bundle
from fleet.crash import MAX_REPORT, decode_report, encode_report, read_frames
from fleet.documents import load_json
from fleet.errors import Code, ExitCode, FleetError
from fleet.oci import MAX_INDEX, digest_of
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.render import Column, Row, exact, short_digest, when
from orchestrator.cli.session import AGENT_NAME, NODE_NAME
from orchestrator.files import read_named

if TYPE_CHECKING:
    from fleet.crash import CrashReport, GuestCall
    from fleet.documents import Value
    from orchestrator.cli.client import Client
    from orchestrator.cli.session import Session

CRASH_COLUMNS = (
    Column("ID", "id"),
    Column("TIME", "time"),
    Column("NODE", "node"),
    Column("AGENT", "agent"),
    Column("CAUSE", "cause"),
    Column("REPLAY", "replay"),
    Column("BUNDLE", "bundle_digest", wide=True),
    Column("MESSAGE", "message", fold=True),
)

REPLAY_TIMEOUT_S = 600.0
"""Compiling a large component takes minutes on a small machine."""

MAX_OUTCOME = 4 << 20
MAX_SHOWN_CALLS = 20
MAX_SHOWN_VALUE = 120
"""Host calls, and characters of each value, that `crash show` writes for a person."""


@click.group()
def crash() -> None:
    """Look at the ends of agents, and see them end again."""


@crash.command("list")
@click.option("--agent", default="", type=AGENT_NAME, metavar="APPLICATION/AGENT", help="Only ends of this agent.")
@click.option("--node", default="", type=NODE_NAME, help="Only what this node keeps.")
@click.pass_obj
def list_crashes(session: Session, agent: str, node: str) -> None:
    """List the crash reports that nodes keep, newest first."""
    with session.connect() as client:
        reply = client.call(client.stub.ListCrashes, pb.ListCrashesRequest(agent=agent, node=node))
    rows = [
        Row(
            {
                "id": c.id,
                "time": exact(c.at_ms),
                "node": c.node,
                "agent": c.agent,
                "cause": c.cause,
                "message": c.message,
                "bundle_digest": c.bundle_digest,
                "component_digest": c.component_digest,
                "replay": "exact" if c.complete else "last-call" if c.recorded else "none",
            },
            {"time": when(c.at_ms), "bundle_digest": short_digest(c.bundle_digest)},
        )
        for c in sorted(reply.crashes, key=lambda c: (-c.at_ms, c.id))
    ]
    session.output.rows(CRASH_COLUMNS, rows, "No agent has crashed, as far as the nodes know.")
    if reply.silent:
        session.output.note(f"No answer from {', '.join(reply.silent)}: their reports are not listed.")


@crash.command()
@click.argument("identifier", metavar="ID")
@click.option("--node", default="", type=NODE_NAME, help="Ask this node only.")
@click.pass_obj
def show(session: Session, identifier: str, node: str) -> None:
    """Show a crash report.

    -o json writes the whole report, as `fleetctl crash replay` takes it from a file.
    """
    with session.connect() as client:
        report = _fetch(client, identifier, node)
    if session.output.machine:
        session.output.value(json.loads(encode_report(report)))
    else:
        describe(session, report)


@crash.command()
@click.argument("source", metavar="ID|REPORT.json")
@click.option("--node", default="", type=NODE_NAME, help="Ask this node only for the report.")
@click.option(
    "--component",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The component, when the coordinator has its bundle no more.",
)
@click.pass_obj
def replay(session: Session, source: str, node: str, component: Path | None) -> int:
    """Run a component again as a crash report says, on this machine.

    Everything that the host told the guest comes from the report: nothing outside is touched. Exit code 0 when the
    guest ended at the same place, 1 when it did not.
    """
    file = Path(source)
    if file.suffix == ".json" or file.exists():
        report = decode_report(read_named(file, MAX_REPORT), source)
        wasm = read_named(component, MAX_COMPONENT) if component is not None else None
        if wasm is None:
            with session.connect() as client:
                wasm = _component(client, report)
    else:
        with session.connect() as client:
            report = _fetch(client, source, node)
            wasm = read_named(component, MAX_COMPONENT) if component is not None else _component(client, report)
    if digest_of(wasm) != report.component:
        raise FleetError(
            Code.DIGEST_MISMATCH, f"the report is about the component {report.component}, this is {digest_of(wasm)}"
        )
    outcome = _run(report, wasm)
    same = outcome.get("same") is True
    if session.output.machine:
        session.output.value(outcome)
    else:
        _describe_outcome(session, report, outcome, same=same)
    return ExitCode.OK if same else ExitCode.ERROR


def _fetch(client: Client, identifier: str, node: str) -> CrashReport:
    reply = client.call(client.stub.GetCrash, pb.GetCrashRequest(id=identifier, node=node))
    report = decode_report(reply.document, f"report of {reply.node}")
    if report.id != identifier:
        raise FleetError(Code.DIGEST_MISMATCH, f"{reply.node} sent the report {report.id} for {identifier}")
    return report


def _component(client: Client, report: CrashReport) -> bytes:
    """The component of a report, out of its bundle; both are checked against the digests in the report."""
    index = client.get_blob(report.bundle, MAX_INDEX)
    if digest_of(index) != report.bundle:
        raise FleetError(Code.DIGEST_MISMATCH, "the coordinator sent another bundle", digest=report.bundle)
    bundle = open_bundle(index, client.get_blob)
    if bundle.component.digest != report.component:
        raise FleetError(
            Code.DIGEST_MISMATCH,
            f"the bundle's component is {bundle.component.digest}, the report is about {report.component}",
            remedy="Give the component that ran with --component FILE.",
        )
    return client.get_blob(report.component, bundle.component.size)


def _run(report: CrashReport, wasm: bytes) -> dict[str, Value]:
    """Replay in a process of the node program.

    Raises:
        FleetError: CONFIG_INVALID when the engine is not installed here; CRASH_INVALID when the process says why not;
            RUNNER_LOST when it was killed; DEADLINE_EXCEEDED.
    """
    missing = [name for name in ("wasmtime", "psutil") if find_spec(name) is None]
    if missing:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"a replay needs the node program, and {', '.join(missing)} is not installed here",
            remedy="Run `pip install 'edge-fleet-orchestrator[node]'` in the environment of fleetctl.",
        )
    with TemporaryDirectory() as scratch:
        files = Path(scratch, "report.json"), Path(scratch, "component.wasm")
        for file, data in zip(files, (encode_report(report), wasm), strict=True):
            file.write_bytes(data)
        program = (sys.executable, "-P", "-m", "edge_agent.agent")
        command = [*program, "replay", str(files[0]), "--component", str(files[1])]
        try:
            done = subprocess.run(command, capture_output=True, timeout=REPLAY_TIMEOUT_S, check=False)  # noqa: S603 - our own program
        except subprocess.TimeoutExpired as error:
            raise FleetError(Code.DEADLINE_EXCEEDED, f"the replay took more than {REPLAY_TIMEOUT_S:.0f} s") from error
    if done.returncode < 0:
        raise FleetError(Code.RUNNER_LOST, f"the replay ended by signal {-done.returncode}: the engine crashed")
    if not done.stdout:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise FleetError(Code.CRASH_INVALID, f"the replay did not run: {reason[-1][:500]}")
    outcome = load_json(done.stdout, Code.CRASH_INVALID, "the outcome of the replay", MAX_OUTCOME)
    if not isinstance(outcome, dict):
        raise FleetError(Code.CRASH_INVALID, "the replay gave no outcome")
    return outcome


def describe(session: Session, report: CrashReport) -> None:
    """Print a report for people."""
    recording = report.recording
    kept = "nothing was recorded" if recording is None else "the whole life of the instance"
    if recording is not None and not recording.complete:
        kept = f"the last {len(recording.calls)} calls"
    facts = {
        "id": report.id,
        "agent": f"{report.agent} on {report.node}, generation {report.generation}",
        "time": when(report.at_ms),
        "cause": report.cause,
        "message": report.message,
        "bundle": report.bundle,
        "component": report.component,
        "grant": report.grant,
        "engine": report.engine,
        "recorded": kept,
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        session.output.line((f"{key:<{width}}  ", "bold"), (str(value), ""))
    _section(
        session,
        "Backtrace, innermost first",
        [_frame(f.module, f.function, f.offset) for f in read_frames(report.backtrace)],
    )
    if recording is not None:
        call = recording.last
        if recording.in_flight > 1:
            _section(session, "Calls in flight", [_call(one) for one in recording.calls[-recording.in_flight :]])
        else:
            _section(session, "Call", [_call(call)])
        shown = [
            f"{_cut(host.function)}({', '.join(map(_cut, host.arguments))})"
            f" {'raised ' + host.raised + ': ' if host.raised else '-> ' if host.result else ''}{_cut(host.result)}"
            for host in call.host_calls[-MAX_SHOWN_CALLS:]
        ]
        earlier = call.lost + len(call.host_calls) - len(shown)
        _section(session, "Host calls in it" + (f", after {earlier} earlier ones" if earlier else ""), shown)
    elif report.invocation:
        _section(session, "Call", [_cut(report.invocation)])
    _section(session, "Log", [f"{when(line.at_ms)} {line.level} {line.context}: {line.message}" for line in report.log])


def _describe_outcome(session: Session, report: CrashReport, outcome: dict[str, Value], *, same: bool) -> None:
    output = session.output
    frames = outcome.get("frames")
    inner = frames[0] if isinstance(frames, list) and frames else None
    place = (
        _frame(*(str(inner.get(key, "")) for key in ("module", "function", "offset")))
        if isinstance(inner, dict)
        else ""
    )
    where = f" in {place}" if place else ""
    if same:
        output.text(f"trapped at the same place: {report.cause}{where}")
    else:
        output.text("did not end as it had")
        for difference in _texts(outcome, "differences"):
            output.text(f"  {difference}")
    what = "everything since its start" if outcome.get("exact") is True else "the last call on a fresh instance"
    output.note(f"Repeated {what}: {outcome.get('calls')} calls.")
    for note in _texts(outcome, "notes"):
        output.note(f"Note: {note}.")


def _texts(outcome: dict[str, Value], key: str) -> list[str]:
    values = outcome.get(key)
    return [str(value) for value in values] if isinstance(values, list) else []


def _section(session: Session, title: str, lines: list[str]) -> None:
    if lines:
        session.output.line((f"\n{title}", "bold"))
        for line in lines:
            session.output.text(f"  {line}")


def _frame(module: str, function: str, offset: str) -> str:
    return f"{module + '!' if module else ''}{function}{' at 0x' + offset if offset else ''}"


def _call(call: GuestCall) -> str:
    if not call.function:
        return "the instance's own start"
    return f"{call.function}({', '.join(map(_cut, call.arguments))})"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_VALUE else f"{text[: MAX_SHOWN_VALUE - 1]}\N{HORIZONTAL ELLIPSIS}"

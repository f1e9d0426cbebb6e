"""Commands that talk to running agents: call, send, logs."""

from __future__ import annotations

import csv
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.documents import load_json
from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2 as pb
from fleet.wit_json import print_json_call
from orchestrator.cli.client import MAX_MESSAGE
from orchestrator.cli.render import exact, result_text, when
from orchestrator.cli.session import AGENT_NAME, NODE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.v1 import model_pb2
    from orchestrator.cli.session import Session

BATCH = 50
"""Events per SendEvent call when a file is sent."""

LEVEL_STYLES = {"warn": "yellow", "error": "red", "critical": "bold red", "debug": "dim", "trace": "dim"}


@click.command()
@click.argument("agent", type=AGENT_NAME, metavar="APPLICATION/AGENT")
@click.argument("invocation")
@click.option(
    "--json", "arguments", metavar="ARRAY", help="Arguments as a JSON array; INVOCATION is then the function's name."
)
@click.option(
    "--node", default="", type=NODE_NAME, help="Call the agent on this node; otherwise on any node that runs it."
)
@click.option(
    "--timeout", "timeout_s", default=10.0, show_default=True, type=click.FloatRange(0.01, 300), help="Seconds."
)
@click.pass_obj
def call(session: Session, agent: str, invocation: str, arguments: str | None, node: str, timeout_s: float) -> None:
    """Call a function that an agent exports.

    INVOCATION is WAVE text, as in `wasmtime run --invoke`.
    A result that is a string is printed without its quotes; -o json has the exact WAVE text under `output`.
    With --json the result is JSON as well, and -o json has it under `result`.

    Example: fleetctl call climate/context 'handle-data({source: "bench", value: 21.5, timestamp: 0})'

    Example: fleetctl call climate/context handle-data --json '[{"source": "bench", "value": 21.5, "timestamp": 0}]'
    """
    if arguments is not None:
        given = load_json(os.fsencode(arguments), Code.VALUE_INVALID, "--json")
        invocation = print_json_call(invocation, given)
    request = pb.CallAgentRequest(agent=agent, node=node, invocation=invocation, deadline_ms=int(timeout_s * 1000))
    with session.connect() as client:
        reply = client.call(client.stub.CallAgent, request, timeout_s=timeout_s + 5)
    if arguments is not None and session.output.machine:
        result = load_json(reply.output.encode(), Code.VALUE_INVALID, "result", MAX_MESSAGE)
        session.output.value({"node": reply.node, "result": result})
    elif session.output.machine:
        session.output.value({"node": reply.node, "output": reply.output})
    else:
        session.output.text(reply.output if arguments is not None else result_text(reply.output))


def wave_readings(path: Path) -> Iterator[str]:
    """Turn a CSV file with the columns source, value, timestamp into WAVE records.

    Raises:
        FleetError: VALUE_INVALID with file and line.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if set(reader.fieldnames or ()) != {"source", "value", "timestamp"}:
            raise FleetError(Code.VALUE_INVALID, "expected the columns source,value,timestamp", place=f"{path}:1")
        for row in reader:
            try:
                value, timestamp = float(row["value"]), int(row["timestamp"])
            except (TypeError, ValueError) as error:
                raise FleetError(Code.VALUE_INVALID, str(error), place=f"{path}:{reader.line_num}") from error
            source = row["source"].replace("\\", "\\\\").replace('"', '\\"')
            yield f'{{source: "{source}", value: {value}, timestamp: {timestamp}}}'


def _batches(payloads: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for payload in payloads:
        batch.append(payload)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@click.command()
@click.argument("topic")
@click.argument("payload", required=False)
@click.option(
    "--csv",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send each row of source,value,timestamp.",
)
@click.option("--limit", default=0, type=click.IntRange(0), help="Rows of the file to send at most; 0 sends all.")
@click.option(
    "--node", default="", type=NODE_NAME, help="Send to this node only; otherwise to every node with an open session."
)
@click.pass_obj
def send(session: Session, topic: str, payload: str | None, file: Path | None, limit: int, node: str) -> None:
    """Send events to the agents that listen to a topic.

    Events are local to a node: every node with an open session gets its own copy. PAYLOAD is WAVE text.

    Example: fleetctl send sensors/temperature '{source: "roof", value: 21.5, timestamp: 0}'
    """
    if (payload is None) == (file is None):
        raise click.UsageError("give either PAYLOAD or --csv FILE")
    payloads = wave_readings(file) if file is not None else iter([payload or ""])
    sent = delivered = 0
    nodes = 0
    with session.connect() as client:
        for batch in _batches(islice(payloads, limit or None)):
            request = pb.SendEventRequest(topic=topic, payloads=batch, node=node)
            reply = client.call(client.stub.SendEvent, request, timeout_s=60)
            sent += len(batch)
            delivered += reply.delivered
            nodes = max(nodes, reply.nodes)
    if session.output.machine:
        session.output.value({"sent": sent, "nodes": nodes, "delivered": delivered})
    else:
        events = "1 event" if sent == 1 else f"{sent} events"
        where = "1 node" if nodes == 1 else f"{nodes} nodes"
        session.output.text(f"{events} sent to {where}; agents took {delivered}")
    if sent and not delivered:
        raise FleetError(
            Code.NOT_FOUND,
            f"no agent took it: none that runs listens to {topic!r}, or the payload does not fit its function",
            topic=topic,
            remedy="Look at `fleetctl agents`, `fleetctl events`, and the triggers in the application's fleet.yaml.",
        )


def _log_line(session: Session, line: model_pb2.LogLine) -> None:
    if session.output.machine:
        session.output.item(
            {
                "time": exact(line.at_ms),
                "node": line.node,
                "agent": line.agent,
                "level": line.level,
                "context": line.context,
                "message": line.message,
            }
        )
        return
    session.output.line(
        (f"{when(line.at_ms)}  ", "dim"),
        (f"{line.node:<8} {line.agent:<20} ", ""),
        (f"{line.level:<8} ", LEVEL_STYLES.get(line.level, "")),
        (f"{line.context}: " if line.context else "", "dim"),
        (line.message, ""),
    )


@click.command()
@click.argument("agent", required=False, default="", type=AGENT_NAME, metavar="[APPLICATION/AGENT]")
@click.option("--node", default="", type=NODE_NAME, help="Only lines of this node.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines as they come.")
@click.option(
    "--tail", default=20, show_default=True, type=click.IntRange(0, 500), help="Earlier lines per agent to begin with."
)
@click.pass_obj
def logs(session: Session, agent: str, node: str, follow: bool, tail: int) -> None:  # noqa: FBT001 - click's own convention
    """Show what agents log."""
    request = pb.StreamLogsRequest(agent=agent, node=node, follow=follow, tail=tail)
    silent = True
    with session.connect() as client:
        for line in client.stream(client.stub.StreamLogs, request, timeout_s=None if follow else 30.0):
            _log_line(session, line)
            silent = False
    if silent and not session.output.machine:
        session.output.note("Nothing was logged.")

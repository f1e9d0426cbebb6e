"""A fleet of three nodes on this machine, from nothing to audited: what `make demo` runs.

Usage: python examples/demo.py [--check | --stop]

Every step is a fleetctl command, shown as a user would type it, and is checked: the run fails if the fleet does not do
what the text says. Progress goes to stderr, results to stdout. A fleet that an earlier run left behind is replaced.
`--check` also stops the fleet at the end, for CI. Needs no root, no Rust and no network beyond loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".demo"
FLEETCTL = Path(sys.executable).with_name("fleetctl")
NODES = {"n1": "role=lab", "n2": "role=edge", "n3": "role=edge"}
SERIES = "components/context-agent/data/noaa-seattle.csv"
BUNDLES = ("context-agent", "hungry-agent", "nosy-agent")
GRANTS = ("context", "hungry", "nosy")
SOURCE = "noaa-seattle"
READINGS = 240
AGENT = "climate/context"
WAIT_S = 45.0
COMMAND_TIMEOUT_S = 180.0
REFUSED = 6


class Failed(Exception):
    """The fleet did not do what the demo says it does."""


def say(text: str) -> None:
    """Tell the reader what comes next."""
    bold = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    sys.stdout.flush()
    sys.stderr.write(f"\n\033[1m{text}\033[0m\n" if bold else f"\n{text}\n")


def _run(arguments: tuple[str, ...], *, expect: int, stdout: int | None, stderr: int | None) -> tuple[str, str]:
    """Run fleetctl; return what it wrote to the streams that are pipes."""
    done = subprocess.run(
        [str(FLEETCTL), *arguments],
        env=os.environ | {"FLEET_HOME": str(HOME)},
        cwd=ROOT,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != expect:
        command = f"fleetctl {' '.join(map(_quoted, arguments))}"
        raise Failed(
            f"`{command}` ended with {done.returncode}, expected {expect}\n{done.stdout or ''}{done.stderr or ''}"
        )
    return done.stdout or "", done.stderr or ""


def fleetctl(*arguments: str) -> None:
    """Show one command and run it as a user would: on the user's own terminal."""
    sys.stdout.flush()
    sys.stderr.write(f"$ fleetctl {' '.join(map(_quoted, arguments))}\n")
    sys.stderr.flush()
    _run(arguments, expect=0, stdout=None, stderr=None)


def refused(*arguments: str) -> str:
    """Show one command that has to be refused; return what it says."""
    sys.stderr.write(f"$ fleetctl {' '.join(map(_quoted, arguments))}\n")
    _, said = _run(arguments, expect=REFUSED, stdout=None, stderr=subprocess.PIPE)
    sys.stderr.write(f"{said}[exit code {REFUSED}]\n")
    return said


def quietly(*arguments: str) -> str:
    """Run one command without showing it; return its result."""
    return _run(arguments, expect=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)[0]


def ask(*arguments: str) -> Any:
    """Run one command quietly and return what it says as JSON."""
    return json.loads(quietly("-o", "json", *arguments))


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {WAIT_S:.0f} s in vain until {what}")
        time.sleep(0.25)


def check(claim: str, *, holds: bool) -> None:
    """Fail the demo when a claim does not hold."""
    if not holds:
        raise Failed(f"not so: {claim}")


def _quoted(argument: str) -> str:
    return f"'{argument}'" if any(c in argument for c in ' {}"') else argument


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        return [str(entry.getsockname()[1]) for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()


def stop() -> None:
    """Stop whatever a demo left running, and remove its files."""
    if not HOME.exists():
        return
    for name in NODES:
        if (HOME / "nodes" / name).exists():
            quietly("node", "down", name)
    if (HOME / "coordinator").exists():
        quietly("coordinator", "down")
    shutil.rmtree(HOME)


def set_up() -> None:
    """Make the fleet: keys, coordinator, three nodes."""
    say("1. A new fleet: keys, trust repository, certificates")
    port, enrolment_port = _free_ports(2)
    fleetctl("init", "--fleet", "demo", "--port", port, "--enrolment-port", enrolment_port)
    say("2. A coordinator and three nodes, each a process with its own directory and certificate")
    fleetctl("coordinator", "up")
    for name, label in NODES.items():
        fleetctl("node", "join", name, "--label", label)
    wait_for("three nodes are online", lambda: [n["state"] for n in ask("nodes")] == ["online"] * len(NODES))
    fleetctl("nodes")


def publish() -> None:
    """Sign and publish bundles and grants, here, with keys that the coordinator never sees."""
    say("3. Sign and publish the agents with their model, and approve what each may do")
    for name in BUNDLES:
        fleetctl("bundle", "push", f"components/{name}")
    for name in GRANTS:
        fleetctl("grant", "approve", "--yes", f"examples/grants/{name}.yaml")


def deploy() -> None:
    """Roll the context agent out over the fleet."""
    say("4. Deploy the context-aware agent: one node first, then the rest")
    fleetctl("deploy", "examples/climate/fleet.yaml")
    phases = {(a["node"], a["phase"]) for a in ask("agents", "climate")}
    check("the agent runs on every node", holds=phases == {(name, "running") for name in NODES})


def verdicts() -> dict[tuple[str, str], dict[str, Any]]:
    """Newest verdict by node and source, from what the agents log."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in quietly("-o", "json", "logs", AGENT, "--tail", "500").splitlines():
        line = json.loads(text)
        if line["message"].startswith("{"):
            verdict = json.loads(line["message"])
            found[line["node"], verdict["source"]] = verdict
    return found


def settled(found: dict[tuple[str, str], dict[str, Any]]) -> bool:
    """Whether every node has judged its own processor and memory, and every reading of the series."""
    judged = {key for key, verdict in found.items() if verdict["score"] is not None}
    whole = all(found.get((node, SOURCE), {}).get("count") == READINGS for node in NODES)
    return whole and judged >= {(node, source) for node in NODES for source in ("cpu", "memory")}


def show_verdicts(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Print one line per node and source."""
    sys.stdout.write(f"{'NODE':<6}{'SOURCE':<14}{'READINGS':>8}  {'VERDICT':<10}{'SCORE':>8}{'THRESHOLD':>11}\n")
    for (node, source), verdict in sorted(found.items()):
        numbers = [f"{verdict[key]:.2f}" if verdict[key] is not None else "-" for key in ("score", "threshold")]
        sys.stdout.write(
            f"{node:<6}{source:<14}{verdict['count']:>8}  {verdict['verdict']:<10}{numbers[0]:>8}{numbers[1]:>11}\n"
        )


def feed() -> None:
    """Let real input flow and show what the agents make of it."""
    say("5. Real input: this machine's own telemetry flows already; now a series of real temperatures")
    fleetctl("send", "sensors/temperature", "--csv", SERIES, "--limit", str(READINGS))
    wait_for("every node has judged every source", lambda: settled(verdicts()))
    say("   Predictions, by the model on each node; a score above the threshold is an anomaly:")
    show_verdicts(verdicts())
    if not any(source == "temperature" for _, source in verdicts()):
        sys.stdout.write("(this machine has no temperature sensor that can be read)\n")
    say("   45 degrees on the next day of that Seattle August:")
    call = f'handle-data({{source: "{SOURCE}", value: 45.0, timestamp: 1346140800}})'
    fleetctl("call", AGENT, call, "--node", "n1")
    for name in NODES:
        answer = ask("call", AGENT, call, "--node", name)
        check("45 degrees in a Seattle August are an anomaly", holds="anomaly" in answer["output"])
    fleetctl("agents", "climate")


def run_away() -> None:
    """Let one agent hit its memory quota while the others go on."""
    say("6. A runaway agent: it takes memory until its quota stops it, is trapped and restarted; the others go on")
    fleetctl("deploy", "examples/runaway/fleet.yaml")
    before = {a["node"]: a["calls"] for a in ask("agents", "climate")}
    fleetctl("send", "lab/eat", '{source: "lab", value: 1.0, timestamp: 0}')
    wait_for(
        "the runaway agent hit its quota and runs again",
        lambda: any(
            a["phase"] == "running" and a["restarts"] >= 1 and (a["last_exit"] or {}).get("cause") == "quota"
            for a in ask("agents", "runaway")
        ),
    )
    fleetctl("agents")
    fleetctl("events", "--agent", "runaway/hungry")
    wait_for(
        "the context agents went on", lambda: all(a["calls"] > before[a["node"]] for a in ask("agents", "climate"))
    )
    restarts = [a["restarts"] for a in ask("agents", "climate")]
    check("no other agent was restarted", holds=restarts == [0] * len(NODES))


def refuse() -> None:
    """Show that an import beyond the grant never starts."""
    say("7. An agent that asks for more than its grant is refused, with the command that would grant it")
    said = refused("deploy", "examples/nosy/fleet.yaml")
    check("the refusal names the interface", holds="wasi:config/store" in said)
    check("the refusal names the command", holds="fleetctl grant propose nosy/reader" in said)
    check("nothing was deployed", holds=ask("agents", "nosy") == [])


def audit() -> None:
    """Ask who may do what, and check the log that says so."""
    say("8. Which agent has which grants? Every answer comes from a log that the coordinator cannot rewrite unseen")
    fleetctl("audit", "who")
    answers = ask("audit", "who")
    granted = {(a["node"], a["agent"]) for a in answers}
    expected = {(name, "climate/context") for name in NODES} | {("n1", "runaway/hungry")}
    check("the audit names exactly the agents that run", holds=granted == expected)
    check("every answer is confirmed by the node", holds=all(a["enforced"] for a in answers))
    fleetctl("audit", "verify")


def run(*, keep: bool) -> None:
    """Run the whole demo."""
    started = time.monotonic()
    stop()
    set_up()
    publish()
    deploy()
    feed()
    run_away()
    refuse()
    wait_for("every node has confirmed", lambda: all(a["enforced"] for a in ask("audit", "who")))
    audit()
    say(f"Done in {time.monotonic() - started:.0f} s.")
    if keep:
        home = HOME.relative_to(ROOT)
        sys.stderr.write(
            "The fleet is still running. Look around:\n"
            f'  export FLEET_HOME="$PWD/{home}" PATH="$PWD/.venv/bin:$PATH"\n'
            "  fleetctl status\n"
            "  fleetctl logs -f climate/context\n"
            "  fleetctl grant explain climate/context\n"
            "Stop it with: make demo-stop\n"
        )
    else:
        stop()


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="stop the fleet at the end")
    mode.add_argument("--stop", action="store_true", help="stop the fleet of an earlier run")
    options = parser.parse_args()
    try:
        if options.stop:
            stop()
        else:
            run(keep=not options.check)
    except (Failed, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"\nthe demo failed: {error}\nThe logs are in {HOME}; `make demo-stop` cleans up.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; `make demo-stop` cleans up\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

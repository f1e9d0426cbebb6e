"""A fleet of three nodes on this machine, from nothing to audited: what `make demo` runs.

Usage: python examples/demo.py [--check | --stop]

Every step is a fleetctl command, shown as a user would type it, and is checked: the run fails if the fleet does not do
what the text says. `--check` also stops the fleet at the end, for CI. Needs no root, no Rust and no network beyond
loopback.
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
READINGS = 240
WAIT_S = 45.0
REFUSED = 6


class Failed(Exception):
    """The fleet did not do what the demo says it does."""


def say(text: str) -> None:
    """Tell the reader what comes next."""
    sys.stderr.write(f"\n\033[1m{text}\033[0m\n" if sys.stderr.isatty() else f"\n{text}\n")


def fleetctl(*arguments: str, expect: int = 0, show: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one command as a user would; its output is passed on."""
    if show:
        sys.stderr.write(f"$ fleetctl {' '.join(_quoted(a) for a in arguments)}\n")
    environment = os.environ | {"FLEET_HOME": str(HOME)}
    done = subprocess.run(
        [str(FLEETCTL), *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if show else subprocess.PIPE,  # one stream, so that lines keep their order
        text=True,
        timeout=180,
        check=False,
    )
    if show:
        sys.stderr.flush()
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
    if done.returncode != expect:
        said = done.stdout + (done.stderr or "")
        raise Failed(f"`fleetctl {' '.join(arguments)}` ended with {done.returncode}, expected {expect}\n{said}")
    return done


def ask(*arguments: str) -> Any:
    """Run one command quietly and return what it says as JSON."""
    return json.loads(fleetctl("-o", "json", *arguments, show=False).stdout)


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
            fleetctl("-q", "node", "down", name, show=False)
    if (HOME / "coordinator").exists():
        fleetctl("-q", "coordinator", "down", show=False)
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
        folder = HOME / "bundles" / name
        folder.parent.mkdir(exist_ok=True)
        fleetctl("bundle", "build", f"components/{name}", "--to", str(folder.relative_to(ROOT)))
        fleetctl("bundle", "push", str(folder.relative_to(ROOT)))
    for name in GRANTS:
        fleetctl("grant", "approve", "--yes", f"examples/grants/{name}.yaml")


def deploy() -> None:
    """Roll the context agent out over the fleet."""
    say("4. Deploy the context-aware agent: one node first, then the rest")
    fleetctl("deploy", "examples/climate/fleet.yaml")
    phases = {(a["node"], a["phase"]) for a in ask("agents", "climate")}
    check("the agent runs on every node", holds=phases == {(name, "running") for name in NODES})


def feed() -> None:
    """Let real input flow and show what the agents make of it."""
    say("5. Real input: this machine's own telemetry flows already; now a series of real temperatures")
    fleetctl("send", "sensors/temperature", "--csv", SERIES, "--limit", str(READINGS))

    def verdicts(agent: dict[str, Any]) -> bool:
        return "verdict" in agent["last_output"] and agent["calls"] >= READINGS

    wait_for("every agent has classified the series", lambda: all(verdicts(a) for a in ask("agents", "climate")))
    say("   Predictions per node, from the model on the node:")
    for name in NODES:
        reading = '{source: "noaa-seattle", value: 45.0, timestamp: 1346140800}'
        reply = fleetctl("call", "climate/context", f"handle-data({reading})", "--node", name).stdout
        check("45 degrees in a Seattle August are an anomaly", holds="anomaly" in reply)
    fleetctl("-o", "wide", "agents", "climate")


def run_away() -> None:
    """Let one agent hit its memory quota while the others go on."""
    say("6. A runaway agent: it takes memory until its quota stops it, is trapped and restarted; the others go on")
    fleetctl("deploy", "examples/runaway/fleet.yaml")
    before = {a["node"]: a["calls"] for a in ask("agents", "climate")}
    fleetctl("send", "lab/eat", '{source: "lab", value: 1.0, timestamp: 0}')
    wait_for(
        "the runaway agent hit its quota and runs again",
        lambda: any(
            a["phase"] == "running" and a["restarts"] >= 1 and a["last_exit"].startswith("quota")
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
    done = fleetctl("deploy", "examples/nosy/fleet.yaml", expect=REFUSED)
    check("the refusal names the interface", holds="wasi:config/store" in done.stdout)
    check("the refusal names the command", holds="fleetctl grant propose nosy/reader" in done.stdout)
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
            f"  export FLEET_HOME={home} PATH=.venv/bin:$PATH\n"
            "  fleetctl status; fleetctl logs -f climate/context; fleetctl grant explain climate/context\n"
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

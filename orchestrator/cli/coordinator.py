"""Commands that run the embedded coordinator on this machine: coordinator up, coordinator down."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2 as pb
from orchestrator.cli import background
from orchestrator.cli.trust import TrustDirectory, publish

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.cli.session import Session

START_TIMEOUT_S = 30.0


def paths(home: Path) -> tuple[Path, Path, Path]:
    """Configuration, pid file and log file of the embedded coordinator."""
    base = home / "coordinator"
    return base / "coordinator.toml", base / "coordinator.pid", base / "coordinator.log"


def wait_until_serving(session: Session, pid_file: Path, log_file: Path) -> None:
    """Wait until the coordinator answers.

    Raises:
        FleetError: UNAVAILABLE with the end of its log when it ended or stayed silent.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with session.connect() as client:
                client.call(client.stub.AuditCheckpoint, pb.AuditCheckpointRequest(), timeout_s=2.0)
        except FleetError as error:
            waiting = error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}
            if not waiting:
                raise
            if background.running(pid_file) is None or time.monotonic() > deadline:
                raise FleetError(
                    Code.UNAVAILABLE,
                    f"the coordinator did not start:\n{background.last_lines(log_file)}",
                    place=str(log_file),
                    remedy=f"Read {log_file}.",
                ) from error
            time.sleep(0.1)
        else:
            return


def _seed(session: Session) -> None:
    """Give a new coordinator the release that `fleetctl init` signed, so that nodes can verify it from the start."""
    directory = TrustDirectory(session.context().trust)
    with session.connect() as client:
        if not client.call(client.stub.GetTrust, pb.GetTrustRequest()).files:
            publish(directory, client, directory.files(), {}, session.now())


@click.group()
def coordinator() -> None:
    """Run the embedded coordinator on this machine."""


@coordinator.command()
@click.option("--foreground", is_flag=True, help="Stay in the foreground instead of going into the background.")
@click.pass_obj
def up(session: Session, foreground: bool) -> int:  # noqa: FBT001 - click's own convention
    """Start the coordinator that `fleetctl init` set up."""
    config, pid_file, log_file = paths(session.home)
    if not config.exists():
        raise FleetError(
            Code.NOT_FOUND, "no coordinator is set up here", place=str(config), remedy="Run `fleetctl init` first."
        )
    command = [sys.executable, "-P", "-m", "orchestrator.server", "serve", "--config", str(config)]
    if foreground:
        return subprocess.call(command)  # noqa: S603 - our own program, no shell
    if background.running(pid_file) is not None:
        session.output.note(f"The coordinator runs already at {session.context().address}.")
        return 0
    background.start(command, pid_file, log_file)
    wait_until_serving(session, pid_file, log_file)
    _seed(session)
    session.output.note(f"The coordinator serves at {session.context().address}; its log is {log_file}.")
    return 0


@coordinator.command()
@click.pass_obj
def down(session: Session) -> None:
    """Stop the coordinator. The nodes go on without it."""
    _, pid_file, _ = paths(session.home)
    stopped = background.stop(pid_file)
    session.output.note("The coordinator is stopped." if stopped else "The coordinator was not running.")

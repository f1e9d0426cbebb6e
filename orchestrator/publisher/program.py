"""The program `fleet-publisher`: builds a publisher, runs it until SIGTERM, and logs what it does."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ExitCode, FleetError
from orchestrator.cli.client import connect
from orchestrator.cli.trust import TrustDirectory
from orchestrator.publisher.publisher import Fate, Publisher
from orchestrator.publisher.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_LOG = logging.getLogger(__name__)


def serve(publisher: Publisher, stopped: Callable[[], bool]) -> None:
    """Look again and again; `stopped` waits between looks and says whether to end. Nothing ends it but that."""
    while True:
        look(publisher)
        if stopped():
            return


def look(publisher: Publisher) -> bool:
    """Look once and log the outcome; returns whether nothing went wrong."""
    well = True
    try:
        for outcome in publisher.tick():
            level = logging.INFO if outcome.error is None else logging.WARNING
            why = f": {outcome.error} ({outcome.error.remedy})" if outcome.error is not None else ""
            _LOG.log(level, "%s %s%s", outcome.fate, outcome.what, why)
            well = well and outcome.fate in {Fate.PUBLISHED, Fate.REFRESHED}
    except FleetError as error:
        _LOG.warning("%s (%s)", error, error.remedy)
        return False
    return well


def main(arguments: list[str] | None = None) -> int:
    """Run `fleet-publisher run`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fleet-publisher", description="Publishes what others signed completely.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="take changes from the inbox and keep the release fresh, until SIGTERM")
    run.add_argument("--config", type=Path, required=True, help="publisher.toml")
    run.add_argument("--once", action="store_true", help="look at everything once, then end")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tuf").setLevel(logging.WARNING)  # it tells of every key that need not have signed
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    def now() -> datetime:
        return datetime.now(UTC)

    try:
        settings = load_settings(options.config)
        directory = TrustDirectory(settings.context.trust)
        context = settings.context
        publisher = Publisher(directory, settings.inbox, lambda: connect(context, now), now, settings.name, context.ca)
        publisher.check_keys()
        if options.once:
            look(publisher)  # the first look only sees what is there
            return ExitCode.OK if look(publisher) else ExitCode.ERROR
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        _LOG.info("publishing to %s from %s", settings.context.address, settings.inbox)
        serve(publisher, lambda: stop.wait(settings.poll_s))
    except FleetError as error:
        _LOG.error("%s. %s", error, error.remedy)
        return error.row.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

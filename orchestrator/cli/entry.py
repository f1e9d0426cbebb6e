"""Entry point of the fleetctl program: nothing but what has to happen before its modules are loaded."""

from __future__ import annotations

import signal


def run() -> int:
    """Load fleetctl and run it; returns the exit code.

    Loading takes most of a second. A Ctrl-C in that time ends the process by the signal, without a stack trace; from
    then on `main` answers it. A SIGINT that the parent told this process to ignore stays ignored.
    """
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from orchestrator.cli.main import main  # noqa: PLC0415 - loading it is what is guarded

    if handled:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()

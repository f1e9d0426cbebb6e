"""The command `edge-agent replay`: a crash report and a component in, what came of it out.

Owns: the bounds on what is read, what this process gives up before it runs a guest, and the form of the answer, which
`fleetctl crash replay` reads. It is a process of its own, so an engine that crashes takes nothing else with it. Never
loads the engine before it is asked to.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from edge_agent.disk import read_named
from fleet.bundle import MAX_COMPONENT
from fleet.crash import MAX_REPORT, decode_report
from fleet.documents import dump_json

if TYPE_CHECKING:
    from pathlib import Path


def replay_files(report: Path, component: Path) -> tuple[str, bool]:
    """Replay a report that is a file, with the component that is a file.

    Returns:
        One JSON object, the fields of `edge_agent.runner.replay.Outcome`; and whether the guest ended as it had.

    Raises:
        FleetError: CONFIG_INVALID when a file cannot be read; CRASH_INVALID, DIGEST_MISMATCH, LIMIT_EXCEEDED, and
            whatever compiling the component raises.
    """
    found = decode_report(read_named(report, MAX_REPORT), str(report))
    wasm = read_named(component, MAX_COMPONENT)
    # Imported here: the programs `run` and `join` never load the engine into their own process.
    from edge_agent.runner.confinement import drop_privileges  # noqa: PLC0415
    from edge_agent.runner.replay import replay  # noqa: PLC0415

    if sys.platform == "linux":
        drop_privileges()
    outcome = replay(found, wasm)
    return dump_json({"report": found.id, **asdict(outcome)}).decode(), outcome.same

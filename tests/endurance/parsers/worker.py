"""Fuzzes one parser, guided by the coverage of `fleet`: a process of its own, which libFuzzer ends.

    main(): NAME RUNS SECONDS CORPUS from the command line

The fuzzer ends after so many RUNS or SECONDS, 0 for no such bound; by RUNS it tries the same inputs every time. CORPUS
is a folder; the seeds are written into it first. Whatever escapes that is no `FleetError`, takes longer than thirty
seconds or needs more than a GiB ends the process with an exit code, and its input stays in CORPUS.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

PARSING = [
    "fleet",
    "edge_agent.link.enrolment",
    "orchestrator.audit_export",
    "orchestrator.cli.layout",
    "orchestrator.cli.login",
    "orchestrator.guardrails",
    "orchestrator.pki",
]
"""Modules whose coverage guides the search; to instrument one takes a while."""

with atheris.instrument_imports(include=PARSING):
    from tests.endurance.parsers.parser import holds
    from tests.endurance.parsers.targets import PARSERS

LONGEST_S = 30
MOST_MIB = 1024


def main() -> None:
    name, runs, seconds, corpus = sys.argv[1:]
    parser, folder = PARSERS[name], Path(corpus)
    for number, seed in enumerate(parser.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    limits = [f"-timeout={LONGEST_S}", f"-rss_limit_mb={MOST_MIB}", f"-max_len={parser.longest}"]
    shown = ["-print_final_stats=1", f"-artifact_prefix={folder}/fault-"]
    bounds = [f"-runs={int(runs) or -1}", f"-max_total_time={seconds}", f"-seed={1 if int(runs) else 0}"]
    arguments = [sys.argv[0], *bounds, "-reload=0", *limits, *shown, str(folder)]
    atheris.Setup(arguments, lambda data: holds(parser, data) or None)
    atheris.Fuzz()

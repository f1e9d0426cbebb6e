"""Programs that nobody here wrote, built from pinned sources and kept where fleetctl keeps its tools.

What Go fetches for them is checked against its checksum database. A tool that is missing is an error: nothing here is
ever skipped.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import cache
from pathlib import Path

from orchestrator.building.languages import INSTALL_GO
from orchestrator.building.tools import Tools, program

REGISTRY = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
ORAS = "oras.land/oras/cmd/oras@v1.3.6"


@cache
def go_program(package: str) -> Path:
    """Build `MODULE/PATH@VERSION` unless it was; returns the program."""
    tools = Tools(lambda text: sys.stderr.write(f"{text}\n"))
    name = package.partition("@")[0].rpartition("/")[2]
    found = tools.cache / f"go-{package.replace('/', '_')}" / name
    if not found.exists():
        go = program("go", INSTALL_GO)
        tools.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools.cache) as scratch:
            tools.run([go, "install", package], Path(scratch), {**os.environ, "GOBIN": scratch})
            found.parent.mkdir(exist_ok=True)
            Path(scratch, name).replace(found)
    return found

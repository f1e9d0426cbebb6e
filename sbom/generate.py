"""Write the software bill of materials of what requirements.lock installs: CycloneDX 1.6, JSON.

Usage: python sbom/generate.py FILE

The generator (cyclonedx-bom) is installed beside the environment that it describes, with hashes, from requirements.txt
here; `pip-compile --generate-hashes requirements.in` makes that file. What is described is compared with the lock: an
environment that holds anything else, or less, has no bill of materials. The same environment gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from fleet.errors import FleetError
from orchestrator.building.tools import Tools

ROOT = Path(__file__).resolve().parent.parent
PROJECT = "edge-fleet-orchestrator"


def locked(lock: str) -> dict[str, str]:
    """Return name and version of every requirement of a lock file."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock, re.MULTILINE))


def described(sbom: str) -> dict[str, str]:
    """Return name and version of every component of a bill of materials, names as PyPI normalises them (PEP 503)."""
    components = json.loads(sbom)["components"]
    return {re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"] for part in components}


def check(sbom: str, lock: str) -> int:
    """Compare a bill of materials with a lock file; returns the number of packages.

    Raises:
        ValueError: one of them names what the other does not.
    """
    found, expected = described(sbom), locked(lock)
    found.pop(PROJECT, None)
    if found != expected:
        different = ", ".join(sorted(dict(found.items() ^ expected.items())))
        raise ValueError(f"not what requirements.lock says: {different}; run `make setup` in a new .venv")
    return len(found)


def generate(target: Path, tools: Tools) -> int:
    """Write the bill of materials to `target`; returns the number of its packages.

    Raises:
        FleetError: TOOL_MISSING, BUILD_FAILED when the generator cannot be had or fails.
        ValueError: the environment is not what the lock says; nothing is written.
    """
    generator = tools.python(ROOT / "sbom" / "requirements.txt")
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--spec-version", "1.6", "--of", "JSON")
    text = tools.run(generator.module("cyclonedx_py", "environment", *options, sys.prefix), ROOT)
    number = check(text, (ROOT / "requirements.lock").read_text())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return number


def main(arguments: list[str]) -> int:
    """Write it and say how much it holds."""
    target = Path(arguments[0])
    try:
        number = generate(target, Tools(lambda text: sys.stderr.write(f"{text}\n")))
    except (FleetError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{target}: {number} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

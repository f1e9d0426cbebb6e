"""Finding and installing the tools that build components, and running them.

Owns: the cache of installed tools and the one way to start one. What is installed is named by a project's lock file,
digests included, and lands in a directory whose name changes with the lock, so that nothing is ever updated in place.
Never installs a compiler of the machine and never needs to be root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from orchestrator.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STEP_TIMEOUT_S = 1800
"""Longest that one step of a build may take, downloads included."""

MAX_OUTPUT = 16 * 1024
"""Characters of a failed step's output that are shown: its end."""

MAX_LOCK = 4 * 1024 * 1024
"""Bytes of a lock file."""

INSTALL_NODE = "Install Node.js 18 or newer with npm: `apt-get install nodejs npm`, or https://nodejs.org/en/download."
INSTALL_PIP = f"Install pip for the Python that runs fleetctl: `{sys.executable} -m ensurepip`."


def cache_directory() -> Path:
    """Where tools are kept: below XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-fleet-orchestrator"


def program(name: str, remedy: str) -> Path:
    """Return a program of the machine.

    Raises:
        FleetError: TOOL_MISSING with `remedy` when it is not on the PATH.
    """
    found = shutil.which(name)
    if found is None:
        raise FleetError(Code.TOOL_MISSING, f"{name} is not on the PATH", tool=name, remedy=remedy)
    return Path(found)


class Tools:
    """What one build runs; a step's own words are shown only when it fails.

    Args:
        note: takes progress, one sentence at a time, and the output of a step that failed.
        cache: directory for installed tools.
    """

    def __init__(self, note: Callable[[str], object], cache: Path | None = None) -> None:
        self.note = note
        self.cache = cache or cache_directory()

    def run(self, command: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run one step in `cwd` and return what it printed on stdout.

        Args:
            command: program and arguments.
            cwd: working directory.
            env: the whole environment; None: this process's own.

        Raises:
            FleetError: BUILD_FAILED when it fails or takes too long; its output was noted.
        """
        name = Path(command[0]).name
        try:
            done = subprocess.run(  # noqa: S603 - the recipes of this package, and paths of the user's own
                [str(part) for part in command],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=STEP_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FleetError(
                Code.BUILD_FAILED, f"{name} took longer than {STEP_TIMEOUT_S} s", place=str(cwd), tool=name
            ) from error
        if done.returncode != 0:
            self.note((done.stdout + done.stderr)[-MAX_OUTPUT:].rstrip())
            raise FleetError(Code.BUILD_FAILED, f"{name} ended with {done.returncode}", place=str(cwd), tool=name)
        return done.stdout

    def python(self, lock: Path) -> PythonTools:
        """Install the Python packages of a requirements file with hashes, unless they are there.

        Raises:
            FleetError: TOOL_MISSING without pip; BUILD_FAILED when a package cannot be had or is not the pinned one.
        """

        def install(target: Path) -> None:
            probe = [
                sys.executable,
                "-c",
                "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)",
            ]
            if subprocess.run(probe, check=False).returncode != 0:  # noqa: S603 - fixed text
                raise FleetError(Code.TOOL_MISSING, "this Python has no pip", tool="pip", remedy=INSTALL_PIP)
            options = (
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
            )
            self.run([sys.executable, "-m", "pip", "install", *options, "--target", target, "-r", lock], lock.parent)

        # Wheels are for one interpreter: another Python gets its own.
        return PythonTools(self._installed("python", (lock,), sys.implementation.cache_tag or "", install))

    def node(self, lock: Path) -> Path:
        """Install the npm packages of a lock file, unless they are there; returns the folder of their programs.

        Raises:
            FleetError: TOOL_MISSING without Node.js; BUILD_FAILED when a package cannot be had or was changed.
        """
        files = (lock.with_name("package.json"), lock)

        def install(target: Path) -> None:
            npm = program("npm", INSTALL_NODE)
            target.mkdir()
            for file in files:
                shutil.copy(file, target)
            # Not `ci`: it refuses a lock in which packages for other platforms are missing, and not every registry has
            # them. Scripts of packages are not run.
            self.run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], target)

        return self._installed("node", files, "", install) / "node_modules" / ".bin"

    def _installed(self, kind: str, files: Sequence[Path], variant: str, install: Callable[[Path], None]) -> Path:
        digest = hashlib.sha256(variant.encode())
        for file in files:
            digest.update(b"\0" + hashlib.sha256(_read_lock(file)).digest())
        found = self.cache / f"tools-{kind}-{digest.hexdigest()[:16]}"
        if not found.is_dir():
            self.note(f"Installing what {files[-1].name} names into {found}.")
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as scratch:
                made = Path(scratch) / "tools"
                install(made)
                # Two builds at once do the same work; the loser finds the winner's directory.
                if not found.is_dir():
                    made.rename(found)
        return found


class PythonTools:
    """Programs out of Python packages that are installed beside this interpreter, not into it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def module(self, name: str, *arguments: str | Path) -> list[str | Path]:
        """Return the command that runs a package."""
        code = (
            f"import runpy, sys; sys.path.insert(0, {str(self._folder)!r}); runpy.run_module({name!r}, alter_sys=True)"
        )
        return [sys.executable, "-c", code, *arguments]

    def function(self, module: str, name: str, *arguments: str | Path) -> list[str | Path]:
        """Return the command that runs a function which takes its arguments from the command line."""
        code = f"import sys; sys.path.insert(0, {str(self._folder)!r}); from {module} import {name}; sys.exit({name}())"
        return [sys.executable, "-c", code, *arguments]


def _read_lock(file: Path) -> bytes:
    try:
        return read_bounded(file, MAX_LOCK)
    except OSError as error:
        raise FleetError(
            Code.BUNDLE_INVALID,
            f"the file that names the build's tools cannot be read: {error.strerror}",
            place=str(file),
            remedy="Take it from a new scaffold: `fleetctl bundle new`.",
        ) from error

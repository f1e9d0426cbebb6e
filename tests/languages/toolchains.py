"""Builds the agents of this folder with their languages' own tools, which are installed where they are needed.

What is built and installed is kept in `build/languages`, under a name that changes with whatever it was made from.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "languages"
WORLD = "sensor"
TIMEOUT_S = 300
"""Longest that one step may take, downloads included."""


def javascript() -> Path:
    """The agent on QuickJS."""
    source = HERE / "javascript" / "agent.js"
    tools = _made("npm", (HERE / "package.json", HERE / "package-lock.json"), _install_npm)

    def build(target: Path) -> None:
        program = tools / "node_modules" / ".bin" / "componentize-qjs"
        _run(program, "--wit", HERE / "wit", "--world", WORLD, "--sync", "--js", source, "--output", target)

    return _made("javascript.wasm", (source, *_wit(), HERE / "package-lock.json"), build)


def python() -> Path:
    """The agent on CPython."""
    source = HERE / "python" / "app.py"
    tools = _made("pip", (HERE / "requirements.txt",), _install_pip)

    def build(target: Path) -> None:
        program = tools / "bin" / "componentize-py"
        place = {"PYTHONPATH": str(tools), "PATH": str(Path(sys.executable).parent)}
        _run(
            *(program, "--wit-path", HERE / "wit", "--world", WORLD),
            *("componentize", "app", "--python-path", source.parent, "--output", target),
            env=place,
        )

    return _made("python.wasm", (source, *_wit(), HERE / "requirements.txt"), build)


def _install_npm(target: Path) -> None:
    target.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, target)
    # Not `ci`: it refuses a lock in which packages for other platforms are missing, and not every registry has them.
    _run("npm", "install", "--prefix", target, "--no-audit", "--no-fund", "--ignore-scripts")


def _install_pip(target: Path) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:")
    _run(sys.executable, "-m", "pip", "install", *options, "--target", target, "-r", HERE / "requirements.txt")


def _wit() -> list[Path]:
    return [*(HERE / "wit").glob("*.wit"), *(HERE / "wit" / "deps").glob("*/*.wit")]


def _made(name: str, sources: tuple[Path, ...], make) -> Path:
    """Make something from sources unless it is there from an earlier run."""
    digest = hashlib.sha256()
    for source in sorted(sources):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(HERE)} {len(content)}\n".encode() + content)
    found = BUILD / f"{digest.hexdigest()[:16]}-{name}"
    if not found.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = BUILD / f"unfinished-{found.name}"
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        make(unfinished)
        unfinished.rename(found)
    return found


def _run(*command: object, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(part) for part in command], env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"

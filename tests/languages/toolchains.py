"""Builds agents with their languages' own tools, by the recipes and the pinned tools of `fleetctl bundle build`.

What is built is kept in `build/languages`, under a name that changes with whatever it was made from; what is installed
for it is kept where fleetctl keeps it. A tool that is missing is an error: nothing here is ever skipped.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from fleet.bundle import Language, parse_bundle_manifest
from orchestrator.building import build_component, scaffold
from orchestrator.building.tools import Tools

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "languages"
PACKAGE = HERE.parents[1] / "orchestrator" / "building"
TEMPLATES = PACKAGE / "templates"
WORLD = "sensor"


def tools() -> Tools:
    return Tools(lambda text: sys.stderr.write(f"{text}\n"))


def javascript() -> Path:
    """The sensor agent of this folder on QuickJS."""
    source = HERE / "javascript" / "agent.js"
    lock = TEMPLATES / "quickjs" / "package-lock.json"

    def build(target: Path) -> None:
        program = tools().node(lock) / "componentize-qjs"
        options = ("--wit", HERE / "wit", "--world", WORLD, "--sync", "--js", source, "--output", target)
        tools().run([program, *options], HERE)

    return _made("javascript.wasm", (source, *_wit(), lock), build)


def python() -> Path:
    """The sensor agent of this folder on CPython."""
    source = HERE / "python" / "app.py"
    lock = TEMPLATES / "python" / "requirements.txt"

    def build(target: Path) -> None:
        steps = ("componentize", "app", "--python-path", source.parent, "--output", target)
        options = ("--wit-path", HERE / "wit", "--world", WORLD)
        tools().run(tools().python(lock).function("componentize_py", "script", *options, *steps), target.parent)

    return _made("python.wasm", (source, *_wit(), lock), build)


def asynchronous() -> Path:
    """The agent with asynchronous functions, on CPython."""
    folder = HERE / "asynchronous"
    lock = TEMPLATES / "python" / "requirements.txt"

    def build(target: Path) -> None:
        steps = ("componentize", "app", "--python-path", folder, "--output", target)
        options = ("--wit-path", folder / "wit", "--world", "tasks-agent")
        tools().run(tools().python(lock).function("componentize_py", "script", *options, *steps), target.parent)

    wit = [*(folder / "wit").glob("*.wit"), *(folder / "wit" / "deps").glob("*/*.wit")]
    return _made("asynchronous.wasm", (folder / "app.py", *wit, lock), build)


def awaiting() -> Path:
    """The agent with asynchronous exports, on QuickJS."""
    folder = HERE / "asynchronous" / "javascript"
    lock = TEMPLATES / "quickjs" / "package-lock.json"

    def build(target: Path) -> None:
        program = tools().node(lock) / "componentize-qjs"
        options = ("--wit", folder / "wit", "--world", "awaiting-agent", "--js", folder / "agent.js")
        tools().run([program, *options, "--output", target], HERE)

    return _made("awaiting.wasm", (folder / "agent.js", folder / "wit" / "world.wit", lock), build)


def sample(language: Language) -> Path:
    """What `fleetctl bundle new` writes for a language, as `fleetctl bundle build` builds it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sample-agent"
        scaffold("sample-agent", language, folder)
        sources = [path for path in folder.rglob("*") if path.is_file() and path.name != "README.md"]
        recipes = [*PACKAGE.glob("*.py"), *PACKAGE.glob("adapters/*.wasm")]

        def build(target: Path) -> None:
            manifest = parse_bundle_manifest((folder / "bundle.yaml").read_bytes(), "bundle.yaml")
            shutil.copyfile(build_component(folder, manifest, tools()), target)

        return _made(f"sample-{language}.wasm", (*sources, *recipes), build)


def _wit() -> list[Path]:
    return [*(HERE / "wit").glob("*.wit"), *(HERE / "wit" / "deps").glob("*/*.wit")]


def _made(name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> Path:
    """Make something from sources unless it is there from an earlier run."""
    parts = sorted((source.name, source.read_bytes()) for source in sources)
    digest = hashlib.sha256(b"".join(f"{part} {len(data)}\n".encode() + data for part, data in parts))
    found = BUILD / f"{digest.hexdigest()[:16]}-{name}"
    if not found.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = BUILD / f"unfinished-{found.name}"
        make(unfinished)
        unfinished.rename(found)
    return found

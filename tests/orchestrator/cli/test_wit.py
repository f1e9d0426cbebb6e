"""fleetctl wit python: from .wit files to a package that a host and its tests use."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from edge_agent.capabilities import SERVED
from edge_agent.capabilities.base import AgentContext
from edge_agent.runner.engine import Engine, Instance, Limits
from fleet.errors import Code
from fleet.wit_document import parse_document
from fleet.wit_types import Err, Ok
from orchestrator.cli.main import main
from tests.fakes.agents import Node

ROOT = Path(__file__).resolve().parents[3]
NOSY = ROOT / "components" / "nosy-agent"


def generate(*arguments: object, code: int = 0) -> None:
    assert main(["wit", "python", *map(str, arguments)]) == code


@pytest.fixture
def forget_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("generated_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("forget_modules")
def test_a_real_component_runs_on_a_generated_provider(tmp_path: Path) -> None:
    generate(NOSY / "wit", "--to", tmp_path / "generated_nosy")
    store = importlib.import_module("generated_nosy.wasi_config_store")
    logging = importlib.import_module("generated_nosy.wasi_logging_logging")
    handler = importlib.import_module("generated_nosy.syuthd_agent_mesh_sensor_handler")

    class Settings:
        def get(self, key: str) -> object:
            return Ok({"a": "1"}.get(key))

        def get_all(self) -> object:
            return Ok([("a", "1"), ("b", "2")])

    lines = []

    class Log:
        def log(self, level: object, context: str, message: str) -> None:
            lines.append((level, context, message))

    class Refusing(Settings):
        def get_all(self) -> object:
            return Err(store.ErrorUpstream("not today"))

    engine = Engine()
    component = engine.load(engine.compile((NOSY / "nosy_agent.wasm").read_bytes()))
    for settings, answer in ((Settings(), "read 2 settings"), (Refusing(), "could not read settings")):
        interfaces = [store.host_interface(settings), logging.host_interface(Log())]
        instance = Instance(component, interfaces, Limits(memory_bytes=8 << 20, memories=1))
        caller = handler.Caller(instance.call)
        said = caller.handle_data(handler.SensorData(source="lab", value=1.5, timestamp=7))
        instance.close()
        assert said.startswith(answer)
        assert lines.pop()[0] is logging.Level.INFO


@pytest.mark.usefixtures("forget_modules")
def test_signatures_are_those_of_the_capabilities(tmp_path: Path) -> None:
    """Each package of wit/ whose interfaces a node serves, in a world of all of them."""
    context = Node(tmp_path / "state").agent({})
    compared = 0
    for number, folder in enumerate(sorted((ROOT / "wit").glob("wasi-*-*"))):
        for interface in interfaces_of(folder):
            if interface not in SERVED:
                continue
            compared += compare(tmp_path, f"generated_{number}_{compared}", folder, interface, context)
    context.close()
    assert compared > 25


def interfaces_of(folder: Path) -> list[str]:
    """Full names of the interfaces that a folder defines."""
    files = [parse_document(file.read_text(), str(file)) for file in folder.glob("*.wit")]
    (package,) = {file.package for file in files}
    name, _, version = package.partition("@")
    return [f"{name}/{interface}@{version}" for file in files for interface in file.interfaces]


def compare(scratch: Path, name: str, folder: Path, interface: str, context: AgentContext) -> int:
    """Generate a world that imports one interface; its signatures must be those that the capability declares."""
    world = scratch / name / "wit"
    (world / "deps").mkdir(parents=True)
    (world / "world.wit").write_text(f"package generated:world; world w {{ import {interface}; }}")
    (world / "deps" / "package").symlink_to(folder)
    for other in folder.glob("deps/*"):
        (world / "deps" / other.name).symlink_to(other.resolve())
    generate(world, "--to", scratch / f"{name}_out")
    module = interface.partition("@")[0].replace(":", "_").replace("/", "_").replace("-", "_")
    generated = importlib.import_module(f"{name}_out.{module}")
    served = importlib.import_module(f"edge_agent.capabilities.{SERVED[interface]}").interfaces(context)
    (declared,) = [item for item in served if item.name == interface]
    assert {name: function.signature for name, function in declared.functions.items()} == generated.SIGNATURES
    return 1


def test_a_world_must_be_named_where_there_are_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.wit").write_text("package a:b; world one { } world two { }")
    generate(tmp_path, "--to", tmp_path / "out", code=2)
    assert "one, two" in capsys.readouterr().err
    generate(tmp_path, "--to", tmp_path / "out", "--world", "two")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["__init__.py"]


def test_nothing_written_by_hand_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.wit").write_text("package a:b; interface i { f: func(); } world w { import i; }")
    out = tmp_path / "out"
    generate(tmp_path, "--to", out)
    generate(tmp_path, "--to", out)
    (out / "a_b_i.py").write_text("mine")
    (out / "__init__.py").unlink()
    generate(tmp_path, "--to", out, code=1)
    assert str(Code.ALREADY_EXISTS) in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in out.iterdir()] == [("a_b_i.py", "mine")]


@pytest.mark.parametrize(
    ("text", "place"),
    [(b"interface i { }", "wit"), (b"package a:b; world w { import x; }", "a:b/x"), (b"\xff", "x.wit: byte 0")],
)
def test_faults_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes, place: str) -> None:
    (tmp_path / "wit").mkdir()
    (tmp_path / "wit" / "x.wit").write_bytes(text)
    generate(tmp_path / "wit", "--to", tmp_path / "out", code=2)
    assert place in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""Python written for WIT: it is sound, its values convert both ways, and it links what it says."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fleet.errors import Code, FleetError
from fleet.wit_document import parse_document
from fleet.wit_python import GENERATED, world_package
from fleet.wit_types import Err, Ok, Some, Variant
from fleet.wit_world import Packages

ROOT = Path(__file__).resolve().parents[2]
WIT = '''package test:shapes@1.0.0;

/// Shapes of all kinds, with "quotes" and \\ and """three""".
interface kinds {
    type name = string;
    record point { /// how far
        x: s32, class: option<option<u8>> }
    variant shape { nothing, one(point), many(list<point>), pair(tuple<point, name>) }
    type shape-list = list<shape>;
    /// Some colour.
    enum color { red, none }
    flags rights { read, write }
    resource canvas {
        constructor(size: point);
        /// Put it there.
        draw: func(what: shape, where: option<point>) -> result<color, shape>;
        all: static func() -> list<canvas>;
        clear: func();
    }
    resource brush { constructor() -> result<brush, name>; }
}
interface user {
    use kinds.{shape, shape-list, color as paint, canvas, rights, name, point};
    swap: func(a: shape, b: paint, c: shape-list, d: rights, e: borrow<canvas>) -> tuple<shape, paint>;
    plain: func(a: tuple<u8, name>, b: list<u8>, c: list<u32>) -> result<u8>;
    deep: func(a: option<shape>, b: option<option<shape>>, c: list<tuple<point, u8>>) -> own<canvas>;
    fire: func();
}
world w { import user; export kinds; export run: func(a: u8) -> string; export only: interface { go: func(); } }
world functions { import now: func() -> u64; }
'''


def package(text: str, world: str) -> dict[str, str]:
    found = Packages()
    name = found.add([parse_document(text, "x.wit")], "x")
    return world_package(found, found.world(world, name))


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The generated modules, imported."""
    write(tmp_path / "shapes_package", package(WIT, "w"))
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("test_shapes_kinds", "test_shapes_user", "functions", "only")
    modules: dict[str, ModuleType] = {name: importlib.import_module(f"shapes_package.{name}") for name in names}
    yield SimpleNamespace(kinds=modules["test_shapes_kinds"], user=modules["test_shapes_user"], **modules)
    for name in [name for name in sys.modules if name.startswith("shapes_package")]:
        del sys.modules[name]


def test_a_package_lists_its_modules() -> None:
    files = package(WIT, "w")
    assert sorted(files) == ["__init__.py", "functions.py", "only.py", "test_shapes_kinds.py", "test_shapes_user.py"]
    assert "`test_shapes_kinds`: import and export" in files["__init__.py"]
    assert all(GENERATED in text.partition("\n")[0] for text in files.values())


def test_values_convert_both_ways(shapes: SimpleNamespace) -> None:
    kinds = shapes.kinds
    point = kinds.Point(x=3, class_=Some(None))
    mapped = {"x": 3, "class": Some(None)}
    for value, wit in (
        (kinds.ShapeNothing(), Variant("nothing")),
        (kinds.ShapeOne(point), Variant("one", mapped)),
        (kinds.ShapeMany([point]), Variant("many", [mapped])),
        (kinds.ShapePair((point, "n")), Variant("pair", (mapped, "n"))),
    ):
        assert kinds.shape_to_wit(value) == wit
        assert kinds.shape_from_wit(wit) == value
    assert kinds.shape_list_to_wit([kinds.ShapeNothing()]) == [Variant("nothing")]
    assert kinds.shape_list_from_wit([Variant("nothing")]) == [kinds.ShapeNothing()]
    assert kinds.color_from_wit("none") is kinds.Color.NONE
    assert kinds.color_to_wit(kinds.Color.RED) == "red"
    with pytest.raises(ValueError, match="no case 'gone'"):
        kinds.shape_from_wit(Variant("gone"))


class Painter:
    """A host that remembers what it was given."""

    def __init__(self, kinds: ModuleType) -> None:
        self.kinds = kinds
        self.given: list[object] = []

    def swap(self, *arguments: object) -> tuple[object, object]:
        self.given.append(arguments)
        return arguments[0], arguments[1]

    def plain(self, *arguments: object) -> object:
        self.given.append(arguments)
        return Err(None)

    def deep(self, *arguments: object) -> object:
        self.given.append(arguments)
        return 7

    def fire(self) -> None:
        self.given.append("fire")

    def draw(self, *arguments: object) -> object:
        self.given.append(arguments)
        return Ok(self.kinds.Color.RED) if arguments[2] is None else Err(arguments[1])


def test_a_provider_is_given_typed_values_and_its_own_are_mapped(shapes: SimpleNamespace) -> None:
    kinds, painter = shapes.kinds, Painter(shapes.kinds)
    interface = shapes.user.host_interface(painter)
    calls = {name: function.call for name, function in interface.functions.items()}
    assert interface.name == "test:shapes/user@1.0.0"
    assert interface.uses == {"canvas": "test:shapes/kinds@1.0.0"}
    nothing, point = Variant("nothing"), {"x": 1, "class": None}
    assert calls["swap"](nothing, "red", [nothing], frozenset({"read"}), 4) == (nothing, "red")
    shape = kinds.ShapeNothing()
    assert painter.given.pop() == (shape, kinds.Color.RED, [shape], frozenset({"read"}), 4)
    assert calls["plain"]((1, "n"), b"b", [2]) == Err(None)
    assert painter.given.pop() == ((1, "n"), b"b", [2])
    assert calls["deep"](None, Some(nothing), [(point, 2)]) == 7
    assert painter.given.pop() == (None, Some(shape), [(kinds.Point(1, None), 2)])
    assert calls["deep"](nothing, None, []) == 7
    assert painter.given.pop() == (shape, None, [])
    assert calls["fire"]() is None


def test_a_caller_maps_what_it_is_given(shapes: SimpleNamespace) -> None:
    kinds = shapes.kinds
    calls: list[tuple[object, ...]] = []
    answers: list[object] = []

    def call(*arguments: object) -> object:
        calls.append(arguments)
        return answers.pop()

    caller = kinds.Caller(call)
    answers += [None, [3, 4], Err(Variant("nothing")), Ok("red"), 9]
    canvas = caller.new_canvas(kinds.Point(1, None))
    assert canvas == 9
    assert caller.canvas_draw(canvas, kinds.ShapeNothing(), None) == Ok(kinds.Color.RED)
    assert caller.canvas_draw(canvas, kinds.ShapeNothing(), kinds.Point(1, Some(2))) == Err(kinds.ShapeNothing())
    assert caller.canvas_all() == [3, 4]
    assert caller.canvas_clear(canvas) is None
    name = "test:shapes/kinds@1.0.0#"
    assert calls == [
        (f"{name}[constructor]canvas", {"x": 1, "class": None}),
        (f"{name}[method]canvas.draw", 9, Variant("nothing"), None),
        (f"{name}[method]canvas.draw", 9, Variant("nothing"), {"x": 1, "class": Some(2)}),
        (f"{name}[static]canvas.all",),
        (f"{name}[method]canvas.clear", 9),
    ]
    answers.append("text")
    assert shapes.functions.Caller(call).run(5) == "text"
    answers.append(None)
    shapes.only.Caller(call).go()
    assert calls[-2:] == [("run", 5), ("only#go",)]


def test_it_passes_the_strictest_checks(tmp_path: Path) -> None:
    """mypy --strict and the linter's rules about mistakes, in the words of whoever uses the package."""
    write(tmp_path / "shapes_package", package(WIT, "w"))
    mypy = [sys.executable, "-m", "mypy", "--strict", "-p", "shapes_package", "--no-incremental"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    checked = subprocess.run(mypy, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9,B", "shapes_package"]
    checked = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_world_of_nothing_but_a_function() -> None:
    files = package("package a:b; world w { export run: func(); }", "w")
    assert sorted(files) == ["__init__.py", "functions.py"]
    assert sorted(package("package a:b; world w { }", "w")) == ["__init__.py"]


def test_functions_that_no_interface_holds_cannot_be_provided() -> None:
    with pytest.raises(FleetError) as caught:
        package(WIT, "functions")
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_one_interface_in_two_versions() -> None:
    found = Packages()
    for version in (1, 2):
        found.add([parse_document(f"package a:b@{version}.0.0; interface x {{ }}", "x.wit")], "x")
    world = "package a:c; world w { import a:b/x@1.0.0; import a:b/x@2.0.0; }"
    name = found.add([parse_document(world, "x.wit")], "x")
    with pytest.raises(FleetError) as caught:
        world_package(found, found.world("w", name))
    assert caught.value.code is Code.WIT_INVALID

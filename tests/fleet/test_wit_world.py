"""What the names in `.wit` files refer to."""

from __future__ import annotations

import pytest

from fleet.errors import Code, FleetError
from fleet.wit_document import parse_document
from fleet.wit_text import parse_signature
from fleet.wit_types import OwnType
from fleet.wit_world import Packages, ResolvedWorld

KINDS = """package a:kinds@1.0.0;
interface kinds {
    type name = string;
    record pair { left: name, right: option<u8> }
    variant either { one(pair), none-of-them }
    enum color { red, blue }
    flags rights { read, write }
    resource file { constructor(n: name); size: func() -> u64; all: static func() -> list<file>; }
}
interface rest {
    use kinds.{either, color as paint, rights, name};
    use kinds.{file as document};
    all: func(a: either, b: paint, c: rights, d: borrow<document>, e: document)
        -> result<tuple<u8, name>, own<document>>;
    bare: func(a: result, b: result<_, u8>) -> result<u8>;
}
world base { import rest; import log: func(text: string); }
"""
HOST = """package a:host;
interface local { use a:kinds/kinds@1.0.0.{pair}; take: func(p: pair); }
world main {
    include a:kinds/base@1.0.0;
    use local.{pair};
    import a:kinds/kinds@1.0.0;
    export local;
    export run: func() -> string;
    export inner: interface { use local.{pair}; go: func() -> pair; }
}
"""
EITHER = "variant { one(record { left: string, right: option<u8> }), none-of-them }"


def packages(*texts: str) -> Packages:
    found = Packages()
    for text in texts:
        found.add([parse_document(text, "x.wit")], "x")
    return found


def resolve(*texts: str, world: str = "w", package: str = "a:b") -> ResolvedWorld:
    return packages(*texts).world(world, package)


def refused(*texts: str, world: str = "w", package: str = "a:b") -> FleetError:
    with pytest.raises(FleetError) as caught:
        all_functions(*texts, world=world, package=package)
    return caught.value


def all_functions(*texts: str, world: str, package: str) -> None:
    found = packages(*texts)
    for scope in found.world(world, package).imports.values():
        found.functions(scope)


def test_signatures_have_the_types_that_names_stand_for() -> None:
    found = packages(KINDS)
    scope = found.interface("rest", "a:kinds@1.0.0")
    file = {"file": OwnType("file")}
    signatures = {name: kind for name, (_, kind) in found.functions(scope).items()}
    assert signatures == {
        "all": parse_signature(
            f"func(a: {EITHER}, b: enum {{ red, blue }}, c: flags {{ read, write }}, d: borrow<document>,"
            " e: own<document>) -> result<tuple<u8, string>, own<document>>",
        ),
        "bare": parse_signature("func(a: result, b: result<_, u8>) -> result<u8>"),
    }
    methods = {name: kind for name, (_, kind) in found.functions(found.interface("kinds", "a:kinds@1.0.0")).items()}
    assert methods == {
        "[constructor]file": parse_signature("func(n: string) -> file", file),
        "[method]file.size": parse_signature("func(self: borrow<file>) -> u64", file),
        "[static]file.all": parse_signature("func() -> list<file>", file),
    }


def test_a_world_has_what_it_includes_and_what_its_types_need() -> None:
    world = resolve(KINDS, HOST, world="main", package="a:host")
    assert list(world.imports) == ["a:kinds/kinds@1.0.0", "a:kinds/rest@1.0.0", "a:host/local"]
    assert list(world.exports) == ["a:host/local", "inner"]
    assert list(world.imported_functions) == ["log"]
    assert list(world.exported_functions) == ["run"]
    assert packages(KINDS, HOST).worlds("a:host") == ("main",)


def test_the_files_of_a_folder_are_one_package() -> None:
    found = Packages()
    texts = ("package a:b; interface x { }", "interface y { }", "world w { import x; import y; }")
    assert found.add([parse_document(text, "f.wit") for text in texts], "folder") == "a:b"
    assert list(found.world("w", "a:b").imports) == ["a:b/x", "a:b/y"]
    same = Packages()
    for _ in range(2):
        same.add([parse_document(texts[0], "f.wit")], "folder")


@pytest.mark.parametrize("texts", [("interface x { }",), ("package a:b;", "package a:c;")])
def test_a_folder_with_no_package_or_two(texts: tuple[str, ...]) -> None:
    with pytest.raises(FleetError) as caught:
        Packages().add([parse_document(text, "f.wit") for text in texts], "folder")
    assert caught.value.code is Code.WIT_INVALID
    assert caught.value.detail["place"] == "folder"


def test_one_interface_in_two_forms() -> None:
    assert refused("package a:b; interface x { }", "package a:b; interface x { f: func(); }").detail["place"] == "x"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "a:b/w"),
        ("world w { import x; }", "a:b/x"),
        ("world w { include v; }", "a:b/v"),
        ("world w { include w; }", "a:b/w"),
        ("interface x { f: func() -> y; } world w { import x; }", "a:b/x#y"),
        ("interface x { use y.{z}; } interface y { use x.{z}; } world w { import x; }", "a:b/x"),
        ("interface x { use x.{z}; f: func(a: z); } world w { import x; }", "a:b/x"),
        ("interface x { type t = list<t>; f: func(a: t); } world w { import x; }", "a:b/x#list"),
        ("interface x { f: func(a: list<_>); } world w { import x; }", "a:b/x#list"),
        ("interface x { f: func(a: own<u8>); } world w { import x; }", "a:b/x#own"),
    ],
)
def test_what_is_not_there(text: str, place: str) -> None:
    error = refused(f"package a:b; {text}")
    assert error.code is Code.WIT_INVALID
    assert error.detail["place"] == place


@pytest.mark.parametrize("kind", ["stream<u8>", "future", "list<stream>"])
def test_what_has_no_value_outside_a_guest(kind: str) -> None:
    error = refused(f"package a:b; interface x {{ f: func() -> {kind}; }} world w {{ import x; }}")
    assert error.code is Code.COMPONENT_UNSUPPORTED

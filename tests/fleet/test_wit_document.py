"""The text of `.wit` files: what it says, and where it is wrong."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.wit_document import Function, TypeName, Use, parse_document
from fleet.wit_tokens import MAX_DOCUMENT, TokenReader

U8 = TypeName("u8")
TEXT = """
/// Who speaks.
package a:b@1.2.3-rc.1; // a comment
use c:d/e@0.1.0 as f;
/* another /* nested */ one */
/// What it does.
/// In two lines.
@since(version = 1.0.0)
interface things {
    use other.{one, two as three};
    use c:d/e@0.1.0.{four};
    type name = string;
    /// A point.
    record point { /// across
        x: u8, y: option<list<u8>>, }
    variant choice { none-of-it, some-of-it(tuple<u8, name>) }
    enum color { red, %type }
    flags rights { read, write }
    resource file {
        constructor(name: string) -> result<file>;
        /// Take it out.
        @unstable(feature = x)
        read: func(count: u8) -> result<list<u8>, name>;
        open: static func() -> own<file>;
    }
    resource empty;
    /// Do it.
    run: async func(what: borrow<file>, how: result<_, u8>,) -> result;
    type: func();
    %record: func();
}
world host {
    include c:d/more@0.1.0;
    use things.{point};
    type local = u8;
    import c:d/e@0.1.0;
    @deprecated(version = 2.0.0)
    import things;
    /// Say when.
    import now: func() -> u8;
    export inner: interface { go: func(); }
}
"""


def refused(text: str) -> FleetError:
    with pytest.raises(FleetError) as caught:
        parse_document(text, "x.wit")
    assert caught.value.code is Code.WIT_INVALID
    return caught.value


def test_everything_a_file_can_say() -> None:
    document = parse_document(TEXT, "x.wit")
    assert document.package == "a:b@1.2.3-rc.1"
    things = document.interfaces["things"]
    assert things.docs == "What it does.\nIn two lines."
    assert things.uses == [Use("other", (("one", "one"), ("two", "three"))), Use("c:d/e@0.1.0", (("four", "four"),))]
    kinds = {name: kind.kind for name, kind in things.types.items()}
    assert kinds == {
        "name": "type",
        "point": "record",
        "choice": "variant",
        "color": "enum",
        "rights": "flags",
        "file": "resource",
        "empty": "resource",
    }
    point = things.types["point"]
    assert point.docs == "A point."
    optional = TypeName("option", (TypeName("list", (U8,)),))
    assert point.parts == (("x", U8, "across"), ("y", optional, ""))
    assert things.types["color"].parts == (("red", None, ""), ("type", None, ""))
    made, read, opened = things.types["file"].functions
    assert made == Function("constructor", (("name", TypeName("string")),), TypeName("result", (TypeName("file"),)))
    assert (read.name, read.docs) == ("read", "Take it out.")
    assert (opened.name, opened.result) == ("static open", TypeName("own", (TypeName("file"),)))
    run = things.functions["run"]
    assert run.is_async
    assert run.params[1] == ("how", TypeName("result", (None, U8)))
    assert run.result == TypeName("result")
    assert list(things.functions) == ["run", "type", "record"]
    world = document.worlds["host"]
    assert world.includes == ["c:d/more@0.1.0"]
    assert world.types.uses == [Use("things", (("point", "point"),))]
    assert list(world.types.types) == ["local"]
    assert list(world.imports) == ["c:d/e@0.1.0", "things", "now"]
    assert world.imports["now"] == Function("now", (), U8, "Say when.")
    inner = world.exports["inner"]
    assert not isinstance(inner, Function)
    assert inner is not None
    assert list(inner.functions) == ["go"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("package a:b;\npackage c:d;", "2:9"),
        ("interface a { } interface a { }", "1:29"),
        ("world a { } world a { }", "1:21"),
        ("use a", "1:6"),
        ("oops;", "1:5"),
        ("interface a {", "1:14"),
        ("interface a { x: y(); }", "1:18"),
        ("interface a { x: func(; }", "1:23"),
        ("interface a { x: func(a: u8 b: u8); }", "1:29"),
        ("interface a { x: func() -> ; }", "1:28"),
        ("interface a { x: func(); x: func(); }", "1:29"),
        ("interface a { record r { a: u8, a: u8 } }", "1:39"),
        ("interface a { record r { a } }", "1:28"),
        ("interface a { type t = list; }", "1:28"),
        ("interface a { type t = list<u8, u8>; }", "1:36"),
        ("interface a { type t = list<u8, 4>; }", "1:33"),
        (f"interface a {{ type t = {'list<' * 70}u8{'>' * 70}; }}", "1:349"),
        ("interface a { type t = %list<u8>; }", "1:29"),
        ("interface a { @gone(version = 1.0.0) x: func(); }", "1:21"),
        ("interface a { @since(feature = 1.0.0) x: func(); }", "1:22"),
        ("interface a { @since(version = 1.0.0", "1:37"),
        ("world w { include a with { b as c } }", "1:26"),
        ("world w { nothing; }", "1:18"),
        ("world w { import a:b/c@1.0.0: func(); }", "1:29"),
        ("interface a { ! }", "1:15"),
        ("/* never ends", "1:1"),
        ("package a", "1:10"),
        ("package a:1;", "1:11"),
    ],
)
def test_mistakes_have_a_place(text: str, place: str) -> None:
    assert refused(text).detail["place"] == f"x.wit:{place}"


def test_a_file_has_a_limit() -> None:
    assert refused(" " * (MAX_DOCUMENT + 1)).detail["place"] == "x.wit"


def test_the_end_is_no_token_to_go_past() -> None:
    with pytest.raises(FleetError):
        TokenReader("", "x.wit").next()


@given(st.lists(st.sampled_from(TEXT.split()), max_size=40).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(FleetError):
        parse_document(text, "x.wit")

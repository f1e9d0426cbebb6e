"""One text means one thing: what is strict about YAML and JSON, and how `Reader` names a fault."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.documents import MAX_DEPTH, MAX_DOCUMENT, Reader, dump_json, line_of, load_json, load_yaml
from fleet.errors import Code, FleetError
from tests.fakes.refusals import refusal

CODE = Code.GRANT_INVALID


def read_yaml(data):
    return load_yaml(data, CODE, "a.yaml")


def read_json(data):
    return load_json(data, CODE, "a.json")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: True", {"a": "True"}),
        ("a: true", {"a": True}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 0x1f", {"a": "0x1f"}),
        ("a: 007", {"a": "007"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: +1", {"a": "+1"}),
        ("a: -12", {"a": -12}),
        ("a: 1.5", {"a": 1.5}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: .inf", {"a": ".inf"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: 2026-01-01T00:00:00Z", {"a": "2026-01-01T00:00:00Z"}),
        ("a:", {"a": None}),
        ("a: ~", {"a": None}),
        ("a: null", {"a": None}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("- a\n- [b, {c: d}]", ["a", ["b", {"c": "d"}]]),
        ("", None),
        ("\N{BYTE ORDER MARK}a: 1", {"a": 1}),
        ("a: \N{SNOWMAN}", {"a": "\N{SNOWMAN}"}),
    ],
)
def test_yaml_is_read_as_version_1_2(text, value):
    assert read_yaml(text.encode()) == value


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"a: 1\na: 2", "a.yaml:2:1", "duplicate key 'a'"),
        (b"a: {b: 1, b: 2}", "a.yaml:1:11", "duplicate key 'b'"),
        (b"a: &x 1", "a.yaml:1:4", "anchors"),
        (b"&x {a: 1}", "a.yaml:1:1", "anchors"),
        (b"a: *x", "a.yaml:1:4", "anchors"),
        (b"a: !!int '1'", "a.yaml:1:4", "tags"),
        (b"!!python/object:os.system {}", "a.yaml:1:1", "tags"),
        (b"1: a", "a.yaml:1:1", "keys must be text"),
        (b"? [a]\n: b", "a.yaml:1:3", "keys must be text"),
        (b"a: 1\n---\nb: 2", "a.yaml:2:1", "another document"),
        (b"a: [", "a.yaml:1:5", "not valid YAML"),
        (b"a: \xff", "a.yaml: byte 3", "not UTF-8"),
        (b"a: \x01", "a.yaml", "special characters"),
        (b'a: "\\ud800"', "a.yaml", "surrogates"),
        (b'"\\ud800": a', "a.yaml", "surrogates"),
        ("a: 1\nb: x\u2028y".encode(), "a.yaml:2", "U\\+2028 must be written as an escape"),
        ("a: x\u0085y".encode(), "a.yaml:1", "U\\+0085"),
        (b"a: 1e999", "a.yaml", "too large"),
        (b"a: " + b"9" * 5000, "a.yaml", "not valid YAML"),
        (b"[" * (MAX_DEPTH + 1), f"a.yaml:1:{MAX_DEPTH + 1}", "levels deep"),
        (b"- " * (MAX_DEPTH + 1) + b"a", f"a.yaml:1:{2 * MAX_DEPTH + 1}", "levels deep"),
    ],
)
def test_yaml_refuses_what_has_two_meanings(data, place, message):
    with pytest.raises(FleetError, match=message) as caught:
        read_yaml(data)
    assert (caught.value.code, caught.value.detail["place"]) == (CODE, place)


def test_an_error_without_a_mark_names_the_file(monkeypatch):
    def fail(*_, **__):
        raise yaml.MarkedYAMLError(problem="no mark")

    monkeypatch.setattr(yaml, "load", fail)
    with pytest.raises(FleetError, match="no mark") as caught:
        read_yaml(b"a: 1")
    assert caught.value.detail["place"] == "a.yaml"


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        (b"", "a.json:1:1", "not valid JSON"),
        (b'{"a": 1} x', "a.json:1:10", "Extra data"),
        (b'{"a": 1,\n "a": 2}', "a.json", "duplicate key"),
        (b'{"a": NaN}', "a.json", "NaN is not JSON"),
        (b'{"a": -Infinity}', "a.json", "is not JSON"),
        (b'{"a": 1e999}', "a.json", "too large"),
        (b'{"a": "\\ud800"}', "a.json", "surrogates"),
        (b"9" * 5000, "a.json", "not valid JSON"),
        (b"\xff", "a.json: byte 0", "not UTF-8"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "a.json", "levels deep"),
        (b"[" * 100_000, "a.json", "not valid JSON"),
    ],
)
def test_json_refuses_what_has_two_meanings(data, place, message):
    with pytest.raises(FleetError, match=message) as caught:
        read_json(data)
    assert (caught.value.code, caught.value.detail["place"]) == (CODE, place)


@pytest.mark.parametrize("load", [load_yaml, load_json])
def test_size_is_capped(load):
    with pytest.raises(FleetError) as caught:
        load(b" " * (MAX_DOCUMENT + 1), CODE, "a")
    assert (caught.value.code, caught.value.detail["place"]) == (Code.LIMIT_EXCEEDED, "a")


def test_a_caller_may_set_another_cap():
    assert load_json(b" " * MAX_DOCUMENT + b"1", CODE, "a", limit=MAX_DOCUMENT + 1) == 1
    with pytest.raises(FleetError) as caught:
        load_json(b"123", CODE, "a", limit=2)
    assert caught.value.code is Code.LIMIT_EXCEEDED


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_json_round_trips(value):
    assert read_json(dump_json(value)) == value
    assert dump_json(read_json(dump_json(value))) == dump_json(value)


def test_json_is_written_in_one_form():
    assert dump_json({"b": [1, 2.5], "a": "\N{SNOWMAN}"}) == '{"a":"\N{SNOWMAN}","b":[1,2.5]}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json(float("nan"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text("{}[]:,-&*!?|>'\"%@`#~ \nab01\\", max_size=30).map(str.encode))
def test_arbitrary_bytes_raise_nothing_else(data):
    for load in (read_yaml, read_json):
        error = refusal(lambda load=load: load(data))
        assert error is None or (error.code is CODE and str(error.detail["place"]).startswith("a."))


@given(values)
def test_both_loaders_agree_on_json(value):
    """JSON is YAML 1.2 and means the same there; PyYAML refuses a few characters that JSON takes raw."""
    data = dump_json(value)
    error = refusal(lambda: read_yaml(data))
    if error is None:
        assert read_yaml(data) == read_json(data)
    else:
        assert "special characters" in error.private or "as an escape" in error.private


def reader(value):
    return Reader(value, CODE, "a.yaml")


FULL = {
    "text": "x",
    "number": 3,
    "flag": True,
    "items": ["a", "b"],
    "map": {"k": "v"},
    "section": {"inner": "y"},
    "raw": None,
}


def test_reader_takes_everything():
    with reader(FULL) as top:
        assert top.names() == tuple(FULL)
        assert top.text("text") == "x"
        assert top.integer("number", 1, 3) == 3
        assert top.flag("flag", default=False) is True
        assert top.texts("items", 2) == ("a", "b")
        assert top.mapping("map", 1) == {"k": "v"}
        assert top.section("section", lambda inner: inner.text("inner")) == "y"
        assert top.take("raw") is None


def test_reader_has_defaults():
    with reader({}) as top:
        assert top.text("text", "d") == "d"
        assert top.integer("number", 1, 3, 2) == 2
        assert top.flag("flag", default=True) is True
        assert top.texts("items", 2) == ()
        assert top.mapping("map", 1) == {}
        assert not top.has("text")


@pytest.mark.parametrize(
    ("action", "place"),
    [
        (lambda top: top.text("missing"), "missing"),
        (lambda top: top.text("number"), "number"),
        (lambda top: top.integer("text", 1, 3), "text"),
        (lambda top: top.integer("flag", 0, 3), "flag"),
        (lambda top: top.integer("number", 4, 5), "number"),
        (lambda top: top.integer("number", 1, 2), "number"),
        (lambda top: top.flag("number", default=True), "number"),
        (lambda top: top.texts("text", 9), "text"),
        (lambda top: top.texts("items", 1), "items"),
        (lambda top: top.mapping("items", 9), "items"),
        (lambda top: top.mapping("map", 0), "map"),
        (lambda top: top.section("items", lambda inner: inner), "items"),
        (lambda top: top.section("section", lambda inner: inner.has("inner")), "section.inner"),
        (lambda top: top.section("section", lambda inner: inner.integer("inner", 0, 1)), "section.inner"),
        (lambda top: top.close(), "flag"),
    ],
)
def test_reader_names_the_place(action, place):
    with pytest.raises(FleetError) as caught:
        action(reader(FULL))
    assert (caught.value.code, caught.value.detail["place"]) == (CODE, f"a.yaml: {place}")


@pytest.mark.parametrize(
    ("value", "action", "place"),
    [
        ({"items": ["a", 1]}, lambda top: top.texts("items", 2), "a.yaml: items[1]"),
        ({"map": {"a": 1}}, lambda top: top.mapping("map", 1), "a.yaml: map.a"),
    ],
)
def test_reader_names_the_item(value, action, place):
    with pytest.raises(FleetError) as caught:
        action(reader(value))
    assert caught.value.detail["place"] == place


@pytest.mark.parametrize("value", [None, 1, "x", []])
def test_reader_needs_a_mapping(value):
    with pytest.raises(FleetError, match="expected a mapping") as caught:
        reader(value)
    assert caught.value.detail["place"] == "a.yaml"


def test_an_unknown_key_never_hides_another_fault():
    with pytest.raises(FleetError) as caught, reader({"unknown": 1}) as top:
        top.text("missing")
    assert caught.value.detail["place"] == "a.yaml: missing"


@pytest.mark.parametrize(
    ("path", "line"),
    [((), 1), (("a",), 1), (("b",), 2), (("b", 1), 4), (("b", 1, "c"), 4), (("b", 9), 2), (("b", "c"), 2), (("x",), 1)],
)
def test_places_are_found_by_line(path, line):
    assert line_of(b"a: 1\nb:\n  - x\n  - {c: 1}\n", *path) == line

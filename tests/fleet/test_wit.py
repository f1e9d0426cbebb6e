"""Interface names, function names, and which version serves which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.wit import InterfaceName, compatible, is_function, is_interface, parse_interface
from tests.fakes.refusals import refusal

NAMES = [
    ("wasi:keyvalue/store@0.2.0-draft2", InterfaceName("wasi:keyvalue", "store", "0.2.0-draft2")),
    ("wasi:nn/graph@0.2.0-rc-2024-10-28", InterfaceName("wasi:nn", "graph", "0.2.0-rc-2024-10-28")),
    ("syuthd:agent-mesh/sensor-handler", InterfaceName("syuthd:agent-mesh", "sensor-handler")),
    ("a:b/c-2@1.0.0+build", InterfaceName("a:b", "c-2", "1.0.0+build")),
    ("a1:b2/HTTP-handler-V2", InterfaceName("a1:b2", "HTTP-handler-V2")),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_interface_names(text, name):
    assert parse_interface(text) == name
    assert str(name) == text
    assert name.unversioned == text.partition("@")[0]
    assert is_interface(text)


BAD = [
    "",
    "run",
    "wasi:io",
    "wasi/io",
    "wasi:io/",
    ":io/poll",
    "wasi:io/poll@",
    "wasi:io/poll@0.2",
    "wasi:io/poll@v0.2.0",
    "wasi:io/poll@0.2.0 ",
    "wasi:io/poll@0.2.0@0.2.0",
    "Wasi:io/poll",
    "wasi:io/Poll",
    "wasi:io/pOLL",
    "wasi:io/poll-",
    "wasi:io/-poll",
    "wasi:io/1poll",
    "wasi:io/poll/more",
    "a:b:c/d",
    "wasi:io/poll\n",
    "url=<https://example.com/x>",
    "integrity=<sha256-aGVsbG8=>",
    "locked-dep=<a:b@1.0.0>",
    "[method]bucket.get",
    "a:b/" + "c" * 253,
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_interface_name(text):
    with pytest.raises(FleetError) as caught:
        parse_interface(text)
    assert caught.value.code is Code.COMPONENT_INVALID
    assert not is_interface(text)


def test_the_caller_names_code_and_place():
    with pytest.raises(FleetError) as caught:
        parse_interface("run", Code.GRANT_INVALID, "grant.yaml: caps")
    assert (caught.value.code, caught.value.detail["place"]) == (Code.GRANT_INVALID, "grant.yaml: caps")


@pytest.mark.parametrize(
    ("required", "provided", "expected"),
    [
        ("0.2.0", "0.2.0", True),
        ("0.2.0", "0.2.12", True),
        ("0.2.99", "0.2.12", True),
        ("0.2.0", "0.3.0", False),
        ("0.0.1", "0.0.1", True),
        ("0.0.1", "0.0.2", False),
        ("1.4.0", "1.9.9", True),
        ("1.4.0", "2.0.0", False),
        ("1.0.0", "0.1.0", False),
        ("0.2.0-draft", "0.2.0-draft", True),
        ("0.2.0-draft", "0.2.0-draft2", False),
        ("0.2.0-draft", "0.2.0", False),
        ("0.2.0", "0.2.0-draft", False),
        ("0.2.1+a", "0.2.1+b", True),
        ("0.2.1-a+x", "0.2.1-a+y", True),
        (None, None, True),
        (None, "0.2.0", False),
        ("0.2.0", None, False),
    ],
)
def test_versions_serve_within_their_track(required, provided, expected):
    a, b = (InterfaceName("wasi:io", "poll", version) for version in (required, provided))
    assert compatible(a, b) is expected


@pytest.mark.parametrize(
    "other", [InterfaceName("wasi:io", "streams", "0.2.0"), InterfaceName("wasi:cli", "poll", "0.2.0")]
)
def test_other_interfaces_never_serve(other):
    assert not compatible(InterfaceName("wasi:io", "poll", "0.2.0"), other)


@pytest.mark.parametrize(
    "text", ["run", "handle-data", "HTTP-get", "syuthd:agent-mesh/sensor-handler#handle-data", "a:b/c@0.2.0#d"]
)
def test_functions(text):
    assert is_function(text)


@pytest.mark.parametrize(
    "text", ["", "#", "Run", "run()", "a:b/c#", "#run", "a#b", "a:b/c@0.2#d", "a:b/c@0.2.0#d#e", "x" * 257]
)
def test_no_functions(text):
    assert not is_function(text)


@given(st.text(max_size=20) | st.text("ab:/@#-.012", max_size=20))
def test_arbitrary_text_raises_nothing_else(text):
    refusal(lambda: parse_interface(text))
    assert isinstance(is_function(text), bool)

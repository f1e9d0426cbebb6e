"""Links: the graph, what a link means, and when two components agree on an interface."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.links import (
    answering_export,
    check_assigned,
    check_graph,
    check_types,
    decode_link,
    encode_link,
    find_cycle,
    first_difference,
    fused_names,
    linked_imports,
    outer_links,
    runs_alone,
)
from fleet.model import AssignedAgent, FusedAgent, Isolation, Link, TargetRef
from fleet.oci import digest_of
from fleet.targets import bundle_path, grant_path
from fleet.wit_text import parse_signature, parse_type

SCORE = "acme:pipeline/score@0.1.0"
ALERT = "acme:pipeline/alert@0.1.0"
NODES = ("a", "b", "c", "d", "e")
GRAPHS = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES), max_size=3))


def link(interface: str, agent: str, isolation: str = "store") -> Link:
    return Link(interface, agent, Isolation(isolation))


# --- documents ---


def test_a_link_is_read_as_it_is_written():
    for isolation in Isolation:
        one = Link(SCORE, "scorer", isolation)
        assert decode_link(encode_link(one), Code.MANIFEST_INVALID, "links[0]", str.islower) == one


def test_isolation_may_be_left_out():
    plain = {"import": SCORE, "agent": "scorer"}
    assert decode_link(plain, Code.MANIFEST_INVALID, "links[0]", str.islower) == link(SCORE, "scorer")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"import": "score"}, "links[0]: import"),
        ({"import": "acme:pipeline/score@1"}, "links[0]: import"),
        ({"agent": "A B"}, "links[0]: agent"),
        ({"isolation": "process"}, "links[0]: isolation"),
        ({"isolated": "store"}, "links[0]: isolated"),
    ],
)
def test_what_is_no_link_is_refused(change, place):
    with pytest.raises(FleetError) as caught:
        decode_link({"import": SCORE, "agent": "scorer", **change}, Code.MANIFEST_INVALID, "links[0]", str.islower)
    assert caught.value.detail["place"] == place


# --- graph ---


def graph_refusal(agents):
    with pytest.raises(FleetError) as caught:
        check_graph(agents, Code.MANIFEST_INVALID, lambda name, i: f"{name}.links[{i}]")
    return caught.value


def test_a_cycle_is_shown_as_its_path():
    error = graph_refusal({"a": [link(SCORE, "b")], "b": [link(ALERT, "c")], "c": [link("x:y/z", "a")], "d": []})
    assert "a -> b -> c -> a" in error.private
    assert error.detail["place"] == "a.links[0].agent"


def test_an_agent_is_not_linked_to_itself():
    assert "a -> a" in graph_refusal({"a": [link(SCORE, "a")]}).private


def test_an_unknown_agent_is_named():
    error = graph_refusal({"a": [link(SCORE, "nobody")], "b": []})
    assert "nobody" in error.private
    assert "a, b" in error.private
    assert error.detail["place"] == "a.links[0].agent"


@pytest.mark.parametrize("second", [SCORE, "acme:pipeline/score"])
def test_an_import_is_linked_once(second):
    error = graph_refusal({"a": [link(SCORE, "b"), link(second, "c")], "b": [], "c": []})
    assert "linked twice, to b and to c" in error.private
    assert error.detail["place"] == "a.links[1].import"


def test_two_versions_of_an_interface_are_two_imports():
    links = [link(SCORE, "b"), link("acme:pipeline/score@0.2.0", "c")]
    check_graph({"a": links, "b": [], "c": []}, Code.MANIFEST_INVALID, str)


@given(GRAPHS)
def test_a_cycle_is_found_exactly_when_there_is_one(graph):
    path = find_cycle(graph)
    if path:
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(end in graph[start] for start, end in itertools.pairwise(path))
    else:  # without a cycle, taking away what points nowhere leaves nothing
        left = {name: set(targets) for name, targets in graph.items()}
        while ends := [name for name, targets in left.items() if not targets & left.keys()]:
            for name in ends:
                del left[name]
        assert not left


@given(GRAPHS)
def test_the_path_does_not_depend_on_the_order(graph):
    turned = {name: tuple(reversed(graph[name])) for name in reversed(graph)}
    assert find_cycle(turned) == find_cycle(graph)


def test_parts_are_what_links_without_isolation_reach():
    links = {
        "a": [link(SCORE, "b", "none"), link(ALERT, "d")],
        "b": [link(ALERT, "c", "none")],
        "c": [link(ALERT, "e")],
        "d": [],
        "e": [],
    }
    assert fused_names("a", links) == ("b", "c")
    assert fused_names("d", links) == ()
    alone = {name: runs_alone(name, links, triggered=False) for name in links}
    assert alone == {"a": True, "b": False, "c": False, "d": True, "e": True}
    assert runs_alone("b", links, triggered=True)


# --- imports and exports ---


def test_a_link_means_an_import_with_or_without_its_version():
    for text in (SCORE, "acme:pipeline/score"):
        one = link(text, "p/b")
        assert linked_imports([one], ["wasi:logging/logging@0.1.0-draft", SCORE], "p/a") == {SCORE: one}


def test_a_link_to_what_is_not_imported_names_the_imports():
    with pytest.raises(FleetError) as caught:
        linked_imports([link(ALERT, "p/b")], [SCORE, "wasi:io/poll@0.2.0"], "p/a")
    assert caught.value.code is Code.LINK_INVALID
    assert ALERT in caught.value.private
    assert f"({SCORE})" in caught.value.remedy


def test_a_link_must_name_the_version_where_two_are_imported():
    with pytest.raises(FleetError, match="must name the version"):
        linked_imports([link("acme:pipeline/score", "p/b")], [SCORE, "acme:pipeline/score@0.2.0"], "p/a")


@pytest.mark.parametrize(
    ("exports", "found"),
    [
        ([SCORE], SCORE),
        (["acme:pipeline/score@0.1.7"], "acme:pipeline/score@0.1.7"),
        (["run", "acme:pipeline/score@0.1.7", SCORE], SCORE),
    ],
)
def test_an_export_of_a_compatible_version_answers(exports, found):
    assert answering_export(SCORE, exports, "p/a", "p/b") == found


@pytest.mark.parametrize(
    ("exports", "words"),
    [
        (["acme:pipeline/score@0.2.0"], "exports acme:pipeline/score@0.2.0"),
        ([ALERT, "run"], "does not export acme:pipeline/score"),
        ([], "does not export acme:pipeline/score"),
    ],
)
def test_an_export_that_cannot_answer_is_named(exports, words):
    with pytest.raises(FleetError) as caught:
        answering_export(SCORE, exports, "p/a", "p/b")
    assert caught.value.code is Code.LINK_INVALID
    assert words in caught.value.private


# --- types ---

READING = "record { source: string, value: f32 }"


@pytest.mark.parametrize(
    ("imported", "exported", "difference"),
    [
        ("func(a: u32) -> string", "func(other-name: u32) -> string", ""),
        ("func()", "func()", ""),
        (f"func(a: {READING})", f"func(a: {READING})", ""),
        ("func(a: u32)", "func(a: u64)", "parameter a of f is imported as u32 and exported as u64"),
        ("func(a: u32)", "func()", "function f is imported as func(a: u32) and exported as func()"),
        ("func() -> u32", "func()", "the result of f is imported as u32 and exported as None"),
        (
            "func() -> result<u32, string>",
            "func() -> result<u32>",
            "the result of f is imported as result<u32, string> and exported as result<u32>",
        ),
        (
            f"func(a: {READING})",
            "func(a: record { value: f32, source: string })",
            f"parameter a of f is imported as {READING} and exported as record {{ value: f32, source: string }}",
        ),
        ("func(a: enum { x, y })", "func(a: enum { x, y, z })", "parameter a of f is imported as enum { x, y }"),
        ("func(a: list<option<u8>>)", "func(a: list<u8>)", "parameter a of f is imported as list<option<u8>>"),
    ],
)
def test_the_first_difference_of_types_is_told(imported, exported, difference):
    found = first_difference({"f": signature(imported)}, {"f": signature(exported)})
    assert found.startswith(difference)
    assert bool(found) == bool(difference)


def signature(text):
    """A signature with inline types, which WIT itself would have by name."""
    types = {}
    for i, inline in enumerate((READING, "record { value: f32, source: string }", "enum { x, y, z }", "enum { x, y }")):
        if inline in text:
            text = text.replace(inline, f"t{i}")
            types[f"t{i}"] = parse_type(inline, types)
    return parse_signature(text, types)


def test_an_export_may_have_more_functions_and_not_fewer():
    one, two = signature("func()"), signature("func(a: u32)")
    assert first_difference({"f": one}, {"f": one, "g": two}) == ""
    assert first_difference({"f": one, "g": two}, {"f": one}) == "function g is not exported"


def test_the_error_names_both_agents():
    check_types({}, {}, interface=SCORE, agent="p/a", target="p/b")
    with pytest.raises(FleetError) as caught:
        check_types({"f": signature("func()")}, {}, interface=SCORE, agent="p/a", target="p/b")
    assert caught.value.code is Code.LINK_INVALID
    assert "p/a and p/b do not agree on acme:pipeline/score@0.1.0: function f is not exported" in caught.value.private


# --- assignments ---


def part(name: str, *links: Link) -> FusedAgent:
    return FusedAgent(
        name,
        TargetRef(bundle_path("b", "1.0.0"), digest_of(b"i")),
        TargetRef(grant_path(name, 1), digest_of(b"g")),
        links,
    )


def assigned(name: str, *links: Link, fused: tuple[FusedAgent, ...] = ()) -> AssignedAgent:
    base = part(name)
    return AssignedAgent(name, base.bundle, base.grant, links=links, fused=fused)


def test_sound_orders_pass():
    whole = assigned(
        "p/a",
        link(SCORE, "p/b", "none"),
        link(ALERT, "p/d"),
        fused=(part("p/b", link(ALERT, "p/c", "none")), part("p/c", link("x:y/z", "p/e"))),
    )
    check_assigned([whole, assigned("p/d"), assigned("p/e"), assigned("p/b", link(ALERT, "p/e"))])
    assert outer_links(whole) == (link(ALERT, "p/d"), link("x:y/z", "p/e"))


@pytest.mark.parametrize(
    "agents",
    [
        pytest.param([assigned("p/a", link(SCORE, "q/b"))], id="another application"),
        pytest.param([assigned("p/a", link(SCORE, "p/b", "none"))], id="part missing"),
        pytest.param([assigned("p/a", fused=(part("p/b"),))], id="part that nothing links"),
        pytest.param([assigned("p/a", link(SCORE, "p/b", "none"), fused=(part("p/b"),) * 2)], id="part twice"),
        pytest.param([assigned("p/a", link(SCORE, "p/a", "none"))], id="part of itself"),
        pytest.param(
            [assigned("p/a", link(SCORE, "p/b", "none"), fused=(part("p/b", link(ALERT, "p/b", "none")),))],
            id="parts in a circle",
        ),
        pytest.param(
            [assigned("p/a", link(SCORE, "p/b")), assigned("p/b", link(ALERT, "p/a"))], id="calls in a circle"
        ),
        pytest.param(
            [
                assigned("p/a", link(SCORE, "p/b", "none"), fused=(part("p/b", link(ALERT, "p/c")),)),
                assigned("p/c", link(SCORE, "p/a")),
            ],
            id="a part calls back",
        ),
    ],
)
def test_unsound_orders_are_refused(agents):
    with pytest.raises(FleetError) as caught:
        check_assigned(agents)
    assert caught.value.code is Code.ASSIGNMENT_INVALID


def test_parts_may_not_link_one_import_to_two_agents():
    whole = assigned("p/a", link(SCORE, "p/b", "none"), link(ALERT, "p/d"), fused=(part("p/b", link(ALERT, "p/e")),))
    with pytest.raises(FleetError, match=r"to p/d and to p/e"):
        outer_links(whole)
    same = replace(whole, fused=(part("p/b", link(ALERT, "p/d")),))
    assert outer_links(same) == (link(ALERT, "p/d"),)

"""Ceilings and narrowing only take away; a ceiling that cannot be read stops whoever reads it."""

import json

import pytest
from hypothesis import given, settings

from fleet.errors import Code
from fleet.grants import (
    Authority,
    Limits,
    OwnCeiling,
    hear_ceiling,
    meet,
    parse_ceilings,
    parse_grant,
    subset,
    tell_ceiling,
)
from fleet.grants.ceilings import MAX_TOLD, NOTHING
from fleet.grants.explanation import Source, explain
from fleet.grants.limits import HIGHEST_LIMITS
from fleet.grants.narrowing import NOT_NARROWED, Narrowing, decode_narrowing
from fleet.oci import digest_of
from tests.fakes.documents import GRANT
from tests.fakes.grant_strategies import authorities, capabilities, limits, requests
from tests.fakes.refusals import refusal

PATH = "policy/ceilings.yaml"
STORE = "wasi:keyvalue/store"
CEILINGS = b"""\
schema: fleet.ceilings/v1
ceilings:
  - name: everywhere
    caps:
      wasi:logging/logging: []
      wasi:keyvalue/store: [{buckets: ["*"], ops: [get, set]}]
  - name: line-3
    nodes: {labels: {zone: line-3}}
    caps:
      wasi:keyvalue/store: [{buckets: [context], ops: [get]}]
    limits: {memory: 8MiB}
"""
LAW = settings(max_examples=60, deadline=None)


def test_3_those_hold_whose_labels_a_node_has():
    ceilings = parse_ceilings(CEILINGS, PATH)
    assert [c.place for c in ceilings.on({"zone": "x"})] == [f"{PATH}: everywhere"]
    both = ceilings.on({"zone": "line-3", "site": "oslo"})
    assert [c.place for c in both] == [f"{PATH}: everywhere", f"{PATH}: line-3"]
    authority = meet(both[0].authority, both[1].authority)
    assert authority.allows(STORE, bucket="context", op="get")
    assert not authority.allows(STORE, bucket="context", op="set")
    assert authority.limits.memory_bytes == 8 << 20
    assert both[0].authority.limits == HIGHEST_LIMITS


@pytest.mark.parametrize(
    "text",
    [
        b"ceilings: []",
        CEILINGS[CEILINGS.index(b"ceilings:") :].replace(b"everywhere\n", b"e\n    nodes: {labels: {a: b}}\n"),
    ],
)
def test_a_node_that_no_ceiling_is_for_may_give_nothing(text):
    data = text if text.startswith(b"schema") else b"schema: fleet.ceilings/v1\n" + text
    (only,) = parse_ceilings(data, PATH).on({"zone": "other"})
    assert only.authority == NOTHING == Authority({})
    assert "no ceiling" in only.place


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ((b"fleet.ceilings/v1", b"fleet.ceiling/v1"), "schema"),
        ((CEILINGS[CEILINGS.index(b"ceilings:") :], b""), "ceilings"),
        ((b"name: line-3", b"name: everywhere"), "ceilings[1].name"),
        ((b"name: line-3", b"name: Line"), "ceilings[1].name"),
        ((b"labels: {zone: line-3}", b"labels: {Zone: x}"), "ceilings[1].nodes.labels.Zone"),
        ((b"ops: [get]", b"ops: [fly]"), f"ceilings[1].caps.{STORE}[0].ops[0]"),
        ((b"limits: {memory: 8MiB}", b"limits: {cpu: 1}"), "ceilings[1].limits.cpu"),
        ((b"limits: {memory: 8MiB}", b"extra: 1"), "ceilings[1].extra"),
        ((b"wasi:logging/logging: []", b"wasi:sockets/tcp: []"), "ceilings[0].caps.wasi:sockets/tcp"),
    ],
)
def test_1_2_what_is_wrong_is_named(change, place):
    error = refusal(lambda: parse_ceilings(CEILINGS.replace(*change), PATH))
    assert error.code is Code.GRANT_INVALID
    assert error.detail["place"] == f"{PATH}: {place}"


def test_1_every_ceiling_needs_its_capabilities():
    text = CEILINGS[: CEILINGS.index(b"    caps:")]
    assert refusal(lambda: parse_ceilings(text, PATH)).detail["place"] == f"{PATH}: ceilings[0].caps"


def narrowings():
    return capabilities(empty=False).flatmap(lambda caps: limits().map(lambda highest: Narrowing(caps, (), highest)))


@LAW
@given(authorities(), narrowings(), requests())
def test_narrowing_only_takes_away(authority, narrowing, call):
    interface, request = call
    left = narrowing.apply(authority)
    assert subset(left, authority)
    assert left.capabilities.keys() == authority.capabilities.keys()
    if left.allows(interface, **request):
        assert authority.allows(interface, **request)
    elif authority.allows(interface, **request):
        assert not Authority(narrowing.capabilities).allows(interface, **request)
    denied = Narrowing(narrowing.capabilities, tuple(authority.capabilities), narrowing.limits).apply(authority)
    assert not denied.allows(interface, **request)
    assert denied.capabilities.keys() == authority.capabilities.keys()


@LAW
@given(narrowings())
def test_narrowing_round_trips(narrowing):
    assert decode_narrowing(narrowing.encode()).apply(NOTHING) == narrowing.apply(NOTHING)
    again = decode_narrowing(narrowing.encode())
    assert decode_narrowing(again.encode()) == again


def test_no_narrowing_is_no_text():
    assert NOT_NARROWED.encode() == ""
    assert decode_narrowing("") == NOT_NARROWED
    deny = Narrowing(deny=("wasi:random/random", STORE), limits=Limits(memory_bytes=1 << 20))
    assert json.loads(deny.encode())["deny"] == sorted(deny.deny)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"caps": {}}',
        '{"deny": ["wasi:io/poll"]}',
        '{"deny": ["wasi:random/random", "wasi:random/random"]}',
        '{"deny": ["wasi:random/random"], "caps": {"wasi:random/random": []}}',
        '{"caps": {"wasi:keyvalue/store": []}}',
        '{"limits": {"memory": 1}}',
        '{"widen": true}',
        "{",
    ],
)
def test_malformed_narrowing_is_refused(text):
    assert refusal(lambda: decode_narrowing(text)).code is Code.ASSIGNMENT_INVALID


def test_every_document_says_what_it_thinks_of_a_call():
    grant, ceilings = parse_grant(GRANT.encode(), "grant.yaml"), parse_ceilings(CEILINGS, PATH)
    sources = [
        Source("grant", "grant.yaml", grant.authority, GRANT.encode()),
        Source("fleet ceiling", PATH, ceilings.ceilings[1].authority, CEILINGS, ("ceilings", 1, "caps")),
        Source("narrowing", "assignment", Authority({})),
    ]
    allowed = explain(sources[:2], STORE, {"bucket": "context", "op": "get"})
    assert [(v.place, v.allowed) for v in allowed] == [("grant.yaml:12", True), (f"{PATH}:10", True)]
    denied = explain(sources, STORE, {"bucket": "context", "op": "set"})
    assert [v.allowed for v in denied] == [True, False, False]
    assert denied[1].place == f"{PATH}:10"
    assert denied[1].rules == (f"{STORE}: buckets=context ops=get",)
    assert (denied[2].place, denied[2].rules) == ("assignment", ())
    graph = explain(sources[:1], "wasi:nn/graph", {"model": "second", "device": "gpu"})
    assert (graph[0].place, graph[0].allowed) == ("grant.yaml:15", True)
    absent = explain(sources[:1], "wasi:random/random", {})
    assert (absent[0].place, absent[0].allowed) == ("grant.yaml:10", False)
    assert [v.why for v in (*allowed[:1], *denied[1:], *absent)] == [
        f"{STORE}: buckets=cfg-*,context ops=get,set max_bytes=50MiB",
        "no rule allows op=set",
        f"{STORE} is not in it",
        "wasi:random/random is not in it",
    ]


@pytest.mark.parametrize(
    ("interface", "request_", "why"),
    [
        (STORE, {"bucket": "other", "op": "delete"}, "no rule allows bucket=other or op=delete"),
        (STORE, {"bucket": "context"}, "it depends on more than was asked: say op=... too"),
        ("wasi:nn/graph", {"model": "second", "device": "cpu"}, "no rule allows model=second device=cpu together"),
        ("wasi:nn/graph", {}, "it depends on more than was asked: say model=... device=... too"),
    ],
)
def test_what_of_a_call_no_rule_allows_is_named(interface, request_, why):
    grant = parse_grant(GRANT.encode(), "grant.yaml")
    (verdict,) = explain([Source("grant", "grant.yaml", grant.authority)], interface, request_)
    assert (verdict.allowed, verdict.why) == (False, why)


def test_what_a_lease_took_away_denies_every_call():
    left = parse_grant(GRANT.encode(), "grant.yaml").authority.without(frozenset({STORE}))
    (verdict,) = explain([Source("grant", "grant.yaml", left)], STORE, {"bucket": "context", "op": "get"})
    assert (verdict.allowed, verdict.why) == (False, "it denies every call")


@pytest.mark.parametrize(("size", "told"), [(0, True), (MAX_TOLD, True), (MAX_TOLD + 1, False)])
def test_a_node_tells_its_own_ceiling_where_it_is_not_too_large(size, told):
    document = b"#" * size
    said = tell_ceiling(document)
    assert said == OwnCeiling(digest_of(document), document if told else b"")
    assert hear_ceiling(said.digest, said.document) == said


def test_a_node_without_a_ceiling_says_so():
    assert tell_ceiling(None) == hear_ceiling("", b"") == OwnCeiling()


@pytest.mark.parametrize(
    ("digest", "document"),
    [
        ("", b"something"),
        ("sha256:1", b""),
        (digest_of(b"other"), b"something"),
        (digest_of(b"#" * (MAX_TOLD + 1)), b"#" * (MAX_TOLD + 1)),
    ],
)
def test_what_no_node_says_is_refused(digest, document):
    assert refusal(lambda: hear_ceiling(digest, document)).code is Code.MESSAGE_INVALID

"""Authority keeps the laws on which every ceiling rests."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.grants import VOCABULARY, Authority, Limits, Rule, describe_rule, describe_rules, diff, fuse, meet, subset
from fleet.grants.constraints import Constraint, Literals, Maximum, Patterns
from fleet.grants.lattice import MAX_REMEMBERED, MAX_REMEMBERED_WORDS
from fleet.grants.limits import DEFAULT_LIMITS, HIGHEST_LIMITS, LIMITS, OPTIONAL
from fleet.grants.rules import normal, write_constraint
from fleet.grants.vocabulary import BASELINE, ConstraintSpec, Kind
from tests.fakes.grant_strategies import SPECS, authorities, capabilities, limits, questions, requests
from tests.fakes.refusals import refusal

LAW = settings(max_examples=80, deadline=None)

STORE = "wasi:keyvalue/store"
FRAMES = Rule(
    {
        "buckets": Patterns(frozenset({"frames", "cfg-*"})),
        "ops": Literals(frozenset({"get", "set"})),
        "max_bytes": Maximum(50 << 20),
    }
)
READ_ALL = Rule({"buckets": Patterns(frozenset({"*"})), "ops": Literals(frozenset({"get"}))})


def maxima(authority, interface, request):
    return [
        authority.maximum(interface, name, **request)
        for name, spec in SPECS[interface].items()
        if spec.kind is Kind.MAXIMUM
    ]


def below(a, b):
    return b is None or (a is not None and a <= b)


@LAW
@given(authorities(), authorities(), requests())
def test_meet_allows_exactly_what_both_allow(a, b, call):
    interface, request = call
    both = meet(a, b)
    assert both.allows(interface, **request) == (a.allows(interface, **request) and b.allows(interface, **request))
    for mine, one, two in zip(*(maxima(x, interface, request) for x in (both, a, b)), strict=True):
        assert mine == (one if two is None else two if one is None else min(one, two))


@settings(max_examples=250, deadline=None)
@given(questions())
def test_the_laws_hold_within_one_interface(question):
    a, b, interface, request = question
    both = meet(a, b)
    assert both.allows(interface, **request) == (a.allows(interface, **request) and b.allows(interface, **request))
    widened = diff(a, b).widened
    assert bool(widened) != subset(b, a)
    if subset(a, b) and a.allows(interface, **request):
        assert b.allows(interface, **request)
    for mine, one, two in zip(*(maxima(x, interface, request) for x in (both, a, b)), strict=True):
        assert mine == (one if two is None else two if one is None else min(one, two))
        assert below(one, two) or not subset(a, b)
        assert below(two, one) or widened


@LAW
@given(authorities(), authorities())
def test_meet_is_a_subset_of_both(a, b):
    both = meet(a, b)
    assert subset(both, a)
    assert subset(both, b)
    assert subset(meet(b, a), both)


@LAW
@given(authorities(), authorities(), requests())
def test_subset_is_sound(a, b, call):
    interface, request = call
    for lower in (a, meet(a, b)):
        if subset(lower, b):
            assert not lower.allows(interface, **request) or b.allows(interface, **request)
            for mine, theirs in zip(*(maxima(x, interface, request) for x in (lower, b)), strict=True):
                assert below(mine, theirs)


@LAW
@given(authorities(), authorities(), authorities())
def test_subset_is_reflexive_and_transitive(a, b, c):
    assert subset(a, a)
    assert subset(meet(meet(a, b), c), a)
    if subset(a, b) and subset(b, c):
        assert subset(a, c)


@LAW
@given(authorities(), authorities(), requests())
def test_diff_reports_every_widening(old, new, call):
    interface, request = call
    change = diff(old, new)
    wider = new.allows(interface, **request) and not old.allows(interface, **request)
    for mine, theirs in zip(*(maxima(x, interface, request) for x in (new, old)), strict=True):
        wider = wider or not below(mine, theirs)
    if wider:
        assert any(line.startswith(f"{interface}:") for line in change.widened)
    assert bool(change.widened) != subset(new, old)
    assert len(diff(new, old).widened) == len(change.narrowed)


@LAW
@given(authorities())
def test_first_grant_is_all_widening(new):
    change = diff(None, new)
    assert {line.partition(": ")[0] for line in change.widened} >= set(new.capabilities)
    assert sum(line.startswith("limits.") for line in change.widened) == len(new.limits.describe())
    assert change.narrowed == ()


@LAW
@given(authorities())
def test_encoding_round_trips(authority):
    decoded = Authority.decode(authority.encode())
    assert decoded == authority
    assert decoded.encode() == authority.encode()


@LAW
@given(authorities(), requests())
def test_without_takes_away_all_calls(authority, call):
    interface, request = call
    less = authority.without(frozenset({interface}))
    assert not less.allows(interface, **request)
    assert less.capabilities.keys() == authority.capabilities.keys()
    assert subset(less, authority)


@given(limits(), limits(), limits())
def test_limits_are_a_lattice(a, b, c):
    assert a.meet(b) == b.meet(a)
    assert a.meet(b).within(a)
    assert a.within(HIGHEST_LIMITS)
    assert a.meet(HIGHEST_LIMITS) == a
    assert a.meet(b).meet(c) == a.meet(b.meet(c))


@given(capabilities())
def test_normal_keeps_meaning(caps):
    for interface, rules in caps.items():
        short = Authority({interface: normal(rules)})
        assert subset(short, Authority({interface: rules}))
        assert subset(Authority({interface: rules}), short)


def test_ordinary_questions():
    authority = Authority({STORE: (FRAMES,), "wasi:logging/logging": (Rule({}),), "wasi:config/store": ()})
    assert authority.allows(STORE, bucket="frames", op="get")
    assert not authority.allows(STORE, bucket="frames", op="delete")
    assert not authority.allows(STORE, bucket="other", op="get")
    assert not authority.allows(STORE, bucket="frames")
    assert authority.choices(STORE, "ops", bucket="cfg-x") == {"get", "set"}
    assert authority.choices(STORE, "ops", bucket="x") == set()
    assert authority.maximum(STORE, "max_bytes", bucket="frames", op="set") == 50 << 20
    assert authority.maximum(STORE, "max_bytes", bucket="x", op="set") == 0
    assert authority.allows("wasi:logging/logging")
    assert not authority.allows("wasi:config/store", key="x")
    assert not authority.allows("wasi:random/random")


def test_highest_of_the_matching_maxima_holds():
    more = Rule({**FRAMES.constraints, "max_bytes": Maximum(60 << 20)})
    assert Authority({STORE: (more, FRAMES)}).maximum(STORE, "max_bytes", bucket="frames", op="set") == 60 << 20
    assert Authority({STORE: (FRAMES, READ_ALL)}).maximum(STORE, "max_bytes", bucket="frames", op="get") is None


def test_interfaces_outside_the_vocabulary_are_denied():
    authority = Authority({})
    assert not authority.allows("wasi:blobstore/blobstore", host="x")
    assert authority.maximum("wasi:blobstore/blobstore", "max_rps") == 0
    assert authority.choices("wasi:blobstore/blobstore", "methods") == set()


def test_wrong_questions_are_the_programmers_fault():
    authority = Authority({STORE: (FRAMES,)})
    with pytest.raises(ValueError, match="no request buckets"):
        authority.allows(STORE, buckets="frames")
    with pytest.raises(ValueError, match="no maximum ops"):
        authority.maximum(STORE, "ops", bucket="frames", op="get")
    with pytest.raises(ValueError, match="no maximum nonsense"):
        authority.maximum(STORE, "nonsense")
    with pytest.raises(ValueError, match="no constraint nonsense"):
        authority.choices(STORE, "nonsense", bucket="frames")


def test_descriptions():
    assert describe_rule(STORE, FRAMES) == "buckets=cfg-*,frames ops=get,set max_bytes=50MiB"
    assert describe_rule("wasi:nn/inference", Rule({"max_rps": Maximum(20)})) == "max_rps=20"
    assert describe_rules("wasi:logging/logging", (Rule({}),)) == ["wasi:logging/logging: unrestricted"]
    assert describe_rules(STORE, ()) == [f"{STORE}: every call denied"]


def test_diff_is_readable():
    old = Authority({STORE: (FRAMES,), "wasi:random/random": (Rule({}),)}, Limits(memory_bytes=64 << 20))
    new = Authority({STORE: (FRAMES, READ_ALL)}, Limits(memory_bytes=128 << 20, queue=8, fuel_per_call=10))
    change = diff(old, new)
    assert change.widened == (f"{STORE}: buckets=* ops=get", "limits.memory: 64MiB -> 128MiB")
    assert change.narrowed == (
        "wasi:random/random: unrestricted",
        "limits.queue: 64 -> 8",
        "limits.fuel_per_call: none -> 10",
    )


def encoded(**changes):
    value = {"schema": "fleet.authority/v1", "capabilities": {}, "limits": DEFAULT_LIMITS.describe(), **changes}
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "authority:1:1"),
        (b"[]", "authority"),
        (encoded(schema="fleet.authority/v2"), "authority: schema"),
        (encoded(extra=1), "authority: extra"),
        (encoded(capabilities={"wasi:http/types": []}), "authority: capabilities.wasi:http/types"),
        (encoded(capabilities={"wasi:io/poll": []}), "authority: capabilities.wasi:io/poll"),
        (encoded(capabilities={STORE: [{"buckets": ["a"]}]}), f"authority: capabilities.{STORE}[0].ops"),
        (encoded(capabilities={STORE: {}}), f"authority: capabilities.{STORE}"),
        (encoded(limits={"memory": 64}), "authority: limits.memory"),
        (encoded(limits={"memory": "1B"}), "authority: limits.memory"),
        (encoded(limits={"queue": 0}), "authority: limits.queue"),
        (encoded(limits={"output": "5MiB"}), "authority: limits.output"),
        (encoded(limits={"host_calls_per_second": 0}), "authority: limits.host_calls_per_second"),
        (encoded(limits={"cpu": 1}), "authority: limits.cpu"),
    ],
)
def test_malformed_authorities_are_refused(data, place):
    with pytest.raises(FleetError) as caught:
        Authority.decode(data)
    assert (caught.value.code, caught.value.detail["place"]) == (Code.GRANT_INVALID, place)


@given(authorities(), st.integers(0, 10_000), st.binary(max_size=3))
def test_mutated_encodings_raise_nothing_else(authority, at, garbage):
    data = authority.encode()
    mutated = data[: at % len(data)] + garbage + data[at % len(data) + len(garbage) :]
    error = refusal(lambda: Authority.decode(mutated))
    assert error is None or (error.code is Code.GRANT_INVALID and error.detail["place"])


def test_vocabulary_is_consistent():
    assert BASELINE & VOCABULARY.keys() == {"wasi:filesystem/preopens"}
    assert HIGHEST_LIMITS.describe().keys() == {spec.key for field, spec in LIMITS.items() if field not in OPTIONAL}
    for specs in VOCABULARY.values():
        for spec in specs.values():
            assert (spec.kind is Kind.LITERALS) == bool(spec.values)
            assert (spec.kind is Kind.MAXIMUM) == (spec.request == "")


def test_an_unknown_kind_of_constraint_is_the_programmers_fault():
    class Odd(Constraint):
        def meet(self, other):
            return self

        def within(self, other):
            return True

    with pytest.raises(TypeError, match="unknown constraint"):
        write_constraint(ConstraintSpec(Kind.MAXIMUM), Odd())


IMPORTS = st.sets(st.sampled_from(sorted({*SPECS} - {"wasi:logging/logging"})), max_size=4)


@LAW
@given(st.lists(st.tuples(authorities(), IMPORTS), min_size=1, max_size=3), requests())
def test_a_whole_may_do_what_all_parts_that_could_be_asking_may(parts, call):
    interface, request = call
    whole = fuse(parts)
    users = [authority for authority, imports in parts if interface in imports] or [parts[0][0]]
    assert whole.allows(interface, **request) == all(user.allows(interface, **request) for user in users)
    assert all(whole.limits.within(authority.limits) for authority, _ in parts)


@given(authorities(), IMPORTS)
def test_a_whole_of_one_part_is_the_part(authority, imports):
    assert fuse([(authority, imports)]) == authority


def test_an_import_that_one_part_has_no_grant_for_denies_all():
    granted, other = Authority({STORE: (READ_ALL,)}), Authority({})
    whole = fuse([(granted, {STORE}), (other, {STORE, "acme:pipeline/score"})])
    assert whole.capabilities == {STORE: ()}


@LAW
@given(questions())
def test_an_answer_that_is_remembered_is_the_answer(question):
    authority, other, interface, request = question
    later = tuple(sorted(request))[:1]
    rest = {key: value for key, value in request.items() if key not in later}
    for asked in (authority, other):
        fresh = Authority(asked.capabilities, asked.limits)
        for _ in range(2):
            assert asked.allows(interface, **request) == bool(fresh.rules_for(interface, **request))
            assert asked.rules_for(interface, later, **rest) == Authority(asked.capabilities).rules_for(
                interface, later, **rest
            )
        assert asked == fresh
        assert repr(asked) == repr(fresh)


def test_what_guests_ask_takes_no_memory_for_ever():
    authority = Authority({STORE: (FRAMES,)})
    for i in range(3 * MAX_REMEMBERED):
        assert not authority.allows(STORE, bucket=f"bucket-{i}", op="get")
        assert len(authority._decided) <= MAX_REMEMBERED
    before = len(authority._decided)
    assert not authority.allows(STORE, bucket="x" * MAX_REMEMBERED_WORDS, op="get")
    assert len(authority._decided) == before
    for _ in range(2):
        with pytest.raises(ValueError, match="no request colour"):
            authority.allows(STORE, colour="red")

"""Cosignatures and the policy that asks for them: each numbered check, tables, and properties."""

from __future__ import annotations

import base64
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.checkpoint import KeyKind, VerifierKey, format_vkey, parse_line, parse_vkey, sign_checkpoint
from fleet.errors import Code, FleetError
from fleet.merkle import leaf_hash
from fleet.witnesses import (
    MAX_POLICY,
    NO_WITNESSES,
    NONE,
    WitnessPolicy,
    add_lines,
    cosign,
    name_logs,
    open_cosignature,
    open_cosignatures,
    open_witnessed,
    parse_policy,
    witness_name,
)
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of

LOG = "demo/audit"
VKEY = format_vkey(LOG, key("log").public)
NOTE = sign_checkpoint(LOG, 3, leaf_hash(b"root"), key("log"))


def vkey_of(name: str) -> str:
    return format_vkey(witness_name("demo", name), key(f"w-{name}").public, KeyKind.COSIGNER)


def witness(name: str) -> VerifierKey:
    return parse_vkey(vkey_of(name), KeyKind.COSIGNER)


def line_of(name: str, note: bytes = NOTE, at_s: int = 1_800_000_000) -> str:
    return cosign(note, witness_name("demo", name), key(f"w-{name}"), at_s)


NAMES = ("a", "b", "c", "d")
DECLARED = "".join(f"witness {name} {vkey_of(name)}\n" for name in NAMES)


def refused(text: str | bytes) -> FleetError:
    with pytest.raises(FleetError) as caught:
        parse_policy(text.encode() if isinstance(text, str) else text)
    return caught.value


def test_the_specification_s_own_cosignature_verifies() -> None:
    """c2sp.org/tlog-cosignature shows a note with a line of witness.example.com/w1; the key is not published there,
    so what is checked is its form: name, key hash, and the time inside."""
    line = parse_line(
        "\u2014 witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5"
        "nNo0xUe+mbIUBkBIfZ+qnA=="
    )
    assert (line.name, line.key_hash.hex(), len(line.signature)) == ("witness.example.com/w1", "8d66cf3f", 72)
    assert int.from_bytes(line.signature[:8], "big") == 1679315147


def test_a_cosignature_is_of_its_witness_its_note_and_its_time() -> None:
    note = add_lines(NOTE, [line_of("a"), line_of("b"), line_of("stranger")])
    found = open_cosignatures(note, [witness("a"), witness("b"), witness("c")])
    assert [(c.witness, c.at_s) for c in found] == [(witness("a"), 1_800_000_000), (witness("b"), 1_800_000_000)]
    assert open_cosignature(NOTE, line_of("a"), witness("a")) == found[0]
    other = sign_checkpoint(LOG, 4, leaf_hash(b"other"), key("log"))
    for note, line, who in (
        (NOTE, line_of("b"), "a"),  # by somebody else
        (other, line_of("a"), "a"),  # about another tree
        (NOTE, line_of("a")[:-8], "a"),  # cut
        (NOTE, "\u2014 x", "a"),
    ):
        with pytest.raises(FleetError) as caught:
            open_cosignature(note, line, witness(who))
        assert caught.value.code is Code.PROOF_INVALID


def test_a_bad_line_of_a_known_witness_is_an_error_and_of_a_stranger_none() -> None:
    changed = line_of("a").replace("\u2014", "\u2014")
    data = bytearray(base64.b64decode(changed.split(" ")[2]))
    data[4] ^= 1  # the time, which is signed
    bad = f"\u2014 {witness_name('demo', 'a')} {base64.b64encode(bytes(data)).decode()}"
    assert open_cosignatures(add_lines(NOTE, [bad]), [witness("b")]) == ()
    with pytest.raises(FleetError) as caught:
        open_cosignatures(add_lines(NOTE, [bad]), [witness("a")])
    assert caught.value.code is Code.PROOF_INVALID
    data[4] = 0x80  # beyond 2**63 - 1
    late = f"\u2014 {witness_name('demo', 'a')} {base64.b64encode(bytes(data)).decode()}"
    with pytest.raises(FleetError, match="no time"):
        open_cosignatures(add_lines(NOTE, [late]), [witness("a")])


def test_one_witness_counts_once_however_often_it_signs() -> None:
    note = add_lines(NOTE, [line_of("a", at_s=1), line_of("a", at_s=2)])
    assert [c.at_s for c in open_cosignatures(note, [witness("a")])] == [1]
    with pytest.raises(FleetError) as caught:
        open_witnessed(note, (VKEY,), parse_policy(f"{DECLARED}group two 2 a b\nquorum two\n".encode()))
    assert caught.value.code is Code.QUORUM_MISSING


def test_the_checks_of_a_witnessed_checkpoint_in_their_order() -> None:
    two = parse_policy(f"log {VKEY}\n{DECLARED}group two 2 a b c d\nquorum two\n".encode())
    note = add_lines(NOTE, [line_of("a"), line_of("c")])
    assert open_witnessed(note, (VKEY,), two).size == 3
    assert open_witnessed(NOTE, (VKEY,), NO_WITNESSES).size == 3
    other = format_vkey(LOG, key("other-log").public)
    with pytest.raises(FleetError) as caught:
        open_witnessed(note, (other,), two)  # 1
    assert caught.value.code is Code.PROOF_INVALID
    elsewhere = parse_policy(f"log {other}\nquorum none\n".encode())
    with pytest.raises(FleetError, match="does not name this log"):
        open_witnessed(note, (VKEY,), elsewhere)  # 2
    broken = line_of("b", sign_checkpoint(LOG, 4, leaf_hash(b"x"), key("log")))
    with pytest.raises(FleetError) as caught:
        open_witnessed(add_lines(note, [broken]), (VKEY,), two)  # 3
    assert caught.value.code is Code.PROOF_INVALID
    with pytest.raises(FleetError) as caught:
        open_witnessed(add_lines(NOTE, [line_of("a"), line_of("stranger")]), (VKEY,), two)  # 4
    assert caught.value.code is Code.QUORUM_MISSING
    assert caught.value.detail["absent"] == "b c d"


def test_witnesses_of_its_own_making_help_a_coordinator_nothing() -> None:
    """Threat 28: who owns the node authority can make any number of nodes, and their keys are in no policy."""
    policy = parse_policy(f"{DECLARED}group two 2 a b c d\nquorum two\n".encode())
    invented = [line_of(f"sybil-{number}") for number in range(20)]
    same_name = cosign(NOTE, witness_name("demo", "a"), key("sybil"), 1)  # the name of one, another key
    with pytest.raises(FleetError) as caught:
        open_witnessed(add_lines(NOTE, [*invented, same_name, line_of("b")]), (VKEY,), policy)
    assert caught.value.code is Code.QUORUM_MISSING


def test_a_log_s_key_is_no_witness_s_key() -> None:
    with pytest.raises(FleetError, match="cosigner"):
        parse_vkey(VKEY, KeyKind.COSIGNER)
    with pytest.raises(FleetError, match="log"):
        parse_vkey(vkey_of("a"))
    assert str(witness("a")) == vkey_of("a")


def test_the_example_of_the_specification() -> None:
    names = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
    lines = [f"witness {name} {vkey_of(name)} https://w.example/{name}" for name in names]
    text = "\n".join(
        [
            "# two organisations",
            f"log {VKEY} https://log.example/",
            "",
            *lines[:3],
            "group X-witnesses 2 X1 X2 X3",
            *lines[3:],
            "\tgroup  Y-witnesses any Y1 Y2 Y3  ",
            "group X-and-Y all X-witnesses Y-witnesses",
            "quorum X-and-Y",
            "",
        ]
    )
    policy = parse_policy(text.encode())
    assert [key.name for key in policy.logs] == [LOG]
    for cosigned, expected in (
        (("X1", "X2", "Y1"), True),
        (("X1", "X2", "X3"), False),
        (("X1", "Y1", "Y2", "Y3"), False),
        ((), False),
        (names, True),
    ):
        assert policy.is_met({witness(name) for name in cosigned}) is expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"quorum none", 0),  # 1: the last line has no end
        (b"quorum none\r\n", 0),
        (b"quorum none\x7f\n", 0),
        (b"# \xff\nquorum none\n", 0),
        (b"quora none\n", 1),  # 2
        (b"quorum\n", 1),
        (b"quorum none none\n", 1),
        (b"log\n", 1),
        (f"witness a {vkey_of('a')} u v\n".encode(), 1),
        (b"group g any\n", 1),
        (f"log {vkey_of('a')}\n".encode(), 1),  # 3
        (f"witness a {VKEY}\n".encode(), 1),
        (f"log {VKEY}\nlog {VKEY}\n".encode(), 2),
        (f"witness a {vkey_of('a')}\nwitness b {vkey_of('a')}\n".encode(), 2),
        (f"witness a {vkey_of('a')}\nwitness a {vkey_of('b')}\n".encode(), 2),  # 4
        (f"witness none {vkey_of('a')}\n".encode(), 1),
        (f"{DECLARED}group a any b\n".encode(), 5),
        (f"{DECLARED}group none any b\n".encode(), 5),
        (f"{DECLARED}group g any x\n".encode(), 5),
        (f"{DECLARED}group g any none\n".encode(), 5),
        (f"{DECLARED}group g any g\n".encode(), 5),
        (b"quorum a\n", 1),
        (f"{DECLARED}group g some a\n".encode(), 5),  # 5
        (f"{DECLARED}group g 0 a\n".encode(), 5),
        (f"{DECLARED}group g 01 a\n".encode(), 5),
        (f"{DECLARED}group g 3 a b\n".encode(), 5),
        (f"{DECLARED}group g any a a\n".encode(), 5),
        (f"{DECLARED}group g any a\ngroup h any a\n".encode(), 6),
        (b"", 0),  # 6
        (b"quorum none\nquorum none\n", 2),
    ],
)
def test_a_policy_that_says_something_else_is_refused_with_its_line(text: bytes, line: int) -> None:
    error = refused(text)
    assert error.code is Code.TRUST_INVALID
    assert error.detail["place"] == (f"witness.policy:{line}" if line else "witness.policy")


def test_a_policy_has_bounds() -> None:
    assert refused(b"#" * MAX_POLICY + b"\n").code is Code.LIMIT_EXCEEDED
    many = "".join(f"witness n{i} {vkey_of(f'n{i}')}\n" for i in range(64))
    assert refused(f"{many}quorum none\n").detail["place"] == "witness.policy:64"
    logs = "".join(f"log {format_vkey(f'log{i}', key(f'log{i}').public)}\n" for i in range(33))
    assert refused(f"{logs}quorum none\n").detail["place"] == "witness.policy:33"
    groups = "".join(f"group g{i} any {f'g{i - 1}' if i else 'a'}\n" for i in range(65))
    assert refused(f"{DECLARED}{groups}quorum none\n").detail["place"] == "witness.policy:69"
    nested = "".join(f"group g{i} any {f'g{i - 1}' if i else 'a'}\n" for i in range(64))
    assert parse_policy(f"{DECLARED}{nested}quorum g63\n".encode()).is_met({witness("a")})


def test_without_a_policy_nobody_is_needed() -> None:
    assert parse_policy(b"quorum none\n") == NO_WITNESSES
    assert WitnessPolicy((), MappingProxyType({}), MappingProxyType({}), NONE) == NO_WITNESSES
    assert NO_WITNESSES.is_met(())


@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.integers(1, 4))
def test_more_witnesses_never_make_a_quorum_fail(some: set[str], others: set[str], threshold: int) -> None:
    policy = parse_policy(f"{DECLARED}group g {threshold} a b c d\nquorum g\n".encode())
    cosigned = {witness(name) for name in some}
    assert policy.is_met(cosigned) == (len(some) >= threshold)
    assert not policy.is_met(cosigned) or policy.is_met(cosigned | {witness(name) for name in others})


WORDS = st.sampled_from(
    ["log", "witness", "group", "quorum", "a", "b", "none", "any", "all", "2", "#", VKEY, vkey_of("a"), vkey_of("b")]
)


@given(st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=12).map("\n".join))
def test_whatever_is_written_is_a_policy_or_refused(text: str) -> None:
    def read() -> None:
        policy = parse_policy(f"{text}\n".encode())
        assert policy.is_met(set(policy.witnesses.values()))  # everybody is always enough

    assert code_of(read) in {None, Code.TRUST_INVALID}


@given(st.binary(max_size=200))
def test_bytes_are_a_policy_or_refused(data: bytes) -> None:
    assert code_of(parse_policy, data) in {None, Code.TRUST_INVALID}


def test_where_the_policy_names_logs_only_keys_that_both_name_count() -> None:
    other = format_vkey(LOG, key("other-log").public)
    both = sign_checkpoint(LOG, 3, bytes(32), key("other-log"), key("log"))
    named = parse_policy(f"log {VKEY}\nquorum none\n".encode())
    assert open_witnessed(both, (other, VKEY), named).size == 3
    only_other = sign_checkpoint(LOG, 3, bytes(32), key("other-log"))
    for vkeys in ((other, VKEY), (other,)):
        assert code_of(open_witnessed, only_other, vkeys, named) is Code.PROOF_INVALID


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("quorum none\n", "quorum none\n"),
        ("# who\nlog OLD\nquorum none\n", "# who\nlog A\nlog B\nquorum none\n"),
        ("quorum none\n log\tOLD https://x\n# log OLD\nlog OLD", "quorum none\nlog A\nlog B\n# log OLD\n"),
    ],
)
def test_a_policy_that_names_logs_names_others(before: str, after: str) -> None:
    assert name_logs(before.encode(), ("A", "B")).decode() == after

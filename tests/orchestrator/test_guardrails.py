"""Guardrails refuse what they name, and whatever they cannot judge."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.errors import Code
from fleet.grants import Grant, Request, Risk, parse_grant
from fleet.trust import Profile
from orchestrator.guardrails import (
    MAX_GUARDRAILS,
    Circumstances,
    default_guardrails,
    default_text,
    load_guardrails,
)
from tests.fakes.documents import DIGEST, GRANT
from tests.fakes.refusals import refusal

DEFAULT = default_guardrails()
SIGNED: Grant = replace(
    parse_grant(GRANT.encode(), "grant.yaml"), proposed_by="carol", request=Request(DIGEST), risk=Risk.STANDARD
)
THREE = frozenset({"alice", "bob", "dave"})
TWO = frozenset({"alice", "bob"})


def circumstances(approvers: frozenset[str] = TWO, **changes: object) -> Circumstances:
    made = Circumstances(Profile.PRODUCTION, approvers, frozenset({"erin"}), "publisher")
    return replace(made, **changes)


def caps(**rules: object) -> Grant:
    text = GRANT.replace("caps:", "caps:\n" + "".join(f"  {key}: {value}\n" for key, value in rules.items()))
    return replace(
        parse_grant(text.encode(), "g"), **{k: getattr(SIGNED, k) for k in ("proposed_by", "request", "risk")}
    )


HTTP = '[{hosts: ["%s"], methods: [GET], ports: ["443"], networks: [%s]}]'
REVEAL = "[{names: [token]}]"


def refused(grant: Grant, about: Circumstances) -> set[str]:
    return {found.id for found in DEFAULT.refusals(grant, about)}


def test_what_breaks_no_rule_passes():
    assert refused(SIGNED, circumstances()) == set()
    DEFAULT.check(SIGNED, circumstances())
    assert refused(replace(SIGNED, risk=Risk.HIGH), circumstances(THREE)) == set()


@pytest.mark.parametrize(
    ("grant", "about", "expected"),
    [
        (replace(SIGNED, proposed_by=""), circumstances(), {"proposer-named"}),
        (replace(SIGNED, proposed_by="bob"), circumstances(), {"four-eyes"}),
        (SIGNED, circumstances(code_signers=frozenset({"alice"})), {"four-eyes-code"}),
        (SIGNED, circumstances(frozenset({"alice"})), {"approvals-standard"}),
        (replace(SIGNED, risk=Risk.LOW), circumstances(frozenset({"alice"})), set()),
        (replace(SIGNED, risk=Risk.HIGH), circumstances(TWO), {"approvals-high"}),
        (
            replace(SIGNED, risk=Risk.HIGH, bundle=replace(SIGNED.bundle, digests=())),
            circumstances(THREE),
            {"high-risk-pinned"},
        ),
        (replace(SIGNED, request=None), circumstances(), {"request-reviewed"}),
        (replace(SIGNED, request=None, risk=Risk.LOW), circumstances(), set()),
        (replace(SIGNED, break_glass=True), circumstances(frozenset({"alice"})), set()),
        (replace(SIGNED, break_glass=True, risk=Risk.HIGH), circumstances(frozenset({"alice"})), set()),
        (replace(SIGNED, break_glass=True, proposed_by="bob"), circumstances(frozenset({"bob"})), set()),
        (
            replace(SIGNED, break_glass=True),
            circumstances(frozenset({"alice"}), code_signers=frozenset({"alice"})),
            {"four-eyes-code"},
        ),
        (replace(SIGNED, not_after=SIGNED.not_before + timedelta(days=401)), circumstances(), {"valid-a-year-at-most"}),
        (caps(**{"wasi:http/outgoing-handler": HTTP % ("*", "public")}), circumstances(), {"no-wildcard-egress"}),
        (caps(**{"wasi:http/outgoing-handler": HTTP % ("a.b", "public")}), circumstances(), set()),
        (caps(**{"wasi:http/outgoing-handler": HTTP % ("*", "loopback")}), circumstances(), set()),
        (
            caps(**{"wasi:http/outgoing-handler": HTTP % ("a.b", "public"), "fleet:secrets/reveal": REVEAL}),
            circumstances(),
            {"secrets-and-egress"},
        ),
        (
            caps(**{"wasi:http/outgoing-handler": HTTP % ("a.b", "public"), "fleet:secrets/store": REVEAL}),
            circumstances(),
            set(),
        ),
        (caps(**{"fleet:secrets/reveal": REVEAL}), circumstances(), set()),
        (
            caps(**{"wasi:http/incoming-handler": '[{ports: ["80"], addresses: ["0.0.0.0"]}]'}),
            circumstances(),
            {"every-interface-of-the-node"},
        ),
    ],
)
def test_each_guardrail(grant: Grant, about: Circumstances, expected: set[str]) -> None:
    assert refused(grant, about) == expected


def test_every_default_guardrail_is_tried_here():
    tried = {
        "proposer-named", "four-eyes", "four-eyes-code", "approvals-standard", "approvals-high", "high-risk-pinned",
        "request-reviewed", "valid-a-year-at-most", "no-wildcard-egress", "secrets-and-egress",
        "every-interface-of-the-node",
    }  # fmt: skip
    assert set(DEFAULT.ids) - {"whatever-nothing-forbids"} == tried


def test_a_development_fleet_is_left_alone():
    alone = Circumstances(Profile.DEV, frozenset({"me"}), frozenset({"me"}), "me")
    wide = caps(**{"wasi:http/outgoing-handler": HTTP % ("*", "public"), "fleet:secrets/reveal": REVEAL})
    assert refused(replace(wide, proposed_by="me", request=None), alone) == set()
    assert refused(replace(SIGNED, break_glass=True, reason="me"), alone) == set()


def test_a_refusal_is_named_with_its_remedy():
    error = refusal(lambda: DEFAULT.check(replace(SIGNED, proposed_by="bob"), circumstances(code_signers=TWO)))
    assert error.code is Code.GUARDRAIL_REFUSED
    assert error.detail["guardrail"] in {"four-eyes", "four-eyes-code"}
    assert "for " in error.private
    assert error.remedy


def test_before_anybody_publishes_only_people_are_asked():
    alone = frozenset({"alice"})
    assert refused(SIGNED, circumstances(alone, publisher="")) == set()
    assert refused(SIGNED, circumstances(alone)) == {"approvals-standard"}


PERMIT = '@id("all") permit (principal, action, resource);\n'


@pytest.mark.parametrize(
    "text",
    [
        "forbid (",
        '@id("a") forbid (principal, action, resource) when { context.nobody == 1 };',
        '@id("a") forbid (principal, action == Action::"publish", resource) when { context.proposer == principal };',
        '@id("a") forbid (principal, action == Action::"approve", resource) when { context.proposer == principal };',
        '@id("a") forbid (principal, action == Action::"fly", resource);',
        '@id("a") forbid (principal == ?principal, action, resource);',
        "forbid (principal, action, resource);",
        '@id("all") forbid (principal, action, resource);',
        '@id("a") forbid (principal, action, resource) when { resource.risk > 3 };',
    ],
)
def test_a_set_that_could_fail_open_is_not_loaded(text: str) -> None:
    error = refusal(lambda: load_guardrails((PERMIT + text).encode()))
    assert (error.code, error.detail["place"]) == (Code.CONFIG_INVALID, "policy/guardrails.cedar")


def test_bytes_that_are_no_policies():
    assert refusal(lambda: load_guardrails(b"\xff")).code is Code.CONFIG_INVALID
    assert refusal(lambda: load_guardrails(b" " * (MAX_GUARDRAILS + 1))).code is Code.LIMIT_EXCEEDED


def test_what_cannot_be_evaluated_refuses():
    overflow = (
        '@id("a") forbid (principal, action, resource) when { resource.validity_hours * 9223372036854775807 > 1 };'
    )
    rails = load_guardrails((PERMIT + overflow).encode())
    found = rails.refusals(SIGNED, circumstances(publisher=""))
    assert {refusal_.id for refusal_ in found} == {"evaluation"}
    assert {refusal_.subject for refusal_ in found} == TWO


def test_nothing_is_permitted_that_no_policy_permits():
    rails = load_guardrails(b'@id("a") permit (principal, action == Action::"approve", resource);')
    assert [r.id for r in rails.refusals(SIGNED, circumstances())] == ["default-deny"]
    assert load_guardrails(default_text().encode()).ids == DEFAULT.ids


def test_a_name_cannot_break_out_of_the_question():
    odd = frozenset({'alice"; permit', "x\ny"})
    assert refused(SIGNED, circumstances(odd)) == set()
    assert refused(SIGNED, circumstances(odd, code_signers=odd)) == {"four-eyes-code"}

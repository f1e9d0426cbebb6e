"""Guardrails over a release: who signs a staged grant, and what a release adds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.errors import Code
from fleet.grants import (
    OnLapse,
    draft_break_glass,
    parse_break_glass,
    parse_grant,
    render_grant,
    request_digest,
)
from fleet.release import (
    AddDocument,
    ChangeKeys,
    NamedKey,
    StagedChange,
    completed,
    publish,
    sign_staged,
    stage,
)
from fleet.targets import (
    BREAK_GLASS_PATH,
    BREAK_GLASS_ROLE,
    BREAK_GLASS_TEAM,
    GUARDRAILS_PATH,
    bundle_path,
    grant_path,
)
from fleet.trust import Profile, Release, Target, open_release
from orchestrator.guardrails import circumstances_of, default_text, people
from orchestrator.policies import check_grants, check_staged
from tests.fakes.documents import GRANT
from tests.fakes.publisher import NOW, Publisher, key, role_keys
from tests.fakes.refusals import refusal

PATH = grant_path("climate/context", 7)
FIRST, STRANGER = (key(name).public.key_id for name in ("approver-0", "code-default"))
NEVER = '@id("never") @remedy("Give up.") forbid (principal, action, resource);\n'


def text(proposer: str = "carol", risk: str = "low") -> bytes:
    return GRANT.replace("risk: high", f"risk: {risk}\nproposed_by: {proposer}").encode()


@pytest.fixture
def publisher() -> Publisher:
    keys = role_keys(Profile.PRODUCTION)
    return Publisher(Profile.PRODUCTION, keys=type(keys)({**keys.keys, "policy": (key("policy"),)}, keys.thresholds))


def current(publisher: Publisher) -> Release:
    return open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=False)


def staged(publisher: Publisher, data: bytes, *, carries: bool = True) -> StagedChange:
    release = current(publisher)
    listed = {path: publisher.policies[path] for path in (GUARDRAILS_PATH,) if path in release.documents}
    return stage(release, (AddDocument(PATH, data),), "more", NOW, listed if carries else {})


def reader(documents: dict[str, bytes]):
    def read(target: Target) -> bytes:
        return target.check(documents[target.path])

    return read


def test_who_proposed_a_grant_does_not_sign_it(publisher: Publisher) -> None:
    check_staged(staged(publisher, text()), [FIRST])
    nobody = text().replace(b"proposed_by: carol\n", b"")
    error = refusal(lambda: check_staged(staged(publisher, nobody), [FIRST]))
    assert (error.code, error.detail["guardrail"]) == (Code.GUARDRAIL_REFUSED, "proposer-named")


def test_names_of_the_releases_keys_are_what_people_are_called(publisher: Publisher) -> None:
    named = NamedKey(key("alice").public, "alice")
    change = stage(current(publisher), (ChangeKeys("grants-default", add=(named,)),), "", NOW, {})
    files = completed(sign_staged(change, [key("targets")]), current(publisher))
    publisher.files = publish(files, publisher.keys, NOW)
    assert people(current(publisher))[named.key_id] == "alice"
    error = refusal(lambda: check_staged(staged(publisher, text("alice")), [named.key_id]))
    assert error.detail["guardrail"] == "four-eyes"
    check_staged(staged(publisher, text("alice")), [FIRST])
    signed = sign_staged(staged(publisher, text("alice")), [key("alice")])
    assert refusal(lambda: check_staged(signed, [FIRST])).detail["guardrail"] == "four-eyes"


def test_only_keys_of_the_role_count(publisher: Publisher) -> None:
    release = current(publisher)
    grant = parse_grant(text(), PATH)
    publisher.add(bundle_path("context-agent", "0.1.0"), b"index")
    publisher.publish()
    about = circumstances_of(current(publisher), grant, [FIRST])
    assert about.profile is Profile.PRODUCTION
    assert about.code_signers == frozenset()  # the grant pins another digest
    loose = parse_grant(text(), PATH)
    assert circumstances_of(release, loose, [FIRST]).approvers == {people(release)[FIRST]}
    check_staged(staged(publisher, text()), [STRANGER])


def test_a_change_without_grants_is_asked_nothing(publisher: Publisher) -> None:
    publisher.add(GUARDRAILS_PATH, (default_text() + NEVER).encode())
    publisher.publish()
    change = stage(current(publisher), (AddDocument(bundle_path("b", "1.0.0"), b"x"),), "", NOW, {})
    check_staged(change, [FIRST])


def test_the_fleets_own_guardrails_are_asked_and_must_be_carried(publisher: Publisher) -> None:
    publisher.add(GUARDRAILS_PATH, (default_text() + NEVER).encode())
    publisher.publish()
    error = refusal(lambda: check_staged(staged(publisher, text()), [FIRST]))
    assert (error.code, error.detail["guardrail"], error.remedy) == (Code.GUARDRAIL_REFUSED, "never", "Give up.")
    assert error.detail["place"] == GUARDRAILS_PATH
    lost = refusal(lambda: check_staged(staged(publisher, text(), carries=False), [FIRST]))
    assert (lost.code, lost.detail["place"]) == (Code.NOT_FOUND, GUARDRAILS_PATH)


def test_a_release_needs_as_many_approvals_as_the_risk_of_what_it_adds(publisher: Publisher) -> None:
    before = current(publisher)
    reviewed = f"  request_sha256: {request_digest([])}\nvalidity:"
    data = text(risk="high").replace(b"validity:", reviewed.encode())
    publisher.add(PATH, data)
    publisher.publish()
    after = current(publisher)
    read = reader({PATH: data})
    assert len(after.documents[PATH].approvers) == 3
    check_grants(after, before.documents, read, "publisher")
    two = replace(after.documents[PATH], approvers=after.documents[PATH].approvers[:2])
    fewer = replace(after, documents={**after.documents, PATH: two})
    error = refusal(lambda: check_grants(fewer, before.documents, read, "publisher"))
    assert (error.code, error.detail["guardrail"]) == (Code.GUARDRAIL_REFUSED, "approvals-high")
    check_grants(after, after.documents, read, "publisher")  # nothing is new


def emergency(publisher: Publisher, *, carries: bool = True) -> StagedChange:
    """A staged emergency grant that its signer proposed, in a fleet whose policy allows its authority for an hour."""
    bounds = b"schema: fleet.break-glass/v1\nmax_validity: 1h\ncaps: {wasi:logging/logging: []}\n"
    publisher.keys = replace(publisher.keys, keys={**publisher.keys.keys, BREAK_GLASS_ROLE: (key("kate"),)})
    publisher = Publisher(Profile.PRODUCTION, keys=publisher.keys)
    publisher.add(BREAK_GLASS_PATH, bounds)
    publisher.publish()
    draft = parse_grant(text(), PATH)
    bundle = replace(draft.bundle, role="code-default")
    made = draft_break_glass(draft, parse_break_glass(bounds), bundle, NOW, "pump 3 floods")
    document = render_grant(replace(made, revision=1, lease=replace(made.lease, drop=(), on_lapse=OnLapse.STOP)))
    path = grant_path("climate/context", 1, BREAK_GLASS_TEAM)
    context = {BREAK_GLASS_PATH: bounds} if carries else {}
    return stage(current(publisher), (AddDocument(path, document),), "emergency", NOW, context)


def test_one_person_breaks_the_glass_in_production_within_the_policy(publisher: Publisher) -> None:
    change = emergency(publisher)
    check_staged(change, [key("kate").public.key_id])
    assert [requirement.threshold for requirement in change.requirements] == [1]
    assert sign_staged(change, [key("kate")]).complete
    without = emergency(publisher, carries=False)
    assert refusal(lambda: check_staged(without, [key("kate").public.key_id])).code is Code.NOT_FOUND

"""Operations on a release: what each drafts, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Targets

from fleet.errors import Code, FleetError
from fleet.oci import digest_of
from fleet.release import (
    AddDocument,
    ChangeKeys,
    EnterProduction,
    NamedKey,
    Operation,
    RemoveDocument,
    Renew,
    RoleKeys,
    Sign,
    completed,
    differences,
    draft,
    format_named_key,
    online_keys,
    parse_named_key,
    publish,
    rebase,
    role_states,
    sign_staged,
    stage,
)
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations
from fleet.signing import SigningKey
from fleet.targets import BREAK_GLASS_ROLE, BREAK_GLASS_TEAM, REVOCATIONS_PATH, TRUST_PATH, bundle_path, grant_path
from fleet.trust import Profile, Release, encode_fleet_trust, open_release
from tests.fakes.documents import GRANT as GRANT_TEXT
from tests.fakes.publisher import NOW, Publisher, fleet_trust, key, role_keys
from tests.fakes.refusals import code_of
from tests.fakes.teams import team_keys

BUNDLE = bundle_path("context-agent", "1.0.0")
GRANT = grant_path("climate/context", 1)
LATER = NOW + timedelta(days=1)


def named(name: str) -> NamedKey:
    return NamedKey(key(name).public, name)


def release_of(publisher: Publisher) -> Release:
    return open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)


def apply(
    publisher: Publisher, *operations: Operation, signers: tuple[str, ...], context: dict[str, bytes] | None = None
) -> Release:
    """Stage, sign with named keys, publish with the publisher's, and open as a node would."""
    current = release_of(publisher)
    staged = sign_staged(stage(current, operations, "test", LATER, context or {}), [key(name) for name in signers])
    files = publish(completed(staged, current), publisher.keys, LATER)
    return open_release(files, root=publisher.root, now=LATER, previous=current.files, allow_dev=True)


@dataclass(frozen=True)
class Rotation:
    """One row: what is done, who signs, the versions that follow, or the refusal."""

    operations: tuple[Operation, ...]
    signers: tuple[str, ...]
    versions: dict[str, int] | None = None
    refused: Code | None = None
    detail: str = ""


ROTATE_ROOT = ChangeKeys("root", add=(named("root-2"),), remove=(key("root").public,))
ROTATE_CODE = ChangeKeys("code-default", add=(named("code-2"),), remove=(key("code-default").public,))
ROTATE_TARGETS = ChangeKeys("targets", add=(named("targets-2"),), remove=(key("targets").public,))

TABLE = {
    "a new root needs the old and the new key": Rotation(
        (ROTATE_ROOT,), ("root", "root-2"), {"root": 2, "targets": 2, "code-default": 1}
    ),
    "not the new one alone": Rotation((ROTATE_ROOT,), ("root-2",), refused=Code.SIGNATURES_MISSING, detail="root"),
    "not the old one alone": Rotation((ROTATE_ROOT,), ("root",), refused=Code.SIGNATURES_MISSING, detail="root-2"),
    "a higher threshold of the root counts in the new version": Rotation(
        (ChangeKeys("root", add=(named("root-2"), named("root-3")), threshold=2),),
        ("root",),
        refused=Code.SIGNATURES_MISSING,
    ),
    "two of three": Rotation(
        (ChangeKeys("root", add=(named("root-2"), named("root-3")), threshold=2),), ("root", "root-3"), {"root": 2}
    ),
    "a new code key is named by targets and signs what was there": Rotation(
        (ROTATE_CODE,), ("targets", "code-2"), {"root": 1, "targets": 3, "code-default": 2}
    ),
    "the stolen code key does not": Rotation(
        (ROTATE_CODE,), ("targets", "code-default"), refused=Code.SIGNATURES_MISSING, detail="code-2"
    ),
    "new keys of targets sign targets again": Rotation(
        (ROTATE_TARGETS,), ("root", "targets-2"), {"root": 2, "targets": 3}
    ),
    "one more approver needs no signature of the approvers": Rotation(
        (ChangeKeys("grants-default", add=(named("bob"),)),), ("targets",), {"targets": 3, "grants-default": 1}
    ),
    "a threshold of two needs both": Rotation(
        (ChangeKeys("grants-default", add=(named("bob"),), threshold=2),),
        ("targets", "grants-default"),
        refused=Code.SIGNATURES_MISSING,
        detail="bob",
    ),
    "a team gets its own roles": Rotation(
        (
            ChangeKeys("code-vision", add=(named("vision-code"),), threshold=1),
            ChangeKeys("grants-vision", add=(named("ann"), named("bob")), threshold=2),
        ),
        ("targets", "vision-code", "ann", "bob"),
        {"targets": 3, "code-vision": 1, "grants-vision": 1},
    ),
    "a policy role can be made later": Rotation(
        (ChangeKeys("policy", add=(named("sam"),)), AddDocument("policy/ceilings.yaml", b"a")),
        ("targets", "sam"),
        {"targets": 3, "policy": 1},
    ),
    "a root can be renewed": Rotation((Renew("root"),), ("root",), {"root": 2}),
    "a role can be renewed": Rotation((Renew("code-default"),), ("code-default",), {"code-default": 2}),
    "more signatures than keys": Rotation(
        (ChangeKeys("grants-default", threshold=2),), (), refused=Code.CONFIG_INVALID
    ),
    "no key left": Rotation(
        (ChangeKeys("code-default", remove=(key("code-default").public,)),), (), refused=Code.CONFIG_INVALID
    ),
    "a key that is not there": Rotation(
        (ChangeKeys("targets", remove=(key("root").public,)),), (), refused=Code.NOT_FOUND
    ),
    "a key that is there": Rotation((ChangeKeys("targets", add=(named("targets"),)),), (), refused=Code.ALREADY_EXISTS),
    "a role outside a fleet": Rotation((ChangeKeys("everything", add=(named("x"),)),), (), refused=Code.TRUST_INVALID),
    "the publisher's roles are not drafted": Rotation((Renew("snapshot"),), (), refused=Code.TRUST_INVALID),
    "a document that is not listed": Rotation((RemoveDocument(GRANT),), (), refused=Code.NOT_FOUND),
    "a document that changed meanwhile": Rotation(
        (AddDocument(TRUST_PATH, b"x", replaces="sha256:" + "0" * 64),), (), refused=Code.GENERATION_CONFLICT
    ),
    "a path that is taken": Rotation((AddDocument(TRUST_PATH, b"x"),), (), refused=Code.ALREADY_EXISTS),
    "a path that is gone": Rotation(
        (AddDocument(GRANT, b"x", replaces="sha256:" + "0" * 64),), (), refused=Code.GENERATION_CONFLICT
    ),
    "no key may sign code and grants": Rotation(
        (ChangeKeys("grants-default", add=(named("code-default"),)),), ("targets",), refused=Code.TRUST_INVALID
    ),
}


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_rotations(row: Rotation) -> None:
    publisher = Publisher()
    if row.refused is None:
        release = apply(publisher, *row.operations, signers=row.signers)
        assert row.versions is not None
        assert {role: release.versions[role] for role in row.versions} == row.versions
        return
    with pytest.raises(FleetError) as refused:
        apply(publisher, *row.operations, signers=row.signers)
    assert refused.value.code is row.refused
    assert row.detail in str(refused.value)


def test_a_draft_is_the_same_on_every_machine_and_leaves_its_input_alone() -> None:
    publisher = Publisher()
    before = dict(publisher.files)
    operations = (ROTATE_ROOT, ROTATE_CODE, AddDocument(BUNDLE, b"index", {"release": 1}))
    assert draft(publisher.files, operations, NOW) == draft(dict(reversed(publisher.files.items())), operations, NOW)
    assert publisher.files == before


def test_keys_show_the_names_of_their_holders() -> None:
    publisher = Publisher()
    release = apply(publisher, ChangeKeys("grants-default", add=(named("bob"),)), signers=("targets",))
    states = {state.role: state for state in role_states(release)}
    assert {k.name for k in states["grants-default"].keys} == {"", "bob"}
    assert [state.role for state in role_states(release)][:4] == ["root", "targets", "snapshot", "timestamp"]
    assert states["timestamp"].due < states["timestamp"].expires


def test_the_publishers_keys_are_those_that_the_newest_root_names() -> None:
    change = ChangeKeys("timestamp", add=(named("second"),), threshold=2)
    files = draft(Publisher().files, (change,), NOW)
    keys = online_keys({**Publisher().files, **files})
    assert keys["snapshot"] == ((key("snapshot").public,), 1)
    assert (set(keys["timestamp"][0]), keys["timestamp"][1]) == ({key("timestamp").public, key("second").public}, 2)


def test_production_has_no_way_back_and_its_own_lifetimes() -> None:
    publisher = Publisher()
    operations = (
        EnterProduction(),
        ChangeKeys("grants-default", add=(named("ann"), named("bob")), threshold=2),
        AddDocument(
            TRUST_PATH,
            encode_fleet_trust(fleet_trust(Profile.PRODUCTION)),
            replaces=release_of(publisher).target(TRUST_PATH).digest,
        ),
    )
    release = apply(publisher, *operations, signers=("root", "targets", "grants-default", "ann", "bob"))
    assert release.profile is Profile.PRODUCTION
    assert {s.role: s.expires - LATER for s in role_states(release)} == {
        "root": timedelta(days=365),
        "targets": timedelta(days=90),
        "grants-default": timedelta(days=60),
        "code-default": timedelta(days=364),  # it was not signed again: its promise of before stands
        "snapshot": timedelta(days=14),
        "timestamp": timedelta(days=7),
    }
    publisher.files = dict(release.files)
    assert code_of(draft, publisher.files, (EnterProduction(),), NOW) is Code.ALREADY_EXISTS


def test_a_release_without_delegations_gets_none_by_accident() -> None:
    publisher = Publisher()
    targets = Metadata[Targets].from_bytes(publisher.files["2.targets.json"])
    targets.signed.delegations = None
    files = {**publisher.files, "2.targets.json": targets.to_bytes()}
    change = ChangeKeys("code-vision", add=(named("x"),))
    assert code_of(draft, files, (change,), NOW) is Code.TRUST_INVALID
    assert set(draft(files, (Renew("targets"),), NOW)) == {"3.targets.json"}


@pytest.mark.parametrize(
    ("rotated", "reset"), [(("timestamp",), (1, 9)), (("snapshot",), (9, 9)), (("snapshot", "timestamp"), (1, 1))]
)
def test_versions_begin_again_only_where_no_client_compares_them(
    rotated: tuple[str, ...], reset: tuple[int, int]
) -> None:
    """A thief may have raised a version to the end of the numbers (fast-forward); new keys make an end of that."""
    publisher = Publisher()
    for _ in range(7):
        publisher.publish()
    current = release_of(publisher)
    assert (current.versions["timestamp"], current.versions["snapshot"]) == (8, 8)
    changes = tuple(ChangeKeys(role, add=(named(f"{role}-2"),), remove=(key(role).public,)) for role in rotated)
    staged = sign_staged(stage(current, changes, "", LATER, {}), [key("root")])
    new = RoleKeys({**publisher.keys.keys, **{role: (key(f"{role}-2"),) for role in rotated}})
    files = publish(completed(staged, current), new, LATER)
    release = open_release(files, root=publisher.root, now=LATER, previous=current.files, allow_dev=True)
    assert (release.versions["timestamp"], release.versions["snapshot"]) == reset
    with pytest.raises(FleetError):
        open_release(current.files, root=publisher.root, now=LATER, previous=files, allow_dev=True)


SEEDS = st.sets(st.integers(0, 7), min_size=1, max_size=6)


@settings(max_examples=30)
@given(before=SEEDS, after=SEEDS, data=st.data())
def test_a_release_counts_exactly_the_keys_and_threshold_that_it_names(
    before: set[int], after: set[int], data: st.DataObject
) -> None:
    """Whoever signs, a rotated role is accepted if and only if its new threshold of new keys signed."""
    signers = data.draw(st.sets(st.sampled_from(sorted(before | after))))
    threshold = data.draw(st.integers(1, len(after)))
    people = [SigningKey.from_seed(bytes([number]) * 32) for number in range(8)]
    base = role_keys()
    publisher = Publisher(keys=RoleKeys({**base.keys, "code-default": tuple(people[n] for n in sorted(before))}))
    current = release_of(publisher)
    change = ChangeKeys(
        "code-default",
        add=tuple(NamedKey(people[n].public, f"p{n}") for n in sorted(after - before)),
        remove=tuple(people[n].public for n in sorted(before - after)),
        threshold=threshold,
    )
    staged = stage(current, (change, Renew("code-default")), "", NOW, {})
    staged = sign_staged(staged, [key("targets"), *(people[n] for n in signers)])
    enough = len(signers & after) >= threshold
    assert staged.complete is enough
    if not enough:
        assert code_of(completed, staged, current) is Code.SIGNATURES_MISSING
        return
    files = publish(completed(staged, current), publisher.keys, NOW)
    release = open_release(files, root=publisher.root, now=NOW, previous=current.files, allow_dev=True)
    assert release.role_keys["code-default"] == {people[n].public for n in after}


def test_public_keys_are_handed_on_as_one_line() -> None:
    line = format_named_key(named("ann"))
    assert parse_named_key(line, "ann.pub") == named("ann")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fleet-key-ed25519 00 ann",
        f"fleet-key-ed25519 {'0' * 64}",
        f"ssh-ed25519 {'0' * 64} ann",
        f"fleet-key-ed25519 {'0' * 64} Ann",
    ],
)
def test_other_lines_are_no_public_key(text: str) -> None:
    assert code_of(parse_named_key, text, "ann.pub") is Code.CONFIG_INVALID


EMERGENCY = grant_path("climate/context", 1, BREAK_GLASS_TEAM)


def shown(publisher: Publisher, *operations: Operation, context: dict[str, bytes] | None = None) -> list[str]:
    staged = stage(release_of(publisher), operations, "", NOW, context or {})
    return [f"{d.role} {d.sign} {d.text}" for d in differences(staged)]


def test_the_difference_names_people_thresholds_and_roles() -> None:
    publisher = Publisher()
    assert shown(publisher, ChangeKeys("code-default", add=(named("ann"),), remove=(key("code-default").public,))) == [
        f"targets - key {key('code-default').key_id[:12]} may not sign code-default any more",
        f"targets + ann ({key('ann').key_id[:12]}) may sign code-default",
        "targets ~ code-default takes 1 of 1 signatures, was 1",
        "code-default ~ signed again, nothing else changes",
    ]
    lines = shown(publisher, ChangeKeys("root", add=(named("ann"),), threshold=2), EnterProduction())
    assert lines[0] == "root ~ the profile is production, was dev: there is no way back"
    assert lines[-1] == "root ~ root takes 2 of 2 signatures, was 1"
    assert shown(publisher, ROTATE_ROOT)[0].startswith("root - key ")
    team = shown(publisher, ChangeKeys("code-vision", add=(named("ann"),)))
    assert "targets + role code-vision for bundles/vision/*/*" in team


def test_the_difference_of_a_grant_is_its_authority() -> None:
    publisher = Publisher()
    old = GRANT_TEXT.replace("revision: 7", "revision: 1").encode()
    publisher.add(GRANT, old)
    publisher.publish()
    new = (
        GRANT_TEXT.replace("revision: 7", "revision: 2")
        .replace("  wasi:nn/inference: []\n", "  wasi:random/random: []\n")
        .encode()
    )
    path = grant_path("climate/context", 2)
    lines = shown(publisher, AddDocument(path, new), context={GRANT: old})
    assert any(line.startswith(f"grants-default + {path} (sha256:") for line in lines)
    assert "grants-default ~   climate/context, revision 2, compared with revision 1:" in lines
    assert any("wasi:random/random" in line and " + " in line for line in lines)
    assert any("wasi:nn/inference" in line and " - " in line for line in lines)
    alone = shown(publisher, AddDocument(path, new))
    assert "grants-default ~   climate/context, revision 2, compared with no authority at all:" in alone
    broken = shown(publisher, AddDocument(path, b"schema: x"))
    assert any("this document is not valid" in line for line in broken)


def test_the_difference_of_an_emergency_grant_says_why_and_for_how_long() -> None:
    text = GRANT_TEXT.replace("revision: 7", "revision: 1").replace(
        "{name: context-agent", "{name: context-agent, role: code-a"
    )
    text = text.replace("2027-01-01T00", "2026-01-01T04") + "break_glass: true\n"
    lines = shown(Publisher(), ChangeKeys(BREAK_GLASS_ROLE, add=(named("ann"),)), AddDocument(EMERGENCY, text.encode()))
    assert lines[-1] == (
        f"{BREAK_GLASS_ROLE} +   BREAK-GLASS until 2026-01-01T04:00:00Z, signed by one person: OPS-4411 line-3 roll-out"
    )


def test_the_difference_of_revocations_is_what_they_name() -> None:
    def entry(digit: str) -> Revocation:
        return Revocation(Kind.GRANT, f"sha256:{digit * 64}", f"reason {digit}", NOW)

    publisher = Publisher(keys=team_keys())
    old, new = (encode_revocations(Revocations().extended([entry("a"), entry(other)])) for other in "bc")
    publisher.add(REVOCATIONS_PATH, old)
    publisher.publish()
    lines = shown(
        publisher, AddDocument(REVOCATIONS_PATH, new, replaces=digest_of(old)), context={REVOCATIONS_PATH: old}
    )
    assert lines[1:] == [
        f"policy -   grant sha256:{'b' * 64}: reason b",
        f"policy +   grant sha256:{'c' * 64}: reason c",
    ]
    first = shown(Publisher(keys=team_keys()), AddDocument(REVOCATIONS_PATH, new))
    assert len(first) == 3


def test_the_difference_of_documents_is_their_content() -> None:
    publisher = Publisher(keys=RoleKeys({**role_keys().keys, "policy": (key("policy"),)}))
    publisher.add("policy/guardrails.cedar", b"permit;\nforbid;\n")
    publisher.publish()
    release = release_of(publisher)
    new = encode_fleet_trust(fleet_trust(director=key("director-2")))
    trust = AddDocument(TRUST_PATH, new, replaces=release.target(TRUST_PATH).digest)
    lines = shown(publisher, trust, context={TRUST_PATH: publisher.document})
    assert f"targets -   director key {key('director').key_id[:12]}" in lines
    assert f"targets +   director key {key('director-2').key_id[:12]}" in lines
    assert f"targets +   director key {key('director-2').key_id[:12]}" in shown(publisher, trust)
    policy = release.target("policy/guardrails.cedar")
    lines = shown(
        publisher,
        AddDocument(policy.path, b"permit;\nnever;\n", replaces=policy.digest),
        context={policy.path: b"permit;\nforbid;\n"},
    )
    assert lines[1:] == ["policy -   forbid;", "policy +   never;"]
    long = b"".join(b"line %d\n" % n for n in range(300))
    assert "more lines" in shown(publisher, AddDocument("policy/long.txt", long))[-1]
    assert any("noted: release=3" in line for line in shown(publisher, AddDocument(BUNDLE, b"i", {"release": 3})))
    publisher.add(BUNDLE, b"index")
    publisher.publish()
    assert shown(publisher, RemoveDocument(BUNDLE)) == [f"code-default - {BUNDLE}: nobody adopts it any more"]


def test_a_change_is_rebased_on_what_others_did() -> None:
    publisher = Publisher()
    ours = stage(release_of(publisher), (AddDocument(BUNDLE, b"ours"),), "ours", NOW, {TRUST_PATH: publisher.document})
    signed = sign_staged(ours, [key("code-default")])
    publisher.add(bundle_path("context-agent", "2.0.0"), b"theirs")
    publisher.publish()
    current = release_of(publisher)
    assert code_of(completed, signed, current) is Code.GENERATION_CONFLICT
    again = rebase(signed, current, LATER)
    assert not again.complete
    assert set(again.files) == {"3.code-default.json"}
    assert completed(sign_staged(again, [key("code-default")]), current)
    assert all(d.sign is Sign.ADDED for d in differences(again))

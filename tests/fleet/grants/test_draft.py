"""Proposals: least privilege as far as a binary tells it, readable, and accepted by the parser."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.component import read_component
from fleet.errors import Code, FleetError
from fleet.grants import (
    BASELINE,
    VOCABULARY,
    check_applies,
    check_imports,
    describe_rules,
    diff_grants,
    extend_grant,
    name_proposer,
    parse_grant,
    propose_grant,
)
from fleet.grants.draft import known_from
from fleet.model import ApplicationAgent, Link, MessageTrigger, Placement, SensorTrigger, TimerTrigger

SAMPLE_AGENTS = sorted((Path(__file__).parents[3] / "components").glob("*-agent/*.wasm"))
NOW = datetime(2026, 11, 22, 13, 0, 0, 999, UTC)


def propose(imports, **changes):
    facts = {
        "agent": "climate/context",
        "bundle_name": "context-agent",
        "bundle_version": "0.1.0",
        "models": ["anomaly"],
        "revision": 1,
        "now": NOW,
    }
    return propose_grant(imports, **{**facts, **changes})


def test_a_draft_holds_what_the_imports_need():
    draft = propose(["wasi:nn/graph@0.2.0-rc-2024-10-28", "wasi:keyvalue/store@0.2.0-draft2", "wasi:io/poll@0.2.9"])
    grant = parse_grant(draft, "draft.yaml")
    lines = [line for name, rules in grant.capabilities.items() for line in describe_rules(name, rules)]
    assert lines == [
        "wasi:keyvalue/store: buckets=context ops=delete,exists,get,list-keys,set max_bytes=16MiB",
        "wasi:nn/graph: models=anomaly devices=cpu",
    ]
    assert grant.not_before == datetime(2026, 11, 22, 13, tzinfo=UTC)
    assert grant.not_after == datetime(2027, 11, 22, 13, tzinfo=UTC)


def test_a_draft_is_commented():
    draft = propose(["wasi:blobstore/blobstore@0.2.0", "wasi:nn/graph@0.2.0-rc-2024-10-28"]).decode()
    assert "  # wasi:blobstore/blobstore: imported, but no grant of this release can name it\n" in draft
    assert "  wasi:nn/graph:  # models of the bundle, by name or by digest\n" in draft


def test_a_bundle_without_models_gets_a_name_to_correct():
    grant = parse_grant(propose(["wasi:nn/graph@0.2.0-rc-2024-10-28"], models=[]), "draft.yaml")
    assert describe_rules("wasi:nn/graph", grant.capabilities["wasi:nn/graph"]) == [
        "wasi:nn/graph: models=context devices=cpu"
    ]


def test_no_imports_no_authority():
    assert parse_grant(propose([]), "draft.yaml").capabilities == {}


@pytest.mark.parametrize(
    ("version", "versions"),
    [("0.1.0", ">=0.1.0,<0.2"), ("1.4.2", ">=1.4.2,<2"), ("1.0.0-rc.1", "=1.0.0-rc.1")],
)
def test_the_range_covers_compatible_versions(version, versions):
    grant = parse_grant(propose([], bundle_version=version), "draft.yaml")
    assert grant.bundle.versions.text == versions
    check_applies(
        grant,
        agent="climate/context",
        bundle_name="context-agent",
        bundle_version=version,
        bundle_digest="sha256:x",
        labels={},
        now=NOW,
    )


def test_every_interface_can_be_drafted():
    grant = parse_grant(propose(sorted(VOCABULARY)), "draft.yaml")
    assert grant.capabilities.keys() == VOCABULARY.keys() - BASELINE
    extended = parse_grant(extend_grant(grant, sorted(VOCABULARY), models=[], revision=2, request=()), "draft.yaml")
    assert extended.capabilities.keys() == VOCABULARY.keys()


def test_files_are_drafted_only_when_asked_for():
    draft = propose(["wasi:filesystem/preopens@0.2.9"])
    grant = parse_grant(draft, "draft.yaml")
    assert grant.capabilities == {}
    assert b"  # wasi:filesystem/preopens: imported, and needs no grant while it reaches nothing; `--add`" in draft
    extended = parse_grant(
        extend_grant(grant, ["wasi:filesystem/preopens"], models=[], revision=2, request=()), "draft.yaml"
    )
    assert describe_rules("wasi:filesystem/preopens", extended.capabilities["wasi:filesystem/preopens"]) == [
        "wasi:filesystem/preopens: volumes=scratch/context mode=read,write max_bytes=16MiB"
    ]


@pytest.mark.parametrize("path", SAMPLE_AGENTS, ids=lambda path: path.parent.name)
def test_the_sample_agents_are_admitted_under_their_drafts(path):
    imports = read_component(path.read_bytes()).imports
    grant = parse_grant(propose(imports), "draft.yaml")
    decision = check_imports(imports, grant.authority, [], "climate/context", "context-agent@0.1.0")
    assert decision.unused == ()
    assert decision.deny_stubs == ()


def test_plain_imports_are_unsupported():
    with pytest.raises(FleetError) as caught:
        propose(["run"])
    assert caught.value.code is Code.COMPONENT_UNSUPPORTED


def test_extending_adds_only_what_is_asked():
    old = parse_grant(propose(["wasi:logging/logging@0.1.0-draft"]), "old.yaml")
    new = parse_grant(
        extend_grant(
            old,
            ["wasi:config/store", "wasi:logging/logging"],
            models=[],
            revision=2,
            request=["wasi:config/store", "wasi:logging/logging"],
        ),
        "new.yaml",
    )
    assert (new.revision, new.agent, new.bundle) == (2, old.agent, old.bundle)
    change = diff_grants(old, new)
    asked = "wasi:logging/logging or less -> wasi:config/store,wasi:logging/logging or less"
    assert change.widened == ("wasi:config/store: keys=*", f"request: {asked}")
    assert change.narrowed == ()


def test_an_interface_that_agents_serve_is_drafted_for_the_own_application():
    draft = propose(["acme:pipeline/score@0.1.0"])
    grant = parse_grant(draft, "draft.yaml")
    assert grant.authority.allows("acme:pipeline/score", agent="climate/scorer")
    assert not grant.authority.allows("acme:pipeline/score", agent="other/scorer")
    assert b"fleet.yaml" in draft
    assert (
        parse_grant(extend_grant(grant, [], models=[], revision=2, request=()), "new.yaml").capabilities
        == grant.capabilities
    )


@pytest.mark.parametrize("interface", ["wasi:http/proxy", "wasi:io/poll", "nonsense", "acme:a/b@1.0.0", "fleet:x/y"])
def test_extending_by_what_no_grant_can_name(interface):
    old = parse_grant(propose([]), "old.yaml")
    with pytest.raises(FleetError) as caught:
        extend_grant(old, [interface], models=[], revision=2, request=())
    assert caught.value.code is Code.GRANT_INVALID


def test_what_a_manifest_says_is_named_in_place_of_a_guess():
    agent = ApplicationAgent(
        "one",
        "b@1.0.0",
        Placement({"site": "oslo"}),
        config={"unit": "celsius"},
        triggers=(MessageTrigger("site/alerts"), SensorTrigger("roof", "f"), TimerTrigger(5, "f", "")),
        links=(Link("acme:pipeline/score@0.1.0", "scorer"), Link("acme:pipeline/score@0.2.0", "other")),
    )
    imports = [
        "wasi:config/store",
        "acme:pipeline/score@0.1.0",
        "wasi:messaging/incoming-handler",
        "fleet:sensors/handler",
    ]
    facts = {"agent": "app/one", "bundle_name": "b", "bundle_version": "1.0.0", "models": (), "revision": 1, "now": NOW}
    draft = propose_grant(imports, known=known_from("app", agent), **facts)
    grant = parse_grant(draft, "draft")
    assert grant.node_labels == {"site": "oslo"}
    assert describe_rules("wasi:config/store", grant.capabilities["wasi:config/store"]) == [
        "wasi:config/store: keys=unit"
    ]
    asked = grant.authority
    assert asked.allows("wasi:messaging/incoming-handler", topic="site/alerts")
    assert not asked.allows("wasi:messaging/incoming-handler", topic="one")
    assert asked.allows("fleet:sensors/handler", source="roof")
    assert asked.allows("acme:pipeline/score", agent="app/scorer")
    assert asked.allows("acme:pipeline/score", agent="app/other")
    assert not asked.allows("acme:pipeline/score", agent="app/third")


def test_a_draft_says_who_proposes_it():
    draft = propose(["wasi:logging/logging"])
    assert parse_grant(name_proposer(draft, "alice"), "g").proposed_by == "alice"
    assert parse_grant(name_proposer(name_proposer(draft, "alice"), "bob"), "g").proposed_by == "bob"
    assert parse_grant(name_proposer(name_proposer(draft, "alice"), ""), "g").proposed_by == ""

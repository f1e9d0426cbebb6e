"""Whether a grant applies, and whether it covers the imports; one failing case per numbered check."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from fleet.errors import Code, ExitCode, FleetError
from fleet.grants import (
    BASELINE,
    Authority,
    Ceiling,
    Rule,
    check_applies,
    check_ceilings,
    check_holds,
    check_imports,
    effective,
    parse_grant,
    subset,
)
from fleet.grants.admission import ImportDecision
from fleet.grants.constraints import Patterns
from fleet.model import Link
from tests.fakes.documents import DIGEST, GRANT
from tests.fakes.grant_strategies import authorities, grants
from tests.fakes.refusals import refusal

NOW = datetime(2026, 6, 1, tzinfo=UTC)
FACTS = {
    "agent": "climate/context",
    "bundle_name": "context-agent",
    "bundle_version": "0.1.7",
    "bundle_digest": DIGEST,
    "labels": {"site": "oslo", "zone": "line-3", "rack": "9"},
    "now": NOW,
}


@pytest.fixture
def grant():
    return parse_grant(GRANT.encode(), "grant.yaml")


def test_a_grant_applies(grant):
    check_applies(grant, **FACTS)
    check_applies(
        replace(grant, bundle=replace(grant.bundle, digests=())), **{**FACTS, "bundle_digest": "sha256:other"}
    )


@pytest.mark.parametrize(
    ("facts", "code", "condition"),
    [
        ({"agent": "climate/other"}, Code.GRANT_NOT_APPLICABLE, "agent"),
        ({"bundle_name": "other-agent"}, Code.GRANT_NOT_APPLICABLE, "bundle.name"),
        ({"bundle_version": "0.2.0"}, Code.GRANT_NOT_APPLICABLE, "bundle.versions"),
        ({"bundle_version": "0.1.7-rc.1"}, Code.GRANT_NOT_APPLICABLE, "bundle.versions"),
        ({"bundle_digest": DIGEST.replace("a", "b")}, Code.GRANT_NOT_APPLICABLE, "bundle.sha256"),
        ({"labels": {"site": "bergen", "zone": "line-3"}}, Code.GRANT_NOT_APPLICABLE, "nodes.labels.site"),
        ({"labels": {"site": "oslo"}}, Code.GRANT_NOT_APPLICABLE, "nodes.labels.zone"),
        ({"now": datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)}, Code.GRANT_EXPIRED, "validity"),
        ({"now": datetime(2027, 1, 1, tzinfo=UTC)}, Code.GRANT_EXPIRED, "validity"),
    ],
)
def test_each_condition_can_fail(grant, facts, code, condition):
    with pytest.raises(FleetError) as caught:
        check_applies(grant, **{**FACTS, **facts})
    assert (caught.value.code, caught.value.detail["condition"]) == (code, condition)


def test_a_grant_holds_for_its_own_agent_whatever_it_runs(grant):
    labels, now = FACTS["labels"], FACTS["now"]
    check_holds(grant, FACTS["agent"], labels, now)
    with pytest.raises(FleetError) as caught:
        check_holds(grant, "climate/other", labels, now)
    assert (caught.value.code, caught.value.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "agent")


def test_a_malformed_version_is_the_bundles_fault(grant):
    with pytest.raises(FleetError) as caught:
        check_applies(grant, **{**FACTS, "bundle_version": "0.1"})
    assert caught.value.code is Code.BUNDLE_INVALID


def test_validity_begins_inclusive(grant):
    check_applies(grant, **{**FACTS, "now": grant.not_before})
    check_applies(grant, **{**FACTS, "now": grant.not_after - timedelta(seconds=1)})


@settings(max_examples=50, deadline=None)
@given(grants(), authorities(), authorities())
def test_no_ceiling_adds_authority(grant, fleet, node):
    authority = effective(grant, fleet, node)
    assert subset(authority, grant.authority)
    assert subset(authority, fleet)
    assert subset(authority, node)
    assert effective(grant) == grant.authority


AUTHORITY = Authority(
    {name: (Rule({}),) for name in ("wasi:logging/logging", "wasi:config/store", "wasi:random/random")}
)
NOSY = ("climate/nosy", "nosy-agent@0.1.0")


def test_imports_are_sorted_by_what_meets_them():
    imports = [
        "wasi:logging/logging@0.1.0-draft",
        "wasi:io/streams@0.2.9",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:keyvalue/store@0.2.0-draft2",
        "wasi:keyvalue/store@0.2.0-draft",
    ]
    optional = ["wasi:http/outgoing-handler", "wasi:keyvalue/store@0.2.0-draft2"]
    assert check_imports(imports, AUTHORITY, optional, *NOSY) == ImportDecision(
        granted=("wasi:logging/logging@0.1.0-draft", "wasi:config/store@0.2.0-rc.1"),
        baseline=("wasi:io/streams@0.2.9",),
        deny_stubs=(
            "wasi:http/outgoing-handler@0.2.3",
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft",
        ),
        unused=("wasi:random/random",),
    )


def test_the_baseline_needs_nothing():
    decision = check_imports(sorted(BASELINE), Authority({}), [], *NOSY)
    assert decision == ImportDecision((), tuple(sorted(BASELINE)), (), ())


def refused(imports, authority=AUTHORITY):
    with pytest.raises(FleetError) as caught:
        check_imports(imports, authority, [], *NOSY)
    return caught.value


def test_a_missing_grant_names_the_command():
    error = refused(["wasi:logging/logging@0.1.0-draft", "wasi:config/store@0.2.0-rc.1"], Authority({}))
    command = (
        "fleetctl grant propose climate/nosy --bundle nosy-agent@0.1.0"
        " --add wasi:logging/logging --add wasi:config/store"
    )
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert error.remedy == command
    assert command in str(error)
    assert error.detail["imports"] == "wasi:logging/logging, wasi:config/store"
    assert error.row.exit_code is ExitCode.REFUSED


def test_two_versions_of_one_interface_are_named_once():
    error = refused(["wasi:keyvalue/store@0.2.0-draft", "wasi:keyvalue/store@0.2.0-draft2"])
    assert error.remedy.endswith(" --add wasi:keyvalue/store")
    assert error.remedy.count("--add") == 1


def test_what_no_grant_can_name_is_said_so():
    error = refused(["wasi:blobstore/blobstore@0.2.3", "wasi:keyvalue/store@0.2.0-draft"])
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert "--add" not in error.remedy
    assert "without wasi:blobstore/blobstore" in error.remedy


@pytest.mark.parametrize("name", ["run", "url=<https://example.com>", "", "wasi:io/poll@0.2"])
def test_plain_imports_are_unsupported(name):
    assert refused([name]).code is Code.COMPONENT_UNSUPPORTED


LINKS = (Link("acme:pipeline/score", "p/scorer"),)
SCORE = "acme:pipeline/score@0.1.0"


def linking(*agents):
    return Authority({"acme:pipeline/score": (Rule({"agents": Patterns(frozenset(agents))}),)} if agents else {})


def test_a_link_answers_an_import_that_the_grant_lets_it_answer():
    decision = check_imports([SCORE], linking("p/s*"), [], "p/ingest", "ingest@1.0.0", LINKS)
    assert decision == ImportDecision((), (), (), (), {SCORE: LINKS[0]})


def link_refusal(imports, authority, optional=(), links=LINKS):
    with pytest.raises(FleetError) as caught:
        check_imports(imports, authority, optional, "p/ingest", "ingest@1.0.0", links)
    return caught.value


def test_a_link_is_no_authority():
    for optional in ([], ["acme:pipeline/score"]):
        error = link_refusal([SCORE], linking(), optional)
        assert error.code is Code.IMPORT_NOT_GRANTED
        assert error.remedy == "fleetctl grant propose p/ingest --bundle ingest@1.0.0 --add acme:pipeline/score"


def test_a_link_names_only_an_agent_of_the_grant():
    error = link_refusal([SCORE], linking("p/other", "q/*"))
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert "does not let p/scorer answer acme:pipeline/score" in error.private


def test_an_import_that_only_agents_serve_needs_a_link():
    error = link_refusal([SCORE], linking("p/*"), links=())
    assert error.code is Code.LINK_INVALID
    assert "links: [{import: acme:pipeline/score, agent: NAME}]" in error.remedy


def test_an_optional_import_without_a_link_is_denied():
    decision = check_imports([SCORE], linking("p/*"), [SCORE], "p/ingest", "ingest@1.0.0")
    assert decision.deny_stubs == (SCORE,)


def test_a_link_that_the_lease_dropped_is_denied_call_by_call():
    dropped = linking("p/*").without(frozenset({"acme:pipeline/score"}))
    decision = check_imports([SCORE], dropped, [], "p/ingest", "ingest@1.0.0", LINKS)
    assert decision == ImportDecision((), (), (SCORE,), ())


def test_what_a_node_serves_is_not_linked():
    name = "wasi:logging/logging@0.1.0-draft"
    for interface in (name, "wasi:io/poll@0.2.0"):
        error = link_refusal([interface], AUTHORITY, links=(Link(interface, "p/scorer"),))
        assert error.code is Code.LINK_INVALID
        assert "which only a node serves" in error.private


def test_a_link_of_nothing_imported_is_refused():
    assert link_refusal([], linking("p/*")).code is Code.LINK_INVALID


def test_a_ceiling_that_leaves_out_what_an_agent_needs_is_named(grant):
    logging = Authority({"wasi:logging/logging": (Rule({}),)})
    ceilings = (Ceiling("all", {}, grant.authority), Ceiling("line-3", {}, logging))
    names = ("wasi:keyvalue/store@0.2.0-draft2", "wasi:logging/logging", "wasi:random/random", "wasi:io/poll")
    error = refusal(lambda: check_ceilings(names, grant, ceilings, (), "climate/context"))
    assert (error.code, error.detail["place"]) == (Code.IMPORT_NOT_GRANTED, "line-3")
    assert error.detail["imports"] == "wasi:keyvalue/store"
    check_ceilings(names, grant, ceilings, ("wasi:keyvalue/store@0.2.0-draft2",), "climate/context")
    check_ceilings(names, grant, ceilings[:1], (), "climate/context")
    check_ceilings(names, grant, (), (), "climate/context")

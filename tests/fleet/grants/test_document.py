"""Grant documents: what is read, and what is refused with its place."""

import json
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.documents import MAX_DOCUMENT
from fleet.errors import Code, FleetError
from fleet.grants import Lease, Limits, OnLapse, Risk, parse_ceiling, parse_grant, render_grant
from fleet.grants.document import format_instant
from fleet.grants.limits import HIGHEST_LIMITS
from tests.fakes.documents import DIGEST, GRANT
from tests.fakes.grant_strategies import grants
from tests.fakes.refusals import refusal

REMOVED = object()


def changed(path, value, text=GRANT):
    """Return the document with one value replaced, added, or (REMOVED) removed."""
    document = yaml.load(text, yaml.BaseLoader)
    document["revision"] = int(document["revision"])
    document.get("limits", {}).update({k: int(v) for k, v in document["limits"].items() if v.isdigit()})
    place = document
    *parents, last = path
    for key in parents:
        place = place[key]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(document).encode()


def test_every_field_is_read():
    grant = parse_grant(GRANT.encode(), "grant.yaml")
    assert grant.agent == "climate/context"
    assert grant.revision == 7
    assert (grant.bundle.name, grant.bundle.versions.text) == ("context-agent", ">=0.1.0,<0.2")
    assert grant.bundle.digests == (DIGEST,)
    assert grant.node_labels == {"site": "oslo", "zone": "line-3"}
    assert (grant.not_before, grant.not_after) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert grant.lease == Lease(30 * 86_400_000, OnLapse.DROP, ("wasi:nn/graph",))
    assert grant.risk is Risk.HIGH
    assert grant.limits == Limits(32 << 20, 500, 0, 1 << 20, 2, 1 << 20, 32 << 10, 500, 2_000_000_000, 7)
    assert grant.reason == "OPS-4411 line-3 roll-out"
    assert grant.authority.allows("wasi:nn/graph", model="anomaly", device="cpu")
    assert grant.authority.allows("wasi:nn/graph", model=DIGEST, device="cpu")
    assert not grant.authority.allows("wasi:nn/graph", model="anomaly", device="gpu")
    assert grant.authority.allows("wasi:nn/inference")


@pytest.mark.parametrize(
    "path", [["applies_to", "nodes"], ["risk"], ["limits"], ["reason"], ["applies_to", "bundle", "sha256"]]
)
def test_what_is_optional_has_a_default(path):
    text = changed(["risk"], "low").decode()
    grant = parse_grant(changed(path, REMOVED, text), "grant.yaml")
    assert grant.agent == "climate/context"
    assert path != ["applies_to", "nodes"] or grant.node_labels == {}
    assert path != ["risk"] or grant.risk is Risk.STANDARD
    assert path != ["limits"] or grant.limits == Limits()
    assert path != ["reason"] or grant.reason == ""


STORE = ["caps", "wasi:keyvalue/store"]
HTTP = "caps.wasi:http/outgoing-handler[0]"


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (["schema"], "fleet.grant/v2", "schema"),
        (["schema"], REMOVED, "schema"),
        (["agent"], "context", "agent"),
        (["agent"], REMOVED, "agent"),
        (["revision"], 0, "revision"),
        (["revision"], "1", "revision"),
        (["rev"], 1, "rev"),
        (["applies_to"], REMOVED, "applies_to"),
        (["applies_to", "bundle"], REMOVED, "applies_to.bundle"),
        (["applies_to", "bundle", "name"], "Context", "applies_to.bundle.name"),
        (["applies_to", "bundle", "versions"], "1.4", "applies_to.bundle.versions"),
        (["applies_to", "bundle", "versions"], REMOVED, "applies_to.bundle.versions"),
        (["applies_to", "bundle", "sha256"], ["a" * 64], "applies_to.bundle.sha256[0]"),
        (["applies_to", "bundle", "sha256"], [DIGEST, DIGEST], "applies_to.bundle.sha256[1]"),
        (["applies_to", "bundle", "sha256"], [], "applies_to.bundle.sha256"),
        (["applies_to", "bundle", "role"], "grants-a", "applies_to.bundle.role"),
        (["applies_to", "nodes", "labels"], {"Site": "x"}, "applies_to.nodes.labels.Site"),
        (["applies_to", "nodes", "labels"], {"site": ""}, "applies_to.nodes.labels.site"),
        (["applies_to", "nodes", "labels"], {"site": "a b"}, "applies_to.nodes.labels.site"),
        (["applies_to", "nodes", "labels"], {"site": "x" * 64}, "applies_to.nodes.labels.site"),
        (["applies_to", "nodes", "labels"], {"site": "ø"}, "applies_to.nodes.labels.site"),
        (["validity"], REMOVED, "validity"),
        (["validity", "not_after"], REMOVED, "validity.not_after"),
        (["validity", "not_after"], "2027-01-01", "validity.not_after"),
        (["validity", "not_after"], "2027-13-01T00:00:00Z", "validity.not_after"),
        (["validity", "not_after"], "2026-01-01T00:00:00Z", "validity.not_after"),
        (["lease"], REMOVED, "lease"),
        (["lease", "max_stale"], "30", "lease.max_stale"),
        (["lease", "max_stale"], "1.5d", "lease.max_stale"),
        (["lease", "on_lapse"], REMOVED, "lease.on_lapse"),
        (["lease", "on_lapse"], "pause", "lease.on_lapse"),
        (["lease", "on_lapse"], "drop", "lease.on_lapse"),
        (["lease", "on_lapse"], {"drop": []}, "lease.on_lapse"),
        (["lease", "on_lapse"], {"drop": ["wasi:random/random"]}, "lease.on_lapse.drop"),
        (["lease", "on_lapse"], {"stop": []}, "lease.on_lapse.stop"),
        (["risk"], "none", "risk"),
        (["caps"], REMOVED, "caps"),
        (["caps"], [], "caps"),
        (["caps", "wasi:http/outgoing-handler"], [], "caps.wasi:http/outgoing-handler"),
        (["caps", "wasi:keyvalue/store@0.2.0-draft2"], [], "caps.wasi:keyvalue/store@0.2.0-draft2"),
        (["caps", "wasi:io/streams"], [], "caps.wasi:io/streams"),
        (["caps", "wasi:logging/logging"], [{}], "caps.wasi:logging/logging"),
        (STORE, [], "caps.wasi:keyvalue/store"),
        (STORE, {}, "caps.wasi:keyvalue/store"),
        (STORE, [[]], "caps.wasi:keyvalue/store[0]"),
        (STORE, [{"buckets": ["a"], "ops": ["get"]} for _ in range(17)], "caps.wasi:keyvalue/store"),
        ([*STORE, 0, "ops"], REMOVED, "caps.wasi:keyvalue/store[0].ops"),
        ([*STORE, 0, "buckets"], REMOVED, "caps.wasi:keyvalue/store[0].buckets"),
        ([*STORE, 0, "buckets"], [], "caps.wasi:keyvalue/store[0].buckets"),
        ([*STORE, 0, "buckets"], "context", "caps.wasi:keyvalue/store[0].buckets"),
        ([*STORE, 0, "buckets"], ["a*b"], "caps.wasi:keyvalue/store[0].buckets[0]"),
        ([*STORE, 0, "buckets"], [""], "caps.wasi:keyvalue/store[0].buckets[0]"),
        ([*STORE, 0, "buckets"], ["a", "a"], "caps.wasi:keyvalue/store[0].buckets[1]"),
        ([*STORE, 0, "buckets"], ["x" * 258], "caps.wasi:keyvalue/store[0].buckets[0]"),
        ([*STORE, 0, "ops"], ["fly"], "caps.wasi:keyvalue/store[0].ops[0]"),
        ([*STORE, 0, "max_bytes"], "-1MiB", "caps.wasi:keyvalue/store[0].max_bytes"),
        ([*STORE, 0, "max_bytes"], 50, "caps.wasi:keyvalue/store[0].max_bytes"),
        ([*STORE, 0, "max_rps"], 1, "caps.wasi:keyvalue/store[0].max_rps"),
        (["caps", "wasi:nn/inference"], [{"max_rps": -1}], "caps.wasi:nn/inference[0].max_rps"),
        (["limits", "memory"], "5TiB", "limits.memory"),
        (["limits", "deadline"], "11m", "limits.deadline"),
        (["limits", "queue"], "2", "limits.queue"),
        (["limits", "cpu_share"], 1, "limits.cpu_share"),
        (["caps", "wasi:http/outgoing-handler"], [{"methods": ["GET"], "ports": ["1"]}], HTTP + ".hosts"),
        (["caps", "wasi:http/outgoing-handler"], [{"hosts": ["a.b"], "ports": ["1"]}], HTTP + ".methods"),
        (["caps", "wasi:http/outgoing-handler"], [{"hosts": ["a.b"], "methods": ["GET"]}], HTTP + ".ports"),
        (["proposed_by"], "Аlice", "proposed_by"),  # noqa: RUF001 - on purpose
        (["break_glass"], "yes", "break_glass"),
        (["break_glass"], True, "validity.not_after"),
        (["reason"], "right\u202eleft", "reason"),
        (["reason"], "two\nlines", "reason"),
        (["reason"], "x" * 1025, "reason"),
    ],
)
def test_what_is_wrong_is_named(path, value, place):
    with pytest.raises(FleetError) as caught:
        parse_grant(changed(path, value), "grant.yaml")
    assert caught.value.code is Code.GRANT_INVALID
    assert caught.value.detail["place"] == f"grant.yaml: {place}"


def test_a_forgotten_constraint_says_what_it_would_do():
    with pytest.raises(FleetError, match="without it the rule would allow everything"):
        parse_grant(changed([*STORE, 0, "buckets"], REMOVED), "grant.yaml")


@pytest.mark.parametrize("data", [b"", b"- a", b"\xff", b"a: [", b"a: 1\na: 2", b"&x a: 1", b"a: !!python/none x"])
def test_texts_that_are_no_document(data):
    with pytest.raises(FleetError) as caught:
        parse_grant(data, "grant.yaml")
    assert caught.value.code is Code.GRANT_INVALID
    assert str(caught.value.detail["place"]).startswith("grant.yaml")


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\u2066", "\ufeff", "\u00ad", "\U000e0041", "\u3164"])
def test_characters_that_make_a_text_look_like_another(hidden):
    error = refusal(lambda: parse_grant(GRANT.replace("reason: ", f"# {hidden}\nreason: ").encode(), "grant.yaml"))
    assert error.code is Code.GRANT_INVALID
    assert str(error.detail["place"]).startswith("grant.yaml:")
    assert f"U+{ord(hidden):04X}" in error.private
    escaped = f'reason: "\\U{ord(hidden):08X}"'
    error = refusal(lambda: parse_grant(GRANT.replace("reason: OPS-4411 line-3 roll-out", escaped).encode(), "g"))
    assert error.detail["place"] == "g: reason"


@pytest.mark.parametrize("name", ["climate/contеxt", "climate/соntext", "climate/ｃontext"])  # noqa: RUF001 - on purpose
def test_names_that_look_like_another(name):
    assert refusal(lambda: parse_grant(changed(["agent"], name), "grant.yaml")).code is Code.GRANT_INVALID


def test_a_break_glass_grant_is_short_and_says_why():
    def text(until, reason="pump 3 floods", role="role: code-vision, "):
        body = GRANT.replace("not_after: 2027-01-01T00:00:00Z", f"not_after: 2026-01-{until}:00Z")
        body = body.replace("{name: context-agent, ", f"{{name: context-agent, {role}")
        return f"{body.replace('OPS-4411 line-3 roll-out', json.dumps(reason))}break_glass: true\n".encode()

    assert parse_grant(text("02T00:00"), "g").break_glass
    assert refusal(lambda: parse_grant(text("02T00:01"), "g")).detail["place"] == "g: validity.not_after"
    assert refusal(lambda: parse_grant(text("01T04:00", ""), "g")).detail["place"] == "g: reason"
    nobody = text("01T04:00", role="")
    assert refusal(lambda: parse_grant(nobody, "g")).detail["place"] == "g: applies_to.bundle.role"


def test_size_is_capped():
    with pytest.raises(FleetError) as caught:
        parse_grant(b"#" * (MAX_DOCUMENT + 1), "grant.yaml")
    assert caught.value.code is Code.LIMIT_EXCEEDED


@settings(max_examples=60, deadline=None)
@given(grants())
def test_rendering_round_trips(grant):
    assert parse_grant(render_grant(grant), "grant.yaml") == grant


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GRANT)), st.integers(0, 12), st.binary(max_size=6)), min_size=1, max_size=3)
)
def test_mutations_raise_nothing_else(edits):
    data = GRANT.encode()
    for at, length, garbage in edits:
        data = data[:at] + garbage + data[at + length :]
    error = refusal(lambda: parse_grant(data, "grant.yaml"))
    assert error is None or (error.code is Code.GRANT_INVALID and str(error.detail["place"]).startswith("grant.yaml"))


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
PATHS = (
    ["agent"],
    ["revision"],
    ["applies_to"],
    ["validity"],
    ["lease", "on_lapse"],
    ["caps"],
    STORE,
    [*STORE, 0],
    ["limits"],
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PATHS), trees)
def test_values_of_the_wrong_shape_raise_nothing_else(path, tree):
    data = changed(path, tree)
    error = refusal(lambda: parse_grant(data, "grant.yaml"))
    assert error is None or (error.code is Code.GRANT_INVALID and str(error.detail["place"]).startswith("grant.yaml"))


CEILING = b"schema: fleet.ceiling/v1\ncaps: {wasi:logging/logging: []}\n"


def test_ceilings_restrict_only_what_they_name():
    ceiling = parse_ceiling(CEILING, "ceiling.yaml")
    assert ceiling.capabilities.keys() == {"wasi:logging/logging"}
    assert ceiling.limits == HIGHEST_LIMITS
    small = parse_ceiling(CEILING + b"limits: {memory: 1MiB}\n", "ceiling.yaml").limits
    assert (small.memory_bytes, small.queue) == (1 << 20, HIGHEST_LIMITS.queue)


@pytest.mark.parametrize("data", [GRANT.encode(), CEILING + b"agent: a/b\n", b"schema: fleet.ceiling/v1"])
def test_ceilings_are_strict(data):
    with pytest.raises(FleetError) as caught:
        parse_ceiling(data, "ceiling.yaml")
    assert caught.value.code is Code.GRANT_INVALID


def test_instants_are_whole_seconds_of_utc():
    assert format_instant(datetime(99, 1, 2, 3, 4, 5, 6, UTC)) == "0099-01-02T03:04:05Z"

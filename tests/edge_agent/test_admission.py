"""One failing case for each numbered check, and what is handed over when all pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.admission import AdmittedAgent, NodeContext, admit
from edge_agent.blobs import Blobs
from edge_agent.disk import LocalDisk
from edge_agent.fusion import Wire
from edge_agent.runtime import VolumeFolder
from fleet.errors import Code, FleetError
from fleet.grants import (
    Authority,
    BreakGlass,
    Ceiling,
    parse_break_glass,
    parse_ceiling,
    parse_ceilings,
    request_digest,
)
from fleet.model import AssignedAgent, FusedAgent, Isolation, Link, TargetRef
from fleet.oci import digest_of
from fleet.trust import open_release
from tests.fakes.fleet import FleetWorld, bundle, component, grant, with_artifact
from tests.fakes.publisher import NOW
from tests.fakes.runtime import ScriptedRuntime

LOGGING = "wasi:logging/logging@0.1.0-draft"
KEYVALUE = "wasi:keyvalue/store@0.2.0-draft2"
STORE_CAPS = "{'wasi:keyvalue/store': [{buckets: [context], ops: [get, set]}]}"
NAME = "app/one"
HOUR = "{not_before: 2026-06-01T12:00:00Z, not_after: 2026-06-01T13:00:00Z}"


@dataclass
class Case:
    """A node on which `spec` is admitted; tests change one thing."""

    folder: Path
    world: FleetWorld
    spec: AssignedAgent
    now: datetime = NOW
    fresh_at: datetime = NOW
    labels: dict[str, str] | None = None
    ceiling: Authority | None = None
    fleet_ceilings: tuple[Ceiling, ...] = ()
    break_glass: BreakGlass | None = None
    runtime: ScriptedRuntime | None = None
    volumes: dict[str, VolumeFolder] = field(default_factory=dict)
    secrets: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def blobs(self) -> Blobs:
        return Blobs(LocalDisk(), self.folder / "blobs", 10**6)

    async def admit(self) -> AdmittedAgent:
        publisher = self.world.publisher
        release = open_release(publisher.files, root=publisher.root, now=NOW, allow_dev=True)
        context = NodeContext(
            release=release,
            fresh_at=self.fresh_at,
            blobs=self.blobs,
            labels=self.labels or {},
            ceiling=self.ceiling,
            fleet_ceilings=self.fleet_ceilings,
            break_glass=self.break_glass,
            state_root=self.folder / "state",
            now=self.now,
            volumes=self.volumes,
            secrets=lambda agent, authority: {
                name: version
                for name, version in self.secrets.get(agent, {}).items()
                if authority.allows("fleet:secrets/store", name=name)
            },
        )
        return await admit(self.spec, context, self.runtime or ScriptedRuntime())


Make = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(*imports: str, models: dict[str, bytes] | None = None, name: str = "one", **terms: str) -> Case:
        world = FleetWorld()
        built = bundle(name, "1.0.0", *imports, models=models)
        spec = world.release(built, name, grant(terms.pop("agent", NAME), name, **terms), NAME)
        case = Case(tmp_path, world, spec)
        for data in world.blobs.values():
            case.blobs.put(data)
        return case

    return build


async def refusal(case: Case) -> FleetError:
    with pytest.raises(FleetError) as caught:
        await case.admit()
    return caught.value


async def test_everything_that_starting_needs_is_handed_over(make: Make, tmp_path: Path) -> None:
    case = make(LOGGING, KEYVALUE, models={"anomaly": b"model"}, caps=STORE_CAPS[:-1] + ", 'wasi:logging/logging': []}")
    case.spec = replace(case.spec, config={"unit": "celsius"})
    admitted = await case.admit()
    start = admitted.start
    assert start.name == NAME
    assert start.component.read_bytes() == component(LOGGING, KEYVALUE)
    model = start.models["anomaly"]
    assert (model.path.read_bytes(), model.digest) == (b"model", digest_of(b"model"))
    assert start.state_dir == tmp_path / "state" / "app"
    assert start.config == {"unit": "celsius"}
    assert Authority.decode(start.authority).allows("wasi:keyvalue/store", bucket="context", op="get")
    assert admitted.valid_until == datetime.fromisoformat("2027-01-01T00:00:00Z")


async def test_1_a_document_that_no_role_lists_is_refused(make: Make) -> None:
    case = make()
    case.world.publisher.remove(case.spec.grant.path)
    case.world.publisher.publish()
    assert (await refusal(case)).code is Code.TARGET_UNSIGNED


async def test_1_other_content_under_a_listed_path_is_refused(make: Make) -> None:
    case = make()
    forged = case.blobs.put(grant(NAME, "one", caps=STORE_CAPS))
    case.spec = replace(case.spec, grant=TargetRef(case.spec.grant.path, forged))
    assert (await refusal(case)).code is Code.DIGEST_MISMATCH


async def test_1_a_grants_role_signs_no_code_and_a_code_role_no_grants(make: Make) -> None:
    case = make()
    bundle_ref, grant_ref = case.spec.bundle, case.spec.grant
    case.spec = replace(case.spec, bundle=grant_ref)
    assert (await refusal(case)).code is Code.TARGET_UNSIGNED
    case.spec = replace(case.spec, bundle=bundle_ref, grant=bundle_ref)
    assert (await refusal(case)).code is Code.TARGET_UNSIGNED


def digest_of_part(case: Case, part: str) -> str:
    named = {"bundle": case.spec.bundle.digest, "grant": case.spec.grant.digest}
    return named.get(part) or case.blobs.put({"component": component(LOGGING), "model": b"model"}[part])


@pytest.mark.parametrize("part", ["bundle", "grant", "component", "model"])
async def test_2_a_missing_file_is_missing(make: Make, part: str) -> None:
    case = make(LOGGING, models={"anomaly": b"model"}, caps="{'wasi:logging/logging': []}")
    digest = digest_of_part(case, part)
    case.blobs.path(digest).unlink()
    assert (await refusal(case)).code is Code.BLOB_MISSING


@pytest.mark.parametrize("part", ["bundle", "grant", "component", "model"])
async def test_2_a_changed_file_is_corrupt_and_removed(make: Make, part: str) -> None:
    case = make(LOGGING, models={"anomaly": b"model"}, caps="{'wasi:logging/logging': []}")
    digest = digest_of_part(case, part)
    path = case.blobs.path(digest)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert (await refusal(case)).code is Code.BLOB_CORRUPT
    assert not case.blobs.has(digest)


async def test_3_a_grant_for_another_agent_does_not_apply(make: Make) -> None:
    assert (await refusal(make(agent="app/two"))).code is Code.GRANT_NOT_APPLICABLE


async def test_3_a_grant_for_other_nodes_does_not_apply(make: Make) -> None:
    case = make(labels="{labels: {site: oslo}}".removeprefix("{labels: ").removesuffix("}"))
    assert (await refusal(case)).code is Code.GRANT_NOT_APPLICABLE
    case.labels = {"site": "oslo"}
    await case.admit()


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [
        (b"name: one", b"name: two", "bundle.name"),
        (b'">=1.0.0"', b'">=1.0.1"', "bundle.versions"),
        (b'">=1.0.0"', b'">=1.0.0", sha256: ["sha256:%s"]' % (b"0" * 64), "bundle.sha256"),
    ],
)
async def test_3_a_grant_for_another_bundle_does_not_apply(make: Make, old: bytes, new: bytes, condition: str) -> None:
    case = make()
    document = grant(NAME, "one").replace(old, new)
    case.world.publisher.add(case.spec.grant.path, document)
    case.world.publisher.publish()
    case.spec = replace(case.spec, grant=TargetRef(case.spec.grant.path, case.blobs.put(document)))
    error = await refusal(case)
    assert (error.code, error.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, condition)


async def test_3_an_expired_grant_does_not_apply(make: Make) -> None:
    case = make()
    case.now = NOW + timedelta(days=999)
    assert (await refusal(case)).code is Code.GRANT_EXPIRED


async def test_3_an_emergency_grant_by_an_ordinary_role_does_not_apply(make: Make) -> None:
    case = make(KEYVALUE, caps=STORE_CAPS)
    case.break_glass = parse_break_glass(b"schema: fleet.break-glass/v1\nmax_validity: 1h\ncaps: {}\n")
    assert (await case.admit()).emergencies == ()
    document = grant(NAME, "one", caps=STORE_CAPS, validity=HOUR).replace(
        b"{name: one,", b"{name: one, role: code-default,"
    )
    document += b"break_glass: true\nreason: pump 3 floods\n"
    case.world.publisher.add(case.spec.grant.path, document)
    case.world.publisher.publish()
    case.spec = replace(case.spec, grant=TargetRef(case.spec.grant.path, case.blobs.put(document)))
    error = await refusal(case)
    assert (error.code, error.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "break_glass")


async def test_4_the_node_ceiling_takes_authority_away(make: Make) -> None:
    case = make(KEYVALUE, caps=STORE_CAPS)
    case.ceiling = parse_ceiling(b"schema: fleet.ceiling/v1\ncaps: {}\n", "ceiling.yaml")
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED
    narrower = "schema: fleet.ceiling/v1\ncaps: {'wasi:keyvalue/store': [{buckets: [context], ops: [get]}]}\n"
    case.ceiling = parse_ceiling(narrower.encode(), "ceiling.yaml")
    authority = Authority.decode((await case.admit()).start.authority)
    assert authority.allows("wasi:keyvalue/store", bucket="context", op="get")
    assert not authority.allows("wasi:keyvalue/store", bucket="context", op="set")


@pytest.mark.parametrize(
    ("on_lapse", "before", "after"),
    [
        ("continue", datetime.fromisoformat("2027-01-01T00:00:00Z"), None),
        ("stop", NOW + timedelta(days=1), Code.GRANT_EXPIRED),
        ("{drop: ['wasi:keyvalue/store']}", NOW + timedelta(days=1), None),
    ],
)
async def test_4_the_lease_decides_how_long_a_node_may_go_without_fresh_metadata(
    make: Make, on_lapse: str, before: datetime, after: Code | None
) -> None:
    case = make(KEYVALUE, caps=STORE_CAPS, lease=f"{{max_stale: 1d, on_lapse: {on_lapse}}}")
    assert (await case.admit()).valid_until == before
    case.now = NOW + timedelta(days=1)
    if after is not None:
        assert (await refusal(case)).code is after
        return
    admitted = await case.admit()
    allowed = Authority.decode(admitted.start.authority).allows("wasi:keyvalue/store", bucket="context", op="get")
    assert allowed == (on_lapse == "continue")
    assert admitted.valid_until == datetime.fromisoformat("2027-01-01T00:00:00Z")


async def test_5_an_import_without_a_grant_is_refused_with_the_command_that_grants_it(make: Make) -> None:
    error = await refusal(make(LOGGING, KEYVALUE, caps="{'wasi:logging/logging': []}"))
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert error.remedy == "fleetctl grant propose app/one --bundle one@1.0.0 --add wasi:keyvalue/store"


async def test_5_the_component_itself_says_what_it_imports(make: Make) -> None:
    """A code signer may put a component under documents that keep quiet about what it imports."""
    case = make(caps="{}")
    honest, greedy = bundle("one", "1.0.0"), component(KEYVALUE)

    def exchange(artifact: dict[str, Any]) -> None:
        config = honest.blobs[artifact["config"]["digest"]]
        config = config.replace(digest_of(component()).encode(), digest_of(greedy).encode())
        artifact["config"].update(digest=case.blobs.put(config), size=len(config))
        artifact["layers"][0].update(digest=case.blobs.put(greedy), size=len(greedy))

    lying = with_artifact(honest, 0, exchange)
    for data in lying.blobs.values():
        case.blobs.put(data)
    case.world.publisher.add(case.spec.bundle.path, lying.index)
    case.world.publisher.publish()
    case.spec = replace(case.spec, bundle=TargetRef(case.spec.bundle.path, case.blobs.put(lying.index)))
    error = await refusal(case)
    assert (error.code, error.detail["imports"]) == (Code.IMPORT_NOT_GRANTED, "wasi:keyvalue/store")


async def test_6_what_the_engine_refuses_is_refused(make: Make) -> None:
    case = make()
    case.runtime = ScriptedRuntime()
    digest = case.blobs.put(component())
    case.runtime.prepare_faults[digest].append(FleetError(Code.COMPONENT_UNSUPPORTED, "a stream at the boundary"))
    assert (await refusal(case)).code is Code.COMPONENT_UNSUPPORTED


# --- links ---

SCORE = "acme:pipeline/score@0.1.0"
ALERT = "acme:pipeline/alert@0.1.0"
SCORE_CAPS = "{'acme:pipeline/score': [{agents: [app/two]}], 'wasi:logging/logging': []}"
TWO = "app/two"


def linked(make: Make, isolation: Isolation, caps: str = SCORE_CAPS) -> Case:
    case = make(SCORE, LOGGING, caps=caps)
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, isolation),))
    return case


def add_part(case: Case, *imports: str, links: tuple[Link, ...] = (), **terms: str) -> None:
    """Publish another agent, and fuse it into the one of the case."""
    models = {"anomaly": terms.pop("model").encode()} if "model" in terms else None
    built = bundle("two", "1.0.0", *imports, models=models)
    spec = case.world.release(built, "two", grant(terms.pop("agent", TWO), "two", **terms), TWO)
    for data in case.world.blobs.values():
        case.blobs.put(data)
    part = FusedAgent(spec.name, spec.bundle, spec.grant, links)
    case.spec = replace(case.spec, fused=(*case.spec.fused, part))


async def test_5_a_link_is_handed_over_under_the_name_of_the_import(make: Make) -> None:
    case = linked(make, Isolation.STORE)
    case.spec = replace(case.spec, links=(Link("acme:pipeline/score", TWO),))
    start = (await case.admit()).start
    assert start.links == {SCORE: TWO}
    assert start.fusion is None


async def test_5_a_captured_coordinator_links_to_no_agent_that_the_grant_does_not_name(make: Make) -> None:
    case = linked(make, Isolation.STORE)
    case.spec = replace(case.spec, links=(Link(SCORE, "app/other"),))
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED
    case = linked(make, Isolation.STORE, "{'wasi:logging/logging': []}")
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED


async def test_the_parts_of_a_whole_are_handed_over(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, KEYVALUE, ALERT, links=(Link(ALERT, "app/three"),), caps=PART_CAPS, model="m")
    start = (await case.admit()).start
    assert start.fusion is not None
    assert [part.agent for part in start.fusion.parts] == [NAME, TWO]
    assert [part.component.read_bytes() for part in start.fusion.parts] == [
        component(SCORE, LOGGING),
        component(KEYVALUE, ALERT),
    ]
    assert start.fusion.wires == (Wire(0, SCORE, 1),)
    assert start.links == {ALERT: "app/three"}
    assert start.models["anomaly"].digest == digest_of(b"m")
    authority = Authority.decode(start.authority)
    assert authority.allows("wasi:logging/logging")
    assert authority.allows("wasi:keyvalue/store", bucket="two", op="get")


PART_CAPS = (
    "{'wasi:keyvalue/store': [{buckets: [two, one], ops: [get]}], 'acme:pipeline/alert': [{agents: [app/three]}]}"
)


async def test_what_two_parts_import_is_what_both_may_do(make: Make) -> None:
    case = make(
        SCORE, KEYVALUE, caps=f"{SCORE_CAPS[:-1]}, 'wasi:keyvalue/store': [{{buckets: [one], ops: [get, set]}}]}}"
    )
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, Isolation.NONE),))
    add_part(case, KEYVALUE, caps="{'wasi:keyvalue/store': [{buckets: [one, two], ops: [get]}]}")
    authority = Authority.decode((await case.admit()).start.authority)
    allowed = {
        (bucket, op)
        for bucket in ("one", "two")
        for op in ("get", "set")
        if authority.allows("wasi:keyvalue/store", bucket=bucket, op=op)
    }
    assert allowed == {("one", "get")}


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"caps": "{}"}, Code.IMPORT_NOT_GRANTED),
        ({"agent": "app/other", "caps": STORE_CAPS}, Code.GRANT_NOT_APPLICABLE),
        ({"labels": "{site: oslo}", "caps": STORE_CAPS}, Code.GRANT_NOT_APPLICABLE),
    ],
)
async def test_a_part_needs_a_grant_of_its_own(make: Make, terms: dict[str, str], code: Code) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, KEYVALUE, **terms)
    assert (await refusal(case)).code is code


async def test_a_part_that_no_role_signed_is_refused(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case)
    case.world.publisher.remove(case.spec.fused[0].bundle.path)
    case.world.publisher.publish()
    assert (await refusal(case)).code is Code.TARGET_UNSIGNED


async def test_the_earliest_end_of_all_grants_ends_the_whole(make: Make) -> None:
    case = linked(make, Isolation.NONE)
    add_part(case, lease="{max_stale: 1d, on_lapse: stop}")
    assert (await case.admit()).valid_until == NOW + timedelta(days=1)


async def test_parts_with_different_models_of_one_name_are_refused(make: Make) -> None:
    case = make(SCORE, models={"anomaly": b"one"}, caps=SCORE_CAPS)
    case.spec = replace(case.spec, links=(Link(SCORE, TWO, Isolation.NONE),))
    add_part(case, model="two")
    error = await refusal(case)
    assert (error.code, error.detail["model"]) == (Code.LINK_INVALID, "anomaly")


async def test_a_part_does_not_call_for_another_that_may_not(make: Make) -> None:
    case = make(SCORE, ALERT, caps=f"{SCORE_CAPS[:-1]}, 'acme:pipeline/alert': [{{agents: ['*']}}]}}")
    part_link = (Link(ALERT, "app/three"),)
    links = Link(SCORE, TWO, Isolation.NONE), Link(ALERT, "app/four")
    case.spec = replace(case.spec, links=links)
    add_part(case, ALERT, links=part_link, caps=PART_CAPS)
    assert (await refusal(case)).code is Code.LINK_INVALID
    case.spec = replace(case.spec, links=(links[0], Link(ALERT, "app/three")))
    assert (await case.admit()).start.links == {ALERT: "app/three"}


FILES = "'wasi:filesystem/preopens': [{volumes: [%s], mode: [read]}]"


async def test_4_only_volumes_that_the_grant_names_go_to_the_agent(make: Make, tmp_path: Path) -> None:
    case = make("wasi:filesystem/preopens@0.2.9", caps="{" + FILES % "scratch/own, node/maps, 'node/m*'" + "}")
    case.volumes = {name: VolumeFolder(tmp_path) for name in ("maps", "more", "other")}
    assert (await case.admit()).start.volumes == {name: VolumeFolder(tmp_path) for name in ("maps", "more")}


async def test_without_a_grant_no_volume_goes_to_the_agent(make: Make, tmp_path: Path) -> None:
    case = make("wasi:filesystem/preopens@0.2.9")
    case.volumes = {"maps": VolumeFolder(tmp_path)}
    assert (await case.admit()).start.volumes == {}


@pytest.mark.parametrize("volumes", [{}, {"maps": VolumeFolder(Path("/nowhere/at/all"))}])
async def test_4_a_volume_that_the_node_has_not_is_refused(make: Make, volumes: dict[str, VolumeFolder]) -> None:
    case = make("wasi:filesystem/preopens@0.2.9", caps="{" + FILES % "node/maps" + "}")
    case.volumes = volumes
    error = await refusal(case)
    assert (error.code, error.detail["volume"]) == (Code.VOLUME_UNAVAILABLE, "node/maps")
    assert "nowhere" not in str(error)


async def test_5_a_component_that_asks_for_more_than_was_reviewed_needs_a_new_revision(make: Make) -> None:
    reviewed = request_digest(["wasi:keyvalue/store"])
    caps = STORE_CAPS[:-1] + ", 'wasi:logging/logging': []}"
    await make(KEYVALUE, caps=caps, request=reviewed).admit()
    error = await refusal(make(KEYVALUE, LOGGING, caps=caps, request=reviewed))
    assert (error.code, error.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "request_sha256")


CEILINGS = b"""\
schema: fleet.ceilings/v1
ceilings:
  - {name: line-3, nodes: {labels: {zone: line-3}}, caps: {'wasi:keyvalue/store': [{buckets: ['*'], ops: [get]}]}}
"""


async def test_4_the_fleets_ceilings_hold_by_the_labels_on_the_nodes_own_disk(make: Make) -> None:
    case = make(KEYVALUE, caps=STORE_CAPS)
    ceilings = parse_ceilings(CEILINGS, "policy/ceilings.yaml")
    case.fleet_ceilings = ceilings.on({"zone": "line-3"})
    authority = Authority.decode((await case.admit()).start.authority)
    assert authority.allows("wasi:keyvalue/store", bucket="context", op="get")
    assert not authority.allows("wasi:keyvalue/store", bucket="context", op="set")
    case.ceiling = parse_ceiling(b"schema: fleet.ceiling/v1\ncaps: {}\n", "ceiling.yaml")
    error = await refusal(case)
    assert (error.code, error.detail["place"]) == (Code.IMPORT_NOT_GRANTED, "ceiling.yaml of the node")
    case.fleet_ceilings = ceilings.on({"zone": "elsewhere"})
    error = await refusal(case)
    assert error.code is Code.IMPORT_NOT_GRANTED
    assert str(error.detail["place"]).startswith("policy/ceilings.yaml: no ceiling")


async def test_4_an_assignment_narrows_and_never_widens(make: Make) -> None:
    case = make(KEYVALUE, caps=STORE_CAPS)
    rules = {"wasi:keyvalue/store": [{"buckets": ["*"], "ops": ["get", "delete"]}]}
    case.spec = replace(case.spec, narrow=json.dumps({"caps": rules, "limits": {"memory": "1MiB"}}))
    authority = Authority.decode((await case.admit()).start.authority)
    assert authority.allows("wasi:keyvalue/store", bucket="context", op="get")
    assert not authority.allows("wasi:keyvalue/store", bucket="context", op="set")
    assert not authority.allows("wasi:keyvalue/store", bucket="context", op="delete")
    assert authority.limits.memory_bytes == 1 << 20
    case.spec = replace(case.spec, narrow=json.dumps({"deny": ["wasi:keyvalue/store"]}))
    denied = Authority.decode((await case.admit()).start.authority)
    assert not denied.allows("wasi:keyvalue/store", bucket="context", op="get")
    case.spec = replace(case.spec, narrow='{"caps": {}}')
    assert (await refusal(case)).code is Code.ASSIGNMENT_INVALID


async def test_an_agent_starts_with_the_secrets_that_it_may_hold(make: Make) -> None:
    caps = "{'fleet:secrets/store': [{names: [api-*]}]}"
    case = make("fleet:secrets/store@0.1.0", caps=caps)
    case.secrets = {NAME: {"api-token": 3, "other": 1}, "app/two": {"api-key": 1}}
    assert (await case.admit()).start.secrets == {"api-token": f"{NAME}#3"}
    case.ceiling = parse_ceiling(b"schema: fleet.ceiling/v1\ncaps: {}\n", "ceiling.yaml")
    assert (await refusal(case)).code is Code.IMPORT_NOT_GRANTED


async def test_a_newer_version_is_another_start(make: Make) -> None:
    """So the supervisor, which compares starts, lets the agent begin again with it."""
    case = make("fleet:secrets/store@0.1.0", caps="{'fleet:secrets/store': [{names: [api-*]}]}")
    case.secrets = {NAME: {"api-token": 1}}
    before = (await case.admit()).start
    assert (await case.admit()).start == before
    case.secrets = {NAME: {"api-token": 2}}
    assert (await case.admit()).start != before


SECRETS = "fleet:secrets/store@0.1.0"
OURS = "{'fleet:secrets/store': [{names: [api-*]}]}"


async def test_fused_parts_do_not_reach_each_others_secrets(make: Make) -> None:
    """They ask through one import: a name that one may ask for must not be a secret of another."""
    case = make(SECRETS, caps=OURS)
    case.secrets = {TWO: {"api-token": 2}}
    add_part(case, caps=OURS)  # may hold its secret, and does not import what asks for it: the other part would
    assert (await case.admit()).start.secrets == {}


@pytest.mark.parametrize(
    ("theirs", "secrets"),
    [
        pytest.param("api-token", {TWO: {"api-token": 2}}, id="of-the-part"),
        pytest.param("api-*", {NAME: {"api-token": 1}}, id="of-the-first"),
        pytest.param("api-token", {NAME: {"api-token": 1}, TWO: {"api-token": 2}}, id="of-both"),
    ],
)
async def test_a_secret_that_another_part_could_ask_for_is_not_fused(
    make: Make, theirs: str, secrets: dict[str, dict[str, int]]
) -> None:
    case = make(SECRETS, caps=OURS)
    case.secrets = secrets
    add_part(case, SECRETS, caps=f"{{'fleet:secrets/store': [{{names: ['{theirs}']}}]}}")
    error = await refusal(case)
    assert error.code is Code.LINK_INVALID
    assert "isolation: store" in error.remedy


async def test_secrets_that_no_other_part_may_name_are_given(make: Make) -> None:
    case = make(SECRETS, caps=OURS)
    case.secrets = {NAME: {"api-token": 1}, TWO: {"db-key": 2}}
    add_part(case, SECRETS, caps="{'fleet:secrets/store': [{names: [db-key]}]}")
    admitted = (await case.admit()).start
    assert admitted.secrets == {"api-token": f"{NAME}#1", "db-key": f"{TWO}#2"}
    whole = Authority.decode(admitted.authority)  # one import for both: neither may name what only one of them may
    assert not any(whole.allows("fleet:secrets/store", name=name) for name in ("api-token", "db-key"))

"""Admission of one agent: the numbers are those of `admit`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import Code, FleetError
from fleet.grants import (
    Authority,
    parse_break_glass,
    parse_ceiling,
)
from fleet.model import TargetRef
from fleet.oci import digest_of
from tests.edge_agent.admission.conftest import KEYVALUE, LOGGING, NAME, STORE_CAPS, Case, Make, refusal
from tests.fakes.fleet import bundle, component, grant, with_artifact
from tests.fakes.publisher import NOW
from tests.fakes.runtime import ScriptedRuntime

HOUR = "{not_before: 2026-06-01T12:00:00Z, not_after: 2026-06-01T13:00:00Z}"


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

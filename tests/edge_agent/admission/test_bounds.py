"""Admission within bounds: volumes, ceilings, narrowing, and secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.runtime import VolumeFolder
from fleet.errors import Code
from fleet.grants import (
    Authority,
    parse_ceiling,
    parse_ceilings,
    request_digest,
)
from tests.edge_agent.admission.conftest import KEYVALUE, LOGGING, NAME, STORE_CAPS, TWO, Make, add_part, refusal

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

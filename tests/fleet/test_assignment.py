"""Assignments and receipts: one failing case per numbered check."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.assignment import (
    ASSIGNMENT_TYPE,
    MAX_AGENTS,
    MAX_CODE,
    MAX_COUNTER,
    MAX_ENVELOPE,
    RECEIPT_TYPE,
    Receipt,
    ReceiptAgent,
    VerifiedAssignment,
    decode_assignment,
    decode_receipt,
    encode_assignment,
    encode_receipt,
    open_assignment,
    open_receipt,
    sign_assignment,
    sign_receipt,
)
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.health import HealthPolicy
from fleet.model import (
    AssignedAgent,
    Assignment,
    DesiredState,
    EventTrigger,
    FusedAgent,
    Isolation,
    Link,
    QueuePolicy,
    RestartPolicy,
    SwapPolicy,
    TargetRef,
    TelemetryTrigger,
    TimerTrigger,
)
from fleet.oci import digest_of
from fleet.signing import SigningKey, sign_envelope
from fleet.targets import MAX_REVISION, bundle_path, grant_path
from fleet.times import MAX_MS, from_ms
from tests.fakes.publisher import NOW, MemoryLog, fleet_trust, key
from tests.fakes.refusals import code_of

BUNDLE = TargetRef(bundle_path("context-agent", "1.0.0"), digest_of(b"index"))
GRANT = TargetRef(grant_path("climate/context", 1), digest_of(b"grant"))
AGENT = AssignedAgent(
    name="climate/context",
    bundle=BUNDLE,
    grant=GRANT,
    config={"threshold": "0.5"},
    triggers=(
        TimerTrigger(5_000, "handle-tick", "1, 2"),
        EventTrigger("sensors/temperature", "handle-data"),
        TelemetryTrigger(1_000, "handle-data", ("cpu", "memory")),
    ),
    restart=RestartPolicy(100, 2_000, 3_000),
)
ASSIGNMENT = Assignment("demo", "n1", 1, 7, NOW, NOW + timedelta(days=30), (AGENT,))
TRUST = fleet_trust()


def desired(assignment: Assignment = ASSIGNMENT, signer: SigningKey | None = None) -> DesiredState:
    envelope = sign_assignment(assignment, signer or key("director"))
    log = MemoryLog(b"before", envelope, b"after")
    return DesiredState(envelope, log.proof(1))


def opened(state: DesiredState, **changes: object) -> VerifiedAssignment:
    arguments = {"node": "n1", "epoch": 1, "now": NOW, **changes}
    return open_assignment(state, TRUST, **arguments)


def refused(code: Code, state: DesiredState, **changes: object) -> None:
    with pytest.raises(FleetError) as caught:
        opened(state, **changes)
    assert caught.value.code is code


def test_an_assignment_opens_on_its_node() -> None:
    verified = opened(desired())
    assert verified.assignment == ASSIGNMENT
    assert verified.digest == digest_of(encode_assignment(ASSIGNMENT))
    assert (verified.leaf_index, verified.checkpoint_size) == (1, 3)


def test_an_empty_assignment_stops_everything() -> None:
    assert opened(desired(dataclasses.replace(ASSIGNMENT, agents=()))).assignment.agents == ()


# The numbers are those of open_assignment.


def test_1_the_envelope_has_a_limit() -> None:
    refused(Code.LIMIT_EXCEEDED, DesiredState(b" " * (MAX_ENVELOPE + 1), b""))


def test_1_the_director_signs_nothing_that_a_node_refuses() -> None:
    config = {"text": "x" * 1024}
    names = (f"climate/agent-{number}" for number in range(MAX_AGENTS))
    agents = tuple(dataclasses.replace(AGENT, name=name, config=config) for name in names)
    large = dataclasses.replace(ASSIGNMENT, agents=agents)
    assert code_of(sign_assignment, large, key("director")) is Code.LIMIT_EXCEEDED


def test_2_only_a_director_key_signs() -> None:
    refused(Code.SIGNATURE_INVALID, desired(signer=key("thief")))


def test_2_a_receipt_of_the_same_bytes_is_no_assignment() -> None:
    envelope = sign_envelope(RECEIPT_TYPE, encode_assignment(ASSIGNMENT), [key("director")])
    refused(Code.SIGNATURE_INVALID, DesiredState(envelope, MemoryLog(envelope).proof(0)))


RAW = json.loads(encode_assignment(ASSIGNMENT))
RAW_AGENT = RAW["agents"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "fleet.assignment/v2"},
        {"fleet": "Demo"},
        {"node": ""},
        {"epoch": 0},
        {"generation": 0},
        {"generation": MAX_COUNTER + 1},
        {"issued_ms": -1},
        {"expires_ms": MAX_MS + 1},
        {"expires_ms": RAW["issued_ms"]},
        {"agents": [RAW_AGENT, RAW_AGENT]},
        {"agents": [{**RAW_AGENT, "name": "context"}]},
        {"agents": [{**RAW_AGENT, "bundle": RAW_AGENT["grant"]}]},
        {"agents": [{**RAW_AGENT, "grant": RAW_AGENT["bundle"]}]},
        {"agents": [{**RAW_AGENT, "grant": {"path": "x", "digest": digest_of(b"")}}]},
        {"agents": [{**RAW_AGENT, "bundle": {**RAW_AGENT["bundle"], "digest": "sha256:0"}}]},
        {"agents": [{**RAW_AGENT, "config": {"a": 1}}]},
        {"agents": [{**RAW_AGENT, "triggers": [{"cron": {}}]}]},
        {"agents": [{**RAW_AGENT, "restart": {"initial": "soon"}}]},
        {"agents": [{**RAW_AGENT, "on_full_queue": "wait"}]},
        {"agents": [{**RAW_AGENT, "health": {"every": "soon"}}]},
        {"agents": [{**RAW_AGENT, "swap": {"calls": 1 << 31}}]},
        {"agents": [{**RAW_AGENT, "capabilities": ["everything"]}]},
        {"more": 1},
    ],
)
def test_3_only_a_valid_payload_is_read(change: dict[str, object]) -> None:
    payload = dump_json(RAW | change)
    envelope = sign_envelope(ASSIGNMENT_TYPE, payload, [key("director")])
    refused(Code.ASSIGNMENT_INVALID, DesiredState(envelope, MemoryLog(envelope).proof(0)))


def test_4_an_assignment_of_another_fleet() -> None:
    refused(Code.ASSIGNMENT_WRONG_NODE, desired(dataclasses.replace(ASSIGNMENT, fleet="other")))


def test_5_an_assignment_of_another_node() -> None:
    refused(Code.ASSIGNMENT_WRONG_NODE, desired(), node="n2")


@pytest.mark.parametrize("epoch", [2, 0])
def test_6_an_assignment_of_another_enrolment(epoch: int) -> None:
    refused(Code.ASSIGNMENT_WRONG_NODE, desired(), epoch=epoch)


def test_7_an_expired_assignment() -> None:
    refused(Code.ASSIGNMENT_EXPIRED, desired(), now=ASSIGNMENT.expires)
    assert opened(desired(), now=ASSIGNMENT.expires - timedelta(milliseconds=1))


def test_8_a_checkpoint_of_another_log() -> None:
    envelope = desired().envelope
    refused(Code.PROOF_INVALID, DesiredState(envelope, MemoryLog(envelope).proof(0, key("thief"))))
    refused(Code.PROOF_INVALID, DesiredState(envelope, MemoryLog(envelope).proof(0, origin="other.example/log")))
    refused(Code.PROOF_INVALID, DesiredState(envelope, b""))


def test_9_an_assignment_that_is_not_in_the_log() -> None:
    state = desired()
    other = desired(dataclasses.replace(ASSIGNMENT, generation=8))
    refused(Code.PROOF_INVALID, DesiredState(state.envelope, other.proof))
    refused(Code.PROOF_INVALID, DesiredState(state.envelope, state.proof.replace(b"index 1", b"index 0")))


@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    state = desired()
    part = data.draw(st.sampled_from(["envelope", "proof"]))
    content = bytearray(getattr(state, part))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(lambda: opened(dataclasses.replace(state, **{part: bytes(content)}))) is not None


# Payloads


NAMES = st.sampled_from(["a", "climate", "node-1", "x1-y2"])
AGENT_NAMES = st.builds("{}/{}".format, NAMES, NAMES)
DIGESTS = st.binary(max_size=3).map(digest_of)
MOMENTS = st.integers(1, MAX_MS).map(from_ms)
COUNTERS = st.integers(1, MAX_COUNTER)
AGENTS = st.builds(
    AssignedAgent,
    name=AGENT_NAMES,
    bundle=st.builds(TargetRef, NAMES.map(lambda name: bundle_path(name, "1.0.0")), DIGESTS),
    grant=st.builds(TargetRef, st.builds(grant_path, AGENT_NAMES, st.integers(1, MAX_REVISION)), DIGESTS),
    config=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
ASSIGNMENTS = st.builds(
    Assignment,
    fleet=NAMES,
    node=NAMES,
    epoch=COUNTERS,
    generation=COUNTERS,
    issued=st.just(from_ms(0)),
    expires=MOMENTS,
    agents=st.lists(AGENTS, max_size=3, unique_by=lambda agent: agent.name).map(tuple),
)
RECEIPTS = st.builds(
    Receipt,
    fleet=NAMES,
    node=NAMES,
    epoch=COUNTERS,
    generation=COUNTERS,
    digest=DIGESTS,
    at=MOMENTS,
    agents=st.lists(
        st.builds(ReceiptAgent, AGENT_NAMES, DIGESTS, DIGESTS, st.sampled_from(["", *Code])),
        max_size=3,
        unique_by=lambda agent: agent.name,
    ).map(tuple),
)


@given(ASSIGNMENTS)
def test_assignments_round_trip(assignment: Assignment) -> None:
    assert decode_assignment(encode_assignment(assignment)) == assignment


@given(RECEIPTS)
def test_receipts_round_trip(receipt: Receipt) -> None:
    assert decode_receipt(encode_receipt(receipt)) == receipt


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=100) | JSON.map(dump_json))
def test_no_payload_raises_anything_but_a_fleet_error(payload: bytes) -> None:
    assert code_of(decode_assignment, payload) is Code.ASSIGNMENT_INVALID
    assert code_of(decode_receipt, payload) is Code.ASSIGNMENT_INVALID


@given(st.sampled_from(sorted(RAW)) | st.sampled_from(sorted(RAW_AGENT)), JSON)
def test_no_field_raises_anything_but_a_fleet_error(field: str, value: object) -> None:
    raw = {**RAW, field: value} if field in RAW else {**RAW, "agents": [{**RAW_AGENT, field: value}]}
    assert code_of(decode_assignment, dump_json(raw)) in {None, Code.ASSIGNMENT_INVALID}


# Receipts: the numbers are those of open_receipt.

RECEIPT = Receipt(
    fleet="demo",
    node="n1",
    epoch=1,
    generation=7,
    digest=digest_of(b"payload"),
    at=NOW,
    agents=(
        ReceiptAgent("climate/context", BUNDLE.digest, GRANT.digest, used=("wasi:keyvalue/store", "wasi:nn/graph")),
        ReceiptAgent("climate/other", BUNDLE.digest, GRANT.digest, Code.IMPORT_NOT_GRANTED),
    ),
)


def receipt_code(envelope: bytes, **changes: object) -> Code | None:
    arguments = {"fleet": "demo", "node": "n1", "epoch": 1, "key": key("n1").public, **changes}
    return code_of(lambda: open_receipt(envelope, **arguments))


def test_a_receipt_opens_with_the_nodes_key() -> None:
    envelope = sign_receipt(RECEIPT, key("n1"))
    assert open_receipt(envelope, fleet="demo", node="n1", epoch=1, key=key("n1").public) == RECEIPT


def test_receipt_1_has_a_limit() -> None:
    assert receipt_code(b" " * (MAX_ENVELOPE + 1)) is Code.LIMIT_EXCEEDED


def test_receipt_2_is_signed_by_the_node_as_a_receipt() -> None:
    assert receipt_code(sign_receipt(RECEIPT, key("director"))) is Code.SIGNATURE_INVALID
    wrong_type = sign_envelope(ASSIGNMENT_TYPE, encode_receipt(RECEIPT), [key("n1")])
    assert receipt_code(wrong_type) is Code.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"digest": ""},
        {"at_ms": "now"},
        {"agents": [{"name": "a/b", "bundle": "", "grant": BUNDLE.digest, "refusal": ""}]},
        {"agents": [{"name": "a/b", "bundle": BUNDLE.digest, "grant": BUNDLE.digest, "refusal": "X" * (MAX_CODE + 1)}]},
        {"agents": [{"name": "a/b", "bundle": BUNDLE.digest, "grant": BUNDLE.digest, "refusal": ""}] * 2},
        {"more": 1},
    ],
)
def test_receipt_3_is_valid(change: dict[str, object]) -> None:
    payload = dump_json(json.loads(encode_receipt(RECEIPT)) | change)
    assert receipt_code(sign_envelope(RECEIPT_TYPE, payload, [key("n1")])) is Code.ASSIGNMENT_INVALID


@pytest.mark.parametrize("change", [{"fleet": "other"}, {"node": "n2"}, {"epoch": 2}])
def test_receipt_4_speaks_for_its_own_node_only(change: dict[str, object]) -> None:
    assert receipt_code(sign_receipt(RECEIPT, key("n1")), **change) is Code.ASSIGNMENT_WRONG_NODE


LINKS = (Link("acme:pipeline/score@0.1.0", "climate/scorer", Isolation.NONE), Link("acme:x/y", "climate/z"))
NARROW = '{"deny":["wasi:random/random"]}'
PART = FusedAgent("climate/scorer", BUNDLE, GRANT, (Link("acme:pipeline/alert@0.1.0", "climate/z"),), NARROW)


def test_links_and_parts_survive_the_journey():
    whole = dataclasses.replace(AGENT, links=LINKS, fused=(PART,), narrow=NARROW)
    assignment = dataclasses.replace(ASSIGNMENT, agents=(whole,))
    assert decode_assignment(encode_assignment(assignment)) == assignment
    assert opened(desired(assignment)).assignment == assignment


@pytest.mark.parametrize("policy", QueuePolicy)
def test_what_a_full_queue_does_survives_the_journey(policy: QueuePolicy) -> None:
    assignment = dataclasses.replace(ASSIGNMENT, agents=(dataclasses.replace(AGENT, on_full_queue=policy),))
    assert decode_assignment(encode_assignment(assignment)) == assignment


@pytest.mark.parametrize("policy", [HealthPolicy(), HealthPolicy(100, 1, 1), HealthPolicy(failures=9)])
def test_how_an_agent_is_asked_survives_the_journey(policy: HealthPolicy) -> None:
    assignment = dataclasses.replace(ASSIGNMENT, agents=(dataclasses.replace(AGENT, health=policy),))
    assert decode_assignment(encode_assignment(assignment)) == assignment


@pytest.mark.parametrize("policy", [None, SwapPolicy(), SwapPolicy(7), SwapPolicy(7, 90_000)])
def test_how_a_newer_version_takes_over_survives_the_journey(policy: SwapPolicy | None) -> None:
    assignment = dataclasses.replace(ASSIGNMENT, agents=(dataclasses.replace(AGENT, swap=policy),))
    assert decode_assignment(encode_assignment(assignment)) == assignment


def test_an_agent_without_links_is_written_as_before_there_were_links():
    (written,) = json.loads(encode_assignment(ASSIGNMENT))["agents"]
    assert written.keys() == {"name", "bundle", "grant", "config", "triggers", "restart"}


@pytest.mark.parametrize(
    "used", [["wasi:nn/graph", "a:b/c"], ["a:b/c", "a:b/c"], ["nonsense"], [f"a:b/c{i:02}" for i in range(65)], "a:b/c"]
)
def test_what_agents_used_is_said_in_one_way(used: object) -> None:
    document = json.loads(encode_receipt(RECEIPT))
    document["agents"][0]["used"] = used
    assert code_of(decode_receipt, dump_json(document)) is Code.ASSIGNMENT_INVALID


def test_a_narrowing_that_cannot_be_read_is_refused():
    document = json.loads(encode_assignment(dataclasses.replace(ASSIGNMENT, agents=(AGENT,))))
    document["agents"][0]["narrow"] = {"allow": ["wasi:random/random"]}
    assert code_of(decode_assignment, dump_json(document)) is Code.ASSIGNMENT_INVALID


def test_links_that_do_not_fit_are_refused():
    lost = dataclasses.replace(AGENT, links=LINKS)
    assert code_of(decode_assignment, encode_assignment(dataclasses.replace(ASSIGNMENT, agents=(lost,)))) is (
        Code.ASSIGNMENT_INVALID
    )

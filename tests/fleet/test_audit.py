"""The whole log checked leaf by leaf: each numbered check, and what a thief of the log's key cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from fleet.action import Action, sign_action
from fleet.assignment import Receipt, sign_receipt
from fleet.audit import Anchors, Beginning, FindingKind, HeldCheckpoint, LogCheck, dated_later, kept_of
from fleet.certificates import (
    MAX_ENVELOPE,
    WITNESS_TYPE,
    WitnessCertificate,
    decode_witness,
    open_witness,
    sign_witness,
)
from fleet.checkpoint import Checkpoint, KeyKind, VerifierKey, format_vkey
from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.keys import P256SigningKey
from fleet.leaves import PUBLISHED, RECEIVED, event_leaf
from fleet.logs import ClosedLog
from fleet.merkle import EMPTY_ROOT, Frontier, leaf_hash, root
from fleet.publications import Publications
from fleet.signing import sign_envelope
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust
from fleet.witnesses import Cosignature
from tests.fakes.audited import ORIGIN, START, AuditedFleet, agent_of, bundle_digest, grant, ms
from tests.fakes.published import Repository
from tests.fakes.publisher import MemoryLog, fleet_trust, key
from tests.fakes.refusals import code_of

ONE = grant("app/one")
FIRST = agent_of("app/one", ONE)
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
OPERATOR = ec.generate_private_key(ec.SECP256R1())


def certificate(
    name: str = "spiffe://demo/user/alice",
    subject: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = OPERATOR,
    issuer: ec.EllipticCurvePrivateKey = AUTHORITY,
) -> x509.Certificate:
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operators")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)])
    builder = x509.CertificateBuilder(title, title, subject.public_key(), 1, START, START + timedelta(days=9999))
    return builder.add_extension(names, critical=False).sign(issuer, hashes.SHA256())


def pem(shown: x509.Certificate) -> str:
    return shown.public_bytes(serialization.Encoding.PEM).decode()


def digest(shown: x509.Certificate) -> str:
    return f"sha256:{shown.fingerprint(hashes.SHA256()).hex()}"


def show(fleet: AuditedFleet, shown: x509.Certificate) -> None:
    fleet.append(event_leaf("operator:certificate:shown", START, "user/alice", certificate=pem(shown)))


def act(fleet: AuditedFleet, shown: x509.Certificate, signer: ec.EllipticCurvePrivateKey = OPERATOR) -> None:
    action = Action(
        "demo", "alice", "/fleet.v1.ControlService/Deploy", bundle_digest("r"), START, bytes(16), digest(shown)
    )
    fleet.append(sign_action(action, P256SigningKey(signer)))


def whole() -> AuditedFleet:
    """A log with a leaf of every kind."""
    fleet = AuditedFleet()
    fleet.enrol("n1")
    fleet.witness("n1")
    fleet.publish(1, ONE)
    show(fleet, shown := certificate())
    act(fleet, shown)
    fleet.order(2, "n1", FIRST)
    fleet.receive(3, "n1", FIRST)
    return fleet


def check(
    fleet: AuditedFleet,
    held: Sequence[HeldCheckpoint] = (),
    claimed: Checkpoint | None = None,
    authorities: Sequence[x509.Certificate] = (),
    rows_at: int = -1,
) -> LogCheck:
    anchors = Anchors("demo", (key("director").public,), authorities)
    sizes = {one.checkpoint.size for one in held}
    running = LogCheck(anchors, Publications("demo", b"", lambda _: None), sizes, rows_at=rows_at)
    for leaf in fleet.leaves:
        running.add(leaf)
    running.finish(claimed or fleet.checkpoint())
    running.compare(held)
    return running


def refusal(fleet: AuditedFleet, **changed: object) -> FleetError:
    with pytest.raises(FleetError) as caught:
        check(fleet, **changed)  # type: ignore[arg-type]
    return caught.value


def test_a_whole_log_verifies_and_says_what_was_checked() -> None:
    fleet = whole()
    held = [HeldCheckpoint(fleet.checkpoint(size), f"witness {size}") for size in (1, 4, 7)]
    held.append(HeldCheckpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), "who came first"))
    found = check(fleet, held, authorities=[certificate("x", AUTHORITY)])
    assert dict(found.checked) == {"assignments": 1, "receipts": 1, "actions": 1, "witness keys": 1}
    assert found.agreed == {"witness 1": 1, "witness 4": 4, "witness 7": 7}
    assert [(row.node, row.agent, row.to_ms) for row in found.rows.assigned] == [("n1", "app/one", None)]
    assert list(found.witnesses.values()) == ["n1"]


def test_rows_of_an_earlier_moment_are_kept_for_a_database_that_grew_on() -> None:
    fleet = whole()
    assert check(fleet, rows_at=6).rows.enforced == ()
    assert len(check(fleet, rows_at=7).rows.enforced) == 1


def test_check_1_every_leaf_is_well_formed() -> None:
    fleet = whole()
    fleet.append(b"{}")
    error = refusal(fleet)
    assert (error.code, error.detail["leaf"]) == (Code.AUDIT_INVALID, 7)
    fleet = whole()
    fleet.append(sign_envelope("application/unknown", b"", [key("k")]))
    assert refusal(fleet).detail["leaf"] == 7


def test_check_2_an_assignment_is_the_director_s_and_for_this_fleet() -> None:
    fleet = whole()
    fleet.director = key("thief")
    fleet.order(9, "n1", FIRST)
    assert "SIGNATURE_INVALID" in refusal(fleet).private
    fleet = whole()
    fleet.order(9, "n1", FIRST, fleet="other")
    assert "ASSIGNMENT_WRONG_NODE" in refusal(fleet).private


def test_check_3_a_receipt_is_by_the_bound_key_of_that_enrolment() -> None:
    fleet = whole()
    receipt = Receipt("demo", "n1", 1, 1, bundle_digest("order"), START, ())
    forged = sign_receipt(receipt, key("coordinator"))  # threat 27: it has every key but the node's
    fleet.append(event_leaf(RECEIVED, START, "node/n1", envelope=forged.decode()))
    assert "SIGNATURE_INVALID" in refusal(fleet).private
    fleet = AuditedFleet(generations={"n2": 1})
    fleet.receive(3, "n2")
    assert "does not show epoch 1 of n2" in refusal(fleet).private
    fleet = AuditedFleet()
    fleet.append(sign_receipt(receipt, key("bound-n1")))
    assert "does not say when it came" in refusal(fleet).private
    for changed in ({"public_key": key("other").public.hex}, {"public_key": "zz"}, {"public_key": "00"}):
        fleet = AuditedFleet()
        fleet.enrol("n1", **changed)
        assert refusal(fleet).detail["leaf"] == 0


def test_check_4_an_action_is_by_the_certificate_that_was_shown_before() -> None:
    fleet = AuditedFleet()
    act(fleet, certificate())
    assert "not shown before" in refusal(fleet).private
    fleet = AuditedFleet()
    show(fleet, shown := certificate())
    act(fleet, shown, ec.generate_private_key(ec.SECP256R1()))
    assert "ACTION_INVALID" in refusal(fleet).private
    fleet = AuditedFleet()
    show(fleet, shown := certificate("spiffe://demo/user/bob"))
    act(fleet, shown)
    assert "not that of alice" in refusal(fleet).private
    fleet = AuditedFleet()
    show(fleet, shown := certificate(subject=ed25519.Ed25519PrivateKey.generate()))
    act(fleet, shown)
    assert "not for a P-256 key" in refusal(fleet).private
    fleet = AuditedFleet()
    show(fleet, certificate(issuer=ec.generate_private_key(ec.SECP256R1())))
    check(fleet)
    assert "no known authority" in refusal(fleet, authorities=[certificate("x", AUTHORITY)]).private
    fleet = AuditedFleet()
    fleet.append(event_leaf("operator:certificate:shown", START, "user/alice", certificate="nothing"))
    assert "not a PEM certificate" in refusal(fleet).private


def test_check_5_a_witness_key_is_certified_by_its_node() -> None:
    fleet = AuditedFleet()
    fleet.enrol("n1")
    fleet.witness("n1", key("thief"))
    assert "SIGNATURE_INVALID" in refusal(fleet).private
    fleet = AuditedFleet()
    fleet.witness("n1")
    assert "does not show epoch 1" in refusal(fleet).private


def test_check_8_a_rewritten_history_meets_who_saw_the_first() -> None:
    """Threat 26: director and log keys are stolen, so every signature of the new history verifies."""
    fleet, rewritten = whole(), AuditedFleet()
    rewritten.enrol("n1")
    rewritten.witness("n1")
    rewritten.publish(1)
    held = [HeldCheckpoint(fleet.checkpoint(3), "n1")]
    check(fleet, held)
    error = refusal(rewritten, held=held)
    assert (error.code, error.detail["holder"]) == (Code.LOG_FORKED, "n1")
    assert refusal(fleet, held=[HeldCheckpoint(Checkpoint(ORIGIN, 0, bytes(32)), "n1")]).code is Code.LOG_FORKED


def test_check_7_the_leaves_give_the_signed_root() -> None:
    fleet = whole()
    claimed = fleet.checkpoint()
    changed = AuditedFleet(leaves=[*fleet.leaves[:2], fleet.leaves[3], fleet.leaves[2], *fleet.leaves[4:]])
    assert refusal(changed, claimed=claimed).code is Code.AUDIT_INVALID
    cut = AuditedFleet(leaves=fleet.leaves[:-1])
    assert refusal(cut, claimed=claimed).detail["leaves"] == 6


def test_check_9_a_log_that_lost_its_end_meets_who_saw_it() -> None:
    fleet = whole()
    held = [HeldCheckpoint(fleet.checkpoint(), "security")]
    cut = AuditedFleet()
    for leaf in fleet.leaves[:-1]:
        cut.append(leaf)
    error = refusal(cut, held=held)
    assert (error.code, error.detail["holder"]) == (Code.LOG_FORKED, "security")


def test_check_2_a_director_key_counts_while_it_is_listed_and_check_6_takes_that_from_signed_metadata() -> None:
    """A key that was withdrawn still proves the orders of its day; and none after it."""
    repository, fleet = Repository(), AuditedFleet()
    metadata = repository.publisher

    def published(minutes: float) -> None:
        repository.publisher.publish()
        data = event_leaf(PUBLISHED, fleet.at(minutes), "user/ann", **dict(repository.publish().facts))
        fleet.append(data)

    def checked() -> LogCheck:
        running = LogCheck(Anchors("demo", (key("director-2").public,)), repository.verifier())
        for leaf in fleet.leaves:
            running.add(leaf)
        return running

    published(0)
    fleet.order(1, "n1")
    metadata.document = encode_fleet_trust(fleet_trust(director=key("director-2")))
    metadata.add(TRUST_PATH, metadata.document)
    published(2)
    fleet.director = key("director-2")
    fleet.order(3, "n1")
    assert checked().checked == {"publications": 2, "assignments": 2}
    fleet.director = key("director")  # a thief of the withdrawn key
    fleet.order(4, "n1")
    with pytest.raises(FleetError, match="SIGNATURE_INVALID"):
        checked()


def test_check_9_what_was_seen_of_a_closed_log_is_lost_and_no_fork() -> None:
    fleet, old = AuditedFleet(), "demo/audit/1"
    for number in range(9):
        fleet.publish(number)
    closed = [ClosedLog((format_vkey(old, key("log").public),), 6, fleet.checkpoint(6).root)]
    seen = {size: Checkpoint(old, size, fleet.checkpoint(size).root) for size in (4, 6)}
    lost = Checkpoint(old, 8, bytes(32))
    running = LogCheck(Anchors("demo", ()), Publications("demo", b"", lambda _: None), {4, 6, 8})
    for leaf in fleet.leaves:
        running.add(leaf)
    held = [HeldCheckpoint(one, "n1") for one in (*seen.values(), lost)]
    (found,) = running.compare(held, closed)
    assert (found.kind, found.holder, found.leaf) == (FindingKind.LOST, "n1", None)
    assert "had 8 leaves, of which 6 went on" in found.text
    assert running.agreed == {"n1": 6}
    assert code_of(running.compare, [HeldCheckpoint(Checkpoint(old, 4, bytes(32)), "n1")], closed) is Code.LOG_FORKED
    assert code_of(running.compare, [HeldCheckpoint(lost, "n1")], ()) is Code.LOG_FORKED
    assert kept_of("demo/audit", closed) is None
    later = [*closed, ClosedLog((format_vkey(ORIGIN, key("log").public),), 5, bytes(32))]
    assert (kept_of(old, later), kept_of(ORIGIN, later)) == (5, 5)


@pytest.mark.parametrize(("seconds", "early"), [(600, False), (0, False), (-300, False), (-302, True)])
def test_a_witness_had_seen_a_leaf_before_its_own_time(*, seconds: int, early: bool) -> None:
    fleet = AuditedFleet()
    fleet.enrol("n1")
    fleet.order(7, "n1")
    fleet.publish(2)
    running = check(fleet, [HeldCheckpoint(fleet.checkpoint(size), "n1") for size in (1, 2, 3)])
    assert [(mark.latest_ms, mark.leaf) for mark in running.marks.values()] == [(ms(0), 0), (ms(7), 1), (ms(7), 1)]
    at_s = ms(7) // 1000 + seconds
    witness = VerifierKey("w", key("w").public, KeyKind.COSIGNER)
    assert dated_later(running.marks[3], Cosignature(witness, at_s, "")) is early


def test_a_log_began_with_what_no_later_time_follows() -> None:
    """Leaves without a time count only where an earlier one follows: with a later one, they may have come with it."""
    fleet = AuditedFleet()
    fleet.enrol("n1", 0)
    fleet.witness("n1")
    fleet.order(2, "n1")
    show(fleet, shown := certificate())
    act(fleet, shown)  # both at the start
    fleet.witness("n1")
    fleet.order(7, "n1")
    fleet.enrol("n2", 1)

    def begun(minutes: float) -> Beginning:
        found = Beginning(ms(minutes))
        for leaf in fleet.leaves:
            found.add(leaf)
        assert found.whole.root() == fleet.checkpoint().root
        return found

    for minutes, size in ((-1, 0), (0, 1), (1.9, 1), (2, 5), (6.9, 5), (7, 8), (99, 8)):
        found = begun(minutes)
        assert (found.size, found.root) == (size, fleet.checkpoint(size).root)


def test_the_checks_of_a_witness_certificate_in_their_order() -> None:
    vkey = VerifierKey("demo/node/n1", key("w").public, KeyKind.COSIGNER)
    mine = WitnessCertificate("demo", "n1", 1, vkey)
    bound = key("bound")

    def opened(envelope: bytes, **changed: object) -> Code | None:
        given = {"fleet": "demo", "node": "n1", "epoch": 1, "key": bound.public, **changed}
        return code_of(lambda: open_witness(envelope, **given))  # type: ignore[arg-type]

    envelope = sign_witness(mine, bound)
    assert open_witness(envelope, fleet="demo", node="n1", epoch=1, key=bound.public) == mine
    assert opened(b" " * (MAX_ENVELOPE + 1)) is Code.LIMIT_EXCEEDED  # 1
    assert opened(envelope, key=key("thief").public) is Code.SIGNATURE_INVALID  # 2
    fields = {"schema": "fleet.witness/v1", "fleet": "demo", "node": "n1", "epoch": 1, "vkey": str(vkey)}
    for changed in (
        {"schema": "other"},
        {"node": "N 1"},
        {"fleet": ""},
        {"epoch": 0},
        {"vkey": "x"},
        {"vkey": str(VerifierKey("demo/node/n1", key("w").public))},
        {"node": "n2"},
        {"more": 1},
    ):
        wrong = sign_envelope(WITNESS_TYPE, dump_json({**fields, **changed}), [bound])
        assert opened(wrong) is Code.CERTIFICATE_INVALID  # 3
    for changed in ({"fleet": "other"}, {"node": "n2"}, {"epoch": 2}):
        assert opened(envelope, **changed) is Code.CERTIFICATE_INVALID  # 4
    assert decode_witness(dump_json(fields)) == mine


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_a_frontier_has_the_root_of_the_tree(leaves: list[bytes]) -> None:
    log, frontier = MemoryLog(), Frontier()
    assert frontier.root() == EMPTY_ROOT
    for leaf in leaves:
        log.append(leaf)
        frontier.append(leaf_hash(leaf))
        assert (frontier.size, frontier.root()) == (log.size, root(log.read, log.size))

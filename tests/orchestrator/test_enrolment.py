"""Joining and staying joined: tokens, bound keys, renewal, clones; and what certificates may say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.errors import Code, FleetError
from fleet.joining import sign_join
from fleet.model import Event
from fleet.x509 import load_certificate
from orchestrator import pki, principals
from orchestrator.audit import AuditLog
from orchestrator.enrolment import EnrollProof, Enrolment, Issued, RenewProof, enroll_mac, renew_message
from orchestrator.registrar import Registrar
from orchestrator.store import audit as log_rows
from orchestrator.store import nodes as node_rows
from orchestrator.store.database import Store
from tests.fakes.fleet_fixture import make_csr, unpadded
from tests.fakes.publisher import key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TLS = ec.generate_private_key(ec.SECP256R1())
CSR = make_csr(TLS)
CA = pki.new_authority("nodes", NOW)
OPERATORS = pki.new_authority("operators", NOW)
PIN = hashlib.sha256(b"pin").digest()


@dataclass
class Desk:
    """An enrolment desk with time in its hands."""

    store: Store
    now: datetime = NOW
    counter: int = 0
    authority: pki.KeyPair = CA
    events: list[Event] = field(default_factory=list)
    expelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        registrar = Registrar(
            fleet="demo",
            pin=PIN,
            store=self.store,
            log=AuditLog("demo", key("log")),
            clock=lambda: self.now,
            random_bytes=self.random,
            journal=self.events.append,
            expel=lambda node, _: self.expelled.append(node),
        )
        self.desk = Enrolment(registrar, lambda: self.authority)

    def random(self, size: int) -> bytes:
        self.counter += 1
        return hashlib.sha256(str(self.counter).encode()).digest()[:size]

    def token(self, node: str = "n1", ttl_s: int = 3600) -> str:
        return self.desk.create_token(node, {"site": "oslo"}, ttl_s, "alice")[0]

    def enroll(self, token: str, bound: str = "bound", mac: bytes | None = None, csr: bytes = CSR) -> Issued:
        _, _, identifier, secret = token.split(".")
        nonce = self.desk.nonce()
        raw = key(bound).public.raw
        proof = EnrollProof(mac or enroll_mac(unpadded(secret), nonce, raw, csr), raw, csr, "1.0")
        return self.desk.enroll(identifier, nonce, proof)

    def renew(self, state: Issued, bound: str = "bound", csr: bytes = CSR, signed_csr: bytes = CSR) -> Issued:
        nonce = self.desk.nonce()
        signature = key(bound).sign(renew_message(nonce, state.epoch, state.sequence, signed_csr))
        return self.desk.renew(state.node, nonce, RenewProof(state.epoch, state.sequence, signature, csr))


@pytest.fixture
def desk() -> Iterator[Desk]:
    store = Store.open(None)
    yield Desk(store)
    store.close()


def refused(code: Code) -> pytest.RaisesExc[FleetError]:
    return pytest.RaisesExc(FleetError, check=lambda error: error.code is code)


def identity_of(pem: bytes) -> principals.NodeIdentity | principals.OperatorIdentity:
    return principals.read_identity(
        x509.load_pem_x509_certificate(pem),
        "demo",
        principals.Authorities((load_certificate(CA.certificate),), load_certificate(OPERATORS.certificate)),
    )


def test_identity_comes_from_the_token_and_lasts_a_day(desk: Desk) -> None:
    issued = desk.enroll(desk.token())
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    assert identity_of(issued.certificate) == principals.NodeIdentity("n1", 1, NOW + timedelta(days=1))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert issued.labels == {"site": "oslo"}


def test_the_token_carries_the_pin(desk: Desk) -> None:
    version, pin, _, _ = desk.token().split(".")
    assert (version, unpadded(pin)) == ("flt1", PIN)


def test_a_token_is_for_one_machine(desk: Desk) -> None:
    token = desk.token()
    desk.enroll(token)
    with refused(Code.TOKEN_INVALID):
        desk.enroll(token, bound="another machine")


def test_a_lost_answer_may_be_asked_for_again_by_the_same_machine(desk: Desk) -> None:
    token = desk.token()
    first = desk.enroll(token)
    again = desk.enroll(token)
    assert (again.epoch, again.sequence) == (first.epoch, first.sequence + 1)
    assert desk.renew(again).sequence == 3


@pytest.mark.parametrize("seconds", [3600, 3601])
def test_an_expired_token_is_refused(desk: Desk, seconds: int) -> None:
    token = desk.token()
    desk.now += timedelta(seconds=seconds)
    with refused(Code.TOKEN_INVALID):
        desk.enroll(token)


def test_an_unknown_token_and_a_wrong_secret_are_refused_alike(desk: Desk) -> None:
    with refused(Code.TOKEN_INVALID):
        desk.enroll("flt1.p.ffffffffffffffff.c2VjcmV0")
    with refused(Code.TOKEN_INVALID):
        desk.enroll(desk.token(), mac=b"x" * 32)


def test_an_exchanged_request_is_refused(desk: Desk) -> None:
    token = desk.token()
    _, _, identifier, secret = token.split(".")
    nonce, raw = desk.desk.nonce(), key("bound").public.raw
    mac = enroll_mac(unpadded(secret), nonce, raw, CSR)
    other = make_csr(ec.generate_private_key(ec.SECP256R1()))
    with refused(Code.TOKEN_INVALID):
        desk.desk.enroll(identifier, nonce, EnrollProof(mac, raw, other, ""))
    state = desk.enroll(token)
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew(state, csr=other)


def test_only_p256_keys_are_certified(desk: Desk) -> None:
    with refused(Code.MESSAGE_INVALID):
        desk.enroll(desk.token(), csr=make_csr(ec.generate_private_key(ec.SECP384R1())))
    with refused(Code.MESSAGE_INVALID):
        desk.enroll(desk.token(), csr=b"nonsense")


def test_a_node_may_be_offline_for_a_year(desk: Desk) -> None:
    state = desk.enroll(desk.token())
    desk.now += timedelta(days=365)
    state = desk.renew(desk.renew(state))
    assert identity_of(state.certificate).expires == desk.now + timedelta(days=1)


def test_a_lost_renewal_is_not_a_clone(desk: Desk) -> None:
    state = desk.enroll(desk.token())
    desk.renew(state)  # the answer is lost
    desk.renew(state)  # and again
    state = desk.renew(state)
    state = desk.renew(state)
    assert state.epoch == 1


@pytest.mark.parametrize("first", ["node", "clone"])
def test_a_clone_locks_the_name_whoever_comes_first(desk: Desk, first: str) -> None:
    state = desk.enroll(desk.token())
    moved = desk.renew(desk.renew(state))
    with refused(Code.NODE_LOCKED):
        desk.renew(state)
    with refused(Code.NODE_LOCKED):
        desk.renew(moved)
    assert desk.events[-1].kind == "node:identity:locked"
    assert desk.expelled[-1] == "node/n1"


def test_a_used_token_does_not_unlock(desk: Desk) -> None:
    token = desk.token()
    state = desk.enroll(token)
    desk.renew(desk.renew(state))
    with refused(Code.NODE_LOCKED):
        desk.renew(state)
    with refused(Code.NODE_LOCKED):
        desk.enroll(token)


def test_a_new_token_begins_a_new_epoch_and_unlocks(desk: Desk) -> None:
    old = desk.enroll(desk.token())
    desk.renew(desk.renew(old))
    with refused(Code.NODE_LOCKED):
        desk.renew(old)
    new = desk.enroll(desk.token(), bound="fresh disk")
    assert new.epoch == 2
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew(old)
    assert desk.renew(new, bound="fresh disk").sequence == 2


def test_an_older_enrolment_of_the_same_machine_is_refused(desk: Desk) -> None:
    old, new = desk.enroll(desk.token()), desk.enroll(desk.token())
    assert (old.epoch, new.epoch, old.sequence, new.sequence) == (1, 2, 1, 1)
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew(old)
    assert desk.renew(new).sequence == 2  # and it locks nothing


def test_only_a_node_renews(desk: Desk) -> None:
    state = desk.enroll(desk.token())
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew(replace(state, node="n2"))


@pytest.mark.parametrize(("epoch", "sequence"), [(1, 2**63), (2**63, 1), (2**64 - 1, 2**64 - 1)])
def test_a_counter_that_no_database_holds_is_refused(desk: Desk, epoch: int, sequence: int) -> None:
    state = desk.enroll(desk.token())
    with refused(Code.MESSAGE_INVALID):
        desk.renew(replace(state, epoch=epoch, sequence=sequence))
    assert desk.renew(state).sequence == 2


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33])
def test_a_bound_key_is_an_ed25519_key(desk: Desk, raw: bytes) -> None:
    _, _, identifier, secret = desk.token().split(".")
    nonce = desk.desk.nonce()
    proof = EnrollProof(enroll_mac(unpadded(secret), nonce, raw, CSR), raw, CSR, "")
    with refused(Code.MESSAGE_INVALID):
        desk.desk.enroll(identifier, nonce, proof)


@pytest.mark.parametrize(
    ("node", "labels", "ttl_s"),
    [("Not A Name", {}, 60), ("n1", {"a b": "c"}, 60), ("n1", {"a": ""}, 60), ("n1", {}, 0), ("n1", {}, 10**9)],
)
def test_bad_tokens_are_not_made(desk: Desk, node: str, labels: dict[str, str], ttl_s: int) -> None:
    with refused(Code.VALUE_INVALID):
        desk.desk.create_token(node, labels, ttl_s, "alice")


def test_the_node_authority_cannot_make_operators() -> None:
    forged = pki.issue_operator(CA, "demo", "mallory", [principals.Role.ADMIN], NOW, timedelta(days=1))
    with refused(Code.CERTIFICATE_INVALID):
        identity_of(forged.certificate)


def test_an_operators_roles_are_read_from_the_certificate() -> None:
    roles = frozenset({principals.Role.VIEWER, principals.Role.NODE_ADMIN})
    pair = pki.issue_operator(OPERATORS, "demo", "alice", roles, NOW, timedelta(1))
    assert identity_of(pair.certificate) == principals.OperatorIdentity("alice", roles, NOW + timedelta(1))


def test_a_certificate_of_another_fleet_is_refused() -> None:
    pair = pki.issue_operator(OPERATORS, "elsewhere", "alice", [principals.Role.ADMIN], NOW, timedelta(1))
    with refused(Code.CERTIFICATE_INVALID):
        identity_of(pair.certificate)


# The token's own key


def own_token(desk: Desk, public: bytes = key("token").public.raw) -> tuple[str, bytes, bytes]:
    """A token with a key of its own: its id, its secret and a challenge."""
    token, _ = desk.desk.create_token("n1", {}, 3600, "alice", public)
    _, _, identifier, secret = token.split(".")
    return identifier, unpadded(secret), desk.desk.nonce()


def joins(secret: bytes, nonce: bytes, statement: bytes, bound: str = "bound") -> EnrollProof:
    raw = key(bound).public.raw
    return EnrollProof(enroll_mac(secret, nonce, raw, CSR), raw, CSR, "1.0", statement)


def enrolled(desk: Desk) -> dict[str, object]:
    with desk.store.control.read() as connection:
        row = node_rows.get_node(connection, "n1")
        assert row is not None
        ((_, leaf),) = log_rows.list_leaves(connection, row.join_leaf or 0, 1)
    event: dict[str, dict[str, object]] = json.loads(leaf)
    return event["facts"]


def test_4_what_the_tokens_key_signed_is_in_the_log(desk: Desk) -> None:
    identifier, secret, nonce = own_token(desk)
    statement = sign_join(key("bound").public.raw, key("token"))
    issued = desk.desk.enroll(identifier, nonce, joins(secret, nonce, statement))
    assert enrolled(desk)["join"] == statement.decode()
    renewed = desk.renew(issued)
    assert renewed.sequence == 2
    assert enrolled(desk)["join"] == statement.decode(), "a renewal is no enrolment"


@pytest.mark.parametrize(
    "statement",
    [b"", sign_join(key("bound").public.raw, key("thief")), sign_join(key("thief").public.raw, key("token"))],
)
def test_4_a_bound_key_that_the_tokens_key_did_not_sign_is_refused(desk: Desk, statement: bytes) -> None:
    identifier, secret, nonce = own_token(desk)
    with refused(Code.TOKEN_INVALID):
        desk.desk.enroll(identifier, nonce, joins(secret, nonce, statement))


def test_4_without_a_key_of_the_token_nothing_is_kept(desk: Desk) -> None:
    identifier, secret, nonce = own_token(desk, b"")
    desk.desk.enroll(identifier, nonce, joins(secret, nonce, b"\xff" * 10_000))
    assert "join" not in enrolled(desk)


def test_a_key_of_another_size_makes_no_token(desk: Desk) -> None:
    with refused(Code.VALUE_INVALID):
        own_token(desk, b"short")

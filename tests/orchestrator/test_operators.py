"""Operators: invitation, login, renewal, revocation, with one failing case per numbered rule; over the wire as well."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet.errors import Code, FleetError
from fleet.model import Event
from fleet.x509 import load_certificate
from orchestrator import pki
from orchestrator.audit import AuditLog
from orchestrator.operators import (
    MAX_REASON,
    LoggedIn,
    LoginProof,
    Operators,
    login_mac,
    login_message,
)
from orchestrator.principals import Authorities, OperatorIdentity, Role, read_identity
from orchestrator.registrar import Registrar
from orchestrator.store.database import Store
from tests.fakes.fleet_fixture import make_csr, unpadded
from tests.fakes.publisher import key

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NODES = pki.new_authority("nodes", NOW)
OFFLINE = pki.new_authority("operators", NOW, path_length=1)
LOGIN = pki.issue_authority(OFFLINE, "operators, login", NOW)
PIN = hashlib.sha256(b"pin").digest()
KEYS = {name: ec.derive_private_key(number, ec.SECP256R1()) for number, name in enumerate(("first", "second"), 5)}


def ecdsa(name: str, data: bytes) -> bytes:
    return KEYS[name].sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass
class Desk:
    """The operators' desk with time in its hands."""

    store: Store
    pair: pki.KeyPair | None = LOGIN
    now: datetime = NOW
    counter: int = 0
    events: list[Event] = field(default_factory=list)
    expelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = AuditLog("demo", key("log"))
        registrar = Registrar(
            fleet="demo",
            pin=PIN,
            store=self.store,
            log=self.log,
            clock=lambda: self.now,
            random_bytes=self.random,
            journal=self.events.append,
            expel=lambda caller, _: self.expelled.append(caller),
        )
        self.desk = Operators(registrar, lambda: self.pair)

    def random(self, size: int) -> bytes:
        self.counter += 1
        return hashlib.sha256(str(self.counter).encode()).digest()[:size]

    def add(self, name: str = "bob", *roles: str, team: str = "", ttl_s: int = 3600) -> str:
        return self.desk.add(name, roles or ("viewer",), team, ttl_s, "alice")[0]

    def proof(self, who: str, nonce: bytes, secret: bytes = b"", sequence: int = 0) -> LoginProof:
        csr = make_csr(KEYS[who])
        mac = login_mac(secret, nonce, csr) if secret else b""
        return LoginProof(csr, mac, ecdsa(who, login_message(nonce, sequence, csr)), sequence)

    def login(self, token: str, who: str = "first") -> LoggedIn:
        _, _, identifier, secret = token.split(".")
        nonce = self.random(32)
        return self.desk.login(identifier, nonce, self.proof(who, nonce, unpadded(secret)))

    def renew(self, name: str = "bob", who: str = "first", sequence: int = 1) -> LoggedIn:
        nonce = self.random(32)
        return self.desk.renew(name, nonce, self.proof(who, nonce, sequence=sequence))

    def identity(self, issued: LoggedIn) -> OperatorIdentity:
        nodes, offline, login = (load_certificate(pair.certificate) for pair in (NODES, OFFLINE, LOGIN))
        authorities = Authorities((nodes,), offline, login)
        found = read_identity(x509.load_pem_x509_certificates(issued.chain)[0], "demo", authorities)
        assert isinstance(found, OperatorIdentity)
        return found

    def kinds(self) -> list[str]:
        with self.store.control.read() as connection:
            leaves = self.log.entries(connection, 0, 100)
        return [leaf.partition(b'"kind":"')[2].partition(b'"')[0].decode() for _, leaf in leaves]


@pytest.fixture
def desk() -> Iterator[Desk]:
    store = Store.open(None)
    yield Desk(store)
    store.close()


def refused(code: Code, text: str | None = None) -> pytest.RaisesExc[FleetError]:
    return pytest.RaisesExc(FleetError, match=text, check=lambda error: error.code is code)


def test_a_token_binds_a_key_for_twelve_hours(desk: Desk) -> None:
    issued = desk.login(desk.add("bob", "deployer", "viewer", team="vision"))
    leaf, authority = x509.load_pem_x509_certificates(issued.chain)
    assert leaf.public_key() == KEYS["first"].public_key()
    assert authority == load_certificate(LOGIN.certificate)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    identity = desk.identity(issued)
    roles = frozenset({Role.DEPLOYER, Role.VIEWER})
    assert identity == OperatorIdentity("bob", roles, NOW + timedelta(hours=12), epoch=1)
    assert desk.desk.admit(identity) == replace(identity, team="vision")
    assert desk.kinds() == ["operator:identity:invited", "operator:identity:bound"]


def test_the_key_asks_for_the_next_certificate_long_after_the_last_one_expired(desk: Desk) -> None:
    desk.login(desk.add())
    desk.now += timedelta(days=90)
    assert desk.identity(desk.renew()).expires == desk.now + timedelta(hours=12)


def test_a_lost_answer_may_be_asked_for_again_with_the_same_key(desk: Desk) -> None:
    token = desk.add()
    assert desk.identity(desk.login(token)) == desk.identity(desk.login(token))


def test_login_rules_1_to_3_look_alike(desk: Desk) -> None:
    token = desk.add()
    head, pin, identifier, _ = token.split(".")
    wrong_secret = ".".join((head, pin, identifier, "A" * 43))
    unknown = ".".join((head, pin, "00" * 8, "A" * 43))
    for attempt in (unknown, wrong_secret):
        with refused(Code.TOKEN_INVALID):
            desk.login(attempt)
    desk.login(token)
    with refused(Code.TOKEN_INVALID, "another key"):
        desk.login(token, "second")
    late = desk.add("carol")
    desk.now += timedelta(hours=1)
    with refused(Code.TOKEN_INVALID):
        desk.login(late)


def test_login_rule_2_a_mac_is_for_one_challenge_and_one_request(desk: Desk) -> None:
    _, _, identifier, secret = desk.add().split(".")
    nonce = desk.random(32)
    proof = desk.proof("first", nonce, unpadded(secret))
    with refused(Code.TOKEN_INVALID):
        desk.desk.login(identifier, desk.random(32), proof)
    swapped = LoginProof(make_csr(KEYS["second"]), proof.mac, proof.signature)
    with refused(Code.TOKEN_INVALID):
        desk.desk.login(identifier, nonce, swapped)


def test_login_rule_4_the_requests_key_signed_the_challenge(desk: Desk) -> None:
    _, _, identifier, secret = desk.add().split(".")
    nonce = desk.random(32)
    proof = desk.proof("first", nonce, unpadded(secret))
    for signature in (b"", ecdsa("second", login_message(nonce, 0, proof.csr)), ecdsa("first", b"else")):
        with refused(Code.CERTIFICATE_INVALID):
            desk.desk.login(identifier, nonce, replace(proof, signature=signature))
    assert desk.login(f"flo1.p.{identifier}.{secret}").operator == "bob"  # and nothing was used up


@pytest.mark.parametrize("csr", [b"", b"nonsense", make_csr(ec.generate_private_key(ec.SECP384R1()))])
def test_only_p256_keys_are_bound(desk: Desk, csr: bytes) -> None:
    _, _, identifier, secret = desk.add().split(".")
    nonce = desk.random(32)
    with refused(Code.MESSAGE_INVALID):
        desk.desk.login(identifier, nonce, LoginProof(csr, login_mac(unpadded(secret), nonce, csr), b""))


def test_renewal_rules_who_has_the_key_and_signs_now(desk: Desk) -> None:
    desk.login(desk.add())
    for name, who in (("carol", "first"), ("bob", "second")):
        with refused(Code.CERTIFICATE_INVALID):
            desk.renew(name, who)
    nonce = desk.random(32)
    with refused(Code.CERTIFICATE_INVALID):
        desk.desk.renew("bob", desk.random(32), desk.proof("first", nonce))
    desk.add("carol")
    with refused(Code.CERTIFICATE_INVALID):  # invited, and no key yet
        desk.renew("carol")


def test_renewal_rule_3_an_answer_may_get_lost_once(desk: Desk) -> None:
    token = desk.add()
    assert desk.login(token).sequence == 1
    assert desk.login(token).sequence == 2  # the first answer was lost, or was it
    assert desk.renew(sequence=1).sequence == 3
    assert desk.renew(sequence=3).sequence == 4
    assert desk.renew(sequence=3).sequence == 5
    assert desk.renew(sequence=5).sequence == 6


@pytest.mark.parametrize("first", ["owner", "thief"])
def test_renewal_rule_3_a_copied_key_locks_both_out_whoever_comes_first(desk: Desk, first: str) -> None:
    shown = {"owner": desk.login(desk.add()), "thief": None}
    shown["thief"] = shown["owner"]  # the copy, with the counter of this moment
    second = "thief" if first == "owner" else "owner"
    shown[first] = desk.renew(sequence=1)
    shown[second] = desk.renew(sequence=1)  # as if the answer had been lost
    identity = desk.identity(shown[second])
    with refused(Code.CERTIFICATE_INVALID, "two machines use this login"):
        desk.renew(sequence=shown[first].sequence)
    for who in ("owner", "thief"):
        with refused(Code.CERTIFICATE_INVALID):
            desk.renew(sequence=shown[who].sequence)
    with refused(Code.CERTIFICATE_INVALID, "rule 2"):
        desk.desk.admit(identity)
    assert desk.expelled[-1] == "user/bob"
    assert desk.events[-1].kind == desk.kinds()[-1] == "operator:identity:locked"
    (row,) = desk.desk.list()
    assert "two machines" in row.revoked
    assert desk.desk.admit(desk.identity(desk.login(desk.add(), "second"))).name == "bob"  # invited anew


def test_renewal_rule_3_a_copy_that_is_used_late_is_refused_at_once(desk: Desk) -> None:
    desk.login(desk.add())
    for sequence in (1, 2):
        desk.renew(sequence=sequence)
    with refused(Code.CERTIFICATE_INVALID, "two machines use this login"):
        desk.renew(sequence=1)


def test_a_counter_that_no_login_gave_out_is_malformed(desk: Desk) -> None:
    desk.login(desk.add())
    with refused(Code.MESSAGE_INVALID):
        desk.renew(sequence=2**64 - 1)
    assert desk.renew().sequence == 2


def test_a_revoked_operator_has_nothing_left(desk: Desk) -> None:
    token = desk.add()
    identity = desk.identity(desk.login(token))
    desk.desk.revoke("bob", "left", "alice")
    assert desk.expelled[-1] == "user/bob"
    with refused(Code.CERTIFICATE_INVALID, "rule 2"):
        desk.desk.admit(identity)
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew()
    with refused(Code.TOKEN_INVALID):
        desk.login(token)
    assert desk.events[-1].kind == desk.kinds()[-1] == "operator:identity:revoked"


def test_a_new_invitation_ends_the_old_key_and_its_certificates(desk: Desk) -> None:
    old = desk.identity(desk.login(desk.add()))
    token = desk.add("bob", "admin")
    with refused(Code.CERTIFICATE_INVALID, "rule 2"):
        desk.desk.admit(old)
    with refused(Code.CERTIFICATE_INVALID):
        desk.renew()
    new = desk.identity(desk.login(token, "second"))
    assert (new.epoch, desk.desk.admit(new).roles) == (2, {Role.ADMIN})


def test_the_offline_authority_needs_no_row_until_the_name_is_managed(desk: Desk) -> None:
    identity = OperatorIdentity("root-of-all", frozenset({Role.ADMIN}), NOW)
    assert desk.desk.admit(identity) == identity
    with refused(Code.CERTIFICATE_INVALID, "rule 1"):
        desk.desk.admit(replace(identity, epoch=1))
    desk.desk.revoke("root-of-all", "key lost", "alice")
    with refused(Code.CERTIFICATE_INVALID, "rule 2"):
        desk.desk.admit(identity)
    desk.add("root-of-all", "admin")
    with refused(Code.CERTIFICATE_INVALID, "rule 2"):
        desk.desk.admit(identity)


def test_roles_of_a_certificate_never_exceed_those_that_are_left(desk: Desk) -> None:
    identity = desk.identity(desk.login(desk.add("bob", "viewer")))
    claimed = replace(identity, roles=frozenset(Role))
    assert desk.desk.admit(claimed).roles == {Role.VIEWER}


@pytest.mark.parametrize(
    ("name", "roles", "team", "ttl_s"),
    [
        ("Not A Name", ("viewer",), "", 60),
        ("bob", (), "", 60),
        ("bob", ("emperor",), "", 60),
        ("bob", ("viewer",), "Not A Team", 60),
        ("bob", ("admin",), "vision", 60),
        ("bob", ("node-admin", "deployer"), "vision", 60),
        ("bob", ("viewer",), "", 0),
        ("bob", ("viewer",), "", 10**9),
    ],
)
def test_bad_invitations_are_not_made(desk: Desk, name: str, roles: tuple[str, ...], team: str, ttl_s: int) -> None:
    with refused(Code.VALUE_INVALID):
        desk.desk.add(name, roles, team, ttl_s, "alice")
    assert desk.desk.list() == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bob", ""), ("bob", "x" * (MAX_REASON + 1)), ("bob", "two\nlines"), ("alice", "me"), ("Not A Name", "why")],
)
def test_bad_revocations_are_refused(desk: Desk, name: str, reason: str) -> None:
    desk.add("bob")
    with refused(Code.VALUE_INVALID):
        desk.desk.revoke(name, reason, "alice")


def test_without_a_login_authority_nobody_is_invited() -> None:
    store = Store.open(None)
    with refused(Code.CONFIG_INVALID):
        Desk(store, pair=None).add()
    store.close()

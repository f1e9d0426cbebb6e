"""The node authority: who counts and who signs at each step of a rotation, power cuts in it, the server certificate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc import aio

from fleet.errors import Code, FleetError
from fleet.model import Event
from fleet.times import to_ms
from fleet.v1 import control_pb2, node_pb2, node_pb2_grpc
from fleet.x509 import fingerprint, is_issued_by, load_certificate, load_certificates
from orchestrator import pki
from orchestrator.audit import AuditLog
from orchestrator.config import Files
from orchestrator.node_authorities import NodeAuthorities
from orchestrator.registrar import Registrar
from orchestrator.store import nodes as rows
from orchestrator.store.database import Store
from tests.fakes.fleet_fixture import (
    CALL_S,
    FleetFixture,
    NodeClient,
    Operator,
    ShiftedClock,
    channel,
    error_of,
    serving,
)
from tests.fakes.publisher import key

DAY = timedelta(days=1)
THIRD = pki.SERVER_LIFETIME / 3


@dataclass
class Bench:
    """The authorities over real files, with the release and the time in the test's hands."""

    fleet: FleetFixture
    listed: bytes = b""
    expelled: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now: datetime = self.fleet.now
        self.store = Store.open(None)
        self.files = Files(self.fleet.folder)
        self.first = self.fleet.node_ca.certificate
        self.listed = self.listed or self.first
        self.start()

    def listing(self) -> bytes:
        if self.listed == b"forged":
            raise FleetError(Code.TRUST_INVALID, "does not verify")
        return self.listed

    def start(self) -> None:
        """Start the coordinator, or start it again."""
        registrar = Registrar(
            fleet="demo",
            pin=b"",
            store=self.store,
            log=AuditLog("demo", key("log")),
            clock=lambda: self.now,
            random_bytes=lambda size: hashlib.sha256(b"").digest()[:size],
            journal=self.events.append,
            expel=lambda caller, _: self.expelled.append(caller),
        )
        self.authorities = NodeAuthorities(self.files, registrar, self.listing)

    @property
    def second(self) -> bytes:
        return self.authorities.list()[-1].pem

    def node(self, name: str, authority: bytes, **changes: object) -> None:
        """Store a node that opened its newest session with a certificate of an authority."""
        values: dict[str, object] = {
            "name": name,
            "labels": {},
            "locked": "",
            "epoch": 1,
            "sequence": 1,
            "confirmed": 1,
            "bound_key": b"",
            "certificate_expires_ms": to_ms(self.now + DAY),
            "agent_version": "",
            "architecture": "",
            "joined_ms": 0,
            "last_seen_ms": None,
            "authority": fingerprint(load_certificate(authority)),
        }
        with self.store.control.write() as connection:
            rows.put_node(connection, rows.NodeRow(**(values | changes)))  # type: ignore[arg-type]

    def shown_by(self) -> bytes:
        """The authority that signed what the session port shows."""
        shown = load_certificate(self.files.server_certificate.read_bytes())
        (found,) = [pem for pem in {self.first, self.second} if is_issued_by(shown, load_certificate(pem))]
        return found

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def overlap(self) -> bytes:
        """Begin a rotation; returns the successor."""
        self.authorities.prepare("alice")
        self.listed = self.first + self.second
        self.authorities.look()
        return self.second


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(FleetFixture(tmp_path))


def test_one_authority_counts_and_signs(bench: Bench) -> None:
    (only,) = bench.authorities.list()
    assert (only.pem, only.listed, only.issues, only.serves, only.key) == (bench.first, True, True, True, b"")
    assert bench.authorities.issuer() == bench.fleet.node_ca
    assert bench.authorities.bundle() == bench.first
    bench.listed = b""  # before the first publish
    bench.authorities.look()
    assert bench.authorities.issuer() == bench.fleet.node_ca


def test_a_successor_signs_nothing_before_the_release_lists_it(bench: Bench) -> None:
    bench.authorities.prepare("alice")
    made = bench.second
    bench.authorities.prepare("alice")
    bench.start()
    assert bench.second == made != bench.first
    assert bench.files.next_node_authority_key.stat().st_mode & 0o777 == 0o600
    bench.authorities.look()
    assert (bench.authorities.issuer(), bench.authorities.bundle()) == (bench.fleet.node_ca, bench.first)
    assert [one.listed for one in bench.authorities.list()] == [True, False]


def test_a_listed_successor_signs_and_both_count(bench: Bench) -> None:
    bench.node("n1", bench.first)
    second = bench.overlap()
    assert bench.authorities.issuer().certificate == second
    assert bench.authorities.bundle() == bench.first + second
    assert [fingerprint(one) for one in bench.authorities.certificates()] == [
        one.fingerprint for one in bench.authorities.list()
    ]
    assert [(one.issues, one.serves) for one in bench.authorities.list()] == [(False, True), (True, False)]
    bench.start()
    assert bench.authorities.issuer().certificate == second
    assert bench.kinds() == ["node:authority:made", "node:authority:succeeded"]


def test_the_session_port_shows_the_successors_certificate_once_every_node_has_moved(bench: Bench) -> None:
    bench.node("n1", bench.first)
    bench.node("n2", bench.first)
    before = load_certificate(bench.files.server_certificate.read_bytes())
    second = bench.overlap()
    bench.node("n1", second)
    bench.authorities.look()
    assert bench.shown_by() == bench.first
    bench.node("n2", second)
    bench.authorities.look()
    assert bench.shown_by() == second
    after = load_certificate(bench.files.server_certificate.read_bytes())
    names = [shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for shown in (before, after)]
    assert names[0] == names[1]
    assert serialization.load_pem_private_key(bench.files.server_key.read_bytes(), None).public_key() == (
        after.public_key()
    )
    bench.node("n3", bench.first)  # a late one is no reason to go back
    bench.authorities.look()
    assert bench.shown_by() == second


@pytest.mark.parametrize("changes", [{"locked": "sold", "revoked_ms": 1}, {"locked": "lost"}, {"expired": True}])
def test_nodes_that_cannot_come_as_they_are_hold_nothing_up(bench: Bench, changes: dict[str, object]) -> None:
    if changes.pop("expired", False):
        changes["certificate_expires_ms"] = to_ms(bench.now)
    bench.node("n1", bench.first, **changes)
    second = bench.overlap()
    bench.authorities.look()
    assert bench.shown_by() == second


def test_once_the_release_lists_the_successor_alone_the_old_one_is_gone(bench: Bench) -> None:
    bench.node("old", bench.first)
    second = bench.overlap()
    bench.node("new", second)
    bench.listed = second
    bench.authorities.look()
    assert bench.shown_by() == second  # though one node has not moved
    assert bench.expelled == ["node/old"]
    assert bench.authorities.bundle() == second == bench.files.node_authority.read_bytes()
    assert [one.pem for one in bench.authorities.list()] == [second]
    assert not bench.files.next_node_authority_key.exists()
    assert bench.fleet.node_ca.key not in {path.read_bytes() for path in (bench.fleet.folder / "keys").iterdir()}
    assert bench.kinds()[-2:] == ["coordinator:certificate:renewed", "node:authority:withdrawn"]
    bench.start()
    bench.authorities.look()
    assert (bench.authorities.issuer().certificate, bench.expelled) == (second, ["node/old"])


def test_a_release_that_does_not_verify_withdraws_nothing(bench: Bench) -> None:
    bench.listed = b"forged"
    bench.start()
    assert bench.authorities.issuer() == bench.fleet.node_ca
    bench.listed = bench.first
    second = bench.overlap()
    bench.listed = b"forged"
    bench.start()
    assert bench.authorities.bundle() == bench.first + second
    assert bench.authorities.issuer().certificate == bench.first
    assert not any(one.listed for one in bench.authorities.list())
    bench.files.next_node_authority_key.rename(bench.files.node_authority_key)  # as in the middle of a promotion
    bench.start()
    assert bench.authorities.issuer().certificate == second


def test_a_second_rotation_follows_the_first(bench: Bench) -> None:
    for _ in range(2):
        second = bench.overlap()
        bench.listed = second
        bench.authorities.look()
        bench.first = second
    assert bench.authorities.issuer().certificate == second


def test_a_power_cut_in_the_promotion_is_made_good_at_the_start(bench: Bench) -> None:
    second = bench.overlap()
    bench.listed = second
    bench.files.next_node_authority_key.rename(bench.files.node_authority_key)  # and the certificate not yet
    bench.start()
    assert bench.authorities.bundle() == second == bench.files.node_authority.read_bytes()
    assert bench.authorities.issuer().certificate == second
    assert not bench.files.next_node_authority.exists()


def test_a_power_cut_before_the_successor_has_a_certificate_leaves_none(bench: Bench) -> None:
    bench.files.next_node_authority_key.write_bytes(pki.new_authority("half", bench.now).key)
    bench.start()
    assert [one.pem for one in bench.authorities.list()] == [bench.first]
    bench.authorities.prepare("alice")
    assert len(bench.authorities.list()) == 2


def test_a_power_cut_between_key_and_certificate_of_the_session_port_is_made_good_at_the_start(bench: Bench) -> None:
    bench.files.server_key.write_bytes(pki.new_authority("half", bench.now).key)
    bench.start()
    shown = load_certificate(bench.files.server_certificate.read_bytes())
    held = serialization.load_pem_private_key(bench.files.server_key.read_bytes(), None)
    assert held.public_key() == shown.public_key()
    assert bench.shown_by() == bench.first


def test_the_server_certificate_is_renewed_at_two_thirds_of_its_life(bench: Bench) -> None:
    before = bench.files.server_certificate.read_bytes()
    bench.now += 2 * THIRD - DAY
    bench.authorities.look()
    assert bench.files.server_certificate.read_bytes() == before
    bench.now += 2 * DAY
    bench.authorities.look()
    after = load_certificate(bench.files.server_certificate.read_bytes())
    assert after.not_valid_after_utc == bench.now.replace(microsecond=0) + pki.SERVER_LIFETIME
    assert bench.kinds() == ["coordinator:certificate:renewed"]
    bench.authorities.look()
    assert bench.kinds() == ["coordinator:certificate:renewed"]


def test_a_server_certificate_that_somebody_else_signed_is_theirs_to_renew(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    other = pki.issue_server(pki.new_authority("others", bench.now), ["localhost"], bench.now)
    bench.files.server_certificate.write_bytes(other.certificate)
    bench.files.server_key.write_bytes(other.key)
    bench.now += 3 * THIRD
    bench.authorities.look()
    assert bench.files.server_certificate.read_bytes() == other.certificate
    assert "not ours to renew" in caplog.text


@pytest.mark.parametrize("fault", ["no certificate", "no key", "another key", "no PEM"])
def test_files_that_make_no_authority_are_refused(bench: Bench, fault: str) -> None:
    match fault:
        case "no certificate":
            bench.files.node_authority.unlink()
        case "no key":
            bench.files.node_authority_key.unlink()
        case "another key":
            bench.files.node_authority_key.write_bytes(pki.new_authority("others", bench.now).key)
        case _:
            bench.files.node_authority_key.write_bytes(b"something else")
    with pytest.raises(FleetError) as caught:
        bench.start()
    assert caught.value.code is Code.CONFIG_INVALID


async def list_authorities(operator: Operator) -> list[control_pb2.NodeAuthority]:
    request = control_pb2.ListNodeAuthoritiesRequest()
    return list((await operator.control.ListNodeAuthorities(request, timeout=CALL_S)).authorities)


async def publish(fleet: FleetFixture, operator: Operator, *authorities: bytes) -> None:
    """Publish a release that lists these authorities."""
    fleet.list_node_authorities(b"".join(authorities))
    await operator.push()


async def test_what_is_wrong_with_the_files_keeps_no_release_from_being_published(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path)
    async with serving(fleet, ShiftedClock()) as coordinator:
        operator = Operator(fleet, coordinator)
        (tmp_path / "keys/node-ca.pem").write_bytes(b"something else")
        fleet.release()
        assert (await operator.push()).added
        assert coordinator.services.node_authorities.issuer() == fleet.node_ca
        await operator.channel.close()


async def _drain(node: NodeClient) -> None:
    while await node.stream.read() is not aio.EOF:
        pass


async def test_a_rotation_on_a_live_fleet_and_what_a_left_behind_certificate_meets(tmp_path: Path) -> None:
    """The whole of it over real TLS: no restart, no session lost on the way, and the old authority worth nothing."""
    fleet = FleetFixture(tmp_path)
    async with serving(fleet, ShiftedClock()) as coordinator:
        operator = Operator(fleet, coordinator)
        await operator.push()
        nodes = [NodeClient(fleet, coordinator, name) for name in ("moves", "stays")]
        for node in nodes:
            await node.join(await operator.token(node.name))
            await node.connect()
        moves, stays = nodes
        first, successor = (
            await operator.control.MakeNodeAuthority(control_pb2.MakeNodeAuthorityRequest(), timeout=CALL_S)
        ).authorities
        await publish(fleet, operator, first.certificate, successor.certificate)
        issued = await moves.renew()
        assert issued.ca_certificates == first.certificate + successor.certificate
        assert is_issued_by(load_certificate(issued.certificate), load_certificate(successor.certificate))
        fleet.node_ca = pki.KeyPair(fleet.node_ca.key, issued.ca_certificates)  # as nodes and operators have it now
        await moves.connect()
        assert [(one.issues, one.serves) for one in await list_authorities(operator)] == [(False, True), (True, False)]
        seen = {
            node.name: node.authority
            for node in (await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)).nodes
        }
        assert seen == {"moves": successor.fingerprint, "stays": first.fingerprint}

        await publish(fleet, operator, successor.certificate)
        with pytest.raises(aio.AioRpcError) as caught:  # its open session ends at once
            await _drain(stays)
        assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
        with pytest.raises(aio.AioRpcError) as caught:  # on the connection that is open still
            await stays.stub.FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
        assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
        async with channel(fleet, coordinator, stays.identity) as door:  # and there is no new one
            with pytest.raises(aio.AioRpcError) as caught:
                await node_pb2_grpc.NodeServiceStub(door).FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        (only,) = await list_authorities(operator)
        assert (only.fingerprint, only.serves) == (successor.fingerprint, True)
        assert len(load_certificates((await stays.renew()).ca_certificates)) == 1  # it comes back by its bound key
        await stays.connect()
        await moves.connect()
        for node in nodes:
            await node.close()
        await operator.channel.close()

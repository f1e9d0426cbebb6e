"""The authorities that vouch for operators, replaced while the coordinator serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from grpc import aio

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2
from fleet.x509 import load_certificate
from orchestrator import pki
from orchestrator.config import Files
from orchestrator.operator_authorities import OperatorAuthorities
from orchestrator.principals import Role
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FLEET, FleetFixture, Operator, error_of


@dataclass
class Bench:
    """The authorities over real files."""

    fleet: FleetFixture
    expelled: list[tuple[str, Code]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = Files(self.fleet.folder)
        self.start()

    def start(self) -> None:
        self.authorities = OperatorAuthorities(
            self.files, lambda kind, reason: self.expelled.append((kind, reason.code))
        )


@pytest.fixture
def bench(fleet: FleetFixture) -> Bench:
    return Bench(fleet)


def replace_login(fleet: FleetFixture) -> pki.KeyPair:
    """What `fleetctl operator authority` does."""
    made = pki.issue_authority(fleet.operator_ca, "operators, login, new", fleet.now)
    (fleet.folder / "keys/login-ca.pem").write_bytes(made.key)
    (fleet.folder / "keys/login-ca.crt").write_bytes(made.certificate)
    return made


def test_nothing_changes_while_the_files_do_not(bench: Bench) -> None:
    bench.authorities.look()
    assert bench.authorities.login_pair() == bench.fleet.login_ca
    assert bench.authorities.operators == load_certificate(bench.fleet.operator_ca.certificate)
    assert bench.expelled == []


def test_a_new_login_authority_is_taken_and_ends_every_call_of_an_operator(bench: Bench) -> None:
    made = replace_login(bench.fleet)
    bench.authorities.look()
    assert bench.authorities.login_pair() == made
    assert bench.authorities.login == load_certificate(made.certificate)
    assert bench.expelled == [("user/", Code.CERTIFICATE_INVALID)]


def test_an_authority_that_is_taken_away_lets_nobody_log_in(bench: Bench) -> None:
    bench.files.login_authority.unlink()
    bench.authorities.look()
    assert (bench.authorities.login_pair(), bench.authorities.login) == (None, None)


def _half(bench: Bench) -> Path:
    bench.files.login_authority_key.write_bytes(pki.new_authority("half", bench.fleet.now).key)
    return bench.files.login_authority


def _no_key(bench: Bench) -> Path:
    bench.files.login_authority_key.write_bytes(b"something else")
    return bench.files.login_authority_key


def _other_signer(bench: Bench) -> Path:
    other = pki.new_authority("others", bench.fleet.now, path_length=1)
    made = pki.issue_authority(other, "login", bench.fleet.now)
    bench.files.login_authority_key.write_bytes(made.key)
    bench.files.login_authority.write_bytes(made.certificate)
    return bench.files.login_authority


def _missing(bench: Bench) -> Path:
    bench.files.operator_authority.unlink()
    return bench.files.operator_authority


@pytest.mark.parametrize("fault", [_missing, _no_key, _half, _other_signer])  # rules 1, 2, 2, 3
def test_files_that_do_not_fit_are_passed_over_and_refused_at_the_start(
    bench: Bench, fault: Callable[[Bench], Path]
) -> None:
    place = fault(bench)
    bench.authorities.look()
    assert bench.authorities.login_pair() == bench.fleet.login_ca
    assert bench.expelled == []
    with pytest.raises(FleetError) as caught:
        bench.start()
    assert (caught.value.code, caught.value.detail["place"]) == (Code.CONFIG_INVALID, str(place))


async def test_certificates_of_the_old_login_authority_are_worthless_without_a_restart(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    coordinator.services.operators.add("bob", ["viewer"], "", 60, "alice")
    old = pki.issue_operator(fleet.operator_ca, FLEET, "carol", [Role.VIEWER], fleet.now, timedelta(days=1))
    carol = Operator(fleet, coordinator, old)
    follow = carol.control.ListEvents(control_pb2.ListEventsRequest(follow=True), timeout=CALL_S)
    await follow.read()
    made = replace_login(fleet)
    coordinator.services.operator_authorities.look()
    with pytest.raises(aio.AioRpcError) as caught:
        await _drain(follow)
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
    # Whom the offline authority vouches for comes again at once; logins are by the new authority from now on.
    await carol.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    await carol.channel.close()
    assert coordinator.services.operator_authorities.login_pair() == made


async def _drain(stream: aio.UnaryStreamCall) -> None:
    while await stream.read() is not aio.EOF:
        pass


async def test_a_new_offline_authority_is_taken_without_a_restart(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    other = pki.new_authority("operators, new", fleet.now, path_length=1)
    login = pki.issue_authority(other, "operators, login", fleet.now)
    for name, data in (("login-ca.pem", login.key), ("login-ca.crt", login.certificate)):
        (fleet.folder / "keys" / name).write_bytes(data)
    (fleet.folder / "keys/operator-ca.crt").write_bytes(other.certificate)
    coordinator.services.operator_authorities.look()
    with pytest.raises(aio.AioRpcError) as caught:  # on a connection of before
        await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID
    fleet.operator_ca = other
    fresh = Operator(fleet, coordinator, fleet.operator("dora"))
    await fresh.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    await fresh.channel.close()

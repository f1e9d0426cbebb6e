"""Logging in from an operator's machine to a coordinator that serves: keys, files, pins, renewal."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.errors import Code, ExitCode, FleetError
from fleet.v1 import enrolment_pb2 as pb
from orchestrator import pki
from orchestrator.cli import login as logins
from orchestrator.cli.main import main
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, ShiftedClock, serving


class Served:
    """A coordinator on a thread of its own, as fleetctl waits for its answers."""

    def __init__(self, fleet: FleetFixture) -> None:
        self.fleet = fleet
        self.clock = ShiftedClock()
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.coordinator: Coordinator

    async def _serve(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        async with serving(self.fleet, self.clock) as coordinator:
            self.coordinator = coordinator
            coordinator.services.releases.publish(*self.fleet.publish(), "alice")
            self._started.set()
            await self._stop.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(CALL_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CALL_S)

    @property
    def address(self) -> str:
        return str(self.coordinator.enrolment)

    def token(self, *roles: str, name: str = "bob") -> str:
        return self.coordinator.services.operators.add(name, roles or ("viewer",), "", 3600, "alice")[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(FleetFixture(tmp_path_factory.mktemp("coordinator"))) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "fleet"))
    return tmp_path / "fleet"


def refused(code: Code) -> pytest.RaisesExc[FleetError]:
    return pytest.RaisesExc(FleetError, check=lambda error: error.code is code)


def log_in(served: Served, home: Path, token: str, *more: str) -> int:
    root, file = home.parent / "root.json", home.parent / "token"
    root.write_bytes(served.fleet.files["1.root.json"])
    file.write_text(token + "\n")
    return main(["login", "--coordinator", served.address, "--root", str(root), "--token-file", str(file), *more])


def test_a_token_becomes_a_context_that_works(served: Served, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert log_in(served, home, served.token("node-admin")) == ExitCode.OK
    folder = home / "operator"
    assert {file.name for file in folder.iterdir()} == {"bob.pem", "bob.crt", "bob.login", "node-ca.crt"}
    assert (folder / "bob.pem").stat().st_mode & 0o777 == 0o600
    assert (home / "trust" / "documents" / "trust" / "fleet.json").read_bytes() == served.fleet.document
    capsys.readouterr()
    assert main(["-o", "json", "node", "token", "n1"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["token"].startswith("flt1.")
    assert main(["operator", "list"]) == ExitCode.OK
    assert "node-admin" in capsys.readouterr().out
    assert main(["operator", "add", "eve", "--role", "admin"]) == ExitCode.REFUSED


def test_the_key_renews_and_a_revoked_one_does_not(
    served: Served, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in(served, home, served.token(name="carol"))
    certificate = home / "operator" / "carol.crt"
    before = certificate.read_bytes()
    assert main(["login"]) == ExitCode.OK
    after = certificate.read_bytes()
    assert after != before
    assert _key(before) == _key(after)
    served.coordinator.services.operators.revoke("carol", "left", "alice")
    capsys.readouterr()
    assert main(["login"]) == ExitCode.ERROR
    assert "CERTIFICATE_INVALID" in capsys.readouterr().err
    assert certificate.read_bytes() == after


def _key(pem: bytes) -> object:
    return x509.load_pem_x509_certificate(pem).public_key()


def test_a_certificate_is_renewed_from_two_thirds_of_its_life_on(served: Served, home: Path) -> None:
    log_in(served, home, served.token(name="dora"))
    certificate, key = home / "operator" / "dora.crt", home / "operator" / "dora.pem"
    begin = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_before_utc
    first = certificate.read_bytes()
    logins.renew_when_due(certificate, key, begin + timedelta(hours=8))
    assert certificate.read_bytes() == first
    logins.renew_when_due(certificate, key, begin + timedelta(hours=9))
    second = certificate.read_bytes()
    assert second != first
    served.coordinator.services.operators.revoke("dora", "left", "alice")
    logins.renew_when_due(certificate, key, begin + timedelta(hours=10))  # it is still valid: nobody is kept from work
    with refused(Code.CERTIFICATE_INVALID):
        logins.renew_when_due(certificate, key, begin + timedelta(days=1))
    assert certificate.read_bytes() == second


def test_an_answer_that_got_lost_is_asked_for_again_with_the_same_key(served: Served, tmp_path: Path) -> None:
    token = logins.parse_token(served.token(name="emil"))
    first, _ = logins.first_login(tmp_path, served.address, token)
    (tmp_path / "emil.pem").rename(tmp_path / f"{token.id}.pending")  # as it lies there before the answer
    again, _ = logins.first_login(tmp_path, served.address, token)
    assert again == replace(first, sequence=2)
    assert logins.renew(tmp_path / "emil.crt", tmp_path / "emil.pem").operator == "emil"
    with refused(Code.TOKEN_INVALID):
        logins.first_login(tmp_path / "another machine", served.address, token)


def test_a_copy_of_a_login_locks_both_out_and_the_administrator_sees_why(
    served: Served, home: Path, tmp_path: Path
) -> None:
    log_in(served, home, served.token(name="gina"))
    copy = tmp_path / "copy"
    shutil.copytree(home / "operator", copy)
    for _ in range(2):
        logins.renew(home / "operator" / "gina.crt", home / "operator" / "gina.pem")
    for folder in (copy, home / "operator"):
        with refused(Code.CERTIFICATE_INVALID):
            logins.renew(folder / "gina.crt", folder / "gina.pem")
    (row,) = [row for row in served.coordinator.services.operators.list() if row.name == "gina"]
    assert "two machines use this login" in row.revoked


def test_commands_of_one_machine_take_turns_and_renew_once(served: Served, home: Path) -> None:
    log_in(served, home, served.token(name="hugo"))
    certificate, key = home / "operator" / "hugo.crt", home / "operator" / "hugo.pem"
    # Due by the clock of the commands for the first certificate, and by no later one: that is issued now.
    served.clock.advance(hours=9)
    try:
        now = served.clock()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: logins.renew_when_due(certificate, key, now), range(8)))
    finally:
        served.clock.advance(hours=-9)
    login = logins.read_login(certificate)
    assert login is not None
    assert login.sequence == 2


def test_nothing_is_sent_to_a_port_that_the_token_does_not_name(served: Served, tmp_path: Path) -> None:
    token = served.token(name="fred")
    _, _, identifier, secret = token.split(".")
    wrong = logins.parse_token(f"flo1.{'A' * 43}.{identifier}.{secret}")
    with refused(Code.CERTIFICATE_INVALID):
        logins.first_login(tmp_path, served.address, wrong)
    rows = {row.name: row.bound_key for row in served.coordinator.services.operators.list()}
    assert rows["fred"] is None


@pytest.mark.parametrize(
    "text",
    ["", "flo1", "flt1.{pin}.id.{pin}", "flo1.{pin}..{pin}", "flo1.AAAA.id.{pin}", "flo1.{pin}.id.AAAA", "flo1.*.id.*"],
)
def test_a_text_that_is_no_token_is_not_repeated(text: str) -> None:
    with refused(Code.TOKEN_INVALID) as caught:
        logins.parse_token(text.format(pin="A" * 43))
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize(("address", "code"), [("nonsense", Code.CONFIG_INVALID), ("127.0.0.1:1", Code.UNAVAILABLE)])
def test_an_address_without_a_port_is_named(tmp_path: Path, address: str, code: Code) -> None:
    with refused(code):
        logins.first_login(tmp_path, address, logins.BootstrapToken(b"p" * 32, "id", b"s" * 32))


def test_an_answer_for_another_key_or_name_is_refused() -> None:
    now = datetime.now(UTC)
    authority, mine = pki.new_authority("a", now), ec.generate_private_key(ec.SECP256R1())
    other = pki.issue_operator(authority, "demo", "bob", ["viewer"], now, timedelta(hours=1))  # type: ignore[list-item]
    theirs = serialization.load_pem_private_key(other.key, None)
    known = logins.Login("bob", "demo", "127.0.0.1:1", "00" * 32)
    issued = pb.LoggedIn(operator="bob", fleet="demo", certificate=other.certificate)
    logins._check(known, issued, theirs)  # type: ignore[arg-type]
    for answer, key in (
        (issued, mine),
        (pb.LoggedIn(operator="Not A Name", fleet="demo", certificate=other.certificate), theirs),
        (pb.LoggedIn(operator="bob", fleet="demo", certificate=b"nonsense"), theirs),
    ):
        with refused(Code.CERTIFICATE_INVALID):
            logins._check(known, answer, key)  # type: ignore[arg-type]
    with refused(Code.CERTIFICATE_INVALID):
        logins._check(logins.Login("eve", "demo", "", ""), issued, theirs)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"schema": "fleet.login/v2"}, {"pin": "zz"}, {"extra": "x"}, {"operator": None}])
def test_a_spoiled_login_file_is_named(tmp_path: Path, changed: dict[str, object]) -> None:
    document = {"schema": logins.SCHEMA, "operator": "bob", "fleet": "demo", "coordinator": "h:1", "pin": "0" * 64}
    (tmp_path / "bob.login").write_text(json.dumps(document | changed))
    with refused(Code.CONFIG_INVALID):
        logins.read_login(tmp_path / "bob.crt")


@pytest.mark.parametrize(
    "arguments",
    [["--coordinator", "127.0.0.1:1"], ["--token", "t"], ["--token", "t", "--coordinator", "127.0.0.1:1"]],
)
def test_half_a_first_login_is_wrong_usage(home: Path, arguments: list[str]) -> None:
    assert main(["login", *arguments]) == ExitCode.USAGE
    assert not home.exists()


def test_a_context_of_somebody_else_is_kept(served: Served, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert log_in(served, home, served.token(name="gina")) == ExitCode.OK
    assert log_in(served, home, served.token(name="hugo")) == ExitCode.ERROR
    assert "ALREADY_EXISTS" in capsys.readouterr().err
    assert log_in(served, home, served.token(name="hugo"), "--name", "as-hugo") == ExitCode.OK
    assert main(["--context", "demo", "login"]) == ExitCode.OK


def test_without_a_login_there_is_nothing_to_renew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == ExitCode.OK
    assert main(["login"]) == ExitCode.ERROR
    assert "--token-file" in capsys.readouterr().err


def test_a_new_login_authority_is_signed_by_the_operators(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["operator", "authority"]) == ExitCode.ERROR
    assert "NOT_FOUND" in capsys.readouterr().err
    main(["init"])
    keys = home / "coordinator" / "keys"
    before = (keys / "login-ca.crt").read_bytes()
    assert main(["operator", "authority"]) == ExitCode.OK
    made = x509.load_pem_x509_certificate((keys / "login-ca.crt").read_bytes())
    assert made != x509.load_pem_x509_certificate(before)
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((keys / "operator-ca.crt").read_bytes()))
    assert (keys / "login-ca.pem").stat().st_mode & 0o777 == 0o600

"""`fleetctl init`: complete or not at all, and the coordinator gets no key that signs code or grants."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.signing import SigningKey
from fleet.trust import Profile, open_fleet_trust, open_release
from orchestrator.cli.context import load_config
from orchestrator.cli.initialise import ROLES
from orchestrator.cli.main import fleetctl, main
from orchestrator.cli.trust import TrustDirectory


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "fleet"
    monkeypatch.setenv("FLEET_HOME", str(home))
    return home


def _init(*arguments: str) -> None:
    result = CliRunner().invoke(fleetctl, ["init", *arguments])
    assert result.exception is None, result.output


def test_a_new_fleet_verifies_from_its_pinned_root(home: Path) -> None:
    _init("--fleet", "demo")
    directory = TrustDirectory(home / "trust")
    now = datetime.now(UTC)
    release = open_release(directory.files(), root=directory.root, now=now, allow_dev=True)
    trust = open_fleet_trust(release, directory.document("trust/fleet.json"))
    assert (trust.fleet, trust.profile, release.profile) == ("demo", Profile.DEV, Profile.DEV)


def test_every_role_has_a_key_of_its_own(home: Path) -> None:
    _init()
    keys = {SigningKey.from_pem((home / "trust" / "keys" / f"{role}.pem").read_bytes()).key_id for role in ROLES}
    assert len(keys) == len(ROLES)


def test_the_coordinator_gets_no_key_that_signs_code_or_grants(home: Path) -> None:
    _init()
    secrets = [
        line
        for file in [*(home / "trust" / "keys").iterdir(), home / "operator" / "operator-ca.pem"]
        for line in file.read_bytes().splitlines()
        if line and not line.startswith(b"-----")
    ]
    for file in (home / "coordinator").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [secret for secret in secrets if secret in data], file


def test_secret_files_are_readable_by_their_owner_only(home: Path) -> None:
    _init()
    private = [f for f in home.rglob("*") if f.is_file() and b"PRIVATE KEY" in f.read_bytes()]
    assert len(private) == len(ROLES) + 9
    assert {stat.S_IMODE(f.stat().st_mode) for f in private} == {0o600}


def test_the_config_names_the_fleet_and_moves_with_its_directory(home: Path) -> None:
    _init("--fleet", "demo", "--port", "9443")
    moved = home.rename(home.with_name("moved"))
    config = load_config(moved / "config.yaml")
    context = config.contexts[config.current]
    assert context.address == "127.0.0.1:9443"
    assert all(path.exists() for path in (context.ca, context.certificate, context.key, context.trust))


def test_an_existing_directory_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "precious").write_text("x")
    assert main(["init"]) == 1
    assert [p.name for p in home.iterdir()] == ["precious"]
    assert "ALREADY_EXISTS" in capsys.readouterr().err


def test_a_bad_name_leaves_nothing_behind(home: Path) -> None:
    assert main(["init", "--fleet", "No Name"]) == 2
    assert list(home.parent.iterdir()) == []

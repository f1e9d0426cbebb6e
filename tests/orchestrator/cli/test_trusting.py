"""The release repository can be looked at and signed again, also after it has expired."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import Code, FleetError
from fleet.trust import open_release
from orchestrator.cli.initialise import ROLES
from orchestrator.cli.main import main
from orchestrator.cli.trust import TrustDirectory
from orchestrator.cli.trusting import signed_again

LATER = datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustDirectory:
    monkeypatch.setenv("FLEET_HOME", str(tmp_path / "fleet"))
    assert main(["init"]) == 0
    return TrustDirectory(tmp_path / "fleet" / "trust")


def test_status_names_every_role_and_whether_its_key_is_here(
    directory: TrustDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory.path / "keys" / "grants-default.pem").unlink()
    capsys.readouterr()
    assert main(["-o", "json", "trust", "status"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["role"]: row["key_here"] for row in rows} == {role: role != "grants-default" for role in ROLES}


def test_an_expired_repository_is_adopted_again_once_it_is_signed_again(directory: TrustDirectory) -> None:
    before = directory.files()
    with pytest.raises(FleetError) as caught:
        open_release(before, root=directory.root, now=LATER, allow_dev=True)
    assert caught.value.code is Code.TRUST_EXPIRED
    assert "fleetctl trust refresh" in caught.value.remedy
    files, roles = signed_again(directory, LATER)
    release = open_release(files, root=directory.root, now=LATER, previous=before, allow_dev=True)
    assert roles == sorted(ROLES)
    assert release.documents.keys() == {"trust/fleet.json"}


def test_a_machine_signs_only_the_roles_that_it_plays(directory: TrustDirectory) -> None:
    for role in sorted({*ROLES} - {"snapshot", "timestamp"}):
        (directory.path / "keys" / f"{role}.pem").unlink()
    files, roles = signed_again(directory, datetime.now(UTC))
    assert roles == ["snapshot", "timestamp"]
    assert open_release(files, root=directory.root, now=datetime.now(UTC), allow_dev=True).versions["code-default"] == 1

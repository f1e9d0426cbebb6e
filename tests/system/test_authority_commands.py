"""Rotation of the node authority by fleetctl where it does not go smoothly, against a coordinator that serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from tests.fakes.served_home import ServedHome
from tests.orchestrator.cli.test_trust_authority import listed, put_nodes


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def test_force_cuts_off_who_is_behind_and_other_machines_are_told_what_to_do(served: ServedHome) -> None:
    (first,) = listed(served)
    put_nodes(served, first, "n1")
    file = served.home / "operator" / "node-ca.crt"
    old = file.read_bytes()
    served.ctl("trust", "rotate", "node-ca", "--yes")
    served.ctl("trust", "rotate", "node-ca", "--finish", "--force", "--yes")
    assert first not in listed(served)
    (only,) = served.ask("trust", "node-ca")
    assert only["shown"]
    new = file.read_bytes()
    file.write_bytes(old)  # as on the machine of another administrator
    shown = served.ctl("nodes", expect=ExitCode.ERROR)
    assert "CERTIFICATE_INVALID" in shown
    assert "fleetctl login" in shown
    assert new == (served.home / "coordinator" / "keys" / "node-ca.crt").read_bytes()
    file.write_bytes(new)  # as the remedy says
    served.ctl("nodes")


def test_a_change_that_others_sign_first_waits_for_them(served: ServedHome) -> None:
    """Without the keys here the successor is made and the change staged; it signs nothing yet."""
    for stage in ((), ("--finish",)):
        shown = served.ctl("trust", "rotate", "node-ca", *stage, "--offline", "--yes", expect=ExitCode.USAGE)
        assert "the coordinator makes the new node authority" in shown
    assert "no rotation" in served.ctl("trust", "rotate", "node-ca", "--finish", "--yes", expect=ExitCode.ERROR)
    (served.home / "trust" / "keys" / "targets.pem").unlink()
    change = served.ask("trust", "rotate", "node-ca", "--yes")
    assert (change["complete"], change["published"]) == (False, False)
    assert "signs nothing before the release lists it" in served.ctl("trust", "node-ca")
    shown = served.ctl("trust", "rotate", "node-ca", "--finish", "--yes", expect=ExitCode.ERROR)
    assert "no rotation of the node authority is under way" in shown

"""`fleetctl trust rotate node-ca` and `trust node-ca` against a coordinator that serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from fleet.targets import TRUST_PATH
from fleet.times import to_ms
from fleet.trust import parse_fleet_trust
from fleet.x509 import fingerprint, load_certificates
from orchestrator.cli.trust_authority import MAX_NAMED
from orchestrator.store import nodes as node_rows
from tests.fakes.served_home import ServedHome
from tests.orchestrator.test_recovery import joined


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def listed(home: ServedHome) -> list[str]:
    pem = parse_fleet_trust(home.directory.document(TRUST_PATH)).node_ca_pem
    return [fingerprint(certificate) for certificate in load_certificates(pem)]


def believed(home: ServedHome) -> list[str]:
    """What this machine checks the coordinator against."""
    return [fingerprint(found) for found in load_certificates((home.home / "operator" / "node-ca.crt").read_bytes())]


def put_nodes(home: ServedHome, authority: str, *names: str) -> None:
    """Put nodes into the store that opened their newest session with a certificate of an authority."""
    services = home.coordinator.services
    joined(services, names)
    with services.store.control.write() as connection:
        for name in names:
            row = node_rows.get_node(connection, name)
            assert row is not None
            valid_ms = to_ms(home.clock()) + 3_600_000
            node_rows.put_node(connection, replace(row, authority=authority, certificate_expires_ms=valid_ms))


def test_a_rotation_has_two_stages_and_the_second_waits_for_the_nodes(served: ServedHome) -> None:
    (first,) = listed(served)
    names = [f"n{number:02}" for number in range(MAX_NAMED + 3)]
    put_nodes(served, first, *names)
    shown = served.ctl("trust", "node-ca")
    assert "present" in shown
    assert "successor" not in shown

    assert "--finish" in served.ctl("trust", "rotate", "node-ca", "--yes")
    _, second = listed(served)
    assert believed(served) == [first, second]
    assert "under way" in served.ctl("trust", "rotate", "node-ca", "--yes")
    assert listed(served) == [first, second]
    shown = served.ctl("trust", "node-ca")
    assert "Not yet under the successor: n00, n01, " in shown
    assert "n19 and 3 more" in shown

    put_nodes(served, second, *names[:-1])
    refused = served.ctl("trust", "rotate", "node-ca", "--finish", "--yes", expect=ExitCode.REFUSED)
    assert "NODES_BEHIND" in refused
    assert "still under the old authority: n22" in refused
    assert "--force" in refused
    assert listed(served) == [first, second]
    put_nodes(served, second, names[-1])
    served.coordinator.services.node_authorities.look()
    shown = served.ctl("trust", "node-ca")
    assert "Every node has moved" in shown
    rows = served.ask("trust", "node-ca")
    assert [(row["state"], row["signs_nodes"], row["shown"], row["nodes"]) for row in rows] == [
        ("present", False, False, []),
        ("successor", True, True, names),
    ]

    served.ctl("trust", "rotate", "node-ca", "--finish", "--yes")
    assert listed(served) == believed(served) == [second]
    (only,) = served.ask("trust", "node-ca")
    assert (only["authority"], only["state"]) == (second, "present")
    served.ctl("audit", "verify")


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

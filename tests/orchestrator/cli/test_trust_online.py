"""`fleetctl trust` against a coordinator that serves: withdrawing keys, publishing, rebasing, carried folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from fleet.model import ObservedState
from fleet.oci import digest_of
from fleet.release import NamedKey, format_named_key
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH
from fleet.trust import parse_fleet_trust
from orchestrator.cli.trust import TrustDirectory
from orchestrator.director import Director
from orchestrator.store import nodes as node_rows
from tests.fakes.publisher import key
from tests.fakes.served_home import ServedHome
from tests.orchestrator.test_recovery import joined


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def public(home: ServedHome, name: str) -> str:
    file = home.home.parent / f"{name}.pub"
    file.write_text(format_named_key(NamedKey(key(name).public, name)))
    return str(file)


def listed_directors(home: ServedHome) -> tuple[str, ...]:
    return tuple(k.key_id for k in parse_fleet_trust(home.directory.document(TRUST_PATH)).director_keys)


def test_a_director_key_goes_only_when_no_connected_node_needs_it(served: ServedHome) -> None:
    """NODES_BEHIND names the nodes; who is offline follows later and holds nobody up."""
    services = served.coordinator.services
    joined(services, ["n1", "n2"])
    served.ctl("trust", "rotate", "director", "--yes")
    file = served.home / "coordinator" / "keys" / "director.pem"
    new = SigningKey.from_pem(file.read_bytes())
    old, now = listed_directors(served)[0], datetime.now(UTC)

    def ordered(director: Director) -> int:
        with services.store.control.write() as connection:
            node = node_rows.get_node(connection, "n1")
            assert node is not None
            return director.order(connection, node, (), now).generation

    def finish(expect: ExitCode) -> str:
        return served.ctl("trust", "rotate", "director", "--finish", "--yes", expect=expect)

    services.inventory.open("n1", "session")
    shown = finish(ExitCode.REFUSED)  # 1
    assert "NODES_BEHIND" in shown
    assert "n1 has not adopted the newest trust/fleet.json" in shown
    trust = digest_of(served.directory.document(TRUST_PATH))
    earlier = SigningKey.from_pem((served.home / "coordinator/keys/director.old.pem").read_bytes())
    ordered(Director("demo", earlier, services.log, timedelta(days=1)))
    services.nodes.record("n1", ObservedState(1, "", now, trust_digest=trust))
    shown = finish(ExitCode.REFUSED)  # 2
    assert f"the key {old[:8]}" in shown
    assert "Start the coordinator again" in shown
    generation = ordered(Director("demo", new, services.log, timedelta(days=1)))
    assert "has not taken in order 2" in finish(ExitCode.REFUSED)  # 3
    assert old in listed_directors(served)
    services.nodes.record("n1", ObservedState(generation, "", now, trust_digest=trust))
    assert "Offline now, and will follow when they are back: n2." in finish(ExitCode.OK)
    assert listed_directors(served) == (new.public.key_id,)


def test_a_key_that_no_release_lists_is_not_made_the_only_one(served: ServedHome) -> None:
    (served.home / "coordinator" / "keys" / "director.pem").write_bytes(key("stray").to_pem())
    shown = served.ctl("trust", "rotate", "director", "--finish", "--yes", expect=ExitCode.ERROR)
    assert "no release lists the key that the coordinator has" in shown
    assert key("stray").public.key_id not in listed_directors(served)


def test_what_another_machine_changed_is_there_before_it_is_changed_again(served: ServedHome) -> None:
    """A copy of a document from before somebody else's change is replaced by the published one."""
    other = TrustDirectory(served.another("other"))
    shutil.copytree(served.home / "trust" / "keys", other.path / "keys")
    served.ctl("trust", "rotate", "secrets", "--add", public(served, "ann"), "--yes")
    served.ctl("trust", "revoke", "bundle", digest_of(b"one"), "--reason", "first", "--yes")
    served.ctl("--trust", str(other.path), "trust", "rotate", "secrets", "--add", public(served, "bob"), "--yes")
    served.ctl("--trust", str(other.path), "trust", "revoke", "bundle", digest_of(b"two"), "--reason", "two", "--yes")
    trust = parse_fleet_trust(other.document(TRUST_PATH))
    assert {key("ann").public, key("bob").public} <= set(trust.secret_keys)
    revoked = other.document("policy/revocations.json").decode()
    assert digest_of(b"one") in revoked
    assert digest_of(b"two") in revoked

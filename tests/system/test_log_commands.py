"""`fleetctl trust rotate log` and `restart-log`, and a witness outside of the fleet that follows both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.checkpoint import claimed, format_vkey
from fleet.errors import ExitCode
from fleet.leaves import event_leaf
from fleet.release import NamedKey, format_named_key
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH, WITNESS_POLICY_PATH
from fleet.trust import FleetTrust, parse_fleet_trust
from orchestrator.store import witnesses
from tests.fakes.publisher import key
from tests.fakes.served_home import ServedHome

NOW = ("--backup", datetime.now(UTC).isoformat())


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[ServedHome]:
    with ServedHome(tmp_path / "fleet", monkeypatch, capsys) as home:
        yield home


def trust_of(served: ServedHome) -> FleetTrust:
    return parse_fleet_trust(served.directory.document(TRUST_PATH))


def keys_of(served: ServedHome) -> Path:
    return served.home / "coordinator" / "keys"


def public(served: ServedHome, name: str) -> str:
    file = served.home.parent / f"{name}.pub"
    file.write_text(format_named_key(NamedKey(key(name).public, name)))
    return str(file)


def cosigned(served: ServedHome) -> dict[str, object]:
    """One round of the witness; its answer is one line of JSON."""
    answer: dict[str, object] = served.ask("audit", "witness")
    return answer


def test_the_logs_key_is_rotated_and_a_witness_and_its_policy_follow(served: ServedHome) -> None:
    vkey = served.ask("audit", "witness", "--new", "security.example/w1")["vkey"]
    (first,) = trust_of(served).log_vkeys
    policy = served.home.parent / "witness.policy"
    policy.write_text(f"log {first}\nwitness w {vkey}\nquorum w\n")
    served.ctl("audit", "policy", str(policy), "--yes")
    size = cosigned(served)["size"]

    shown = served.ctl("trust", "rotate", "log", "--yes")
    assert "start it again" in shown
    _, second = trust_of(served).log_vkeys
    assert served.directory.document(WITNESS_POLICY_PATH).decode().startswith(f"log {first}\nlog {second}\nwitness")
    stranger = served.another("security")  # a machine of its own, which knows no release but this one
    served.restart()
    assert cosigned(served)["from"] == size
    served.ctl("trust", "rotate", "log", "--finish", "--yes")
    assert trust_of(served).log_vkeys == (second,)
    assert not (keys_of(served) / "log.old.pem").exists()
    served.restart()
    assert served.directory.document(WITNESS_POLICY_PATH).decode().startswith(f"log {second}\nwitness")
    state = str(served.home / "witness")
    late = served.ask("--trust", str(stranger), "audit", "witness", "--state", state)  # it learns of the new key first
    assert late["quorum"]
    assert served.ask("audit", "verify")["verified"]


def restored(served: ServedHome) -> tuple[int, str]:
    """Let the coordinator lose its newest leaves, and grow on.

    Returns how many leaves the witness has seen, and when the backup was made.
    """
    database = served.home / "coordinator" / "db"
    served.restart()
    with closing(sqlite3.connect(database / "control.db")) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        made = served.clock()
        grow(served, 3)
        size = cosigned(served)["size"]
        served.__exit__()
        with closing(sqlite3.connect(database / "control.db")) as target:
            copy.backup(target)
    served.__enter__()
    grow(served, 5)
    assert isinstance(size, int)
    return size, made.isoformat()


def grow(served: ServedHome, count: int) -> None:
    """Append leaves, and show witnesses a checkpoint of them."""
    services = served.coordinator.services
    with services.store.control.write() as connection:
        leaves = [event_leaf("test:log:grown", served.clock(), "coordinator", of=number) for number in range(count)]
        services.log.append(connection, leaves)
        note = services.log.checkpoint(connection)
        witnesses.put_checkpoint(connection, witnesses.CheckpointRow(claimed(note).size, note, 0))


def test_a_log_that_lost_its_end_goes_on_under_another_name(served: ServedHome) -> None:
    served.ctl("audit", "witness", "--new", "security.example/w1")
    served.ctl("audit", "witness")
    seen, made = restored(served)
    evidence = served.home / "witness" / "evidence.json"
    for _ in range(2):
        assert "LOG_FORKED" in served.ctl("audit", "witness", expect=ExitCode.VERIFICATION_FAILED)
    shown = json.loads(evidence.read_bytes())
    assert shown["seen"].splitlines()[1] == str(seen)
    before = trust_of(served)
    assert "go over to the new log" in served.ctl("trust", "restart-log", "--backup", made, "--yes")
    trust = trust_of(served)
    (ended,) = trust.closed_logs
    assert ended.vkeys == before.log_vkeys
    assert ended.size < seen
    assert [vkey.partition("+")[0] for vkey in trust.log_vkeys] == ["demo/audit/2"]
    assert (keys_of(served) / "log.name").read_text() == "demo/audit/2\n"
    served.restart()
    assert served.coordinator.services.log.vkey in trust.log_vkeys
    served.ctl("audit", "witness")
    assert not evidence.exists()
    assert json.loads((evidence.parent / "evidence.closed.json").read_bytes()) == shown
    (evidence.parent / "held.note").write_text(shown["seen"])
    report = served.ask("audit", "verify", "--held", str(evidence.parent / "held.note"))
    assert report["verified"]
    assert [one["kind"] for one in report["findings"]] == ["lost"]
    assert f"had {seen} leaves, of which {ended.size} went on" in served.ctl(
        "audit", "verify", "--held", str(evidence.parent / "held.note")
    )


def test_a_new_log_of_a_coordinator_elsewhere_takes_its_public_key(served: ServedHome) -> None:
    keys = keys_of(served)
    (keys / "log.pem").rename(keys / "elsewhere.pem")
    assert "is not on this machine" in served.ctl("trust", "restart-log", *NOW, "--yes", expect=ExitCode.USAGE)
    shown = served.ctl("trust", "restart-log", *NOW, "--key", public(served, "log-2"), "--yes")
    assert "log.name gets one line: demo/audit/2" in shown
    (vkey,) = trust_of(served).log_vkeys
    assert vkey == format_vkey("demo/audit/2", key("log-2").public)
    assert not (keys / "log.pem").exists()


def test_a_new_log_that_waits_for_signatures_changes_no_key(served: ServedHome) -> None:
    keys = keys_of(served)
    before = (keys / "log.pem").read_bytes()
    for file in (served.home / "trust" / "keys").glob("targets*"):
        file.rename(served.home / file.name)
    shown = served.ctl("trust", "restart-log", *NOW, "--yes")
    assert "log.next.pem" in shown
    assert (keys / "log.pem").read_bytes() == before
    assert SigningKey.from_pem((keys / "log.next.pem").read_bytes()).public.hex not in shown

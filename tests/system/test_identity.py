"""Identity with real processes: a lock that ends a session at once, a copied disk, and an operator who logs in."""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet.errors import ExitCode
from tests.system.harness import RealFleet, wait_for


def state(fleet: RealFleet, name: str) -> str:
    return next(str(node["state"]) for node in fleet.ask("nodes") if node["node"] == name)


def events(fleet: RealFleet, kind: str) -> list[dict[str, Any]]:
    return [event for event in fleet.ask("events", "--node", "n1") if event["kind"] == kind]


def moment(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def test_a_lock_ends_the_session_and_an_unlock_brings_the_node_back(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.ctl("node", "lock", "n1", "--reason", "left in a taxi")
    wait_for("the session ends", lambda: bool(events(fleet, "node:session:offline")), 20)
    (locked,), (ended,) = events(fleet, "node:identity:locked"), events(fleet, "node:session:offline")
    took_ms = (moment(ended) - moment(locked)).total_seconds() * 1000
    sys.stdout.write(f"\nfrom the lock to the end of the session: {took_ms:.0f} ms\n")
    assert took_ms < 5_000
    assert state(fleet, "n1") == "locked"
    fleet.ctl("node", "unlock", "n1", "--reason", "found")
    fleet.wait_online("n1")
    leaves = fleet.ctl("audit", "verify")
    assert "whole" in leaves.stdout + leaves.stderr


def test_a_copy_of_a_nodes_disk_locks_the_name(fleet: RealFleet) -> None:
    fleet.join("n1")
    copy = fleet.home / "copy"
    shutil.copytree(fleet.directory("n1"), copy, ignore=shutil.ignore_patterns("run", "agent.pid", "agent.log"))
    fleet.ctl("node", "up", "n1", "--data-dir", str(copy))
    try:
        wait_for("the name is locked", lambda: state(fleet, "n1") == "locked", 60)
        assert "two machines" in str(events(fleet, "node:identity:locked")[-1]["message"])
    finally:
        fleet.ctl("node", "down", "n1", "--data-dir", str(copy))
    fleet.ctl("node", "unlock", "n1", "--reason", "the copy is switched off")
    fleet.wait_online("n1")


def test_an_operator_logs_in_works_and_is_revoked(fleet: RealFleet, tmp_path: Path) -> None:
    invitation = fleet.ask("operator", "add", "bob", "--role", "node-admin")
    token = tmp_path / "token"
    token.write_text(invitation["token"])
    token.chmod(0o600)
    bob = RealFleet(tmp_path / "bob")
    root = str(fleet.home / "trust" / "root.json")
    bob.ctl("login", "--coordinator", invitation["coordinator"], "--root", root, "--token-file", str(token))
    assert bob.ask("node", "token", "n2")["token"].startswith("flt1.")
    bob.ctl("operator", "add", "eve", "--role", "admin", expect=ExitCode.REFUSED)
    fleet.ctl("operator", "revoke", "bob", "--reason", "left")
    assert "CERTIFICATE_INVALID" in bob.ctl("nodes", expect=ExitCode.ERROR).stderr
    bob.ctl("login", "--coordinator", invitation["coordinator"], "--root", root, "--token-file", str(token), expect=1)
    fleet.ctl("audit", "verify")

"""A fleet grows up: keys of many people, a publisher of its own, signatures on a medium, and a stolen coordinator.

Real processes throughout: a coordinator, a publisher, a node that joined in development and one of the production
profile. Each person has a machine of their own: a trust directory with one key, and no way to the network.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ExitCode, FleetError
from fleet.release import RoleKeys, add_target, publish
from fleet.signing import SigningKey
from fleet.targets import TRUST_PATH, grant_path
from fleet.trust import open_release, parse_fleet_trust
from tests.system.harness import ROOT, RealFleet, fleetctl, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = {"name": "context", "bundle": "context-agent@0.1.0"}
GRANT = grant_path("climate/context", 1)


class Machine:
    """A person's machine: a trust directory, and neither a fleet home nor a network."""

    def __init__(self, folder: Path) -> None:
        self.trust = folder

    def ctl(self, *arguments: str, expect: int = 0, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = fleetctl(home or self.trust / "nowhere", "--trust", str(self.trust), *arguments)
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def staged(self) -> Path:
        (file,) = (self.trust / "staged").glob("*.json")
        return file


class PublisherProcess:
    """`fleet-publisher run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = folder / "publisher.toml"
        settings.write_text(settings.read_text().replace('inbox = "inbox"\n', 'inbox = "inbox"\npoll_s = 1\n'))
        self.log = (folder / "publisher.log").open("wb")
        command = [sys.executable, "-m", "orchestrator.publisher.program", "run", "--config", str(settings)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log)

    def publish(self, file: Path) -> None:
        """Hand a change in and wait until it is published."""
        target = self.put(file) / "published" / file.name
        wait_for(f"{file.name} is published", target.exists)

    def refuse(self, file: Path) -> Any:
        """Hand a change in and return why it was refused."""
        reason = self.put(file) / "refused" / file.with_suffix(".error.json").name
        wait_for(f"{file.name} is refused", reason.exists)
        return json.loads(reason.read_bytes())

    def put(self, file: Path) -> Path:
        inbox = self.folder / "inbox"
        wait_for("there is an inbox", inbox.exists)
        shutil.copy(file, inbox / file.name)
        return inbox

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(120) == 0
        self.log.close()


@pytest.fixture
def promoted(fleet: RealFleet) -> Iterator[tuple[Path, PublisherProcess]]:
    """Promote the fleet to production; returns the folder of key folders, and the running publisher."""
    fleet.join("grown")  # it joined in development and follows the roots
    carried = fleet.home / "carried"
    fleet.ctl("trust", "promote-to-production", "--to", str(carried), "--yes")
    publisher = PublisherProcess(carried / "publisher")
    try:
        yield carried, publisher
    finally:
        publisher.close()


def test_people_publish_together_and_a_stolen_coordinator_cannot(
    fleet: RealFleet, promoted: tuple[Path, PublisherProcess], tmp_path: Path
) -> None:
    carried, publisher = promoted
    fleet.join("strict")
    assert not (fleet.directory("strict") / "agent.toml").exists()  # no development profile here

    bundle = fleet.home / "context.bundle"
    fleet.ctl("bundle", "build", "components/context-agent", "--to", str(bundle))
    developer = Machine(carried / "code-default")
    developer.ctl(
        "bundle", "push", str(bundle), home=fleet.home
    )  # blobs go to the coordinator, the signature to a file
    publisher.publish(developer.staged())

    usb = tmp_path / "usb"
    fleet.ctl("trust", "export", str(usb))
    assert (usb / "metadata" / "1.root.json").exists()  # for nodes that were given the development root
    fleet.ctl("grant", "propose", "climate/context", "--bundle", str(bundle), "--file", str(usb / "grant.yaml"))
    first, second = (Machine(carried / f"grants-default-{number}") for number in (1, 3))
    for approver in (first, second):
        approver.ctl("trust", "import", str(usb))
    first.ctl("grant", "approve", "--offline", "--yes", str(usb / "grant.yaml"))
    half = usb / "half" / first.staged().name
    half.parent.mkdir()
    shutil.copy(first.staged(), half)
    assert publisher.refuse(half)["code"] == "SIGNATURES_MISSING"
    whole = usb / "whole.json"
    shutil.copy(half, whole)
    shown = second.ctl("trust", "sign", str(whole), "--yes")
    assert "wasi:keyvalue/store" in shown.stdout
    assert "signed by grants-default-1" in shown.stdout
    stranger = Machine(carried / "policy-1")
    assert "no key on this machine" in stranger.ctl("trust", "sign", str(whole), "--yes", expect=ExitCode.ERROR).stderr
    publisher.publish(whole)

    fleet.ctl("deploy", str(fleet.manifest("climate", AGENT)))

    def running() -> set[str]:
        return {agent["node"] for agent in fleet.agents("climate") if agent["phase"] == "running"}

    wait_for("both nodes run it", lambda: running() == {"grown", "strict"})
    (approved,) = fleet.ask("grant", "list", "climate/context")
    assert len(approved["approvers"]) == 2

    steal_coordinator(fleet, carried)
    wait_for("the nodes are back", lambda: running() == {"grown", "strict"})
    for name in ("grown", "strict"):
        log = fleet.directory(name) / "agent.log"
        wait_for(f"{name} refuses what the thief signed", lambda log=log: "TRUST_INVALID" in log.read_text())


def steal_coordinator(fleet: RealFleet, carried: Path) -> None:
    """Forge a wider grant with every key of the coordinator, put it in its database, and restart the nodes."""
    keys = fleet.home / "coordinator" / "keys"
    thief = tuple(SigningKey.from_pem((keys / f"{name}.pem").read_bytes()) for name in ("director", "log"))
    stolen = RoleKeys(dict.fromkeys(("grants-default", "snapshot", "timestamp"), thief))
    root = (carried / "publisher" / "root.json").read_bytes()
    (database,) = [file for file in (fleet.home / "coordinator").rglob("*.db") if "control" in file.name]
    fleet.down()
    with sqlite3.connect(database) as connection:
        files = dict(connection.execute("select name, content from release_file").fetchall())
        now = datetime.now(UTC)
        forged = publish(add_target(files, stolen, grant_path("climate/context", 2), b"all", {}, now), stolen, now)
        with pytest.raises(FleetError):
            open_release(forged, root=root, now=now, previous=files, allow_dev=False)
        connection.execute("delete from release_file")
        rows = [(name, content, int(now.timestamp() * 1000)) for name, content in forged.items()]
        connection.executemany("insert into release_file (name, content, adopted_ms) values (?, ?, ?)", rows)
    connection.close()
    fleet.up()
    for name in ("grown", "strict"):
        fleet.ctl("node", "down", name)
        fleet.ctl("node", "up", name)


def log_keys(fleet: RealFleet) -> set[str]:
    """Verifier keys of the log that the published release lists."""
    return set(parse_fleet_trust((fleet.home / "trust" / "documents" / TRUST_PATH).read_bytes()).log_vkeys)


def withdraw(fleet: RealFleet, kind: str) -> None:
    """Withdraw the old key of a kind, as soon as the connected node has taken in what the new one signed."""

    def done() -> bool:
        answer = fleet.ctl("trust", "rotate", kind, "--finish", "--yes", expect=None)
        assert answer.returncode == 0 or "NODES_BEHIND" in answer.stderr, answer.stderr
        return answer.returncode == 0

    wait_for(f"no node needs the old key of {kind}", done)


def rotate_node_authority(fleet: RealFleet) -> None:
    """Both stages: the node renews by itself, the coordinator is not restarted, and no session is missed for long."""
    keys = fleet.home / "coordinator" / "keys"
    first = (keys / "node-ca.crt").read_bytes()
    pid = fleet.coordinator_pid()
    fleet.ctl("trust", "rotate", "node-ca", "--finish", "--yes", expect=ExitCode.ERROR)  # nothing was begun
    fleet.ctl("trust", "rotate", "node-ca", "--yes")

    def successor() -> dict[str, Any]:
        _, found = fleet.ask("trust", "node-ca")
        return dict(found)

    wait_for("the node has renewed under the new authority", lambda: successor()["nodes"] == ["n1"])
    wait_for("the coordinator shows a certificate of it", lambda: bool(successor()["shown"]))
    second = (keys / "node-ca.next.crt").read_bytes()
    fleet.ctl("trust", "rotate", "node-ca", "--finish", "--yes")
    assert (keys / "node-ca.crt").read_bytes() == second != first
    assert not (keys / "node-ca.next.pem").exists()
    (only,) = fleet.ask("trust", "node-ca")
    assert (only["state"], only["listed"], only["shown"]) == ("present", True, True)
    known = fleet.directory("n1") / "keys" / "ca.pem"
    wait_for("the node forgets the old authority", lambda: known.read_bytes() == second)
    fleet.wait_online("n1")
    assert fleet.coordinator_pid() == pid


def test_a_fleet_changes_every_key_and_a_node_without_network_follows(fleet: RealFleet, tmp_path: Path) -> None:
    """In development too: an agent runs on while every key is replaced, and a medium brings its node what is new."""
    fleet.join("n1")
    settings = fleet.directory("n1") / "agent.toml"  # a large fleet renews within a minute, this one within a second
    settings.write_text(settings.read_text() + "reconnect_cap_ms = 1000\n")
    fleet.ctl("node", "down", "n1")
    fleet.ctl("node", "up", "n1")
    fleet.publish("context-agent")
    fleet.approve("climate/context", "context-agent@0.1.0")
    fleet.ctl("deploy", str(fleet.manifest("climate", AGENT)))
    before = {row["role"]: set(row["keys"]) for row in fleet.ask("trust", "status")}
    for role in before:
        fleet.ctl("trust", "rotate", role, "--yes")
    first_log = log_keys(fleet)
    for kind in ("director", "log"):
        fleet.ctl("trust", "rotate", kind, "--yes")
    fleet.down()
    fleet.up()  # it signs with the new keys from now on
    fleet.wait_online("n1")
    fleet.ctl("deploy", str(fleet.manifest("climate", AGENT)))  # both keys of the log count meanwhile
    assert first_log < log_keys(fleet)
    for kind in ("director", "log"):
        withdraw(fleet, kind)
    assert first_log.isdisjoint(log_keys(fleet))
    rotate_node_authority(fleet)
    assert not (fleet.home / "coordinator" / "keys" / "log.old.pem").exists()
    fleet.ctl("deploy", str(fleet.manifest("climate", AGENT)))
    assert fleet.ask("audit", "verify")["verified"]
    after = {row["role"]: row for row in fleet.ask("trust", "status")}
    assert all(before[role].isdisjoint(after[role]["keys"]) for role in before)
    assert all(row["key_here"] for row in after.values())

    usb = tmp_path / "usb"
    fleet.ctl("trust", "export", str(usb), "--node", "n1")
    assert (usb / "desired" / "n1.json").exists()
    fleet.down()
    fleet.ctl("node", "down", "n1")
    done = run("edge_agent.agent", "trust", "import", "--data-dir", str(fleet.directory("n1")), str(usb))
    assert done.returncode == 0, done.stdout + done.stderr
    fleet.ctl("node", "up", "n1")
    fleet.up()
    fleet.wait_online("n1")

    def running() -> bool:
        return [agent["phase"] for agent in fleet.agents("climate")] == ["running"]

    wait_for("the agent runs under the new keys", running)

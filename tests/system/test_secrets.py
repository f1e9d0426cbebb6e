"""Secrets on a fleet of processes: sealed by fleetctl, opened by the agent, and nowhere in between in clear.

Everything that the coordinator has is searched: its files, its log, its memory, what it answers. Each search has a
positive control: a setting of the same agent, which went the same way unsealed, is found.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from fleet.errors import ExitCode
from tests.fakes.memory import memory_of
from tests.fakes.secret_guest import NOT_FOUND, secret_guest
from tests.system.harness import RealFleet, wait_for

VALUE, NEWER = "correct horse battery staple 4711", "a newer and longer value 0815"
SETTING = "an open setting that everybody may read"
CAPS = {
    "fleet:secrets/store": [{"names": ["api-*"]}],
    "fleet:secrets/reveal": [{"names": ["api-*"]}],
    "wasi:logging/logging": [],
}
AGENT = "vault/keeper"


def publish(fleet: RealFleet) -> None:
    """The guest as a bundle, its grant, and a place for it."""
    source = fleet.home / "secret-guest"
    source.mkdir()
    (source / "guest.wasm").write_bytes(secret_guest())
    (source / "bundle.yaml").write_text(
        "schema: fleet.bundle/v1\nname: secret-guest\nversion: 0.1.0\ncomponent: guest.wasm\n"
        "world: test:secrets/guest\noptional_imports: []\n"
    )
    built = fleet.home / "bundles" / "secret-guest"
    built.parent.mkdir(exist_ok=True)
    fleet.ctl("bundle", "build", str(source), "--to", str(built))
    fleet.ctl("bundle", "push", str(built))
    grant = {
        "schema": "fleet.grant/v1",
        "agent": AGENT,
        "revision": 1,
        "applies_to": {"bundle": {"name": "secret-guest", "versions": ">=0.1,<0.2"}},
        "validity": {"not_before": "2026-01-01T00:00:00Z", "not_after": "2036-01-01T00:00:00Z"},
        "lease": {"max_stale": "30d", "on_lapse": "stop"},
        "caps": CAPS,
        "limits": {},
    }
    file = fleet.home / "grant.yaml"
    file.write_text(json.dumps(grant))
    fleet.ctl("grant", "approve", "--yes", str(file))
    deploy(fleet)


def deploy(fleet: RealFleet) -> None:
    keeper = {"name": "keeper", "bundle": "secret-guest@0.1.0", "config": {"open": SETTING}}
    assert fleet.ask("deploy", str(fleet.manifest("vault", keeper)))["state"] == "succeeded"


def set_secret(fleet: RealFleet, value: str, *options: str, name: str = "api-token") -> dict:
    file = fleet.home / "value"
    file.write_text(value + "\n")
    try:
        return fleet.ask("secret", "set", name, "--agent", AGENT, "--from-file", str(file), *options)
    finally:
        file.unlink()


def call(fleet: RealFleet, invocation: str, *options: str) -> int | None:
    done = fleet.ctl("-o", "json", "call", AGENT, invocation, *options, expect=None)
    found = re.search(r"\d+", str(json.loads(done.stdout).get("output", ""))) if done.returncode == 0 else None
    return None if found is None else int(found[0])


def knows(fleet: RealFleet, value: str, *options: str) -> bool:
    return call(fleet, 'sum("api-token")', *options) == sum(value.encode())


def files_with(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and needle in path.read_bytes()]


def identity(fleet: RealFleet, node: str) -> str:
    command = [sys.executable, "-m", "edge_agent.agent", "identity", "--data-dir", str(fleet.directory(node))]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def check_refusals(fleet: RealFleet) -> None:
    """What is refused before anything is sealed."""
    outside = fleet.ctl(
        "secret", "set", "other", "--agent", AGENT, "--from-file", __file__, expect=ExitCode.REFUSED
    ).stderr
    assert "fleet:secrets/store" in outside
    accepted = fleet.home / "trust" / "recipients.json"
    before = json.loads(accepted.read_text())
    before["nodes"][0]["key"] = f"sha256:{'0' * 64}"
    accepted.write_text(json.dumps(before))
    token = fleet.home / "trust" / "joins" / "n1.pub"  # as for a node that the coordinator has set up by itself
    token.rename(fleet.home / "n1.pub")
    command = ("secret", "set", "api-token", "--agent", AGENT, "--from-file", __file__)
    changed = fleet.ctl(*command, expect=ExitCode.VERIFICATION_FAILED).stderr
    assert "edge-agent identity" in changed
    assert fleet.ask("secret", "recipients")[0]["accepted"] == "changed"
    accepted.unlink()
    assert "no join token" in fleet.ctl(*command, expect=ExitCode.VERIFICATION_FAILED).stderr
    assert fleet.ask("secret", "recipients")[0]["accepted"] == "new"
    fleet.ctl("secret", "recipients", "--accept", "n1", "--yes")
    unknown = fleet.ctl(*command, "--node", "nobody", expect=ExitCode.ERROR).stderr
    assert "nobody" in unknown


def test_a_secret_reaches_its_agent_and_the_coordinator_never_sees_it(fleet: RealFleet) -> None:
    fleet.join("n1")
    publish(fleet)
    assert call(fleet, 'sum("api-token")') == NOT_FOUND
    shown = fleet.ask("secret", "recipients")
    assert shown[0]["key"] in identity(fleet, "n1"), "the fingerprint that an operator compares"
    assert shown[0]["accepted"] == "joined", "by the token that `fleetctl node join` made"

    assert set_secret(fleet, VALUE) == {"agent": AGENT, "secret": "api-token", "version": 1, "nodes": ["n1"]}
    wait_for("the agent has its secret", lambda: knows(fleet, VALUE))
    fleet.ctl("call", AGENT, 'write("api-token")')  # to its log, which the coordinator collects
    fleet.ctl("call", AGENT, 'spill("api-token")', expect=None)  # and into a crash report
    wait_for("a crash report", lambda: bool(fleet.ask("crash", "list")))
    crash = fleet.ask("crash", "show", fleet.ask("crash", "list")[0]["id"])
    told = json.dumps(crash) + fleet.ctl("-o", "json", "events").stdout + fleet.ctl("logs", AGENT, expect=None).stdout
    told += fleet.ctl("-o", "json", "secret", "list").stdout + fleet.ctl("secret", "list", "-o", "wide").stdout

    coordinator, node = fleet.home / "coordinator", fleet.directory("n1")
    for secret in (VALUE.encode(), VALUE.encode().hex().encode()):
        assert files_with(coordinator, secret) == []
        assert files_with(node, secret) == []
        assert secret not in told.encode()
    memory = memory_of(fleet.coordinator_pid())
    assert SETTING.encode() in memory, "the positive control"
    assert files_with(coordinator, SETTING.encode()), "the positive control"
    assert VALUE.encode() not in memory
    assert "<confidential>" in told, "the positive control: the guest's line and call are in it"

    check_refusals(fleet)

    # The next version takes the place of the first, without a deploy.
    assert set_secret(fleet, NEWER)["version"] == 2
    wait_for("the agent has the newer value", lambda: knows(fleet, NEWER))
    assert files_with(fleet.home / "nodes", NEWER.encode()) == []

    # It survives a power cut, with the coordinator away.
    fleet.down()
    fleet.cut_power("n1")
    fleet.ctl("node", "up", "n1", expect=None)
    fleet.up()
    fleet.wait_online("n1")
    wait_for("the agent has it again", lambda: knows(fleet, NEWER))

    # A node that joins later has none until somebody seals it for it.
    fleet.join("n2")
    deploy(fleet)
    wait_for("the agent runs on n2", lambda: call(fleet, 'sum("api-token")', "--node", "n2") == NOT_FOUND)
    (listed,) = fleet.ask("secret", "list")
    assert (listed["version"], listed["nodes"], listed["behind"]) == (2, ["n1"], [])
    assert fleet.ask("secret", "reseal", "api-token", "--agent", AGENT)["nodes"] == ["n1", "n2"]
    wait_for("n2 has it", lambda: knows(fleet, NEWER, "--node", "n2"))

    # What is removed is gone everywhere, and its versions go on counting.
    assert fleet.ask("secret", "remove", "api-token", "--agent", AGENT, "--yes")["nodes"] == ["n1", "n2"]
    wait_for("it is gone", lambda: call(fleet, 'sum("api-token")', "--node", "n1") == NOT_FOUND)
    assert fleet.ask("secret", "list") == []
    assert set_secret(fleet, VALUE)["version"] == 3

"""From a component that works with files to its notes after a power cut: proposed, granted, deployed, refused."""

from __future__ import annotations

import pytest

from fleet.errors import ExitCode
from tests.system.harness import RealFleet, wait_for

pytestmark = pytest.mark.system

BUNDLE = "files-agent@0.1.0"


def test_notes_outlive_the_node_and_maps_come_from_its_operator(fleet: RealFleet) -> None:
    fleet.join("n1")
    fleet.publish("files-agent")
    draft = fleet.home / "draft.yaml"
    fleet.ctl("grant", "propose", "site/notes", "--bundle", BUNDLE, "--file", str(draft))
    text = draft.read_text()
    assert "# wasi:filesystem/preopens: imported, and needs no grant while it reaches nothing" in text
    rule = "{volumes: [scratch/notes, node/maps], mode: [read, write], max_bytes: 64KiB}"
    draft.write_text(text.replace("caps: {}", f"caps:\n  wasi:filesystem/preopens:\n    - {rule}"))
    shown = fleet.ctl("grant", "approve", "--yes", str(draft)).stdout
    assert "volumes=node/maps,scratch/notes mode=read,write max_bytes=64KiB" in shown

    agent = {"name": "notes", "bundle": BUNDLE}
    hasty = str(fleet.manifest("site", agent, deadline="5s"))
    failed = fleet.ctl("deploy", hasty, expect=ExitCode.ROLLOUT_FAILED)
    assert "VOLUME_UNAVAILABLE" in failed.stdout + failed.stderr

    maps = fleet.home / "maps"
    maps.mkdir()
    (maps / "site").write_text("north")
    with (fleet.directory("n1") / "agent.toml").open("a") as file:
        file.write(f"\n[volumes.maps]\npath = '{maps}'\n")
    fleet.ctl("node", "down", "n1")
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    assert fleet.ask("deploy", str(fleet.manifest("site", agent)))["state"] == "succeeded"

    def call(invocation: str) -> str:
        return fleet.ctl("call", "site/notes", invocation).stdout

    assert "north" in call('read("/node/maps/site")')
    assert "read-only" in call('write("/node/maps/site", "south")')
    assert "ok" in call('write("/scratch/notes/today", "sunny")')
    assert "quota" in call('fill("/scratch/notes/big", 1000000)')
    fleet.cut_power("n1")
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    wait_for("the agent runs again", lambda: {row["phase"] for row in fleet.agents("site")} == {"running"})
    assert "sunny" in call('read("/scratch/notes/today")')
    assert "quota" in call('write("/scratch/notes/more", "x")')
    allowed = fleet.ctl(
        "grant", "explain", "site/notes", "wasi:filesystem/preopens", "volume=scratch/notes", "mode=write"
    ).stdout
    assert "allowed" in allowed

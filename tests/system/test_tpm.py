"""A node whose keys a (software) TPM holds: it joins, renews and restarts, and its disk is worth nothing elsewhere."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config import Settings
from edge_agent.identity import IdentityStore
from edge_agent.link.enrolment import renew
from edge_agent.node_keys import open_keys
from fleet.errors import Code
from tests.fakes.refusals import code_of
from tests.fakes.software_tpm import SoftwareTpm
from tests.system.harness import RealFleet, wait_for
from tests.system.test_secrets import NEWER, files_with, knows, publish, set_secret


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    chip = SoftwareTpm(tmp_path / "chip").start()
    yield chip
    chip.stop()


@pytest.fixture
def other_chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    chip = SoftwareTpm(tmp_path / "other-chip").start()
    yield chip
    chip.stop()


def test_a_disk_without_its_chip_is_no_node(
    chip: SoftwareTpm, other_chip: SoftwareTpm, fleet: RealFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_TPM", chip.tcti)  # for the nodes that fleetctl starts
    fleet.join("n1")
    folder = fleet.directory("n1")
    assert {path.suffix for path in (folder / "keys").glob("bound.*")} == {".tpm"}
    wait_for("the node cosigns", lambda: fleet.ask("audit", "witnesses")["witnesses"] != [])
    in_files = {path.name for path in (folder / "keys").iterdir() if path.suffix != ".tpm"}
    assert in_files == {"tls.pem", "ca.pem", "tpm.lock"}, "a thief has the TLS key, until its certificate ends"
    publish(fleet)
    set_secret(fleet, NEWER)
    wait_for("the agent has its secret", lambda: knows(fleet, NEWER))

    # A restart of node and chip: the same identity, secret and cache.
    fleet.ctl("node", "down", "n1")
    chip.stop()
    chip.start()
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    wait_for("the agent has its secret again", lambda: knows(fleet, NEWER))
    assert not [event for event in fleet.ask("events") if event["kind"] == "cache:entry:refused"]

    # A renewal, which the coordinator believes because the chip signed it.
    fleet.ctl("node", "down", "n1")
    mine = open_keys(Settings(folder, tpm=chip.tcti))
    before = mine.identity.joined()
    renewed = asyncio.run(renew(mine.identity, before))
    assert (renewed.epoch, renewed.sequence) == (before.epoch, before.sequence + 1)

    # The disk in another machine: it cannot renew, and opens neither the secrets nor the cache.
    stolen = fleet.home / "stolen"
    shutil.copytree(folder, stolen, ignore=shutil.ignore_patterns("run"))
    for name in ("sealing", "cache", "witness"):
        assert files_with(stolen, mine.vault.key(name)) == []
    assert files_with(stolen, NEWER.encode()) == []
    thief = open_keys(Settings(stolen, tpm=other_chip.tcti))
    assert _code_of_renewal(thief.identity) is Code.KEY_UNAVAILABLE
    for name in ("sealing", "cache", "witness"):
        assert code_of(thief.vault.key, name) is Code.KEY_UNAVAILABLE
    assert code_of(open_keys, Settings(stolen)) is Code.CONFIG_INVALID

    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    wait_for("the true node goes on", lambda: knows(fleet, NEWER))


def _code_of_renewal(store: IdentityStore) -> Code | None:
    return code_of(lambda: asyncio.run(renew(store, store.joined())))

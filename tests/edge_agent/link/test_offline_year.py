"""A node that is switched off for a year and comes back: real certificates, real enrolment, real mutual TLS.

Time runs on the coordinator's and the publisher's clock, from a year ago until now: TLS itself goes by the machine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from edge_agent import agent
from edge_agent.clock import SystemClock
from edge_agent.config import Settings
from edge_agent.disk import LocalDisk
from edge_agent.identity import IdentityStore
from edge_agent.trust_store import TrustStore
from fleet.release import RoleKeys, publish, renew, rotate_root
from fleet.targets import TRUST_PATH
from fleet.v1 import control_pb2
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import CALL_S, FleetFixture, Operator, ShiftedClock, serving
from tests.fakes.publisher import key
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until

ROTATIONS = 6


def rotate(fleet: FleetFixture, number: int) -> None:
    """Give every top-level role new keys, signed by the old roots and the new ones, and sign everything again."""
    old = fleet.role_keys
    fresh: dict[str, Iterable[object]] = {
        role: (key(f"{role}-{number}"),) for role in ("root", "targets", "snapshot", "timestamp")
    }
    new = RoleKeys({**old.keys, **fresh}, old.thresholds)  # type: ignore[dict-item]
    now = fleet.clock()
    files = rotate_root(fleet.files, old, new, now)
    for role in sorted(new.keys.keys() - {"root", "snapshot", "timestamp"}):
        files = renew(files, new, role, now)
    fleet.files, fleet.role_keys = publish(files, new, now), new


async def test_a_node_comes_back_after_a_year(tmp_path: Path) -> None:
    clock = ShiftedClock()
    clock.advance(days=-366)
    fleet = FleetFixture(tmp_path / "coordinator", clock)
    folder, root = tmp_path / "node", tmp_path / "root.json"
    root.write_bytes(fleet.files["1.root.json"])
    async with serving(fleet, clock) as coordinator:
        services = coordinator.services
        services.releases.publish(*fleet.publish(), "alice")
        token, _ = services.enrolment.create_token("n1", {"site": "oslo"}, 3600, "alice")
        joined = await agent.join(Settings(folder), str(coordinator.enrolment), token, root, {"site": "oslo"})
        trust = TrustStore(LocalDisk(), folder / "trust", allow_dev_profile=True)
        trust.adopt(fleet.files, {TRUST_PATH: fleet.document}, clock())
        for number in range(ROTATIONS):  # nobody hears of these while the node is in its box
            clock.advance(days=366 / ROTATIONS)
            rotate(fleet, number)
            services.releases.publish(fleet.files, [fleet.document], "alice")
    store = IdentityStore(LocalDisk(), folder)
    expired = store.tls()
    assert expired is not None
    assert datetime.now(UTC) - expired.not_after > timedelta(days=364)
    async with serving(fleet, clock) as coordinator:
        await _comes_back(fleet, coordinator, folder)
    renewed, tls = store.load(), store.tls()
    assert renewed is not None
    assert tls is not None
    assert (renewed.epoch, renewed.sequence) == (joined.epoch, joined.sequence + 1)
    assert tls.not_after > datetime.now(UTC) + timedelta(hours=23)
    found = trust.load()
    assert found is not None
    assert found.release.versions["root"] == 1 + ROTATIONS


async def _comes_back(fleet: FleetFixture, coordinator: Coordinator, folder: Path) -> None:
    """Switch the node on and wait until it runs what was ordered while it was away."""
    fleet.now = fleet.clock()
    operator = Operator(fleet, coordinator)
    fleet.release()
    await operator.push()
    await operator.deploy()
    store = IdentityStore(LocalDisk(), folder)
    identity = store.load()
    assert identity is not None
    # The enrolment port is another one than a year ago, which in life it would not be; the session port is told anew.
    moved = replace(identity, enrolment_address=str(coordinator.enrolment))
    settings = Settings(folder, allow_dev_profile=True, coalesce_ms=10, reconnect_initial_ms=20, reconnect_cap_ms=50)
    node = agent.Node(settings, moved, ScriptedRuntime(), SystemClock(), Random(3))
    task = asyncio.create_task(node.run())
    try:
        await until(lambda: coordinator.services.nodes.get("n1").healthy == 1, "the order of the meantime runs")
        who = await operator.control.GetNode(control_pb2.GetNodeRequest(name="n1"), timeout=CALL_S)
        assert (who.state, list(who.warnings)) == ("online", [])
    finally:
        task.cancel()
        await asyncio.wait((task,))
        await operator.channel.close()

"""The node authority is rotated under nodes that run: real certificates, real enrolment, real mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edge_agent import agent
from edge_agent.clock import SystemClock
from edge_agent.config import Settings
from edge_agent.disk import LocalDisk
from edge_agent.identity import IdentityStore
from edge_agent.link.enrolment import is_vouched_for
from fleet.x509 import fingerprint, is_issued_by, load_certificate, load_certificates
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import FleetFixture, ShiftedClock, serving
from tests.fakes.runtime import ScriptedRuntime
from tests.fakes.wait import until


@dataclass
class Site:
    """A coordinator and machines beside it."""

    fleet: FleetFixture
    coordinator: Coordinator
    folder: Path

    def publish(self, authorities: bytes) -> None:
        """Publish a release that lists these, as the Publish call does."""
        services = self.coordinator.services
        self.fleet.list_node_authorities(authorities)
        services.releases.publish(*self.fleet.publish(), "alice")
        services.node_authorities.look()
        services.sessions.signal_release()

    async def join(self, name: str) -> None:
        root = self.folder / "root.json"
        root.write_bytes(self.fleet.files["1.root.json"])
        token, _ = self.coordinator.services.enrolment.create_token(name, {}, 3600, "alice")
        await agent.join(Settings(self.folder / name), str(self.coordinator.enrolment), token, root, {})

    @asynccontextmanager
    async def running(self, name: str, spread_ms: int = 50) -> AsyncIterator[None]:
        """Switch a node on, which renews within `spread_ms` when it hears that it should."""
        settings = Settings(
            self.folder / name,
            allow_dev_profile=True,
            coalesce_ms=10,
            reconnect_initial_ms=20,
            reconnect_cap_ms=spread_ms,
        )
        identity = IdentityStore(LocalDisk(), settings.data_dir).load()
        assert identity is not None
        task = asyncio.create_task(agent.Node(settings, identity, ScriptedRuntime(), SystemClock(), Random(3)).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    def authority(self, name: str) -> str:
        """The authority of a node's newest session; empty without one that is open."""
        view = self.coordinator.services.nodes.get(name)
        return view.row.authority if view.state == "online" else ""

    def believes(self, name: str) -> bytes:
        tls = IdentityStore(LocalDisk(), self.folder / name).tls()
        assert tls is not None
        return tls.ca_certificates


async def test_nodes_follow_a_rotation_and_one_that_was_away_comes_back(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path / "coordinator")
    async with serving(fleet, ShiftedClock()) as coordinator:
        site = Site(fleet, coordinator, tmp_path)
        authorities = coordinator.services.node_authorities
        first = fleet.node_ca.certificate
        site.publish(first)
        for name in ("there", "away"):
            await site.join(name)
        async with site.running("away"):
            await until(lambda: site.authority("away") != "", "it was there once")
        async with site.running("there"):
            await until(lambda: site.authority("there") == fingerprint(load_certificate(first)), "it is online")
            authorities.prepare("alice")
            second = authorities.list()[-1].pem
            moved = fingerprint(load_certificate(second))
            site.publish(first + second)
            await until(lambda: site.authority("there") == moved, "it renews under the new authority by itself")
            assert site.believes("there") == first + second
            authorities.look()
            assert authorities.list()[0].serves  # one that is away has not moved

            site.publish(second)  # though it has not
            assert authorities.list()[0].pem == second
            await until(lambda: site.believes("there") == second, "it forgets the old authority")
            await until(lambda: site.authority("there") == moved, "and is online")
            assert site.believes("away") == first
            assert not await is_vouched_for(str(coordinator.session), site.believes("away"))
            assert await is_vouched_for(str(coordinator.session), site.believes("there"))
            async with site.running("away"):
                await until(
                    lambda: site.authority("away") == moved, "its certificate is still valid, and worth nothing"
                )
            assert site.believes("away") == second
        certificate = IdentityStore(LocalDisk(), tmp_path / "away").tls()
        assert certificate is not None
        assert is_issued_by(load_certificate(certificate.certificate), load_certificates(second)[0])


async def test_a_node_whose_certificate_is_refused_renews_without_being_asked(tmp_path: Path) -> None:
    """It would move within the hour; the old authority is withdrawn at once, and the open session with it."""
    fleet = FleetFixture(tmp_path / "coordinator")
    async with serving(fleet, ShiftedClock()) as coordinator:
        site = Site(fleet, coordinator, tmp_path)
        authorities = coordinator.services.node_authorities
        first = fleet.node_ca.certificate
        site.publish(first)
        await site.join("late")
        async with site.running("late", spread_ms=3_600_000):
            await until(lambda: site.authority("late") == fingerprint(load_certificate(first)), "it is online")
            authorities.prepare("alice")
            second = authorities.list()[-1].pem
            site.publish(first + second)
            site.publish(second)
            await until(lambda: site.authority("late") == fingerprint(load_certificate(second)), "it is back")


async def test_a_silent_or_strange_port_says_nothing_about_authorities() -> None:
    for address in ("127.0.0.1:1", "nowhere", ""):
        assert await is_vouched_for(address, b"")

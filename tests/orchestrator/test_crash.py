"""The coordinator dies at the worst moment: what was committed is carried out, what was not never was."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from orchestrator.rpc.live import LiveCalls
from orchestrator.server import Coordinator, build
from tests.fakes.fleet_fixture import MANIFEST, FleetFixture, NodeClient, Operator, ShiftedClock, serving


async def joined(fleet: FleetFixture, coordinator: Coordinator, *names: str) -> list[NodeClient]:
    operator = Operator(fleet, coordinator)
    fleet.release()
    await operator.push()
    nodes = [NodeClient(fleet, coordinator, name) for name in names]
    for node in nodes:
        await node.join(await operator.token(node.name))
        await node.connect()
        await node.close()
    await operator.channel.close()
    return nodes


async def deploy_and_die(fleet: FleetFixture, clock: ShiftedClock) -> str:
    """Deploy in a coordinator that is gone before any session hears of it."""
    services = await asyncio.to_thread(build, fleet.settings(), clock, asyncio.get_running_loop(), LiveCalls())
    deployment = await asyncio.to_thread(services.deployments.deploy, MANIFEST.encode(), "", "alice")
    services.workers.close()
    services.store.close()
    return deployment


async def test_what_was_committed_and_never_pushed_is_carried_out(fleet: FleetFixture, clock: ShiftedClock) -> None:
    async with serving(fleet, clock) as before:
        first, second = await joined(fleet, before, "n1", "n2")
    deployment = await deploy_and_die(fleet, clock)
    async with serving(fleet, clock) as after:
        operator = Operator(fleet, after)
        await second.connect(after)
        await first.connect(after)
        for node in (first, second):  # the second wave too: the rollout is where it was
            assert (await node.run()).assignment.generation == 1
        assert (await operator.watch(deployment)).state == "succeeded"
        for node in (first, second):
            await node.close()
        await operator.channel.close()


class PowerCutError(Exception):
    """The coordinator is gone."""


async def test_what_was_not_committed_never_was(fleet: FleetFixture, clock: ShiftedClock) -> None:
    async with serving(fleet, clock) as before:
        (node,) = await joined(fleet, before, "n1")
    services = await asyncio.to_thread(build, fleet.settings(), clock, asyncio.get_running_loop(), LiveCalls())

    @sa.event.listens_for(services.store.control.engine, "commit")
    def cut(_: sa.Connection) -> None:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        await asyncio.to_thread(services.deployments.deploy, MANIFEST.encode(), "", "alice")
    services.workers.close()
    services.store.close()
    async with serving(fleet, clock) as after:
        operator = Operator(fleet, after)
        assert after.services.deployments.list("climate", 10) == ()
        await node.connect(after)
        deployment = await operator.deploy()
        assert (await node.run()).assignment.generation == 1  # and its leaf is in the log: `run` checks the proof
        assert (await operator.watch(deployment)).state == "succeeded"
        await node.close()
        await operator.channel.close()

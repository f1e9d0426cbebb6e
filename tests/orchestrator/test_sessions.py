"""The session stream over real mutual TLS: push, ack, rollout, and nodes that misbehave."""

from __future__ import annotations

from fleet.model import Phase
from orchestrator.server import Coordinator
from tests.fakes.fleet_fixture import (
    MANIFEST,
    FleetFixture,
    NodeClient,
    Operator,
)


async def joined(fleet: FleetFixture, coordinator: Coordinator, operator: Operator, *names: str) -> list[NodeClient]:
    nodes = [NodeClient(fleet, coordinator, name) for name in names]
    for node in nodes:
        await node.join(await operator.token(node.name))
        await node.connect()
    return nodes


async def test_a_deploy_reaches_every_node_wave_by_wave(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    await operator.push()
    first, second = await joined(fleet, coordinator, operator, "n1", "n2")
    deployment = await operator.deploy()
    assert [agent.name for agent in (await first.accept()).assignment.agents] == ["climate/context"]
    assert second.generation == 0  # its wave waits for the first
    await first.report()
    await second.run()
    done = await operator.watch(deployment)
    assert (done.state, [wave.state for wave in done.waves]) == ("succeeded", ["healthy", "healthy"])
    for node in (first, second):
        await node.close()


async def test_a_failing_first_wave_is_rolled_back_and_the_rest_never_touched(
    fleet: FleetFixture, coordinator: Coordinator, operator: Operator
) -> None:
    fleet.release()
    fleet.release("1.1.0")
    await operator.push()
    first, second = await joined(fleet, coordinator, operator, "n1", "n2")
    deployment = await operator.deploy()
    old = await first.run()
    await second.run()
    assert (await operator.watch(deployment)).state == "succeeded"
    deployment = await operator.deploy(MANIFEST.replace("1.0.0", "1.1.0"))
    new = await first.accept()
    assert new.assignment.agents != old.assignment.agents
    await first.report(Phase.BACKOFF, restarts=3)
    restored = await first.accept()
    assert restored.assignment.agents == old.assignment.agents
    assert restored.assignment.generation == 3
    done = await operator.watch(deployment)
    assert (done.state, [wave.state for wave in done.waves]) == ("rolled-back", ["failed", "waiting"])
    assert "climate/context" in done.reason
    assert second.generation == 1
    for node in (first, second):
        await node.close()

"""Statements about deployments, their waves and their nodes.

Owns: the rows, and the guard that at most one deployment of an application runs (a partial unique index). Agents are
opaque text here; `desired` knows what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from fleet.errors import Code, FleetError
from orchestrator.store.schema import deployment, deployment_node, deployment_wave

if TYPE_CHECKING:
    from collections.abc import Iterable


class DeploymentState(StrEnum):
    """Where a deployment stands; every state but RUNNING is final."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A change that was asked for."""

    id: str
    application: str
    state: DeploymentState
    reason: str
    operator: str
    policy: str
    created_ms: int
    finished_ms: int | None = None


@dataclass(frozen=True, slots=True)
class WaveRow:
    """One step of a deployment."""

    number: int
    state: str
    started_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeploymentNodeRow:
    """One changed node of a deployment; `generation` is None until its wave begins."""

    node: str
    wave: int
    planned: str
    previous: str
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """A deployment with its waves and nodes."""

    head: DeploymentRow
    waves: tuple[WaveRow, ...]
    nodes: tuple[DeploymentNodeRow, ...]

    def nodes_of(self, wave: int) -> tuple[DeploymentNodeRow, ...]:
        """Return the nodes of one wave."""
        return tuple(node for node in self.nodes if node.wave == wave)


def insert_deployment(connection: sa.Connection, stored: StoredDeployment) -> None:
    """Store a new deployment.

    Raises:
        FleetError: ROLLOUT_RUNNING when another deployment of the application runs.
    """
    head = stored.head
    try:
        connection.execute(
            sa.insert(deployment).values(
                id=head.id,
                application=head.application,
                state=head.state,
                reason=head.reason,
                operator=head.operator,
                policy=head.policy,
                created_ms=head.created_ms,
                finished_ms=head.finished_ms,
            )
        )
    except sa.exc.IntegrityError as error:
        raise FleetError(
            Code.ROLLOUT_RUNNING, f"a deployment of {head.application} runs", application=head.application
        ) from error
    if stored.waves:
        rows = [
            {"deployment": head.id, "number": w.number, "state": w.state, "started_ms": w.started_ms}
            for w in stored.waves
        ]
        connection.execute(sa.insert(deployment_wave), rows)
    if stored.nodes:
        nodes = [
            {
                "deployment": head.id,
                "node": n.node,
                "wave": n.wave,
                "planned": n.planned,
                "previous": n.previous,
                "generation": n.generation,
            }
            for n in stored.nodes
        ]
        connection.execute(sa.insert(deployment_node), nodes)


def get_deployment(connection: sa.Connection, identifier: str) -> StoredDeployment:
    """Return one deployment.

    Raises:
        FleetError: NOT_FOUND.
    """
    row = connection.execute(sa.select(deployment).where(deployment.c.id == identifier)).one_or_none()
    if row is None:
        raise FleetError(Code.NOT_FOUND, f"no deployment {identifier!r}", deployment=identifier)
    return _with_parts(connection, [row])[0]


def list_deployments(connection: sa.Connection, application: str, limit: int) -> tuple[StoredDeployment, ...]:
    """Return the newest deployments first; an empty application means all."""
    statement = sa.select(deployment).order_by(deployment.c.number.desc()).limit(limit)
    if application:
        statement = statement.where(deployment.c.application == application)
    return _with_parts(connection, connection.execute(statement).all())


def list_running(connection: sa.Connection) -> tuple[StoredDeployment, ...]:
    """Return every running deployment, the oldest first."""
    statement = sa.select(deployment).where(deployment.c.state == DeploymentState.RUNNING).order_by(deployment.c.number)
    return _with_parts(connection, connection.execute(statement).all())


def finish(connection: sa.Connection, identifier: str, state: DeploymentState, reason: str, at_ms: int) -> bool:
    """End a running deployment; return False when somebody else ended it before."""
    result = connection.execute(
        sa.update(deployment)
        .where(deployment.c.id == identifier, deployment.c.state == DeploymentState.RUNNING)
        .values(state=state, reason=reason, finished_ms=at_ms)
    )
    return result.rowcount == 1


def set_wave(connection: sa.Connection, identifier: str, wave: WaveRow) -> None:
    """Replace the state of one wave."""
    values: dict[str, object] = {"state": wave.state}
    if wave.started_ms is not None:
        values["started_ms"] = wave.started_ms
    connection.execute(
        sa.update(deployment_wave)
        .where(deployment_wave.c.deployment == identifier, deployment_wave.c.number == wave.number)
        .values(values)
    )


def set_generation(connection: sa.Connection, identifier: str, node: str, generation: int) -> None:
    """Note which generation carries the change to a node."""
    connection.execute(
        sa.update(deployment_node)
        .where(deployment_node.c.deployment == identifier, deployment_node.c.node == node)
        .values(generation=generation)
    )


def _with_parts(connection: sa.Connection, rows: Iterable[sa.Row[tuple[object, ...]]]) -> tuple[StoredDeployment, ...]:
    heads = [
        DeploymentRow(
            row.id,
            row.application,
            DeploymentState(row.state),
            row.reason,
            row.operator,
            row.policy,
            row.created_ms,
            row.finished_ms,
        )
        for row in rows
    ]
    result: list[StoredDeployment] = []
    for head in heads:
        waves = connection.execute(
            sa.select(deployment_wave).where(deployment_wave.c.deployment == head.id).order_by(deployment_wave.c.number)
        )
        nodes = connection.execute(
            sa.select(deployment_node)
            .where(deployment_node.c.deployment == head.id)
            .order_by(deployment_node.c.wave, deployment_node.c.node)
        )
        result.append(
            StoredDeployment(
                head,
                tuple(WaveRow(w.number, w.state, w.started_ms) for w in waves),
                tuple(DeploymentNodeRow(n.node, n.wave, n.planned, n.previous, n.generation) for n in nodes),
            )
        )
    return tuple(result)

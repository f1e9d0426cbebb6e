"""What the doors of ControlService call: every use case, built by `server` and passed as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from orchestrator.audit import AuditLog
    from orchestrator.blobs import Blobs
    from orchestrator.changes import Changes
    from orchestrator.clock import Clock
    from orchestrator.deployments import Deployments
    from orchestrator.enrolment import Enrolment
    from orchestrator.fetching import Fetching
    from orchestrator.inventory import Inventory
    from orchestrator.journal import Journal
    from orchestrator.locks import Locks
    from orchestrator.logs import Logs
    from orchestrator.node_authorities import NodeAuthorities
    from orchestrator.nodes import Nodes
    from orchestrator.operator_authorities import OperatorAuthorities
    from orchestrator.operators import Operators
    from orchestrator.releases import Releases
    from orchestrator.rollouts import Rollouts
    from orchestrator.sealed_secrets import SealedSecrets
    from orchestrator.sessions import Sessions
    from orchestrator.store.database import Store
    from orchestrator.witnessing import Witnessing
    from orchestrator.workers import Workers


MAX_NUMBER = 2**63 - 1
"""Largest number that a column of the database holds."""


@dataclass(frozen=True, slots=True)
class Services:
    """Use cases and what they share.

    Attributes:
        enrolment_address: what operators hand out together with a join token.
        events_changed: moves when an event was stored.
        rollouts_changed: moves when a deployment or a report changed.
    """

    store: Store
    blobs: Blobs
    fetching: Fetching
    log: AuditLog
    releases: Releases
    deployments: Deployments
    rollouts: Rollouts
    nodes: Nodes
    inventory: Inventory
    enrolment: Enrolment
    locks: Locks
    operators: Operators
    node_authorities: NodeAuthorities
    operator_authorities: OperatorAuthorities
    witnessing: Witnessing
    secrets: SealedSecrets
    sessions: Sessions
    journal: Journal
    logs: Logs
    workers: Workers
    clock: Clock
    enrolment_address: str
    events_changed: Changes
    rollouts_changed: Changes


class Door:
    """Base of the groups of methods that make up ControlService."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._run = services.workers.run


def check_number(number: int, place: str) -> int:
    """Return a number that is used in a query.

    Raises:
        FleetError: VALUE_INVALID when no column holds it.
    """
    if number > MAX_NUMBER:
        raise FleetError(Code.VALUE_INVALID, f"{number} is too large", place=place)
    return number

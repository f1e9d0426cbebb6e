"""ControlService: what fleetctl talks to, put together from its topics."""

from __future__ import annotations

from fleet.v1 import control_pb2_grpc
from orchestrator.rpc.administration import AdministrationDoor
from orchestrator.rpc.auditing import AuditingDoor
from orchestrator.rpc.content import ContentDoor
from orchestrator.rpc.crashes import CrashesDoor
from orchestrator.rpc.deploying import DeployingDoor
from orchestrator.rpc.operating import OperatingDoor
from orchestrator.rpc.sealing import SealingDoor


class ControlService(
    ContentDoor,
    DeployingDoor,
    OperatingDoor,
    AdministrationDoor,
    CrashesDoor,
    AuditingDoor,
    SealingDoor,
    control_pb2_grpc.ControlServiceServicer,
):
    """The door for operators; every method is in exactly one topic (`tests/orchestrator/test_rules.py`)."""

"""Who would be cut off by the withdrawal of a node authority."""

from __future__ import annotations

from fleet.v1 import control_pb2 as pb
from orchestrator.cli.trust_authority import behind


def node(name: str, **fields: object) -> pb.Node:
    return pb.Node(**({"name": name, "state": "offline", "authority": "old", "certificate_expires_ms": 2} | fields))  # type: ignore[arg-type]


def test_who_is_behind() -> None:
    nodes = [
        node("b"),
        node("a", state="online"),
        node("moved", authority="new"),
        node("revoked", state="revoked"),
        node("expired", certificate_expires_ms=1),
        node("locked", state="locked"),
    ]
    assert behind(nodes, "new", 1) == ("a", "b", "locked")

"""Receipts: one per applied desired state, and a few more for what agents use for the first time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from edge_agent.identity import Identity
from edge_agent.node import FIRST_USES, LocalNode
from edge_agent.supervision import Accepted
from fleet.assignment import open_receipt
from fleet.health import Vitals
from fleet.model import AssignedAgent, ObservedAgent, ObservedState, Phase, TargetRef
from tests.fakes.publisher import NOW, key

DIGEST = "sha256:" + "a" * 64
SPEC = AssignedAgent("app/one", TargetRef("b", DIGEST), TargetRef("g", DIGEST))
KEYVALUE = "wasi:keyvalue/store@0.2.0-draft2"


@dataclass
class Running:
    """A supervisor that says what the test says."""

    applied: Accepted | None = None
    calls: dict[str, int] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    missing: asyncio.Event = field(default_factory=asyncio.Event)
    trusted: asyncio.Event = field(default_factory=asyncio.Event)

    def observed(self) -> ObservedState:
        agent = ObservedAgent(SPEC.name, Phase.RUNNING, vitals=Vitals(host_calls=self.calls))
        return ObservedState(1, DIGEST, NOW, (agent,))

    def trust_digest(self) -> str:
        return DIGEST


@dataclass
class Now:
    """A clock that the test sets."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


def test_first_uses_are_signed_less_and_less_often() -> None:
    running, clock = Running(), Now()
    identity = Identity("n1", "demo", 1, 1, "", "", "")
    node = LocalNode(identity, key("n1"), running, running, None, clock)  # type: ignore[arg-type]  # only receipts are asked
    assert node.receipt() is None

    def used() -> tuple[str, ...]:
        signed = open_receipt(node.receipt() or b"", fleet="demo", node="n1", epoch=1, key=key("n1").public)
        return signed.agents[0].used

    running.applied = Accepted(1, DIGEST, (SPEC,))
    assert used() == ()
    running.calls[KEYVALUE] = 7
    assert used() == ()  # too soon
    clock.at += FIRST_USES
    assert used() == ("wasi:keyvalue/store",)
    before = node.receipt()
    running.calls[KEYVALUE] = 8
    clock.at += timedelta(days=9)
    assert node.receipt() == before  # nothing that was never used before
    running.calls["wasi:nn/graph"] = 1
    assert used() == ("wasi:keyvalue/store", "wasi:nn/graph")
    running.calls["wasi:logging/logging"] = 1
    clock.at += 3 * FIRST_USES
    assert len(used()) == 2  # the pauses double
    clock.at += FIRST_USES
    assert used() == ("wasi:keyvalue/store", "wasi:logging/logging", "wasi:nn/graph")
    running.applied = replace(running.applied, generation=2)
    assert len(used()) == 3  # a new desired state is receipted at once

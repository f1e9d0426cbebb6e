"""A thief has a key of the audit log that was withdrawn: whatever it signs, nobody takes it for the log.

The thief also stands where the coordinator does, and shows a past of its own making: with the key in force that is
attack 26, which only those see who saw the other past.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_agent.witness import Offered
from fleet.checkpoint import format_vkey, sign_checkpoint
from fleet.errors import Code
from fleet.history import Rows
from fleet.merkle import consistency_proof, root
from fleet.sighting import Sighting, advance
from fleet.targets import TRUST_PATH
from fleet.trust import encode_fleet_trust
from fleet.witnesses import NO_WITNESSES
from orchestrator.cli.audit_check import Believed, Material, check
from tests.fakes.audited import ORIGIN, AuditedFleet
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import LOG, fleet_trust, key
from tests.fakes.refusals import code_of
from tests.fakes.whole_node import WholeNode

RETIRED, PRESENT = key("log"), key("log-2")


@pytest.fixture
def node() -> Iterator[WholeNode]:
    """A node that has seen the log, and adopted a release that lists the new key alone."""
    node = WholeNode(FleetWorld())
    world = node.world
    assert node.accept(world.assign(world.agent())) is None
    trust = replace(fleet_trust(), log_vkeys=(format_vkey(LOG, PRESENT.public),))
    world.publisher.document = encode_fleet_trust(trust)
    world.publisher.add(TRUST_PATH, world.publisher.document)
    world.put(world.publisher.document)
    world.publisher.publish()
    assert node.refresh() is None
    yield node
    node.close()


def test_37_a_node_takes_no_order_that_a_withdrawn_key_proves(node: WholeNode) -> None:
    """Even one that the director signed, and that is in the true log."""
    running = node.running()
    assert node.accept(node.world.assign(generation=2)) is Code.PROOF_INVALID
    assert node.running() == running
    node.world.log_key = PRESENT
    assert node.accept(replace(node.world.assign(generation=3), base=1, consistency=proof(node))) is None


def proof(node: WholeNode) -> tuple[bytes, ...]:
    """From the one leaf that the node has seen."""
    return consistency_proof(node.world.log.read, 1, node.world.log.size)


def test_37_no_witness_cosigns_what_a_withdrawn_key_signed(node: WholeNode) -> None:
    """And it is no evidence against the log: anybody may have made it."""
    log = node.world.log
    log.append(b"of the thief")
    note = sign_checkpoint(LOG, log.size, root(log.read, log.size), RETIRED)
    witness = node.stores.witness
    assert code_of(node.do, witness.answer(Offered(note, 1, proof(node)))) is Code.PROOF_INVALID
    assert witness.evidence is None
    outside = (format_vkey(LOG, PRESENT.public),)
    assert code_of(advance, Sighting(), note, outside, ()) is Code.PROOF_INVALID


def test_37_no_log_or_export_verifies_under_a_withdrawn_key() -> None:
    fleet = AuditedFleet()
    fleet.enrol("n1")
    trust = replace(fleet_trust(), log_vkeys=(format_vkey(ORIGIN, PRESENT.public),))

    def verified(note: bytes) -> Code | None:
        material = Material(note, iter(fleet.leaves), (), Rows(), fleet.log.size, lambda _: None)
        return code_of(check, material, Believed(trust, NO_WITNESSES, b""))

    assert verified(fleet.note(signer="log")) is Code.PROOF_INVALID
    assert verified(fleet.note(signer="log-2")) is None

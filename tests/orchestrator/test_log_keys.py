"""The coordinator while its log's key changes, and while the log goes on under another name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fleet.checkpoint import claimed, format_vkey, key_name, open_checkpoint
from fleet.errors import Code, FleetError
from fleet.leaves import CONTINUED, read_leaf
from fleet.logs import ClosedLog
from fleet.signing import SigningKey
from orchestrator.audit import AuditLog
from orchestrator.director import Director
from orchestrator.recognition import Identity
from orchestrator.rpc.operating import write_node
from orchestrator.server import Coordinator
from orchestrator.store import nodes as node_rows
from orchestrator.store import witnesses
from tests.fakes.fleet_fixture import FLEET, FleetFixture, serving
from tests.fakes.publisher import key
from tests.orchestrator.test_recovery import joined

OLD, NEW = key("log"), key("log-2")
ORIGIN = f"{FLEET}/audit"


def vkey(signer: SigningKey, origin: str = ORIGIN) -> tuple[str, ...]:
    return (format_vkey(origin, signer.public),)


def fill(coordinator: Coordinator) -> None:
    with coordinator.services.store.control.write() as connection:
        coordinator.services.log.append(connection, [b"one", b"two", b"three"])


def offered(coordinator: Coordinator) -> bytes:
    coordinator.services.witnessing.begin_round()
    offer = coordinator.services.witnessing.offer(0)
    assert offer is not None
    return offer.note


async def test_a_checkpoint_of_before_is_offered_as_the_keys_of_today_sign_it(fleet: FleetFixture) -> None:
    files = fleet.settings().files
    async with serving(fleet) as first:
        fill(first)
        note = offered(first)
    seen = open_checkpoint(note, vkey(OLD))
    files.former_log_key.write_bytes(files.log_key.read_bytes())
    files.log_key.write_bytes(NEW.to_pem())
    async with serving(fleet) as second:  # both keys count
        both = offered(second)
        assert open_checkpoint(both, vkey(OLD)) == open_checkpoint(both, vkey(NEW)) == seen
    files.former_log_key.unlink()
    async with serving(fleet) as third:
        alone = offered(third)
        assert open_checkpoint(alone, vkey(NEW)) == seen
        with pytest.raises(FleetError):
            open_checkpoint(alone, vkey(OLD))
        (exported,) = third.services.witnessing.notes(-1, 10)
        assert exported.note == alone


async def test_a_log_under_another_name_continues_the_leaves_and_not_the_checkpoints(fleet: FleetFixture) -> None:
    files = fleet.settings().files
    async with serving(fleet) as first:
        fill(first)
        seen = claimed(offered(first))
    files.log_key.write_bytes(NEW.to_pem())
    files.log_name.write_text(f"{ORIGIN}/2\n")
    async with serving(fleet) as second:
        assert second.services.witnessing.offer(0) is None  # nothing was offered of this log yet
        later = open_checkpoint(offered(second), vkey(NEW, f"{ORIGIN}/2"))
        assert later.size == seen.size + 1
        with second.services.store.control.read() as connection:
            ((_, leaf),) = second.services.log.entries(connection, seen.size, 2)
            assert second.services.log.root(connection, seen.size) == seen.root
        event = read_leaf(leaf)
        assert event.kind == CONTINUED  # type: ignore[union-attr]  # an event
        assert [claimed(row.note).origin for row in second.services.witnessing.notes(-1, 10)] == [ORIGIN, f"{ORIGIN}/2"]
    async with serving(fleet) as third:
        assert claimed(offered(third)) == later  # said once


async def test_what_only_the_old_key_proved_is_ordered_again_once(coordinator: Coordinator) -> None:
    services = coordinator.services
    joined(services, ["n1"])
    one, two = (
        Director(FLEET, key("director"), log, timedelta(days=30))
        for log in (AuditLog(FLEET, OLD), AuditLog(FLEET, NEW, OLD))
    )
    now = datetime.now(UTC)

    def prove(log: AuditLog) -> None:
        with services.store.control.write() as connection:
            note = log.checkpoint(connection)
            witnesses.put_checkpoint(connection, witnesses.CheckpointRow(claimed(note).size, note, 0))

    def renewed(director: Director) -> bool:
        with services.store.control.write() as connection:
            node = node_rows.get_node(connection, "n1")
            assert node is not None
            return director.renew(connection, node, now)

    with services.store.control.write() as connection:
        node = node_rows.get_node(connection, "n1")
        assert node is not None
        one.order(connection, node, (), now)
    assert not renewed(two)  # nobody was shown a proof of it yet: the new key will prove it
    assert write_node(services.nodes.get("n1"), "").log_keys == []
    prove(AuditLog(FLEET, OLD))
    assert write_node(services.nodes.get("n1"), "").log_keys == [key_name(vkey(OLD)[0])]
    assert not renewed(one)
    assert renewed(two)
    prove(AuditLog(FLEET, NEW, OLD))
    assert set(write_node(services.nodes.get("n1"), "").log_keys) == {key_name(vkey(k)[0]) for k in (OLD, NEW)}
    assert not renewed(two)


async def test_which_release_is_for_this_coordinator(coordinator: Coordinator, fleet: FleetFixture) -> None:
    """The numbers are those of `Identity.check`."""
    services, trust = coordinator.services, fleet.trust
    fill(coordinator)
    mine = Identity(FLEET, fleet.director.public, trust.log_vkeys[0])
    other = vkey(NEW, f"{ORIGIN}/2")

    def check(**changed: object) -> None:
        with services.store.control.read() as connection:
            mine.check(replace(trust, **changed), services.log, connection)  # type: ignore[arg-type]  # fields by name

    def refusal(**changed: object) -> str:
        with pytest.raises(FleetError) as refused:
            check(**changed)
        assert refused.value.code is Code.TRUST_INVALID
        return refused.value.private

    with services.store.control.read() as connection:
        root = services.log.root(connection, 1)
    check()
    assert "another coordinator" in refusal(fleet="other")  # 1
    assert "another coordinator" in refusal(director_keys=(key("x").public,))
    check(log_vkeys=(*vkey(NEW), *trust.log_vkeys))  # 2
    assert "another audit log" in refusal(log_vkeys=vkey(NEW))
    ended = ClosedLog(trust.log_vkeys, 1, root)
    check(log_vkeys=other, closed_logs=(ended,))
    for wrong in (replace(ended, root=bytes(32)), replace(ended, size=1_000)):  # 3
        assert "does not begin with" in refusal(log_vkeys=other, closed_logs=(wrong,))

"""The director's key is rotated: what the old key ordered is ordered again by the new one, once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from fleet.model import ObservedState
from fleet.oci import digest_of
from orchestrator.director import Director, agents_of
from orchestrator.rpc.operating import write_node
from orchestrator.server import Coordinator
from orchestrator.store import nodes as node_rows
from tests.fakes.publisher import key
from tests.orchestrator.test_recovery import joined


async def test_an_order_of_the_old_key_is_signed_again_by_the_new_one(coordinator: Coordinator) -> None:
    services = coordinator.services
    joined(services, ["n1"])
    old, new = (Director("demo", key(name), services.log, timedelta(days=30)) for name in ("director", "director-2"))
    now = datetime.now(UTC)
    with services.store.control.write() as connection:
        node = node_rows.get_node(connection, "n1")
        assert node is not None
        first = old.order(connection, node, (), now)
        assert not old.renew(connection, node, now)
        assert new.renew(connection, node, now)
        second = node_rows.get_desired(connection, "n1")
        assert second is not None
        assert second.generation == first.generation + 1
        assert agents_of(second) == agents_of(first)
        assert json.loads(second.envelope)["signatures"][0]["keyid"] == key("director-2").key_id
        assert not new.renew(connection, node, now)
    services.nodes.record("n1", ObservedState(first.generation, first.digest, now, trust_digest=digest_of(b"trust")))
    shown = write_node(services.nodes.get("n1"), "")
    assert (shown.director_key, shown.trust_digest) == (key("director-2").key_id, digest_of(b"trust"))
    assert (shown.desired_generation, shown.observed_generation) == (second.generation, first.generation)

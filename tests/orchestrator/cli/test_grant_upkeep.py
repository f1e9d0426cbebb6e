"""What receipts say of grants that nobody uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet.assignment import Receipt, ReceiptAgent, sign_receipt
from fleet.leaves import RECEIVED, event_leaf
from fleet.times import to_ms
from orchestrator.cli.grant_upkeep import newest_receipts, rows_of, uses
from tests.fakes.publisher import NOW, key

STORE, GRAPH, LOGGING = "wasi:keyvalue/store", "wasi:nn/graph", "wasi:logging/logging"
GRANT, OLDER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
BUNDLE = "sha256:" + "c" * 64
AGENT = ReceiptAgent("app/one", BUNDLE, GRANT)


def receipt(node: str, *agents: ReceiptAgent, minutes: int = 0) -> Receipt:
    return Receipt("demo", node, 1, 1, BUNDLE, NOW + timedelta(minutes=minutes), agents)


def leaf(receipt: Receipt) -> bytes:
    envelope = sign_receipt(receipt, key(receipt.node))
    return event_leaf(RECEIVED, receipt.at, f"node/{receipt.node}", envelope=envelope.decode())


def test_the_newest_receipt_of_each_node_counts() -> None:
    first = receipt("n1", AGENT)
    later = receipt("n1", replace(AGENT, used=(STORE,)), minutes=5)
    other = receipt("n2", replace(AGENT, grant_digest=OLDER))
    leaves = [event_leaf("operator:action", NOW, "user/x"), leaf(first), leaf(other), leaf(later)]
    newest = newest_receipts(enumerate(leaves))
    assert newest == {"n1": (3, later), "n2": (2, other)}
    found = uses(newest)
    assert found.keys() == {("app/one", GRANT), ("app/one", OLDER)}
    assert found["app/one", GRANT].used == {STORE}
    assert found["app/one", GRANT].since_ms == to_ms(later.at)


def test_one_node_that_uses_it_is_enough() -> None:
    leaves = [leaf(receipt("n1", replace(AGENT, used=(STORE,)))), leaf(receipt("n2", AGENT, minutes=9))]
    use = uses(newest_receipts(enumerate(leaves)))["app/one", GRANT]
    assert (use.nodes, use.used, use.leaves) == ({"n1", "n2"}, {STORE}, [0, 1])
    assert use.since_ms == to_ms(NOW)


def test_what_was_refused_says_nothing_about_use() -> None:
    refused = receipt("n1", replace(AGENT, refusal="GRANT_EXPIRED"))
    assert uses(newest_receipts([(0, leaf(refused))])) == {}


def test_both_kinds_of_unused_are_told_apart() -> None:
    use = uses(newest_receipts([(7, leaf(receipt("n1", replace(AGENT, used=(STORE,)))))]))["app/one", GRANT]
    granted = (STORE, GRAPH, LOGGING, "wasi:http/incoming-handler", "wasi:messaging/incoming-handler")
    asked = frozenset({STORE, GRAPH, "wasi:messaging/incoming-handler"})
    rows = rows_of(granted, asked, use, {"agent": "app/one", "grant": 3})
    assert [(row.record["interface"], row.record["why"]) for row in rows] == [
        ("wasi:http/incoming-handler", "not exported"),
        (LOGGING, "not imported"),
        (GRAPH, "never called"),
    ]
    assert rows[2].record["leaves"] == [7]
    assert rows[2].record["nodes"] == ["n1"]
    assert rows[0].cell("grant") == "r3"

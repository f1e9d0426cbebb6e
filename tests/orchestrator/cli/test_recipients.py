"""Which key of a node an operator's machine believes: the numbers are those of `check_recipient`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet.documents import dump_json
from fleet.errors import Code, FleetError
from fleet.sealing import SealingKeyStatement, fingerprint, public_of, sign_statement
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.recipients import (
    DECLARED,
    FILE,
    Accepted,
    Recipient,
    check_recipient,
    compare,
    list_offered,
    load_accepted,
    save_accepted,
)
from orchestrator.cli.trust import TrustDirectory
from tests.fakes.publisher import MemoryLog, fleet_trust, key
from tests.fakes.refusals import code_of

PUBLIC = public_of(bytes(range(32)))
SAID = SealingKeyStatement("demo", "n1", 2, PUBLIC)
STATEMENT = sign_statement(SAID, key("n1"))
TRUST = fleet_trust()


def leaf(statement: bytes = STATEMENT, node: str = "n1", kind: str = DECLARED) -> bytes:
    return dump_json({"kind": kind, "facts": {"node": node, "envelope": statement.decode()}})


class Coordinator:
    """A client whose coordinator shows these leaves."""

    def __init__(self, *leaves: bytes) -> None:
        self.leaves = leaves
        self.stub = SimpleNamespace(AuditEntries=None)

    def stream(self, _method: object, request: pb.AuditEntriesRequest, timeout_s: float) -> Iterator[pb.AuditEntry]:
        for index, content in enumerate(self.leaves):
            if index >= request.from_index:
                yield pb.AuditEntry(index=index, leaf=content)


def offered(log: MemoryLog, statement: bytes = STATEMENT, bound: str = "n1", **fields: object) -> pb.SealingKey:
    values = {"node": "n1", "epoch": 2, "bound_key": key(bound).public.raw, "statement": statement, "leaf": 1}
    return pb.SealingKey(**(values | {"proof": log.proof(1), "agents": ["climate/context"]} | fields))


LEAVES = (b"before", leaf(), b"after")
LOG = MemoryLog(*LEAVES)


def test_a_key_that_its_node_signed_and_the_log_holds() -> None:
    found = check_recipient(Coordinator(*LEAVES), offered(LOG), TRUST)
    assert found == Recipient("n1", 2, key("n1").public.key_id, PUBLIC, ("climate/context",))
    assert found.key == fingerprint(PUBLIC)


def forged(signer: str = "thief", secret: bytes = bytes(32)) -> bytes:
    return sign_statement(replace(SAID, key=public_of(secret[:-1] + b"\x07")), key(signer))


@pytest.mark.parametrize(
    ("log", "fields", "code"),
    [
        pytest.param(LEAVES, {"statement": forged()}, Code.SIGNATURE_INVALID, id="1-signed-by-another"),
        pytest.param(LEAVES, {"epoch": 3}, Code.SECRET_INVALID, id="1-epoch"),
        pytest.param(LEAVES, {"node": "n2"}, Code.SECRET_INVALID, id="1-node"),
        pytest.param(LEAVES, {"statement": b""}, Code.SIGNATURE_INVALID, id="1-nothing-said"),
        pytest.param(LEAVES, {"proof": b""}, Code.PROOF_INVALID, id="2-no-proof"),
        pytest.param(LEAVES, {"proof": MemoryLog(*LEAVES).proof(1, key("thief"))}, Code.PROOF_INVALID, id="2-log-key"),
        pytest.param((b"before", leaf(kind="other"), b"after"), {}, Code.PROOF_INVALID, id="2-other-kind"),
        pytest.param((b"before", leaf(node="n2"), b"after"), {}, Code.PROOF_INVALID, id="2-other-node"),
        pytest.param((b"before", leaf(forged("n1")), b"after"), {}, Code.PROOF_INVALID, id="2-other-statement"),
        pytest.param((b"before", b"\xff", b"after"), {}, Code.PROOF_INVALID, id="2-no-event"),
    ],
)
def test_what_is_refused(log: tuple[bytes, ...], fields: dict[str, object], code: Code) -> None:
    tree = MemoryLog(*log)
    offer = offered(tree, **({"proof": tree.proof(1)} | fields))
    assert code_of(lambda: check_recipient(Coordinator(*log), offer, TRUST)) is code


def test_refused_2_a_leaf_that_is_shown_must_be_the_one_in_the_tree() -> None:
    shown = (b"before", leaf(forged("n1")), b"after")
    assert code_of(lambda: check_recipient(Coordinator(*shown), offered(LOG), TRUST)) is Code.PROOF_INVALID
    assert code_of(lambda: check_recipient(Coordinator(), offered(LOG), TRUST)) is Code.PROOF_INVALID


MINE = Recipient("n1", 2, "bound", PUBLIC, ())


def test_a_key_is_compared_with_what_was_accepted(tmp_path: Path) -> None:
    directory = TrustDirectory(tmp_path)
    assert load_accepted(directory) == {}
    assert not compare(MINE, {})
    save_accepted(directory, {"n1": Accepted("bound", MINE.key)})
    assert compare(MINE, load_accepted(directory))


@pytest.mark.parametrize("change", [{"bound_key": "another"}, {"public": public_of(bytes(31) + b"\x01")}])
def test_another_key_than_the_accepted_one_is_refused(change: dict[str, object]) -> None:
    """A captured coordinator that puts its own key, or a whole node of its own, in the place of a known node."""
    with pytest.raises(FleetError) as caught:
        compare(replace(MINE, **change), {"n1": Accepted("bound", MINE.key)})
    assert caught.value.code is Code.SECRET_INVALID
    assert "edge-agent identity" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"schema": "fleet.recipients/v2", "nodes": []})])
def test_a_spoiled_list_is_for_a_person_to_look_at(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert code_of(load_accepted, TrustDirectory(tmp_path)) is Code.CONFIG_INVALID


class Paging(Coordinator):
    """A coordinator that lists so many nodes at a time."""

    def __init__(self, *names: str, forever: bool = False) -> None:
        super().__init__()
        self.names = names
        self.forever = forever
        self.stub = SimpleNamespace(ListSealingKeys=None)

    def call(self, _method: object, request: pb.ListSealingKeysRequest) -> pb.ListSealingKeysReply:
        part = [name for name in self.names if self.forever or name > request.after][:2]
        return pb.ListSealingKeysReply(keys=[pb.SealingKey(node=name) for name in part])


def test_every_part_of_the_list_is_asked_for() -> None:
    assert [key.node for key in list_offered(Paging("a", "b", "c", "d", "e"))] == ["a", "b", "c", "d", "e"]
    assert code_of(list_offered, Paging("a", "b", forever=True)) is Code.MESSAGE_INVALID

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
from fleet.joining import sign_join
from fleet.sealing import SealingKeyStatement, fingerprint, public_of, sign_statement
from fleet.signing import PublicKey, SigningKey
from fleet.v1 import control_pb2 as pb
from orchestrator.cli.joins import make_token, token_key
from orchestrator.cli.recipients import (
    DECLARED,
    ENROLLED,
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
from tests.fakes.fleet_fixture import unpadded
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


def enrolment(statement: bytes, node: str = "n1", epoch: int = 2, kind: str = ENROLLED) -> bytes:
    return dump_json({"kind": kind, "facts": {"node": node, "epoch": epoch, "join": statement.decode()}})


LEAVES = (b"before", leaf(), b"after")
LOG = MemoryLog(*LEAVES)


def test_a_key_that_its_node_signed_and_the_log_holds() -> None:
    found = check_recipient(Coordinator(*LEAVES), offered(LOG), TRUST)
    assert found == Recipient("n1", 2, key("n1").public.key_id, PUBLIC, ("climate/context",))
    assert found.key == fingerprint(PUBLIC)
    assert not found.joined


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


def offer_of(*leaves: bytes, bound: str = "n1", **fields: object) -> tuple[Coordinator, pb.SealingKey]:
    """What a coordinator with this log offers: the statement at 1, the enrolment at 2."""
    log = MemoryLog(*leaves)
    return Coordinator(*leaves), offered(
        log, bound=bound, **({"proof": log.proof(1), "join_proof": log.proof(2)} | fields)
    )


TOKEN = key("token").public
JOINED = sign_join(key("n1").public.raw, key("token"))
"""What n1 says with the token that an operator gave it."""


def test_3_a_node_that_used_the_token_of_this_machine_is_believed_at_once() -> None:
    found = check_recipient(*offer_of(b"before", leaf(), enrolment(JOINED)), TRUST, TOKEN)
    assert found.joined
    assert not compare(found, {})
    assert not compare(found, {"n1": Accepted("of the machine before", "sha256:old")})


@pytest.mark.parametrize(
    ("said", "token"),
    [
        pytest.param(enrolment(JOINED), None, id="no-token-was-made-here"),
        pytest.param(enrolment(JOINED), key("newer token").public, id="a-newer-token-was-made-here"),
        pytest.param(enrolment(sign_join(key("n1").public.raw, key("thief"))), TOKEN, id="signed-by-another"),
        pytest.param(enrolment(sign_join(key("n2").public.raw, key("token"))), TOKEN, id="of-another-machine"),
        pytest.param(enrolment(JOINED, epoch=1), TOKEN, id="of-an-earlier-enrolment"),
        pytest.param(dump_json({"kind": ENROLLED, "facts": {"node": "n1"}}), TOKEN, id="of-a-token-without-a-key"),
    ],
)
def test_3_a_node_that_nothing_ties_to_this_machine_is_not_sealed_for(said: bytes, token: PublicKey | None) -> None:
    found = check_recipient(*offer_of(b"before", leaf(), said), TRUST, token)
    assert code_of(compare, found, {}) is Code.SECRET_INVALID
    assert compare(found, {"n1": Accepted(found.bound_key, found.key)}), "unless a person has accepted it"


@pytest.mark.parametrize("said", [enrolment(JOINED, node="n2"), enrolment(JOINED, kind="other"), b"[]"])
def test_3_an_enrolment_that_the_log_does_not_hold_is_refused(said: bytes) -> None:
    assert code_of(check_recipient, *offer_of(b"before", leaf(), said), TRUST, TOKEN) is Code.PROOF_INVALID
    client, offer = offer_of(b"before", leaf(), enrolment(JOINED))
    client.leaves = (b"before", leaf(), said)
    assert code_of(check_recipient, client, offer, TRUST, TOKEN) is Code.PROOF_INVALID
    offer.join_proof = MemoryLog(b"before", leaf(), enrolment(JOINED)).proof(2, key("thief"))
    assert code_of(check_recipient, client, offer, TRUST, TOKEN) is Code.PROOF_INVALID


def test_a_captured_coordinator_that_offers_its_own_key_for_a_new_node_is_sealed_nothing() -> None:
    """It has the log's key, the node authority and every secret of every token, and enrols a machine of its own as n1.

    It lacks the key that the operator's machine put into the token: it can sign no join statement, and the real one
    is for another bound key.
    """
    mine = sign_statement(replace(SAID, key=public_of(bytes(31) + b"\x07")), key("captor"))
    for statement in (JOINED, sign_join(key("captor").public.raw, key("captor")), b""):
        leaves = (b"before", leaf(mine), enrolment(statement))
        client, offer = offer_of(*leaves, bound="captor", statement=mine)
        found = check_recipient(client, offer, TRUST, TOKEN)  # everything in its log verifies
        assert code_of(compare, found, {}) is Code.SECRET_INVALID
    client, offer = offer_of(*leaves, bound="captor", statement=mine, join_proof=b"")
    with pytest.raises(FleetError) as caught:
        compare(check_recipient(client, offer, TRUST, TOKEN), {})
    assert caught.value.code is Code.SECRET_INVALID
    assert "captured" in caught.value.remedy


class Tokens:
    """A coordinator that makes tokens."""

    def __init__(self) -> None:
        self.stub = SimpleNamespace(CreateJoinToken=None)
        self.asked: list[pb.CreateJoinTokenRequest] = []

    def call(self, _method: object, request: pb.CreateJoinTokenRequest) -> pb.CreateJoinTokenReply:
        self.asked.append(request)
        return pb.CreateJoinTokenReply(token="flt1.PIN.ID.SECRET", enrolment_address="host:1", expires_ms=7)


def test_a_token_gets_a_key_that_the_coordinator_never_sees(tmp_path: Path) -> None:
    client, directory = Tokens(), TrustDirectory(tmp_path)
    assert token_key(directory, "n1") is None
    tokens = [make_token(client, directory, "n1", {"site": "oslo"}, 60).token for _ in range(2)]
    seed = unpadded(tokens[1].rpartition(".")[2])
    public = SigningKey.from_seed(seed).public
    assert tokens[1].startswith("flt1.PIN.ID.SECRET.")
    assert (client.asked[1].key, client.asked[1].labels["site"]) == (public.raw, "oslo")
    assert token_key(directory, "n1") == public, "the newest one counts"
    assert token_key(directory, "n2") is None
    assert all(seed not in request.SerializeToString() for request in client.asked)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and seed.hex() in file.read_text()]
    (tmp_path / "joins" / "n1.pub").write_text("spoiled")
    assert code_of(token_key, directory, "n1") is Code.CONFIG_INVALID


def test_a_key_is_compared_with_what_was_accepted(tmp_path: Path) -> None:
    directory = TrustDirectory(tmp_path)
    assert load_accepted(directory) == {}
    assert code_of(compare, MINE, {}) is Code.SECRET_INVALID
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

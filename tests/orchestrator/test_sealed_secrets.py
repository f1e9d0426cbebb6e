"""What the coordinator keeps of secrets: only what it cannot read, for nodes that said so themselves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.checkpoint import open_checkpoint, parse_proof
from fleet.errors import Code
from fleet.merkle import leaf_hash, verify_inclusion
from fleet.model import Event
from fleet.sealing import (
    ESCROW,
    Label,
    SealingKeyStatement,
    SecretKind,
    SecretValue,
    fingerprint,
    public_of,
    seal,
    sign_sealed,
    sign_statement,
)
from orchestrator.audit import AuditLog
from orchestrator.sealed_secrets import MAX_SECRETS, SealedSecrets
from orchestrator.store import nodes as node_rows
from orchestrator.store.database import Store
from tests.fakes.publisher import key
from tests.fakes.refusals import code_of
from tests.fakes.stores import open_empty

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AGENT = "climate/context"
VALUE = "hunter2 in clear"


def private(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def statement(node: str = "n1", epoch: int = 1, signer: str = "", secret: str = "") -> bytes:
    said = SealingKeyStatement("demo", node, epoch, public_of(private(secret or node)))
    return sign_statement(said, key(signer or node))


def sealed(node: str = "n1", version: int = 1, name: str = "api-token", recipient: str = "", **label: str) -> bytes:
    where = dataclasses.replace(Label("demo", node, AGENT, name, version), **label)
    value = SecretValue(SecretKind.TEXT, VALUE.encode())
    return sign_sealed(seal(value, where, public_of(private(recipient or node or "escrow"))), key("secrets"))


@dataclass
class Desk:
    """The use cases over a real store."""

    store: Store
    signalled: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = AuditLog("demo", key("log"))
        self.secrets = SealedSecrets(
            fleet="demo",
            store=self.store,
            log=self.log,
            clock=lambda: NOW,
            signal=self.signal,
            journal=self.events.append,
        )

    def signal(self, names: Iterable[str]) -> None:
        self.signalled += sorted(names)

    def node(self, name: str, epoch: int = 1, locked: str = "") -> None:
        row = node_rows.NodeRow(
            name=name,
            labels={},
            locked=locked,
            epoch=epoch,
            sequence=1,
            confirmed=0,
            bound_key=key(name).public.raw,
            certificate_expires_ms=0,
            agent_version="",
            architecture="",
            joined_ms=0,
            last_seen_ms=None,
        )
        with self.store.control.write() as connection:
            node_rows.put_node(connection, row)

    def put(self, version: int = 1, *envelopes: bytes, name: str = "api-token") -> tuple[str, ...]:
        return self.secrets.put(AGENT, name, version, envelopes, "alice")

    def code(self, version: int = 1, *envelopes: bytes, name: str = "api-token") -> Code | None:
        return code_of(lambda: self.put(version, *envelopes, name=name))

    def leaves(self) -> list[dict]:
        with self.store.control.read() as connection:
            return [json.loads(leaf) for _, leaf in self.log.entries(connection, 0, 1_000)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = open_empty(tmp_path)
    desk = Desk(store)
    for name in ("n1", "n2"):
        desk.node(name)
        desk.secrets.declare(name, 1, statement(name))
    yield desk
    store.close()


def test_a_nodes_key_comes_with_the_proof_that_the_log_has_it(desk: Desk) -> None:
    first, second = desk.secrets.recipients()
    assert (first.node, second.node) == ("n1", "n2")
    assert first.statement == statement("n1")
    proof = parse_proof(first.proof)
    checkpoint = open_checkpoint(proof.note, (desk.log.vkey,))
    with desk.store.control.read() as connection:
        ((_, leaf),) = desk.log.entries(connection, first.leaf, 1)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    assert json.loads(leaf)["facts"]["envelope"] == first.statement.decode()
    desk.secrets.declare("n1", 1, statement("n1"))
    assert len(desk.leaves()) == 2, "the same again is no news"


def test_nodes_are_listed_part_by_part(desk: Desk) -> None:
    (first,) = desk.secrets.recipients(limit=1)
    (second,) = desk.secrets.recipients(first.node, limit=1)
    assert (first.node, second.node) == ("n1", "n2")
    assert desk.secrets.recipients(second.node) == ()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (statement("n1", signer="n2"), Code.SIGNATURE_INVALID),
        (statement("n2", signer="n1"), Code.SECRET_INVALID),
        (statement("n1", epoch=2), Code.SECRET_INVALID),
        (b"garbage", Code.SIGNATURE_INVALID),
    ],
)
def test_a_node_speaks_for_itself_alone(desk: Desk, said: bytes, code: Code) -> None:
    assert code_of(desk.secrets.declare, "n1", 1, said) is code
    assert code_of(desk.secrets.declare, "nobody", 1, said) is Code.CERTIFICATE_INVALID


def test_a_secret_is_kept_for_its_nodes(desk: Desk) -> None:
    escrow, first, second = sealed(ESCROW), sealed("n1"), sealed("n2")
    assert desk.put(1, escrow, first, second) == ("n1", "n2")
    assert desk.secrets.of_node("n1") == (first,)
    assert desk.secrets.of_node("n2") == (second,)
    assert desk.signalled == ["n1", "n2"]
    (view,) = desk.secrets.list(AGENT)
    assert (view.row.version, view.row.operator, view.row.escrow) == (1, "alice", escrow)
    assert desk.secrets.list("climate/other") == ()
    leaf = desk.leaves()[-1]
    assert (leaf["kind"], leaf["actor"]) == ("secret:value:set", "user/alice")
    assert leaf["facts"] == {"agent": AGENT, "secret": "api-token", "version": 1, "nodes": ["n1", "n2"]}


def test_nothing_of_the_value_is_on_disk(desk: Desk, tmp_path: Path) -> None:
    desk.put(1, sealed(ESCROW), sealed("n1"))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert VALUE.encode() not in content
    assert b"api-token" in content, "the positive control"


def test_the_next_version_replaces_and_a_node_may_stay_behind(desk: Desk) -> None:
    desk.put(1, sealed(ESCROW), sealed("n1"), sealed("n2"))
    assert desk.put(2, sealed(ESCROW, 2), sealed("n1", 2)) == ("n1",)
    (view,) = desk.secrets.list("")
    assert view.versions == {"n1": 2, "n2": 1}
    assert desk.put(2, sealed("n2", 2)) == ("n1", "n2"), "the newest version again, for a node that lacks it"
    assert desk.secrets.list("")[0].row.escrow == sealed_escrow(desk)


def sealed_escrow(desk: Desk) -> bytes:
    return desk.secrets.list("")[0].row.escrow


def test_removing_takes_it_from_every_node_and_versions_go_on(desk: Desk) -> None:
    desk.put(1, sealed(ESCROW), sealed("n1"), sealed("n2"))
    assert desk.secrets.remove(AGENT, "api-token", "bob") == ("n1", "n2")
    assert desk.secrets.of_node("n1") == ()
    assert desk.signalled[-2:] == ["n1", "n2"]
    (view,) = desk.secrets.list("")
    assert (view.row.removed, view.row.escrow, view.row.version) == (True, b"", 1)
    assert code_of(desk.secrets.remove, AGENT, "api-token", "bob") is Code.NOT_FOUND
    assert desk.code(1, sealed(ESCROW), sealed("n1")) is Code.GENERATION_CONFLICT
    assert desk.put(2, sealed(ESCROW, 2), sealed("n1", 2)) == ("n1",)


@pytest.mark.parametrize(
    ("version", "envelopes", "code"),
    [
        pytest.param(2, [sealed(ESCROW, 2)], Code.GENERATION_CONFLICT, id="1-too-new"),
        pytest.param(0, [sealed(ESCROW)], Code.VALUE_INVALID, id="1-none"),
        pytest.param(1, [sealed("n1")], Code.SECRET_INVALID, id="2-no-escrow"),
        pytest.param(1, [sealed(ESCROW), sealed("n1", name="other")], Code.SECRET_INVALID, id="2-other-name"),
        pytest.param(1, [sealed(ESCROW), sealed("n1", agent="a/b")], Code.SECRET_INVALID, id="2-other-agent"),
        pytest.param(1, [sealed(ESCROW), sealed("n1", 2)], Code.SECRET_INVALID, id="2-other-version"),
        pytest.param(1, [sealed(ESCROW), sealed("n1", fleet="x")], Code.SECRET_INVALID, id="2-other-fleet"),
        pytest.param(1, [sealed(ESCROW), sealed("n1"), sealed("n1")], Code.SECRET_INVALID, id="2-twice"),
        pytest.param(1, [sealed(ESCROW), b"garbage"], Code.SECRET_INVALID, id="2-garbage"),
        pytest.param(1, [sealed(ESCROW), bytes(1 << 17)], Code.LIMIT_EXCEEDED, id="2-size"),
        pytest.param(1, [sealed(ESCROW), sealed("n9")], Code.NOT_FOUND, id="3-unknown-node"),
        pytest.param(1, [sealed(ESCROW), sealed("n1", recipient="n2")], Code.SECRET_INVALID, id="3-other-key"),
    ],
)
def test_what_is_refused_changes_nothing(desk: Desk, version: int, envelopes: list[bytes], code: Code) -> None:
    leaves = desk.leaves()
    assert desk.code(version, *envelopes) is code
    assert desk.secrets.of_node("n1") == ()
    assert desk.leaves() == leaves
    assert desk.signalled == []


def test_refused_3_a_locked_node_gets_nothing(desk: Desk) -> None:
    desk.node("n1", locked="two machines")
    assert desk.code(1, sealed(ESCROW), sealed("n1")) is Code.NODE_LOCKED
    assert [found.node for found in desk.secrets.recipients()] == ["n2"]


def test_refused_4_a_node_takes_so_many(desk: Desk) -> None:
    for number in range(MAX_SECRETS):
        name = f"s{number}"
        desk.put(1, sealed(ESCROW, name=name), sealed("n1", name=name), name=name)
    assert desk.code(1, sealed(ESCROW, name="more"), sealed("n1", name="more"), name="more") is Code.LIMIT_EXCEEDED


def test_a_node_with_a_new_key_has_nothing_until_it_is_sealed_again(desk: Desk) -> None:
    desk.put(1, sealed(ESCROW), sealed("n1"))
    desk.node("n1", epoch=2)
    (found, _) = desk.secrets.recipients()
    assert found.statement == b"", "it has said nothing in this enrolment"
    assert desk.code(1, sealed("n1")) is Code.SECRET_INVALID
    desk.secrets.declare("n1", 2, statement("n1", 2, secret="another"))
    assert desk.secrets.of_node("n1") == ()
    assert desk.events[-1].message == fingerprint(public_of(private("another")))
    assert desk.put(1, sealed("n1", recipient="another")) == ("n1",)

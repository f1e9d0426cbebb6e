"""Attacks on a running fleet: what a thief of the coordinator, of a disk, or of a certificate can and cannot do.

One fleet for all of them; every test leaves it as it found it.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.checkpoint import open_checkpoint, sign_checkpoint
from fleet.errors import Code
from fleet.model import TargetRef
from fleet.oci import digest_of
from fleet.signing import SigningKey
from fleet.v1 import control_pb2, control_pb2_grpc, node_pb2, node_pb2_grpc
from orchestrator import pki, principals
from orchestrator.audit import AuditLog
from orchestrator.blobs import Blobs
from orchestrator.config import load_settings
from orchestrator.director import Director, agents_of
from orchestrator.store import nodes as rows
from orchestrator.store.database import Store
from tests.fakes.fleet_fixture import error_of, make_csr
from tests.system.harness import ROOT, RealFleet, wait_for

CALL_S = 60.0
READING = 'handle-data({source: "roof", value: 20.5, timestamp: 1})'
HANDLER = [{"event": {"topic": "readings", "function": "handle-data"}}]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path_factory.mktemp("attacks") / "fleet")
    fleet.init()
    try:
        fleet.up()
        fleet.join("n1", "n2")
        fleet.publish("context-agent")
        for name in ("context", "other"):
            fleet.approve(f"climate/{name}", "context-agent@0.1.0")
        agent = {"name": "context", "bundle": "context-agent@0.1.0", "triggers": HANDLER}
        fleet.ctl("deploy", str(fleet.manifest("climate", agent)))
        yield fleet
    finally:
        fleet.close()


def healthy(fleet: RealFleet) -> bool:
    return {(a["node"], a["phase"]) for a in fleet.agents("climate")} == {("n1", "running"), ("n2", "running")}


def ledger(fleet: RealFleet, node: str) -> Path:
    return fleet.directory(node) / "ledger" / "desired.json"


def generation(fleet: RealFleet, node: str) -> int:
    return int(json.loads(ledger(fleet, node).read_bytes())["generation"])


def log_of(fleet: RealFleet, node: str) -> str:
    return (fleet.directory(node) / "agent.log").read_text()


# The director's and the log's key in the hands of a thief


Order = Callable[[Store, Director, rows.NodeRow], None]


@contextmanager
def captured(fleet: RealFleet) -> Iterator[Callable[[Order], None]]:
    """Give out what a captured coordinator has: its keys, its database, its blobs. Puts honest orders back."""
    settings = load_settings(fleet.home / "coordinator" / "coordinator.toml", {}, {})
    files = settings.files
    log = AuditLog(settings.fleet, SigningKey.from_pem(files.log_key.read_bytes()))
    key = SigningKey.from_pem(files.director_key.read_bytes())
    director = Director(settings.fleet, key, log, timedelta(days=30))

    def act(order: Order) -> None:
        fleet.down()
        store = Store.open(files.database)
        with store.control.read() as connection:
            node = rows.get_node(connection, "n1")
        assert node is not None
        order(store, director, node)
        store.close()
        fleet.up()

    store = Store.open(files.database)
    with store.control.read() as connection:
        honest = agents_of(rows.get_desired(connection, "n1"))
    store.close()

    def put_back(store: Store, director: Director, node: rows.NodeRow) -> None:
        with store.control.write() as connection:
            director.order(connection, node, honest, datetime.now(UTC), above=generation(fleet, "n1"))

    try:
        yield act
    finally:
        act(put_back)
        fleet.wait_online("n1", "n2")
        wait_for("the fleet is healthy again", lambda: healthy(fleet))


def refusals(fleet: RealFleet, kind: str) -> set[str]:
    return {e["detail"]["code"] for e in fleet.ask("events", "--node", "n1", "--limit", "100") if e["kind"] == kind}


def phase_on(fleet: RealFleet, node: str, agent: str) -> str:
    return next((a["phase"] for a in fleet.agents("climate") if (a["node"], a["agent"]) == (node, agent)), "")


def test_the_director_alone_widens_no_grant(fleet: RealFleet) -> None:
    wide = (fleet.home / "climate-context.yaml").read_text().replace('"context"', '"*"').encode()

    def widen(store: Store, director: Director, node: rows.NodeRow) -> None:
        Blobs(fleet.home / "coordinator" / "blobs").put(wide)
        with store.control.write() as connection:
            (agent,) = agents_of(rows.get_desired(connection, "n1"))
            forged = replace(agent, grant=TargetRef(agent.grant.path, digest_of(wide)))
            director.order(connection, node, [forged], datetime.now(UTC))

    with captured(fleet) as act:
        act(widen)
        wait_for("n1 refuses to run it", lambda: phase_on(fleet, "n1", "climate/context") == "failed")
        messages = {e["message"] for e in fleet.ask("events", "--node", "n1") if e["kind"] == "agent:admission:refused"}
        assert any(Code.DIGEST_MISMATCH in message for message in messages)
        assert not list(fleet.directory("n1").rglob(digest_of(wide).removeprefix("sha256:")))
        assert phase_on(fleet, "n2", "climate/context") == "running"


def test_the_order_of_one_node_serves_no_other(fleet: RealFleet) -> None:
    before = generation(fleet, "n1")

    def divert(store: Store, director: Director, node: rows.NodeRow) -> None:
        with store.control.write() as connection:
            theirs = rows.get_desired(connection, "n2")
            assert theirs is not None
            rows.put_desired(connection, replace(theirs, node="n1", generation=before + 1))

    with captured(fleet) as act:
        act(divert)
        refused = "assignment:desired:refused"
        wait_for("n1 refuses it", lambda: Code.ASSIGNMENT_WRONG_NODE in refusals(fleet, refused))
        assert generation(fleet, "n1") == before  # what it accepted before stays in force
        assert healthy(fleet)


def test_the_grant_of_one_agent_serves_no_other(fleet: RealFleet) -> None:
    def borrow(store: Store, director: Director, node: rows.NodeRow) -> None:
        with store.control.write() as connection:
            (agent,) = agents_of(rows.get_desired(connection, "n1"))
            director.order(connection, node, [replace(agent, name="climate/other")], datetime.now(UTC))

    with captured(fleet) as act:
        act(borrow)

        wait_for("admission refuses", lambda: phase_on(fleet, "n1", "climate/other") == "failed")
        assert "GRANT_NOT_APPLICABLE" in fleet.ctl("-o", "json", "events", "--agent", "climate/other").stdout
        assert phase_on(fleet, "n2", "climate/context") == "running"


def test_a_rewritten_audit_log_is_found_out(fleet: RealFleet) -> None:
    assert fleet.ask("audit", "verify")["verified"]
    files = load_settings(fleet.home / "coordinator" / "coordinator.toml", {}, {}).files
    remembered = fleet.home / "trust" / "log.checkpoint"
    note = remembered.read_bytes()
    # The log's key signed another past before: what was verified here is not in the log any more.
    log_key = SigningKey.from_pem(files.log_key.read_bytes())
    seen = open_checkpoint(note, (AuditLog("test", log_key).vkey,))
    remembered.write_bytes(sign_checkpoint(seen.origin, seen.size, b"x" * 32, log_key))
    assert "LOG_FORKED" in fleet.ctl("audit", "verify", expect=7).stderr
    remembered.write_bytes(note)
    # A leaf is exchanged in the database, past the triggers that keep accidents away.
    with edited_leaf(files.database / "control.db"):
        assert "AUDIT_INVALID" in fleet.ctl("audit", "verify", expect=7).stderr
    assert fleet.ask("audit", "verify")["verified"]


@contextmanager
def edited_leaf(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        ((leaf,),) = database.execute("SELECT leaf FROM audit_entry WHERE position = 1").fetchall()

        def put(data: bytes) -> None:
            database.execute("BEGIN IMMEDIATE")
            for name, _ in triggers:
                database.execute(f"DROP TRIGGER {name}")
            database.execute("UPDATE audit_entry SET leaf = ? WHERE position = 1", (data,))
            for _, statement in triggers:
                database.execute(statement)
            database.execute("COMMIT")

        put(leaf[:-1] + bytes([leaf[-1] ^ 1]))
        try:
            yield
        finally:
            put(leaf)


# Disks in the hands of a thief


@contextmanager
def switched_off(fleet: RealFleet, node: str) -> Iterator[Path]:
    """The node's directory while the node is down; up again and healthy afterwards."""
    fleet.ctl("node", "down", node)
    yield fleet.directory(node)
    fleet.ctl("node", "up", node)
    fleet.wait_online(node)
    wait_for(f"{node} runs its agent again", lambda: healthy(fleet))


def flip(file: Path, at: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


def blob_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and len(p.name) == 64)


def test_an_edited_file_on_a_node_is_noticed_and_fetched_again(fleet: RealFleet) -> None:
    with switched_off(fleet, "n1") as folder:
        blobs = blob_files(folder / "blobs")
        before = {file: file.read_bytes() for file in blobs}
        for file in blobs:
            flip(file)
    for file, data in before.items():
        if file.exists():  # the fleet's own document is not needed again and may stay away
            assert digest_of(file.read_bytes()) == f"sha256:{file.name}" or data == file.read_bytes()


def test_an_edited_file_without_a_coordinator_runs_nothing(fleet: RealFleet) -> None:
    fleet.down()
    fleet.ctl("node", "down", "n1")
    (component,) = [f for f in blob_files(fleet.directory("n1") / "blobs") if f.read_bytes().startswith(b"\0asm")]
    flip(component)
    fleet.ctl("node", "up", "n1")
    wait_for("the edited file is removed", lambda: not component.exists())
    fleet.up()
    fleet.wait_online("n1", "n2")
    wait_for("n1 fetches it again and runs", lambda: healthy(fleet))
    assert digest_of(component.read_bytes()) == f"sha256:{component.name}"


def test_an_edited_file_on_the_coordinator_reaches_no_node(fleet: RealFleet) -> None:
    (theirs,) = [f for f in blob_files(fleet.home / "coordinator" / "blobs") if f.read_bytes().startswith(b"\0asm")]
    honest = theirs.read_bytes()
    fleet.ctl("node", "down", "n1")
    (mine,) = fleet.directory("n1").rglob(theirs.name)
    mine.unlink()
    flip(theirs)
    fleet.ctl("node", "up", "n1")
    fleet.wait_online("n1")
    try:
        wait_for("n1 refuses it", lambda: "DIGEST_MISMATCH" in refusals(fleet, "blob:repair:failed"))
        assert not mine.exists()
        assert phase_on(fleet, "n2", "climate/context") == "running"
    finally:
        theirs.write_bytes(honest)
    wait_for("n1 fetches the right one by itself", lambda: healthy(fleet))
    assert mine.read_bytes() == honest


@pytest.mark.parametrize("theft", [True, False])
def test_an_edited_ledger_is_set_aside_and_sent_again(fleet: RealFleet, theft: bool) -> None:
    before = generation(fleet, "n1")
    with switched_off(fleet, "n1") as folder:
        file = ledger(fleet, "n1")
        if theft:
            file.write_bytes(ledger(fleet, "n2").read_bytes())
        else:
            entry = json.loads(file.read_bytes())
            envelope = bytearray(base64.b64decode(entry["envelope"]))
            envelope[len(envelope) // 2] ^= 1
            entry["envelope"] = base64.b64encode(envelope).decode()
            file.write_text(json.dumps(entry))
        flip(folder / "trust" / "metadata.json")  # and no release to judge it by
    assert generation(fleet, "n1") >= before
    assert (file.parent / "desired.corrupt").exists()
    (file.parent / "desired.corrupt").unlink()
    assert json.loads((folder / "trust" / "metadata.json").read_bytes())["schema"] == "fleet.adopted/v2"


def test_edited_machine_code_is_never_run(fleet: RealFleet) -> None:
    with switched_off(fleet, "n1") as folder:
        modules = list(folder.rglob("*.compiled"))
        assert modules
        edited = []
        for file in modules:
            flip(file)
            edited.append(file.read_bytes())
    assert "does not verify; it is compiled again" in log_of(fleet, "n1")
    assert not [file for file in modules if file.exists() and file.read_bytes() in edited]


def test_garbage_for_state_ends_no_agent_and_is_no_answer(fleet: RealFleet) -> None:
    def ask() -> str:
        return fleet.ctl("call", "climate/context", READING, "--node", "n1").stdout

    assert "error" not in ask()
    with switched_off(fleet, "n1") as folder:
        state = folder / "state" / "climate"
        kept = {file: file.read_bytes() for file in state.iterdir() if file.is_file()}
        for file in kept:
            file.write_bytes(b"garbage" * 1000)
    restarts = {a["node"]: a["restarts"] for a in fleet.agents("climate")}
    answer = ask()
    assert "error" in answer, answer  # no verdict without state, and no trap either
    assert {a["node"]: a["restarts"] for a in fleet.agents("climate")} == restarts
    with switched_off(fleet, "n1"):
        for file in state.iterdir():
            if file.is_file():
                file.unlink()
        for file, data in kept.items():
            file.write_bytes(data)


def test_a_spoiled_private_key_is_replaced_by_renewal(fleet: RealFleet) -> None:
    with switched_off(fleet, "n1") as folder:
        file = folder / "keys" / "tls.pem"
        key, marker, certificate = file.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
        other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        assert len(other) == len(key)
        file.write_bytes(other + marker + certificate)


# Certificates and tokens in the hands of a thief


def channel(fleet: RealFleet, pair: pki.KeyPair) -> grpc.Channel:
    settings = load_settings(fleet.home / "coordinator" / "coordinator.toml", {}, {})
    authority = settings.files.node_authority.read_bytes()
    credentials = grpc.ssl_channel_credentials(authority, pair.key, pair.certificate)
    return grpc.secure_channel(str(settings.listen_session), credentials)


def node_pair(fleet: RealFleet, node: str) -> pki.KeyPair:
    key, marker, certificate = (
        (fleet.directory(node) / "keys" / "tls.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    )
    return pki.KeyPair(key, marker + certificate)


def minted(
    fleet: RealFleet, identity: principals.NodeIdentity, issued: datetime, authority: pki.KeyPair | None = None
) -> pki.KeyPair:
    """A node's certificate from the fleet's own authority, which the coordinator holds, or from another."""
    files = load_settings(fleet.home / "coordinator" / "coordinator.toml", {}, {}).files
    real = pki.KeyPair(files.node_authority_key.read_bytes(), files.node_authority.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pki.KeyPair(pem, pki.issue_node(authority or real, "test", identity, make_csr(key), issued))


def test_a_node_is_no_operator_and_an_operator_no_node(fleet: RealFleet) -> None:
    with channel(fleet, node_pair(fleet, "n1")) as door, pytest.raises(grpc.RpcError) as caught:
        control_pb2_grpc.ControlServiceStub(door).ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.PERMISSION_DENIED
    key, certificate = ((fleet.home / "operator" / name).read_bytes() for name in ("admin.pem", "admin.crt"))
    with channel(fleet, pki.KeyPair(key, certificate)) as door:
        control_pb2_grpc.ControlServiceStub(door).ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
        with pytest.raises(grpc.RpcError) as caught:
            node_pb2_grpc.NodeServiceStub(door).FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.PERMISSION_DENIED


def test_expired_and_strange_certificates_get_no_connection(fleet: RealFleet) -> None:
    now = datetime.now(UTC)
    good = principals.NodeIdentity("n1", 1, now + timedelta(hours=1))
    old = principals.NodeIdentity("n1", 1, now - timedelta(hours=1))
    stranger = pki.new_authority("nodes", now)
    for pair in (minted(fleet, old, now - timedelta(hours=3)), minted(fleet, good, now, stranger)):
        with channel(fleet, pair) as door, pytest.raises(grpc.RpcError) as caught:
            node_pb2_grpc.NodeServiceStub(door).FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("identity", [("n9", 1), ("n1", 99)])
def test_a_minted_certificate_for_no_enrolled_node_is_turned_away(fleet: RealFleet, identity: tuple[str, int]) -> None:
    now = datetime.now(UTC)
    pair = minted(fleet, principals.NodeIdentity(*identity, now + timedelta(hours=1)), now)
    with channel(fleet, pair) as door, pytest.raises(grpc.RpcError) as caught:
        node_pb2_grpc.NodeServiceStub(door).FetchTrust(node_pb2.FetchTrustRequest(), timeout=CALL_S)
    assert error_of(caught.value).code == Code.CERTIFICATE_INVALID


def test_a_token_makes_one_node_only(fleet: RealFleet, tmp_path: Path) -> None:
    token = fleet.ask("node", "token", "n3")

    def join(folder: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "edge_agent.agent", "join", "--data-dir", str(tmp_path / folder)),
                *("--coordinator", token["coordinator"], "--root", token["root"], "--token-file", "/dev/stdin"),
            ],
            input=token["token"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert join("first").returncode == 0
    second = join("second")
    assert second.returncode != 0
    assert "TOKEN_INVALID" in second.stderr
    assert token["token"] not in second.stderr

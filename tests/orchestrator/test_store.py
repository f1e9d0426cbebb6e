"""The store: the same contract in memory and on disk, migrations that agree with the tables, an unchangeable log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.checkpoint import open_checkpoint, parse_proof
from fleet.errors import Code, FleetError
from fleet.merkle import consistency_proof, leaf_hash, verify_consistency, verify_inclusion
from fleet.model import Event
from orchestrator.audit import AuditLog, event_leaf
from orchestrator.store import audit, deployments, nodes, schema, telemetry, witnesses
from orchestrator.store.database import Database, Store
from orchestrator.store.deployments import DeploymentRow, DeploymentState, StoredDeployment, WaveRow
from tests.fakes.publisher import key

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(None if request.param == "memory" else tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def log() -> AuditLog:
    return AuditLog("demo", key("log"))


def node_row(name: str = "n1", **fields: object) -> nodes.NodeRow:
    values: dict[str, object] = {
        "labels": {"site": "oslo"},
        "locked": "",
        "epoch": 1,
        "sequence": 1,
        "confirmed": 0,
        "bound_key": b"k" * 32,
        "certificate_expires_ms": 1,
        "agent_version": "",
        "architecture": "",
        "joined_ms": 1,
        "last_seen_ms": None,
    }
    return nodes.NodeRow(name=name, **{**values, **fields})  # type: ignore[arg-type]


def running(identifier: str, application: str = "app") -> StoredDeployment:
    head = DeploymentRow(identifier, application, DeploymentState.RUNNING, "", "alice", "{}", 1)
    return StoredDeployment(head, (WaveRow(1, "waiting"),), ())


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 - the block is the transaction
        with store.control.write() as connection:
            nodes.put_node(connection, node_row())
            raise ZeroDivisionError
    with store.control.read() as connection:
        assert nodes.list_nodes(connection) == ()


def test_rows_come_back_as_they_went_in(store: Store) -> None:
    row = node_row()
    with store.control.write() as connection:
        nodes.put_node(connection, node_row(epoch=7))
        nodes.put_node(connection, row)
        token = nodes.TokenRow("t", b"s", "n1", {"a": "b"}, "alice", 5, None)
        nodes.put_token(connection, token)
    with store.control.read() as connection:
        assert nodes.get_node(connection, "n1") == row
        assert nodes.get_token(connection, "t") == token
        assert nodes.get_node(connection, "n2") is None


def test_one_deployment_of_an_application_runs_at_a_time(store: Store) -> None:
    with store.control.write() as connection:
        deployments.insert_deployment(connection, running("d1"))
        deployments.insert_deployment(connection, running("other", "elsewhere"))
    with pytest.raises(FleetError) as caught, store.control.write() as connection:
        deployments.insert_deployment(connection, running("d2"))
    assert caught.value.code is Code.ROLLOUT_RUNNING
    with store.control.write() as connection:
        assert deployments.finish(connection, "d1", DeploymentState.SUCCEEDED, "", 2)
        assert not deployments.finish(connection, "d1", DeploymentState.CANCELLED, "", 3)
        deployments.insert_deployment(connection, running("d2"))
        listed = deployments.list_deployments(connection, "app", 10)
    assert [(d.head.id, d.head.state) for d in listed] == [("d2", "running"), ("d1", "succeeded")]


def test_events_are_numbered_in_order_and_the_oldest_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_EVENTS", 3)
    with store.telemetry.write() as connection:
        for number in range(5):
            telemetry.append_events(connection, [Event(NOW, "n1", "", "a:b:c", str(number), {"k": "v"})])
        kept = telemetry.list_events(connection, after=0, limit=10, node="", agent="")
        assert [(event.sequence, event.message) for event in kept] == [(3, "2"), (4, "3"), (5, "4")]
        assert telemetry.last_events(connection, limit=1, node="n1", agent="")[0].message == "4"
        assert telemetry.list_events(connection, after=0, limit=10, node="n2", agent="") == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET leaf = x'00'",
        "DELETE FROM audit_entry",
        "INSERT OR REPLACE INTO audit_entry VALUES (0, x'00')",
        "UPDATE audit_node SET hash = x'00'",
        "DELETE FROM audit_node",
        "INSERT OR REPLACE INTO audit_node VALUES (0, 0, x'00')",
        "UPDATE checkpoint SET note = x'00'",
        "DELETE FROM checkpoint",
        "INSERT OR REPLACE INTO checkpoint VALUES (1, x'00', 0)",
        "UPDATE cosignature SET line = ''",
        "DELETE FROM cosignature",
        "INSERT OR REPLACE INTO cosignature VALUES (1, 'w', '', 0)",
    ],
)
def test_the_database_refuses_to_change_the_log(store: Store, log: AuditLog, statement: str) -> None:
    with store.control.write() as connection:
        log.append(connection, [b"leaf"])
        witnesses.put_checkpoint(connection, witnesses.CheckpointRow(1, b"note", 0))
        witnesses.put_cosignature(connection, witnesses.CosignatureRow(1, "w", "line", 0))
    with pytest.raises(sa.exc.IntegrityError, match="append-only"), store.control.write() as connection:
        connection.exec_driver_sql(statement)
    with store.control.read() as connection:
        assert log.entries(connection, 0, 10) == ((0, b"leaf"),)


def test_a_leaf_is_there_only_if_its_change_is(store: Store, log: AuditLog) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117 - the block is the transaction
        with store.control.write() as connection:
            log.append(connection, [event_leaf("a:b:c", NOW, "coordinator")])
            raise ZeroDivisionError
    with store.control.write() as connection:
        assert audit.log_size(connection) == 0
        assert log.append(connection, [b"first"]) == 0


@settings(max_examples=25)
@given(st.lists(st.lists(st.binary(max_size=8), min_size=1, max_size=4), min_size=1, max_size=8))
def test_every_proof_of_the_log_verifies(batches: list[list[bytes]]) -> None:
    store, log = Store.open(None), AuditLog("demo", key("log"))
    leaves: list[bytes] = []
    checkpoints = []
    with store.control.write() as connection:
        for batch in batches:
            assert log.append(connection, batch) == len(leaves)
            leaves += batch
            checkpoints.append(open_checkpoint(log.checkpoint(connection), (log.vkey,)))
        newest = checkpoints[-1]
        assert newest.size == len(leaves)
        for index, leaf in enumerate(leaves):
            proof = parse_proof(log.proof(connection, index))
            assert open_checkpoint(proof.note, (log.vkey,)) == newest
            verify_inclusion(proof.index, newest.size, leaf_hash(leaf), proof.hashes, newest.root)
        for older in checkpoints:
            path = consistency_proof(lambda lv, i: audit.read_hash(connection, lv, i), older.size, newest.size)
            verify_consistency(older.size, newest.size, older.root, newest.root, path)
    store.close()


@pytest.mark.parametrize("name", ["control", "telemetry"])
def test_migrations_agree_with_the_tables(tmp_path: Path, name: str) -> None:
    store = Store.open(tmp_path)
    database: Database = getattr(store, name)
    metadata = {"control": schema.CONTROL, "telemetry": schema.TELEMETRY}[name]
    with database.read() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    store.close()
    assert differences == []


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.control.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(FleetError) as caught:
        Store.open(tmp_path)
    assert caught.value.code is Code.CONFIG_INVALID


def test_the_files_belong_to_the_coordinator_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    assert (tmp_path / "control.db").stat().st_mode & 0o777 == 0o600

"""Statements about events and the last reports of nodes (telemetry.db).

Owns: the sequence numbers of events and how many events are kept. A report is opaque bytes here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from fleet.documents import dump_json
from fleet.model import Event
from fleet.times import from_ms, to_ms
from orchestrator.store.schema import event, observed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

MAX_EVENTS = 100_000
"""Events that are kept; the oldest go first."""


def append_events(connection: sa.Connection, events: Sequence[Event]) -> None:
    """Store events in order; the database numbers them."""
    if not events:
        return
    rows = [
        {
            "at_ms": to_ms(item.at),
            "node": item.node,
            "agent": item.agent,
            "kind": item.kind,
            "message": item.message,
            "detail": dump_json(dict(item.detail)).decode(),
        }
        for item in events
    ]
    connection.execute(sa.insert(event), rows)
    newest = connection.execute(sa.select(sa.func.max(event.c.sequence))).scalar_one()
    connection.execute(sa.delete(event).where(event.c.sequence <= newest - MAX_EVENTS))


def list_events(connection: sa.Connection, *, after: int, limit: int, node: str, agent: str) -> tuple[Event, ...]:
    """Return events with a greater sequence, in order; empty `node` or `agent` means any."""
    statement = sa.select(event).where(event.c.sequence > after).order_by(event.c.sequence).limit(limit)
    return _events(connection, _filtered(statement, node, agent))


def last_events(connection: sa.Connection, *, limit: int, node: str, agent: str) -> tuple[Event, ...]:
    """Return the newest events, in order."""
    statement = sa.select(event).order_by(event.c.sequence.desc()).limit(limit)
    return tuple(reversed(_events(connection, _filtered(statement, node, agent))))


def _filtered(statement: sa.Select[tuple[object, ...]], node: str, agent: str) -> sa.Select[tuple[object, ...]]:
    if node:
        statement = statement.where(event.c.node == node)
    if agent:
        statement = statement.where(event.c.agent == agent)
    return statement


def _events(connection: sa.Connection, statement: sa.Select[tuple[object, ...]]) -> tuple[Event, ...]:
    return tuple(
        Event(
            at=from_ms(row.at_ms),
            node=row.node,
            agent=row.agent,
            kind=row.kind,
            message=row.message,
            detail=json.loads(row.detail),
            sequence=row.sequence,
        )
        for row in connection.execute(statement)
    )


def put_observed(connection: sa.Connection, node: str, state: bytes, received: datetime) -> None:
    """Replace the stored report of a node."""
    values = {"node": node, "state": state, "received_ms": to_ms(received)}
    connection.execute(insert(observed).values(values).on_conflict_do_update(index_elements=["node"], set_=values))


def list_observed(connection: sa.Connection) -> Mapping[str, tuple[bytes, datetime]]:
    """Return the stored report of every node and when it came."""
    return {row.node: (row.state, from_ms(row.received_ms)) for row in connection.execute(sa.select(observed))}

"""Statements about the published trust metadata and the grants that it ever approved.

Owns: the current metadata files, replaced as one set, and every grant document that was once published, so that the
past can be answered after a grant is withdrawn. Never verifies: `orchestrator.releases` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from fleet.documents import dump_json
from orchestrator.store.schema import approved_grant, release_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant document that was published once."""

    digest: str
    path: str
    agent: str
    revision: int
    approvers: tuple[str, ...]
    document: bytes


@dataclass(frozen=True, slots=True)
class AdoptedFiles:
    """The published metadata and when it was verified; no files before the first publish."""

    files: Mapping[str, bytes]
    adopted_ms: int


def read_files(connection: sa.Connection) -> AdoptedFiles:
    """Return the published metadata by file name."""
    rows = connection.execute(sa.select(release_file).order_by(release_file.c.name)).all()
    return AdoptedFiles({row.name: row.content for row in rows}, max((row.adopted_ms for row in rows), default=0))


def replace_files(connection: sa.Connection, files: Mapping[str, bytes], adopted_ms: int) -> None:
    """Replace the published metadata."""
    rows = [{"name": name, "content": content, "adopted_ms": adopted_ms} for name, content in files.items()]
    connection.execute(sa.delete(release_file))
    connection.execute(sa.insert(release_file), rows)


def put_grants(connection: sa.Connection, grants: Iterable[GrantRow]) -> None:
    """Remember grants; one that is known already gets its newest path and approvers."""
    for grant in grants:
        values = {
            "digest": grant.digest,
            "path": grant.path,
            "agent": grant.agent,
            "revision": grant.revision,
            "approvers": dump_json(list(grant.approvers)).decode(),
            "document": grant.document,
        }
        statement = insert(approved_grant).values(values)
        connection.execute(statement.on_conflict_do_update(index_elements=[approved_grant.c.digest], set_=values))


def get_grants(connection: sa.Connection, digests: Collection[str]) -> Mapping[str, GrantRow]:
    """Return grants by digest."""
    rows = connection.execute(sa.select(approved_grant).where(approved_grant.c.digest.in_(sorted(digests))))
    return {
        row.digest: GrantRow(
            row.digest, row.path, row.agent, row.revision, tuple(json.loads(row.approvers)), row.document
        )
        for row in rows
    }

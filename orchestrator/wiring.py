"""Builds every use case of a coordinator, by hand and in one place.

Owns: which collaborator each one gets. Opens the database and reads the keys; serves nothing: `server` does.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from fleet.signing import SigningKey
from orchestrator.audit import AuditLog
from orchestrator.blobs import Blobs
from orchestrator.changes import Changes
from orchestrator.deployments import Deployments
from orchestrator.director import Director
from orchestrator.enrolment import Enrolment
from orchestrator.fetching import Fetching
from orchestrator.inventory import Inventory
from orchestrator.journal import Journal
from orchestrator.locks import Locks
from orchestrator.logs import Logs
from orchestrator.node_authorities import NodeAuthorities
from orchestrator.nodes import Nodes
from orchestrator.operator_authorities import OperatorAuthorities
from orchestrator.operators import Operators
from orchestrator.pki import spki_pin
from orchestrator.projections import rebuild
from orchestrator.recognition import Identity
from orchestrator.registrar import Registrar
from orchestrator.releases import Releases
from orchestrator.rollouts import Rollouts
from orchestrator.rpc.credentials import read_file
from orchestrator.rpc.services import Services
from orchestrator.sealed_secrets import SealedSecrets
from orchestrator.sessions import Sessions
from orchestrator.store.database import Store
from orchestrator.witnessing import Witnessing
from orchestrator.workers import Workers

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from fleet.errors import FleetError
    from orchestrator.clock import Clock
    from orchestrator.config import Settings
    from orchestrator.rpc.live import LiveCalls

WORKER_THREADS = 4


def build(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop, live: LiveCalls) -> Services:
    """Build every use case."""
    files = settings.files
    files.database.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store.open(files.database)
    blobs = Blobs(files.blobs)
    log = _open_log(settings)
    lifetime = timedelta(seconds=settings.limits.assignment_lifetime_s)
    director = Director(settings.fleet, SigningKey.from_pem(read_file(files.director_key)), log, lifetime)
    identity = Identity(settings.fleet, director.public_key, log.vkey)
    releases = Releases(store=store, blobs=blobs, log=log, root=read_file(files.root), identity=identity, clock=clock)
    events_changed, rollouts_changed = Changes(loop), Changes(loop)
    sessions = Sessions(lambda: secrets.token_hex(8), collect_logs=settings.collect_logs)
    inventory = Inventory()
    journal = Journal(store, events_changed.notify)

    def tell(names: Iterable[str]) -> None:
        loop.call_soon_threadsafe(sessions.signal, tuple(names))
        rollouts_changed.notify()

    def expel(caller: str, reason: FleetError) -> None:
        loop.call_soon_threadsafe(live.end, caller, reason)

    rollouts = Rollouts(
        store=store,
        director=director,
        log=log,
        inventory=inventory,
        clock=clock,
        signal=tell,
        changed=rollouts_changed.notify,
        journal=journal.append,
    )
    deployments = Deployments(
        store=store,
        releases=releases,
        director=director,
        log=log,
        rollouts=rollouts,
        inventory=inventory,
        clock=clock,
        new_id=lambda: secrets.token_hex(6),
        signal=tell,
        journal=journal.append,
    )
    locks = Locks(
        store=store,
        log=log,
        director=director,
        clock=clock,
        journal=journal.append,
        expel=expel,
        signal=tell,
    )
    nodes = Nodes(
        fleet=settings.fleet,
        store=store,
        director=director,
        log=log,
        inventory=inventory,
        journal=journal,
        clock=clock,
        changed=rollouts_changed.notify,
        suspect=locks.suspect,
    )
    nodes.restore()

    def tell_secrets(names: Iterable[str]) -> None:
        loop.call_soon_threadsafe(sessions.signal_secrets, tuple(names))

    def ask(names: Iterable[str] | None) -> None:
        loop.call_soon_threadsafe(sessions.ask, None if names is None else tuple(names))

    witnessing = Witnessing(
        fleet=settings.fleet,
        store=store,
        log=log,
        releases=releases,
        clock=clock,
        journal=journal.append,
        ask=ask,
        resend=tell,
    )
    witnessing.begin()
    with store.control.write() as connection:
        rebuild(connection)
    registrar = Registrar(
        fleet=settings.fleet,
        pin=spki_pin(read_file(files.enrolment_certificate)),
        store=store,
        log=log,
        clock=clock,
        random_bytes=secrets.token_bytes,
        journal=journal.append,
        expel=expel,
    )
    node_authorities = NodeAuthorities(files, registrar, releases.node_authorities)

    def expel_all(kind: str, reason: FleetError) -> None:
        loop.call_soon_threadsafe(live.end_all, kind, reason)

    operator_authorities = OperatorAuthorities(files, expel_all)
    return Services(
        store=store,
        blobs=blobs,
        fetching=Fetching(store=store, blobs=blobs, releases=releases),
        log=log,
        releases=releases,
        deployments=deployments,
        rollouts=rollouts,
        nodes=nodes,
        inventory=inventory,
        enrolment=Enrolment(registrar, node_authorities.issuer),
        locks=locks,
        operators=Operators(registrar, operator_authorities.login_pair),
        node_authorities=node_authorities,
        operator_authorities=operator_authorities,
        witnessing=witnessing,
        secrets=SealedSecrets(
            fleet=settings.fleet,
            store=store,
            log=log,
            clock=clock,
            signal=tell_secrets,
            journal=journal.append,
        ),
        sessions=sessions,
        journal=journal,
        logs=Logs(),
        workers=Workers(WORKER_THREADS),
        clock=clock,
        enrolment_address=str(settings.advertise_enrolment),
        events_changed=events_changed,
        rollouts_changed=rollouts_changed,
    )


def _open_log(settings: Settings) -> AuditLog:
    """Return the log under its name and its keys: two while they change."""
    files = settings.files
    former = SigningKey.from_pem(read_file(files.former_log_key)) if files.former_log_key.exists() else None
    name = read_file(files.log_name).decode("utf-8", "replace").strip() if files.log_name.exists() else ""
    return AuditLog(settings.fleet, SigningKey.from_pem(read_file(files.log_key)), former, name)

"""The coordinator's program: builds everything, serves, and stops cleanly.

Owns: the wiring, by hand and in one place, and the options of the gRPC servers. Two ports: mutual TLS for nodes and
operators, server TLS only for enrolment. Knows no rule of the fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import uvloop
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from fleet.errors import Code, ExitCode, FleetError
from fleet.signing import SigningKey
from fleet.v1 import control_pb2, control_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc, node_pb2, node_pb2_grpc
from orchestrator.audit import AuditLog
from orchestrator.blobs import Blobs
from orchestrator.changes import Changes
from orchestrator.clock import system_clock
from orchestrator.conductor import conduct
from orchestrator.config import Endpoint, load_settings
from orchestrator.deployments import Deployments
from orchestrator.director import Director
from orchestrator.enrolment import Authority, Enrolment
from orchestrator.fetching import Fetching
from orchestrator.inventory import Inventory
from orchestrator.journal import Journal
from orchestrator.logs import Logs
from orchestrator.nodes import Nodes
from orchestrator.pki import KeyPair, NodeIdentity, load_certificate, spki_pin
from orchestrator.releases import Identity, Releases
from orchestrator.rollouts import Rollouts
from orchestrator.rpc.auth import Authentication
from orchestrator.rpc.control import ControlService
from orchestrator.rpc.enrolment import EnrolmentService
from orchestrator.rpc.interceptor import AroundInterceptor
from orchestrator.rpc.node import NodeService
from orchestrator.rpc.services import Services
from orchestrator.rpc.status import translated
from orchestrator.sessions import Sessions
from orchestrator.store.database import Store
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from orchestrator.clock import Clock
    from orchestrator.config import Settings

_LOG = logging.getLogger(__name__)

WORKER_THREADS = 4
STOP_GRACE_S = 2.0
"""How long calls may go on after SIGTERM; sessions end at once, somebody who follows logs never would."""

GO_AWAY_MS = 1_000
MAX_RECEIVE_OF_STRANGERS = 64 * 1024
"""Bytes of one message on the enrolment port: a certificate request is the largest."""

MAX_RECEIVE = 16 * 1024 * 1024
"""Bytes of one message: trust metadata with its documents is the largest; nodes are held to less."""

# Measured: dead peers are found within 45 s, idle nodes cost next to nothing, and a storm of reconnects is not refused.
OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 9_000),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 50_000),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.so_reuseport", 0),
)


class Coordinator:
    """A running coordinator; made by `start`.

    Attributes:
        session: address of the session port, with the port that the system chose.
        enrolment: address of the enrolment port.
        services: the use cases.
    """

    def __init__(
        self,
        services: Services,
        servers: tuple[aio.Server, aio.Server],
        addresses: tuple[Endpoint, Endpoint],
        health: HealthServicer,
        conductor: asyncio.Task[None],
    ) -> None:
        self.services = services
        self.session, self.enrolment = addresses
        self._servers = servers
        self._health = health
        self._conductor = conductor

    async def stop(self) -> None:
        """Send the nodes away, finish what runs, and close the files."""
        await self._health.enter_graceful_shutdown()
        self.services.sessions.shut_down(GO_AWAY_MS)
        await asyncio.gather(*(server.stop(STOP_GRACE_S) for server in self._servers))
        self._conductor.cancel()
        with suppress(asyncio.CancelledError):
            await self._conductor
        self.services.workers.close()
        self.services.store.close()


async def start(settings: Settings, clock: Clock = system_clock) -> Coordinator:
    """Build and start a coordinator on the running loop.

    Raises:
        FleetError: CONFIG_INVALID for a missing or wrong file, or a port that cannot be had.
    """
    services, node_authority = await asyncio.to_thread(build, settings, clock, asyncio.get_running_loop())
    files = settings.files
    operator_authority = _read(files.operator_authority)

    async def admit(identity: NodeIdentity) -> None:
        await services.workers.run(services.nodes.admit, identity)

    authentication = Authentication(
        fleet=settings.fleet,
        node_authority=load_certificate(node_authority.certificate),
        operator_authority=load_certificate(operator_authority),
        admit=admit,
        clock=clock,
    )
    main = aio.server(
        interceptors=[AroundInterceptor(translated), AroundInterceptor(authentication.around)],
        options=_options(MAX_RECEIVE),
    )
    entry = aio.server(
        interceptors=[AroundInterceptor(translated)],
        options=_options(MAX_RECEIVE_OF_STRANGERS),
    )
    session_port = _listen(
        main,
        settings.listen_session,
        grpc.ssl_server_credentials(
            [(_read(files.server_key), _read(files.server_certificate))],
            root_certificates=node_authority.certificate + operator_authority,
            require_client_auth=True,
        ),
    )
    enrolment_keys = [(_read(files.enrolment_key), _read(files.enrolment_certificate))]
    enrolment_port = _listen(entry, settings.listen_enrolment, grpc.ssl_server_credentials(enrolment_keys))
    services = replace(services, enrolment_address=str(_advertised(settings.advertise_enrolment, enrolment_port)))
    enrolment_service = EnrolmentService(
        enrolment=services.enrolment,
        workers=services.workers,
        fleet=settings.fleet,
        ca_certificates=node_authority.certificate,
        session_address=str(_advertised(settings.advertise_session, session_port)),
        limits=settings.limits,
    )
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment_service, entry)
    reflection.enable_server_reflection([_name(enrolment_pb2, "EnrolmentService"), reflection.SERVICE_NAME], entry)
    health = await _add_services(main, services, settings)
    await main.start()
    await entry.start()
    conductor = asyncio.create_task(
        conduct(services.rollouts, services.rollouts_changed, services.workers, clock), name="conductor"
    )
    addresses = (
        Endpoint(settings.listen_session.host, session_port),
        Endpoint(settings.listen_enrolment.host, enrolment_port),
    )
    return Coordinator(services, (main, entry), addresses, health, conductor)


def _options(max_receive: int) -> tuple[tuple[str, int], ...]:
    return (*OPTIONS, ("grpc.max_receive_message_length", max_receive))


async def _add_services(server: aio.Server, services: Services, settings: Settings) -> HealthServicer:
    node_service = NodeService(
        nodes=services.nodes,
        sessions=services.sessions,
        logs=services.logs,
        blobs=services.blobs,
        fetching=services.fetching,
        releases=services.releases,
        workers=services.workers,
        limits=settings.limits,
        clock=services.clock,
    )
    node_pb2_grpc.add_NodeServiceServicer_to_server(node_service, server)
    control_pb2_grpc.add_ControlServiceServicer_to_server(ControlService(services), server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [_name(node_pb2, "NodeService"), _name(control_pb2, "ControlService"), _name(health_pb2, "Health")]
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    for name in ("", *names):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    return health


def _name(module: ModuleType, service: str) -> str:
    name: str = module.DESCRIPTOR.services_by_name[service].full_name
    return name


def build(settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop) -> tuple[Services, KeyPair]:
    """Build every use case; returns them and the node authority."""
    files = settings.files
    files.database.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store.open(files.database)
    blobs = Blobs(files.blobs)
    log = AuditLog(settings.fleet, SigningKey.from_pem(_read(files.log_key)))
    lifetime = timedelta(seconds=settings.limits.assignment_lifetime_s)
    director = Director(settings.fleet, SigningKey.from_pem(_read(files.director_key)), log, lifetime)
    identity = Identity(settings.fleet, director.public_key, log.vkey)
    releases = Releases(store=store, blobs=blobs, log=log, root=_read(files.root), identity=identity, clock=clock)
    node_authority = KeyPair(_read(files.node_authority_key), _read(files.node_authority))
    events_changed, rollouts_changed = Changes(loop), Changes(loop)
    sessions = Sessions(lambda: secrets.token_hex(8), collect_logs=settings.collect_logs)
    inventory = Inventory()
    journal = Journal(store, events_changed.notify)

    def tell(names: Iterable[str]) -> None:
        loop.call_soon_threadsafe(sessions.signal, tuple(names))
        rollouts_changed.notify()

    def expel(node: str, reason: str) -> None:
        loop.call_soon_threadsafe(sessions.expel, node, reason)

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
    nodes = Nodes(
        fleet=settings.fleet,
        store=store,
        director=director,
        log=log,
        inventory=inventory,
        journal=journal,
        clock=clock,
        changed=rollouts_changed.notify,
    )
    nodes.restore()
    enrolment = Enrolment(
        store=store,
        log=log,
        authority=Authority(settings.fleet, node_authority, spki_pin(_read(files.enrolment_certificate))),
        clock=clock,
        random_bytes=secrets.token_bytes,
        journal=journal.append,
        expel=expel,
    )
    services = Services(
        store=store,
        blobs=blobs,
        fetching=Fetching(store=store, blobs=blobs, releases=releases),
        log=log,
        releases=releases,
        deployments=deployments,
        rollouts=rollouts,
        nodes=nodes,
        inventory=inventory,
        enrolment=enrolment,
        sessions=sessions,
        journal=journal,
        logs=Logs(),
        workers=Workers(WORKER_THREADS),
        clock=clock,
        enrolment_address=str(settings.advertise_enrolment),
        events_changed=events_changed,
        rollouts_changed=rollouts_changed,
    )
    return services, node_authority


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FleetError(
            Code.CONFIG_INVALID,
            f"cannot read it: {error.strerror}",
            place=str(file),
            remedy="Make the coordinator's files with `fleetctl init`.",
        ) from error


def _listen(server: aio.Server, endpoint: Endpoint, credentials: grpc.ServerCredentials) -> int:
    try:
        return server.add_secure_port(str(endpoint), credentials)
    except RuntimeError as error:
        raise FleetError(Code.CONFIG_INVALID, f"cannot listen on {endpoint}", place=str(endpoint)) from error


def _advertised(endpoint: Endpoint, port: int) -> Endpoint:
    return endpoint if endpoint.port else Endpoint(endpoint.host, port)


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    coordinator = await start(settings)
    _LOG.info("serving: session=%s enrolment=%s", coordinator.session, coordinator.enrolment)
    await stop.wait()
    _LOG.info("stopping")
    await coordinator.stop()


def main(arguments: list[str] | None = None) -> int:
    """Run `coordinator serve`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="coordinator", description="Control plane of an edge fleet.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve nodes and operators until SIGTERM")
    serve.add_argument("--config", type=Path, required=True, help="coordinator.toml, as `fleetctl init` writes it")
    serve.add_argument("--data-dir", help="overrides data_dir")
    serve.add_argument("--listen-session", metavar="HOST:PORT", help="overrides listen.session")
    serve.add_argument("--listen-enrolment", metavar="HOST:PORT", help="overrides listen.enrolment")
    options = vars(parser.parse_args(arguments))
    flags = {
        name: options[name] for name in ("data_dir", "listen_session", "listen_enrolment") if options[name] is not None
    }
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = load_settings(options["config"], os.environ, flags)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except FleetError as error:
        _LOG.error("%s. %s", error, error.remedy)
        return error.row.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

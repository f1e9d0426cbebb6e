"""The coordinator's program: builds everything, serves, and stops cleanly.

Owns: the wiring, by hand and in one place, and the options of the gRPC servers. Two ports: mutual TLS for nodes and
operators, server TLS only for enrolment. Knows no rule of the fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import uvloop
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from fleet.errors import Code, ExitCode, FleetError
from fleet.v1 import control_pb2, control_pb2_grpc, enrolment_pb2_grpc, node_pb2, node_pb2_grpc
from orchestrator.actions import Actions
from orchestrator.clock import system_clock
from orchestrator.conductor import conduct, tend
from orchestrator.config import Endpoint, load_settings
from orchestrator.principals import Authorities
from orchestrator.rpc.auth import Authentication, Gates
from orchestrator.rpc.control import ControlService
from orchestrator.rpc.credentials import enrolment_credentials, session_credentials
from orchestrator.rpc.enrolment import EnrolmentService, strangers
from orchestrator.rpc.interceptor import AroundInterceptor
from orchestrator.rpc.live import LiveCalls
from orchestrator.rpc.node import NodeService
from orchestrator.rpc.status import translated
from orchestrator.wiring import build

if TYPE_CHECKING:
    from types import ModuleType

    from orchestrator.clock import Clock
    from orchestrator.config import Settings
    from orchestrator.rpc.services import Services

_LOG = logging.getLogger(__name__)

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


# Whoever has no certificate gets little room: a handshake is short, and so is all that there is to say after it.
STRANGERS = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_allowed_incoming_connections", 1_024),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 4 * 1024),
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 90_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
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
        tasks: tuple[asyncio.Task[None], ...],
    ) -> None:
        self.services = services
        self.session, self.enrolment = addresses
        self._servers = servers
        self._health = health
        self._tasks = tasks

    async def stop(self) -> None:
        """Send the nodes away, finish what runs, and close the files."""
        await self._health.enter_graceful_shutdown()
        self.services.sessions.shut_down(GO_AWAY_MS)
        await asyncio.gather(*(server.stop(STOP_GRACE_S) for server in self._servers))
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.services.workers.close()
        self.services.store.close()


async def start(settings: Settings, clock: Clock = system_clock) -> Coordinator:
    """Build and start a coordinator on the running loop.

    Raises:
        FleetError: CONFIG_INVALID for a missing or wrong file, or a port that cannot be had.
    """
    live = LiveCalls()
    services = await asyncio.to_thread(build, settings, clock, asyncio.get_running_loop(), live)
    files = settings.files
    nodes, operators = services.node_authorities, services.operator_authorities
    authentication = Authentication(
        fleet=settings.fleet,
        authorities=lambda: Authorities(nodes.certificates(), operators.operators, operators.login),
        gates=Gates(services.nodes.admit, services.operators.admit),
        actions=Actions(settings.fleet, services.store, services.log, clock),
        live=live,
        workers=services.workers,
        clock=clock,
    )
    main = aio.server(
        interceptors=[AroundInterceptor(translated), AroundInterceptor(authentication.around)],
        options=_options(MAX_RECEIVE),
    )
    entry = aio.server(
        interceptors=[AroundInterceptor(translated), AroundInterceptor(strangers)],
        options=tuple((dict(_options(MAX_RECEIVE_OF_STRANGERS)) | dict(STRANGERS)).items()),
    )
    session_port = _listen(
        main,
        settings.listen_session,
        session_credentials(files),
    )
    enrolment_port = _listen(entry, settings.listen_enrolment, enrolment_credentials(files))
    services = replace(services, enrolment_address=str(_advertised(settings.advertise_enrolment, enrolment_port)))
    enrolment_service = EnrolmentService(
        services=services,
        fleet=settings.fleet,
        ca_certificates=nodes.bundle,
        session_address=str(_advertised(settings.advertise_session, session_port)),
        limits=settings.limits,
    )
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment_service, entry)
    health = await _add_services(main, services, settings)
    await main.start()
    await entry.start()
    tasks = (
        asyncio.create_task(
            conduct(services.rollouts, services.rollouts_changed, services.workers, clock), name="conductor"
        ),
        asyncio.create_task(tend(services.witnessing.tend, services.workers), name="witnessing"),
        asyncio.create_task(tend(nodes.look, services.workers), name="node-authorities"),
        asyncio.create_task(tend(operators.look, services.workers), name="operator-authorities"),
    )
    addresses = (
        Endpoint(settings.listen_session.host, session_port),
        Endpoint(settings.listen_enrolment.host, enrolment_port),
    )
    return Coordinator(services, (main, entry), addresses, health, tasks)


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
        witnessing=services.witnessing,
        secrets=services.secrets,
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

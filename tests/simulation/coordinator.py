"""The coordinator of a simulated fleet: its use cases, its database files and its session service, as in production.

What differs is below and around it: connections come from `tests.fakes.network`, and its process can end at the
beginning or the end of any transaction, after which the files are all that is left.
"""

from __future__ import annotations

import asyncio
import hmac
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec

from fleet.errors import FleetError
from fleet.signing import SigningKey
from orchestrator.actions import Actions
from orchestrator.conductor import conduct
from orchestrator.enrolment import EnrollProof, Issued
from orchestrator.principals import Authorities
from orchestrator.rpc.auth import Authentication, Gates
from orchestrator.rpc.live import LiveCalls
from orchestrator.rpc.node import NodeService
from orchestrator.rpc.services import Services
from orchestrator.rpc.status import translated
from orchestrator.store.database import Database
from orchestrator.wiring import build
from tests.fakes.fleet_fixture import FleetFixture, make_csr
from tests.fakes.network import Network
from tests.fakes.network_server import Server
from tests.simulation.ends import CoordinatorCrashError


class SimulatedCoordinator:
    """One coordinator over its data directory; `start` makes a process of it.

    Args:
        fleet: keys, certificates and the data directory.
        network: where nodes come from.
        report: takes what no handler may raise.
    """

    def __init__(
        self,
        fleet: FleetFixture,
        network: Network,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], datetime],
        report: Callable[[BaseException], None],
    ) -> None:
        self.fleet = fleet
        self.services: Services | None = None
        self.restarts = -1
        self._network = network
        self._loop = loop
        self._clock = clock
        self._report = report
        self._certificates: dict[str, bytes] = {}
        self._conductor: asyncio.Task[None] | None = None
        self._transactions_left: int | None = None
        self._process = _Process()

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.services is not None and not self._process.dead

    def start(self) -> None:
        """Start the process over what is on disk."""
        self._bury(self._process)
        self._process = _Process()
        live = LiveCalls()
        services = build(self.fleet.settings(), self._clock, self._loop, live)
        self.services = services
        self.restarts += 1
        self._transactions_left = None
        for database in (services.store.control, services.store.telemetry):
            self._watch(database, self._process)

        authentication = Authentication(
            fleet=self.fleet.trust.fleet,
            authorities=lambda: Authorities(
                services.node_authorities.certificates(), services.operator_authorities.operators
            ),
            gates=Gates(services.nodes.admit, services.operators.admit),
            actions=Actions(self.fleet.trust.fleet, services.store, services.log, self._clock),
            live=live,
            workers=services.workers,
            clock=self._clock,
        )
        server = Server(self._network, (translated, self._watched, authentication.around), self._certificates)
        server.add(
            NodeService(
                nodes=services.nodes,
                sessions=services.sessions,
                logs=services.logs,
                blobs=services.blobs,
                fetching=services.fetching,
                releases=services.releases,
                witnessing=services.witnessing,
                secrets=services.secrets,
                workers=services.workers,
                limits=self.fleet.settings().limits,
                clock=self._clock,
            )
        )
        self._network.serve(server)
        self._conductor = self._loop.create_task(
            conduct(services.rollouts, services.rollouts_changed, services.workers, self._clock)
        )
        self._conductor.add_done_callback(self._conductor_ended)

    def crash(self) -> None:
        """End the process now."""
        self._process.dead = True
        self._bury(self._process)

    def crash_at(self, transaction: int) -> None:
        """End the process at the beginning (odd) or the end (even) of the n-th half of a transaction from now."""
        self._transactions_left = transaction

    def never_crash(self) -> None:
        """Forget what `crash_at` was told."""
        self._transactions_left = None

    def close(self) -> None:
        """End the process and close its files."""
        self.crash()

    def enroll(self, node: str, labels: dict[str, str], bound_key: SigningKey) -> Issued:
        """Let a machine join under a name, through the same proof as over the network."""
        services = self._services()
        token, _ = services.enrolment.create_token(node, labels, 3600, "alice")
        _, _, identifier, secret = token.split(".")
        nonce, csr = services.enrolment.nonce(), make_csr(ec.generate_private_key(ec.SECP256R1()))
        raw = urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        mac = hmac.digest(raw, b"fleet-enroll-v1" + nonce + bound_key.public.raw + csr, "sha256")
        issued = services.enrolment.enroll(identifier, nonce, EnrollProof(mac, bound_key.public.raw, csr, "simulated"))
        self._certificates[node] = issued.certificate
        return issued

    def publish(self) -> str:
        """Publish what the fixture holds."""
        services = self._services()
        for digest, data in self.fleet.blobs.items():
            if not services.blobs.has(digest):
                services.blobs.put(data)
        files, documents = self.fleet.publish()
        services.releases.publish(files, documents, "alice")
        return "published"

    def deploy(self, manifest: str) -> str:
        """Deploy as an operator."""
        return self._services().deployments.deploy(manifest.encode(), "", "alice")

    def cancel(self, deployment: str) -> str:
        """Cancel as an operator."""
        return str(self._services().rollouts.cancel(deployment, "alice").head.state)

    def _services(self) -> Services:
        if self.services is None or self._process.dead:
            raise CoordinatorCrashError
        return self.services

    def _watch(self, database: Database, process: _Process) -> None:
        """Let every transaction pass by `_step`, and trust the disk: here only processes end, never the machine."""

        def step(_: object) -> None:
            self._step(process)

        def prepare(connection: object, _: object) -> None:
            connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

        database.engine.dispose()
        sa.event.listen(database.engine, "connect", prepare)
        sa.event.listen(database.engine, "begin", step, insert=True)
        sa.event.listen(database.engine, "commit", step)

    def _step(self, process: _Process) -> None:
        if process is not self._process or process.dead:
            raise CoordinatorCrashError
        if self._transactions_left is None:
            return
        self._transactions_left -= 1
        if self._transactions_left <= 0:
            process.dead = True
            self._loop.call_soon(self._bury, process)
            raise CoordinatorCrashError

    def _bury(self, process: _Process) -> None:
        """What is left to do for the machine when the process is gone."""
        if self.services is None or process is not self._process:
            return
        services, self.services = self.services, None
        if self._conductor is not None:
            self._conductor.cancel()
        self._network.stop_serving()
        services.store.close()

    def _conductor_ended(self, task: asyncio.Task[None]) -> None:
        with suppress(asyncio.CancelledError, CoordinatorCrashError):
            error = task.exception()
            if error is not None and not isinstance(error, CoordinatorCrashError):
                self._report(error)

    @asynccontextmanager
    async def _watched(self, method: str, context: object, request: bytes | None) -> AsyncIterator[None]:
        """Note what `translated` would hide behind INTERNAL."""
        try:
            yield
        except FleetError:
            raise
        except CoordinatorCrashError:
            raise asyncio.CancelledError from None  # nobody is left to translate it
        except Exception as error:
            self._report(error)
            raise


class _Process:
    """Which process a transaction belongs to."""

    dead = False

"""The program `edge-agent`: everything a node is made of, put together in one place.

Owns the order of starting and stopping: data directory, lock, zygote (a process without threads, before gRPC makes
some), what is on disk, and only then the network. Nothing else in `edge_agent` builds its own collaborators.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.admission import AdmittedAgent, NodeContext, admit, granted
from edge_agent.adoption import Adoption, Stores
from edge_agent.blobs import Blobs
from edge_agent.clock import SystemClock
from edge_agent.config import Settings, load_settings
from edge_agent.crashes import Crashes, CrashKeeper, engine_name
from edge_agent.data_dir import lock_data_dir, prepare_data_dir, read_ceiling, read_placed
from edge_agent.disk import LocalDisk, read_named, replace_file
from edge_agent.evidence import evidence_text, forget, held_note
from edge_agent.identity import Identity, IdentityStore, agent_version
from edge_agent.importing import ImportServer, import_folder
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.listing import check_listed
from edge_agent.node import LocalNode
from edge_agent.node_keys import open_keys
from edge_agent.reissue import Reissue
from edge_agent.replaying import replay_files
from edge_agent.runner.host import RunnerHost, RunnerPaths
from edge_agent.secret_keeper import SecretKeeper
from edge_agent.secret_store import SecretStore
from edge_agent.sensors import Sensors, SensorTable, parse_sources
from edge_agent.supervision import Parts
from edge_agent.supervisor import Supervisor
from edge_agent.timekeeper import Timekeeper
from edge_agent.traffic import Inputs
from edge_agent.triggers import HostTelemetry
from edge_agent.trust_store import MAX_ROOT, TrustStore
from edge_agent.vault import CACHE, WITNESS
from edge_agent.whoami import describe
from edge_agent.witness import Witness
from fleet.errors import Code, ExitCode, FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edge_agent.clock import Clock
    from edge_agent.disk import Disk
    from edge_agent.link.link import Link
    from edge_agent.node_keys import NodeKeys
    from edge_agent.runtime import Runtime
    from edge_agent.sensors import Source
    from fleet.grants import Authority
    from fleet.model import AssignedAgent
    from fleet.signing import PublicKey
    from fleet.trust import FleetTrust

HTTP_AUTHORITIES = "http-authorities.pem"
"""File in the data directory with certificates that requests of agents trust beside the system's; may be absent."""

MAX_TOKEN_FILE = 4 * 1024

_log = logging.getLogger("edge_agent")


class Node:
    """All parts of a running node.

    Args:
        settings: from `load_settings`.
        identity: who the node is.
        runtime: runs the agents; opened by the caller, closed by the caller.
        clock: time.
        rng: jitter.
        keys: the node's; opened as the settings say unless given.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        runtime: Runtime,
        clock: Clock,
        rng: random.Random,
        keys: NodeKeys | None = None,
    ) -> None:
        data, disk, keys = settings.data_dir, LocalDisk(), keys or open_keys(settings)
        self._settings = settings
        self._identity = identity
        self._runtime = runtime
        self._random = rng
        self._ceiling, self._own_ceiling = read_ceiling(disk, data / "ceiling.yaml")
        self._store = keys.identity
        self._trust = TrustStore(disk, data / "trust", allow_dev_profile=settings.allow_dev_profile)
        self._blobs = Blobs(disk, data / "blobs", settings.max_blob_bytes)
        self.journal = Journal(identity.node, settings.log_lines_per_agent)
        self._clock = clock = Timekeeper(clock, self._trust, self.journal)
        crashes = Crashes(disk, data / "crashes")
        self._crashes = CrashKeeper(crashes, self.journal, clock, identity.node, engine_name())
        self.secrets = SecretStore(disk, data / "secrets", identity, keys.vault, self._secret_keys)
        sources = _read_sources(disk, data / "sensors.yaml")
        table = SensorTable(sources, clock, lambda kind, message: self.journal.event(clock.now(), "", kind, message))
        self._sensors = Sensors(sources, table, clock, rng)
        parts = Parts(
            runtime=runtime,
            admit=self._admit,
            granted=self._granted,
            journal=self.journal,
            clock=clock,
            random=rng,
            inputs=Inputs(HostTelemetry(), table, settings.telemetry_poll_ms),
            max_admissions=settings.max_concurrent_admissions,
            keep_crash=self._crashes.take,
            listed=self._check_listed,
        )
        self.supervisor = Supervisor(parts)
        self.witness = Witness(disk, data, identity, self._fleet_trust, self.journal, clock)
        if keys.in_chip:
            self.witness.seed = partial(keys.vault.key, WITNESS)
        stores = Stores(self._trust, Ledger(disk, data / "ledger"), self._blobs, self.witness)
        self.adoption = Adoption(
            identity,
            stores,
            self.supervisor.desire,
            self._reconsider,
            self.journal,
            clock,
        )
        self._reissue = Reissue(self._store, self._node_authorities)
        self._imports = ImportServer(data, self.adoption, stores, identity.node)
        self._keeper = SecretKeeper(
            self.secrets, self._store.bound_key, self.supervisor.reconsider, self.journal, clock
        )

    async def run(self) -> None:
        """Run what is on disk, then stay connected; returns only by cancellation."""
        self._keeper.boot()
        self.adoption.boot()
        self._reissue.compare()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run())
            group.create_task(self._clock.run())
            group.create_task(self._imports.run())
            group.create_task(self._crashes.run())
            group.create_task(self._sensors.run())
            group.create_task(self._keeper.run())
            group.create_task(self._link().run(self._identity))

    async def _admit(self, spec: AssignedAgent) -> AdmittedAgent:
        return await admit(spec, self._context(spec), self._runtime)

    async def _granted(self, spec: AssignedAgent) -> Authority:
        return await granted(spec, self._context(spec))

    def _fleet_trust(self) -> FleetTrust | None:
        adopted = self._trust.adopted
        return None if adopted is None else adopted.fleet

    def _secret_keys(self) -> tuple[PublicKey, ...]:
        adopted = self._trust.adopted
        return () if adopted is None else adopted.fleet.secret_keys

    def _node_authorities(self) -> bytes:
        adopted = self._trust.adopted
        return b"" if adopted is None else adopted.fleet.node_ca_pem

    def _reconsider(self) -> None:
        self._reissue.compare()
        self.supervisor.reconsider()
        self._keeper.release_changed()

    def _check_listed(self, spec: AssignedAgent) -> None:
        adopted = self._trust.adopted
        if adopted is not None:
            check_listed(spec, adopted.release, adopted.revocations, adopted.floors)

    def _context(self, spec: AssignedAgent) -> NodeContext:
        adopted = self._trust.adopted
        if adopted is None:
            raise FleetError(Code.TRUST_INVALID, "the node has adopted no release", agent=spec.name)
        return NodeContext(
            release=adopted.release,
            fresh_at=adopted.adopted_at,
            blobs=self._blobs,
            labels=self._identity.labels,
            ceiling=self._ceiling,
            fleet_ceilings=() if adopted.ceilings is None else adopted.ceilings.on(self._identity.labels),
            state_root=self._settings.data_dir / "state",
            volumes=self._settings.volumes,
            now=self._clock.now(),
            revocations=adopted.revocations,
            floors=adopted.floors,
            secrets=self.secrets.versions,
            break_glass=adopted.break_glass,
        )

    def _link(self) -> Link:
        # Imported here because importing gRPC starts nothing, but using it starts threads, and the zygote comes first.
        from edge_agent.link.link import Link, LinkSettings  # noqa: PLC0415
        from edge_agent.link.session import SessionSettings  # noqa: PLC0415

        settings = self._settings
        session = SessionSettings(
            boot_id=uuid.UUID(int=self._random.getrandbits(128)).hex,
            agent_version=agent_version(),
            report_interval_ms=settings.report_interval_ms,
            coalesce_ms=settings.coalesce_ms,
            trust_refresh_ms=settings.trust_refresh_ms,
            ceiling=self._own_ceiling,
            reissue_spread_ms=settings.reconnect_cap_ms,
        )
        numbers = LinkSettings(
            session=session,
            reconnect_initial_s=settings.reconnect_initial_ms / 1000,
            reconnect_cap_s=settings.reconnect_cap_ms / 1000,
            fetch_timeout_s=settings.fetch_timeout_ms / 1000,
        )
        node = LocalNode(
            self._identity,
            self._store.bound_key(),
            self.supervisor,
            self.adoption,
            self.journal,
            self._clock,
        )
        node.crash_keeper = self._crashes
        node.secret_keeper = self._keeper
        node.reissue = self._reissue.wanted
        return Link(node, self._store, numbers, self._clock, self._random)


def _read_sources(disk: Disk, path: Path) -> tuple[Source, ...]:
    document = read_placed(disk, path)
    return () if document is None else parse_sources(document, path.name)


async def run(settings: Settings) -> None:
    """Run a joined node until SIGTERM or SIGINT.

    Raises:
        FleetError: CONFIG_INVALID when the machine has not joined; ALREADY_EXISTS, RUNNER_LOST, GRANT_INVALID.
    """
    data, clock = settings.data_dir, SystemClock()
    prepare_data_dir(data)
    with lock_data_dir(data):
        keys = open_keys(settings)
        identity = keys.identity.joined()
        paths = RunnerPaths(
            data / "run" / "zygote.sock",
            data / "cache" / "compiled",
            data / "keys" / "cache.key",
            data / HTTP_AUTHORITIES,
            settings.inference,
        )
        key = partial(keys.vault.key, CACHE)
        runtime = RunnerHost(paths, node=identity.node, clock=clock, cache_key=key)
        await runtime.open()
        try:
            node = Node(settings, identity, runtime, clock, random.SystemRandom(), keys)
            runtime.unseal = node.secrets.unseal
            await _until_signal(node)
        finally:
            await runtime.close()


async def _until_signal(node: Node) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running, stopping = asyncio.create_task(node.run()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.wait((running,))
    if not running.cancelled():
        running.result()


async def join(settings: Settings, address: str, token: str, root: Path, labels: Mapping[str, str]) -> Identity:
    """Turn this machine into a node.

    Raises:
        FleetError: CONFIG_INVALID, TOKEN_INVALID, CERTIFICATE_INVALID, UNAVAILABLE and whatever else enrolment raises.
    """
    from edge_agent.link.enrolment import join as enrol  # noqa: PLC0415 - the program `run` starts its zygote first
    from edge_agent.link.enrolment import parse_token  # noqa: PLC0415

    parsed = parse_token(token)
    pin = read_named(root, MAX_ROOT)
    prepare_data_dir(settings.data_dir)
    with lock_data_dir(settings.data_dir):
        disk = LocalDisk()
        replace_file(disk, settings.data_dir / "trust" / "root.json", pin)
        return await enrol(open_keys(settings).identity, address, parsed, labels, agent_version())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-agent", description="Run WebAssembly agents on this machine.")
    parser.add_argument("--version", action="version", version=agent_version())
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data-dir", type=Path, required=True, help="folder of everything the node keeps")
    common.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting")
    common.add_argument("--verbose", action="store_true", help="log debugging details")
    commands.add_parser("run", parents=[common], help="supervise this node's agents")
    joining = commands.add_parser("join", parents=[common], help="become a node of a fleet")
    joining.add_argument("--coordinator", required=True, metavar="HOST:PORT", help="the coordinator's enrolment port")
    secret = joining.add_mutually_exclusive_group(required=True)
    secret.add_argument("--token", help="join token; other users of this machine may see it in the process list")
    secret.add_argument("--token-file", type=Path, help="file with the join token")
    joining.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="what this node is; the token's own labels"
    )
    joining.add_argument("--root", type=Path, required=True, help="root.json to trust, handed over by an operator")
    commands.add_parser("identity", parents=[common], help="print who this node is, for an operator to compare")
    trusting = commands.add_parser("trust", help="what this node trusts").add_subparsers(dest="action", required=True)
    importing = trusting.add_parser("import", parents=[common], help="take in a release from a folder, without network")
    importing.add_argument("folder", type=Path, metavar="DIR", help="folder that `fleetctl trust export` wrote")
    witnessing = commands.add_parser("witness", parents=[common], help="print the newest checkpoint that was verified")
    witnessing.add_argument("--evidence", action="store_true", help="print the evidence against the log instead")
    witnessing.add_argument("--forget", action="store_true", help="drop both, once a person has looked at them")
    replaying = commands.add_parser("replay", help="run a component again as a crash report says; prints JSON")
    replaying.add_argument("report", type=Path, metavar="REPORT.json", help="the report, as `fleetctl` saves it")
    replaying.add_argument("--component", type=Path, required=True, help="the component that it is about")
    replaying.add_argument("--verbose", action="store_true", help="log debugging details")
    return parser


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise FleetError(Code.CONFIG_INVALID, "expected NAME=VALUE", place=f"{option} {text}")
        pairs[name] = value
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `edge-agent`; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        if options.command == "replay":
            text, same = replay_files(options.report, options.component)
            sys.stdout.write(text + "\n")
            return ExitCode.OK if same else ExitCode.ERROR
        settings = load_settings(options.data_dir.absolute(), os.environ, _pairs(options.set, "--set"))
        if options.command == "run":
            asyncio.run(run(settings))
        elif options.command == "trust":
            identity = IdentityStore(LocalDisk(), settings.data_dir).joined()
            imported = asyncio.run(import_folder(settings, identity, options.folder.absolute(), SystemClock()))
            sys.stdout.write(imported.text + "\n")
        elif options.command == "witness":
            if options.forget:
                forget(settings.data_dir)
            else:
                shown = evidence_text if options.evidence else held_note
                sys.stdout.write(shown(settings.data_dir))
        elif options.command == "identity":
            sys.stdout.write(describe(open_keys(settings)))
        else:
            secret = options.token or read_named(options.token_file, MAX_TOKEN_FILE).decode("ascii", "replace")
            identity = asyncio.run(
                join(settings, options.coordinator, secret, options.root, _pairs(options.label, "--label"))
            )
            _log.info("joined %s as %s", identity.fleet, identity.node)
    except FleetError as error:
        _log.error("%s; %s", error, error.remedy)
        return error.row.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

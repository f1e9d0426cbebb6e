"""`edge-agent trust import DIR`: a node without a network takes in what was carried to it.

Owns the command, and the way into a node that runs: a socket in the data directory, readable by the node's user only,
over which the command names the folder and hears what came of it. The bytes then take the way that they take from the
network: `Adoption.refresh` and `Adoption.accept`. Into a node that does not run they go by the same two, on its disk.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edge_agent.adoption import Adoption, Stores
from edge_agent.blobs import Blobs
from edge_agent.data_dir import lock_data_dir
from edge_agent.disk import LocalDisk
from edge_agent.journal import Journal
from edge_agent.ledger import Ledger
from edge_agent.medium import Medium
from edge_agent.socket_address import address_of
from edge_agent.timekeeper import Timekeeper
from edge_agent.trust_store import TrustStore
from edge_agent.witness import Witness
from fleet.documents import Reader, dump_json, load_json
from fleet.errors import Code, FleetError

if TYPE_CHECKING:
    from edge_agent.adoption import Remote
    from edge_agent.clock import Clock
    from edge_agent.config import Settings
    from edge_agent.identity import Identity
    from edge_agent.supervision import Accepted
    from fleet.model import DesiredState
    from fleet.trust import FleetTrust

SOCKET = "run/import.sock"
"""In the data directory, while the node runs."""

MAX_MESSAGE = 16 * 1024
"""Bytes of a request and of a reply."""

MAX_GENERATION = 2**53

REQUEST_TIMEOUT_S = 10.0
"""How long whoever connected may take to say what it wants."""

_log = logging.getLogger(__name__)


class Taker(Protocol):
    """What takes releases and orders in: `edge_agent.adoption.Adoption`."""

    async def refresh(self, remote: Remote) -> None:
        """Adopt a release. Raises FleetError."""
        ...

    async def accept(self, desired: DesiredState, remote: Remote) -> None:
        """Take an order in. Raises FleetError."""
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        timestamp: version of the timestamp metadata that is adopted now.
        generation: number of the order that is in force; 0 for none.
        ordered: whether the folder had an order for this node.
    """

    timestamp: int
    generation: int
    ordered: bool

    @property
    def text(self) -> str:
        """One line for people."""
        order = f"order {self.generation} is in force" if self.generation else "there is no order yet"
        more = "" if self.ordered else "; the folder has none for this node"
        return f"release {self.timestamp} is adopted; {order}{more}"


async def take_in(folder: Path, taker: Taker, stores: Stores, node: str) -> Imported:
    """Take a folder in: its release, and then its order for this node, if there is one.

    Raises:
        FleetError: as `Adoption.refresh`, `Adoption.accept` and `Medium`. A release that was adopted stays adopted when
            the order after it is refused.
    """
    medium = Medium(folder)
    await taker.refresh(medium)
    desired = await asyncio.to_thread(medium.desired, node)
    if desired is not None:
        await taker.accept(desired, medium)
    adopted, entry = stores.trust.adopted, stores.ledger.entry
    return Imported(
        0 if adopted is None else adopted.release.versions["timestamp"],
        0 if entry is None else entry.generation,
        desired is not None,
    )


class ImportServer:
    """Takes folders in for a node that runs; one at a time.

    Args:
        data_dir: the node's data directory.
        adoption: takes things in.
        stores: what it keeps.
        node: the node's name.
    """

    def __init__(self, data_dir: Path, adoption: Taker, stores: Stores, node: str) -> None:
        self._path = data_dir / SOCKET
        self._adoption = adoption
        self._stores = stores
        self._node = node

    async def run(self) -> None:
        """Serve; returns only by cancellation."""
        self._path.unlink(missing_ok=True)  # one that a process left behind which ended without its leave
        with address_of(self._path) as address:
            server = await asyncio.start_unix_server(self._serve, address, limit=MAX_MESSAGE)
        try:
            async with server:
                await server.serve_forever()
        finally:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
            reply = encode_result(await self._import(line))
        except FleetError as error:
            reply = encode_fault(error)
        except (TimeoutError, ValueError):  # nothing was said in time, or a line without an end
            reply = encode_fault(FleetError(Code.MESSAGE_INVALID, "not a request"))
        try:
            writer.write(reply + b"\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError:
            _log.info("whoever asked for the import left before it was answered")

    async def _import(self, line: bytes) -> Imported:
        with Reader(load_json(line, Code.MESSAGE_INVALID, "request"), Code.MESSAGE_INVALID, "request") as top:
            folder = Path(top.text("import"))
            if not folder.is_absolute():
                top.fail("import", "expected an absolute path")
        return await take_in(folder, self._adoption, self._stores, self._node)


async def import_folder(settings: Settings, identity: Identity, folder: Path, clock: Clock) -> Imported:
    """Take a folder in, by the node that runs on the data directory, or on its disk when none runs.

    Raises:
        FleetError: as `take_in`.
    """
    path = settings.data_dir / SOCKET
    try:
        with address_of(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_MESSAGE)
    except (FileNotFoundError, ConnectionRefusedError):
        return await _import_on_disk(settings, identity, folder, clock)
    try:
        writer.write(dump_json({"import": str(folder)}) + b"\n")
        await writer.drain()
        return decode_reply(await reader.readline())
    finally:
        writer.close()


async def _import_on_disk(settings: Settings, identity: Identity, folder: Path, system: Clock) -> Imported:
    data, disk = settings.data_dir, LocalDisk()
    with lock_data_dir(data):
        trust = TrustStore(disk, data / "trust", allow_dev_profile=settings.allow_dev_profile)
        journal = Journal(identity.node, settings.log_lines_per_agent)
        clock = Timekeeper(system, trust, journal)

        def fleet() -> FleetTrust | None:
            return None if trust.adopted is None else trust.adopted.fleet

        witness = Witness(disk, data, identity, fleet, journal, clock)
        stores = Stores(
            trust, Ledger(disk, data / "ledger"), Blobs(disk, data / "blobs", settings.max_blob_bytes), witness
        )
        adoption = Adoption(identity, stores, _leave, _nothing_runs, journal, clock)
        adoption.boot()
        return await take_in(folder, adoption, stores, identity.node)


def _leave(accepted: Accepted) -> None:
    """Run nothing: what was accepted is on the disk, and runs when the node does."""


def _nothing_runs() -> None:
    """Ask admission about nothing."""


def encode_result(imported: Imported) -> bytes:
    """Write the reply to an import that went well."""
    return dump_json({"timestamp": imported.timestamp, "generation": imported.generation, "ordered": imported.ordered})


def encode_fault(error: FleetError) -> bytes:
    """Write the reply to an import that was refused; it goes to the same user on the same machine."""
    detail = {key: value for key, value in error.detail.items() if key != "remedy"}
    return dump_json({"code": str(error.code), "message": error.private, "remedy": error.remedy, "detail": detail})


def decode_reply(line: bytes) -> Imported:
    """Read what `encode_result` or `encode_fault` wrote.

    Raises:
        FleetError: the fault; UNAVAILABLE when the node ended before it answered.
    """
    if not line.endswith(b"\n"):
        raise FleetError(Code.UNAVAILABLE, "the node ended before it answered", remedy="Import the folder again.")
    with Reader(load_json(line, Code.MESSAGE_INVALID, "reply"), Code.MESSAGE_INVALID, "reply") as top:
        if top.has("code"):
            code = top.text("code")
            detail = top.section("detail", _detail)
            known = Code(code) if code in set(Code) else Code.INTERNAL
            raise FleetError(known, top.text("message"), **detail, remedy=top.text("remedy"))
        return Imported(
            top.integer("timestamp", 0, MAX_GENERATION),
            top.integer("generation", 0, MAX_GENERATION),
            top.flag("ordered", default=False),
        )


def _detail(reader: Reader) -> dict[str, str]:
    return {key: str(reader.take(key)) for key in reader.names()}

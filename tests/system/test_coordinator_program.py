"""The coordinator as a program: it serves, stops on SIGTERM, and says what is missing."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import aio

from fleet.errors import ExitCode
from fleet.v1 import control_pb2, control_pb2_grpc
from orchestrator.server import GO_AWAY_MS
from tests.fakes.fleet_fixture import CALL_S, SERVER_NAME, FleetFixture, NodeClient, Operator, SigningChannel

pytestmark = pytest.mark.system


async def spawn(config: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.server", "serve", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )


@dataclass(frozen=True)
class Addresses:
    """Where a coordinator serves."""

    session: str
    enrolment: str


async def addresses(process: asyncio.subprocess.Process) -> Addresses:
    """Read the log until the coordinator says where it serves."""
    assert process.stderr is not None
    async with asyncio.timeout(CALL_S):
        while line := (await process.stderr.readline()).decode():
            if found := re.search(r"session=(\S+) enrolment=(\S+)", line):
                return Addresses(found[1], found[2])
    raise AssertionError("the coordinator ended")


async def test_it_serves_and_stops_cleanly_twice(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path)
    operator = fleet.operator()
    credentials = grpc.ssl_channel_credentials(fleet.node_ca.certificate, operator.key, operator.certificate)
    for _ in range(2):
        process = await spawn(fleet.config)
        options = (("grpc.ssl_target_name_override", SERVER_NAME),)
        async with aio.secure_channel((await addresses(process)).session, credentials, options=options) as channel:
            stub = control_pb2_grpc.ControlServiceStub(SigningChannel(channel, operator))
            await stub.CreateJoinToken(control_pb2.CreateJoinTokenRequest(node="n1", ttl_s=60), timeout=CALL_S)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(CALL_S):
            _, log = await process.communicate()
        assert process.returncode == ExitCode.OK, log.decode()
        assert b"Traceback" not in log


async def test_it_sends_its_nodes_away_and_stops_in_time_whoever_still_listens(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path)
    process = await spawn(fleet.config)
    where = await addresses(process)
    operator = Operator(fleet, where)
    nodes = [NodeClient(fleet, where, name) for name in ("n1", "n2", "n3")]
    for node in nodes:
        await node.join(await operator.token(node.name))
        await node.connect()
    # These follow for ever, and would hold up a stop that waited for them.
    followed = operator.control.ListEvents(control_pb2.ListEventsRequest(follow=True))
    await followed.read()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    for node in nodes:
        message = await node.receive()
        assert message.WhichOneof("message") == "go_away"
        assert message.go_away.retry_after_ms == GO_AWAY_MS
        assert await node.stream.read() is aio.EOF
    told_s = time.monotonic() - began
    async with asyncio.timeout(CALL_S):
        _, log = await process.communicate()
    assert process.returncode == ExitCode.OK, log.decode()
    assert b"Traceback" not in log
    assert told_s < 2
    assert time.monotonic() - began < 5
    for node in nodes:
        await node.close()
    await operator.channel.close()


async def test_a_missing_key_is_named(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path)
    (tmp_path / "keys/log.pem").unlink()
    process = await spawn(fleet.config)
    async with asyncio.timeout(CALL_S):
        _, log = await process.communicate()
    assert process.returncode == ExitCode.USAGE
    assert b"keys/log.pem" in log
    assert b"fleetctl init" in log
    assert b"Traceback" not in log


def handshake(address: str, fleet: FleetFixture, version: ssl.TLSVersion) -> str | None:
    """Shake hands as an operator in exactly one version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    pair = fleet.operator()
    file = fleet.folder / "operator.pem"
    file.write_bytes(pair.key + pair.certificate)
    context.load_cert_chain(file)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), CALL_S) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as wrapped,
    ):
        return wrapped.version()


async def test_neither_port_nor_a_node_speaks_an_older_tls(tmp_path: Path) -> None:
    fleet = FleetFixture(tmp_path)
    process = await spawn(fleet.config)
    where = await addresses(process)
    for address in (where.session, where.enrolment):
        assert await asyncio.to_thread(handshake, address, fleet, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(handshake, address, fleet, ssl.TLSVersion.TLSv1_2)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(CALL_S):
        await process.communicate()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls/enrolment.crt", tmp_path / "tls/enrolment.pem")
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    agreed = asyncio.Event()
    old = await asyncio.start_server(lambda *_: agreed.set(), "127.0.0.1", 0, ssl=context)
    port = old.sockets[0].getsockname()[1]
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OLD_SERVER, str(port), str(tmp_path / "tls/enrolment.crt"), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(CALL_S):
        out, _ = await node.communicate()
    old.close()
    assert (out.decode().strip(), agreed.is_set()) == ("UNAVAILABLE", False)


OLD_SERVER = """
import asyncio, pathlib, sys
from edge_agent.link.channel import open_enrolment_channel
import grpc

async def main():
    certificate = pathlib.Path(sys.argv[2]).read_bytes()
    async with open_enrolment_channel("127.0.0.1:" + sys.argv[1], certificate) as channel:
        try:
            await channel.unary_unary("/fleet.v1.EnrolmentService/Renew")(b"", timeout=60)
        except grpc.aio.AioRpcError as error:
            print(error.code().name)

asyncio.run(main())
"""
"""A node's own channel, in a process of its own as in life: what gRPC speaks is settled when it is loaded."""

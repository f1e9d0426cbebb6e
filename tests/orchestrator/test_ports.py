"""Both ports against clients that do not behave: silence, crowds, unknown methods, no order; and new certificates."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fleet.errors import Code, FleetError
from fleet.v1 import control_pb2, enrolment_pb2, enrolment_pb2_grpc
from orchestrator import pki
from orchestrator.config import Endpoint, Files
from orchestrator.rpc.credentials import _Shown
from orchestrator.server import STRANGERS, Coordinator
from tests.fakes.fleet_fixture import CALL_S, SERVER_NAME, FleetFixture, NodeClient, Operator, error_of, serving


def handshake(endpoint: Endpoint, version: ssl.TLSVersion) -> tuple[str | None, bytes]:
    """Shake hands in exactly one version; returns what was agreed upon and the certificate (DER)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection((endpoint.host, endpoint.port), CALL_S) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as wrapped,
    ):
        return wrapped.version(), wrapped.getpeercert(binary_form=True) or b""


def door(fleet: FleetFixture, coordinator: Coordinator) -> aio.Channel:
    credentials = grpc.ssl_channel_credentials((fleet.folder / "tls/enrolment.crt").read_bytes())
    options = (("grpc.ssl_target_name_override", pki.ENROLMENT_NAME), ("grpc.use_local_subchannel_pool", 1))
    return aio.secure_channel(str(coordinator.enrolment), credentials, options=options)


@pytest.fixture
async def stranger(fleet: FleetFixture, coordinator: Coordinator) -> AsyncIterator[aio.Channel]:
    async with door(fleet, coordinator) as channel:
        yield channel


@pytest.mark.parametrize(
    "method",
    [
        "/fleet.v1.ControlService/ListNodes",
        "/fleet.v1.NodeService/FetchTrust",
        "/fleet.v1.EnrolmentService/Nothing",
        "/grpc.health.v1.Health/Check",
    ],
)
async def test_a_stranger_finds_no_other_method(stranger: aio.Channel, method: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await stranger.unary_unary(method)(b"", timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_stranger_cannot_look_around(stranger: aio.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(aio.AioRpcError) as caught:
        async for _ in reflection_pb2_grpc.ServerReflectionStub(stranger).ServerReflectionInfo(iter([request])):
            pass
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [enrolment_pb2.LoginRequest()],
        [enrolment_pb2.LoginRequest(proof={})],
        [enrolment_pb2.LoginRequest(hello={})],
        [enrolment_pb2.LoginRequest(hello={"token_id": "t", "operator": "bob"})],
        [enrolment_pb2.LoginRequest(hello={"operator": "Not A Name"})],
        [enrolment_pb2.LoginRequest(hello={"token_id": "t"})],
        [enrolment_pb2.LoginRequest(hello={"token_id": "t"})] * 2,
    ],
)
async def test_a_login_keeps_to_its_order(stranger: aio.Channel, messages: list[enrolment_pb2.LoginRequest]) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        async for _ in enrolment_pb2_grpc.EnrolmentServiceStub(stranger).Login(iter(messages), timeout=CALL_S):
            pass
    assert error_of(caught.value).code == Code.MESSAGE_INVALID


@pytest.mark.parametrize(
    ("hello", "code"),
    [({"token_id": "00" * 8}, Code.TOKEN_INVALID), ({"operator": "nobody"}, Code.MESSAGE_INVALID)],
)
async def test_a_stranger_learns_nothing_from_the_challenge(
    stranger: aio.Channel, hello: dict[str, str], code: Code
) -> None:
    stream = enrolment_pb2_grpc.EnrolmentServiceStub(stranger).Login(timeout=CALL_S)
    await stream.write(enrolment_pb2.LoginRequest(hello=hello))
    assert len((await stream.read()).challenge.nonce) == 32
    await stream.write(enrolment_pb2.LoginRequest(proof={"csr": b"x", "mac": b"x"}))
    with pytest.raises(aio.AioRpcError) as caught:
        await stream.read()
    assert error_of(caught.value).code == code


async def test_streams_of_one_stranger_are_few(fleet: FleetFixture, coordinator: Coordinator) -> None:
    """HTTP/2 lets a ninth exchange of one connection wait; it begins when another one ends."""
    most = dict(STRANGERS)["grpc.max_concurrent_streams"]
    async with door(fleet, coordinator) as channel:
        stub = enrolment_pb2_grpc.EnrolmentServiceStub(channel)
        held = []
        for number in range(most + 1):
            stream = stub.Enroll(timeout=CALL_S)
            held.append(stream)
            write = stream.write(enrolment_pb2.EnrollRequest(hello=enrolment_pb2.EnrollHello(token_id="t")))
            if number < most:
                await write
                assert (await stream.read()).challenge.nonce
                continue
            waiting = asyncio.create_task(_challenged(stream, write))
            assert not (await asyncio.wait({waiting}, timeout=0.2))[0]
            held[0].cancel()
            await waiting
        for stream in held:
            stream.cancel()


async def _challenged(stream: aio.StreamStreamCall, write: object) -> None:
    await write  # type: ignore[misc]
    assert (await stream.read()).challenge.nonce


async def test_connections_that_say_nothing_keep_nobody_out(fleet: FleetFixture, coordinator: Coordinator) -> None:
    endpoint = coordinator.enrolment
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((endpoint.host, endpoint.port), CALL_S))
        operator = Operator(fleet, coordinator)
        await NodeClient(fleet, coordinator, "n1").join(await operator.token("n1"))
        await operator.channel.close()


def test_strangers_have_a_thousand_connections_at_most() -> None:
    assert dict(STRANGERS)["grpc.max_allowed_incoming_connections"] == 1_024


@pytest.mark.parametrize("speaks_tls", [True, False])
async def test_one_connection_above_the_cap_is_closed_and_the_other_port_goes_on(
    fleet: FleetFixture, monkeypatch: pytest.MonkeyPatch, speaks_tls: bool
) -> None:
    """With a cap of four in place of 1,024, and no hurry; who says nothing counts as well."""
    patient = {"grpc.server_handshake_timeout_ms": 300_000, "grpc.max_connection_idle_ms": 300_000}
    capped = dict(STRANGERS) | patient | {"grpc.max_allowed_incoming_connections": 4}
    monkeypatch.setattr("orchestrator.server.STRANGERS", tuple(capped.items()))
    async with serving(fleet) as coordinator:
        with ExitStack() as stack:
            held = [stack.enter_context(_connected(coordinator.enrolment, tls=speaks_tls)) for _ in range(4)]
            if not speaks_tls:
                await _until(lambda: not _is_welcome(coordinator.enrolment))  # they are accepted one after the other
            assert not await asyncio.to_thread(_is_welcome, coordinator.enrolment)
            operator = Operator(fleet, coordinator)
            await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
            await operator.channel.close()
            held[0].close()
            await _until(lambda: _is_welcome(coordinator.enrolment))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(CALL_S):
        while not await asyncio.to_thread(condition):
            pass


def _connected(endpoint: Endpoint, *, tls: bool) -> socket.socket:
    plain = socket.create_connection((endpoint.host, endpoint.port), CALL_S)
    if not tls:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        return context.wrap_socket(plain)
    except OSError:
        plain.close()
        raise


def _is_welcome(endpoint: Endpoint) -> bool:
    """Whether a connection gets as far as a certificate."""
    try:
        _connected(endpoint, tls=True).close()
    except OSError:
        return False
    return True


async def test_a_new_certificate_is_shown_without_a_restart(fleet: FleetFixture) -> None:
    async with serving(fleet) as coordinator:
        operator = Operator(fleet, coordinator)
        await operator.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
        _, before = await asyncio.to_thread(handshake, coordinator.session, ssl.TLSVersion.TLSv1_3)
        new = pki.issue_server(fleet.node_ca, [SERVER_NAME, "localhost", "127.0.0.1"], fleet.now)
        _replace(fleet.folder / "tls/server.pem", new.key)  # between the two files they do not fit each other
        _, between = await asyncio.to_thread(handshake, coordinator.session, ssl.TLSVersion.TLSv1_3)
        _replace(fleet.folder / "tls/server.crt", new.certificate)
        _, after = await asyncio.to_thread(handshake, coordinator.session, ssl.TLSVersion.TLSv1_3)
        expected = x509.load_pem_x509_certificate(new.certificate).public_bytes(serialization.Encoding.DER)
        assert (between, after) == (before, expected)
        fresh = Operator(fleet, coordinator)
        for client in (operator, fresh):  # the old connection goes on, the new one believes the new certificate
            await client.control.ListNodes(control_pb2.ListNodesRequest(), timeout=CALL_S)
            await client.channel.close()


def _replace(path: Path, data: bytes) -> None:
    stamp = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(stamp + 1_000_000, stamp + 1_000_000))  # as a clock with coarse ticks may not


@pytest.mark.parametrize("name", ["tls/server.pem", "tls/server.crt", "keys/node-ca.crt"])
def test_a_missing_or_spoiled_file_is_told_at_the_start(fleet: FleetFixture, name: str) -> None:
    files = Files(fleet.folder)
    (fleet.folder / name).unlink()
    with pytest.raises(FleetError) as caught:
        _Shown(files.server_key, files.server_certificate, (files.node_authority,))
    assert caught.value.code is Code.CONFIG_INVALID
    assert name in str(caught.value.detail["place"])


@pytest.mark.parametrize("name", ["tls/server.pem", "tls/server.crt"])
def test_a_file_that_is_something_else_is_told_at_the_start(fleet: FleetFixture, name: str) -> None:
    files = Files(fleet.folder)
    (fleet.folder / name).write_bytes(b"something else")
    with pytest.raises(FleetError):
        _Shown(files.server_key, files.server_certificate, ())

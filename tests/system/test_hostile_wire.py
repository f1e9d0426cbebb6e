"""Every RPC against hostile bytes over real mutual TLS: an answer with a code, no crash, and the others go on."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import Code, ExitCode
from fleet.v1 import control_pb2, enrolment_pb2, node_pb2
from orchestrator import pki
from orchestrator.cli.signing import ActionSigner
from orchestrator.rpc.auth import ACTION_METADATA
from tests.fakes.fleet_fixture import CALL_S, SERVER_NAME, FleetFixture, NodeClient, Operator, error_of
from tests.system.harness import wait_for

METHODS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for module, service in (
        (control_pb2, "ControlService"),
        (node_pb2, "NodeService"),
        (enrolment_pb2, "EnrolmentService"),
    )
    for method in module.DESCRIPTOR.services_by_name[service].methods
}

FOLLOW_S = 0.4
"""How long a stream that would go on for ever is listened to."""


@dataclass
class Served:
    """A coordinator in a process of its own, and a channel for each kind of caller."""

    session: str
    enrolment: str
    log: Path
    channels: dict[str, grpc.Channel]
    signer: ActionSigner

    def call(self, method: str, requests: list[bytes]) -> grpc.RpcError | None:
        """Send raw bytes; return the error, or None when it was answered."""
        found = METHODS[method]
        service = found.containing_service
        path = f"/{service.full_name}/{found.name}"
        channel = self.channels[service.name]
        timeout = FOLLOW_S if found.server_streaming else CALL_S
        try:
            if found.client_streaming and found.server_streaming:
                list(channel.stream_stream(path)(iter(requests), timeout=timeout))
            elif found.client_streaming:
                channel.stream_unary(path)(iter(requests), timeout=timeout)
            elif found.server_streaming:
                list(channel.unary_stream(path)(requests[0], timeout=timeout))
            else:
                signed = self.signer.statement(path, requests[0]) if service.name == "ControlService" else b""
                metadata = ((ACTION_METADATA, signed),) if signed else None
                channel.unary_unary(path)(requests[0], timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            return error
        return None

    def check_alive(self) -> None:
        stub = health_pb2_grpc.HealthStub(self.channels["ControlService"])
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("coordinator")
    fleet = FleetFixture(folder)
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.server", "serve", "--config", str(fleet.config)], stderr=errors
        )
    try:
        wait_for("it serves", lambda: b"serving: session=" in log.read_bytes(), CALL_S)
        found = re.search(r"serving: session=(\S+) enrolment=(\S+)", log.read_text())
        assert found is not None
        alice = fleet.operator()
        signer = ActionSigner(alice.certificate, alice.key, lambda: datetime.now(UTC))
        served = Served(found[1], found[2], log, {}, signer)
        node = NodeClient(fleet, served, "n2")  # the words of this test lock, revoke and reset n1

        async def join() -> None:
            operator = Operator(fleet, served)
            await operator.push()
            for joining in (NodeClient(fleet, served, "n1"), node):
                await joining.join(await operator.token(joining.name))
            await operator.channel.close()

        asyncio.run(join())
        served.channels = {
            "ControlService": _channel(found[1], SERVER_NAME, fleet.node_ca.certificate, alice),
            "NodeService": _channel(found[1], SERVER_NAME, fleet.node_ca.certificate, node.identity),
            "EnrolmentService": _channel(
                found[2], pki.ENROLMENT_NAME, (folder / "tls/enrolment.crt").read_bytes(), None
            ),
        }
        yield served
        for channel in served.channels.values():
            channel.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(CALL_S) == ExitCode.OK
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def _channel(address: str, name: str, authority: bytes, identity: pki.KeyPair | None) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(authority, identity and identity.key, identity and identity.certificate)
    return grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", name),))


def check_refusal(error: grpc.RpcError | None) -> None:
    """Whatever was refused says why in our own words; only our own deadline may end a stream that follows."""
    if error is None or error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return
    detail = error_of(error)
    assert detail.code in set(Code) - {Code.INTERNAL}, detail


NUMBERS = {
    FieldDescriptor.TYPE_UINT32: 2**32 - 1,
    FieldDescriptor.TYPE_UINT64: 2**64 - 1,
    FieldDescriptor.TYPE_INT64: 2**63 - 1,
    FieldDescriptor.TYPE_INT32: 2**31 - 1,
}
WORDS = ("n1", "climate/context", "sha256:" + "0" * 64, "trust/fleet.json", "wasi:keyvalue/store", "running", "info")


def values(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.type in NUMBERS:
        most = NUMBERS[field.type]
        lowest = -most - 1 if field.type in {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_INT32} else 0
        return st.sampled_from([0, 1, lowest, most, most // 2 + 1]) | st.integers(lowest, most)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8"), max_size=12)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.integers(-1, 100)
    assert field.type == FieldDescriptor.TYPE_MESSAGE, field.full_name
    return messages(field.message_type)


def messages(descriptor: Descriptor) -> st.SearchStrategy[Any]:
    """Messages of a type with any values in their fields."""
    fields: dict[str, st.SearchStrategy[object]] = {}
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            fields[field.name] = st.dictionaries(values(key), values(value), max_size=2)
        else:
            fields[field.name] = st.lists(values(field), max_size=2) if field.is_repeated else values(field)
    make = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: make(**chosen))


STREAMS = st.sampled_from(sorted(METHODS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.lists(messages(METHODS[name].input_type), min_size=1, max_size=3 if METHODS[name].client_streaming else 1),
    )
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stream=STREAMS)
def test_no_message_of_the_contract_is_an_internal_error(served: Served, stream: tuple[str, list[Message]]) -> None:
    method, requests = stream
    check_refusal(served.call(method, [request.SerializeToString() for request in requests]))


GARBAGE = (b"\xff" * 16, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe")  # no field, a length too long, no UTF-8


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("garbage", GARBAGE)
def test_bytes_that_are_no_message_end_only_their_call(served: Served, method: str, garbage: bytes) -> None:
    error = served.call(method, [garbage])
    if error is not None and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:  # some bytes are unknown fields
        assert error_of(error).code != Code.INTERNAL
    if garbage == GARBAGE[0]:
        assert error is not None
        detail = error_of(error)
        assert (detail.code, detail.detail["place"].rpartition("/")[2]) == (Code.MESSAGE_INVALID, METHODS[method].name)
    served.check_alive()


ENROLL, RENEW = enrolment_pb2.EnrollRequest, enrolment_pb2.RenewRequest
ENROL_HELLO = ENROLL(hello=enrolment_pb2.EnrollHello(token_id="x"))
RENEW_HELLO = RENEW(hello=enrolment_pb2.RenewHello(node="n1"))
NODE = node_pb2.NodeMessage

OUT_OF_ORDER: dict[str, tuple[str, list[Message]]] = {
    "nothing to enrol": ("Enroll", []),
    "enrolment without a step": ("Enroll", [ENROLL()]),
    "proof before hello": ("Enroll", [ENROLL(proof=enrolment_pb2.EnrollProof())]),
    "hello twice": ("Enroll", [ENROL_HELLO, ENROL_HELLO]),
    "hello and the end": ("Enroll", [ENROL_HELLO]),
    "nothing to renew": ("Renew", []),
    "renewal of nobody": ("Renew", [RENEW(hello=enrolment_pb2.RenewHello(node="Not A Name"))]),
    "proof before renewal": ("Renew", [RENEW(proof=enrolment_pb2.RenewProof())]),
    "renewal twice": ("Renew", [RENEW_HELLO, RENEW_HELLO]),
    "silent session": ("Session", []),
    "report before hello": ("Session", [NODE(observed={"generation": 1, "at_ms": 1})]),
    "receipt before hello": ("Session", [NODE(receipt=b"{}")]),
    "empty first message": ("Session", [NODE()]),
    "upload of nothing": ("PutBlob", []),
    "upload without a name": ("PutBlob", [control_pb2.PutBlobRequest(data=b"x")]),
}


@pytest.mark.parametrize("name", OUT_OF_ORDER)
def test_messages_in_the_wrong_order_are_refused_with_their_place(served: Served, name: str) -> None:
    short, requests = OUT_OF_ORDER[name]
    (method,) = [full for full in METHODS if full.endswith(f".{short}")]
    error = served.call(method, [request.SerializeToString() for request in requests])
    assert error is not None
    detail = error_of(error)
    assert (detail.code, bool(detail.detail["place"])) == (Code.MESSAGE_INVALID, True)


def test_a_message_beyond_the_limit_is_refused(served: Served) -> None:
    huge = control_pb2.PublishRequest(files={"root.json": bytes(17 * 1024 * 1024)}).SerializeToString()
    error = served.call("fleet.v1.ControlService.Publish", [huge])
    assert error is not None
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    served.check_alive()

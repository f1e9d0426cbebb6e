"""What is fuzzed, of what machines say to each other: certificates and requests, signed statements, wire messages.

A signed statement is fuzzed below its signature: what is refused for a bad one is refused before anything is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError, Message

from edge_agent.link.enrolment import make_request
from fleet.action import Action, decode_action, encode_action
from fleet.assignment import Receipt, ReceiptAgent, decode_receipt, encode_receipt
from fleet.certificates import WitnessCertificate, decode_witness, sign_witness
from fleet.checkpoint import KeyKind, VerifierKey, format_vkey, parse_proof
from fleet.crash import CrashSummary
from fleet.errors import Code, FleetError
from fleet.joining import JOIN_TYPE, check_join, sign_join
from fleet.leaves import event_leaf, read_leaf
from fleet.model import Event, LogLine, ObservedAgent, ObservedState, Phase
from fleet.sealing import (
    SEALING_KEY_TYPE,
    Label,
    Sealed,
    SealingKeyStatement,
    open_statement,
    peek,
    read_sealed,
    sign_sealed,
    sign_statement,
)
from fleet.sighting import Sighting, decode_sighting, encode_sighting, place
from fleet.signing import decode_base64, sign_envelope
from fleet.v1 import model_pb2
from fleet.wire import (
    from_pb_crash,
    from_pb_desired,
    from_pb_event,
    from_pb_log_line,
    from_pb_observed,
    to_pb_crash,
    to_pb_desired,
    to_pb_event,
    to_pb_log_line,
    to_pb_observed,
)
from fleet.witnesses import witness_name
from fleet.x509 import fingerprint, load_certificate, load_der_certificate, p256_key_of, uris_of
from orchestrator.cli.login import parse_token
from orchestrator.pki import requested_key
from tests.endurance.parsers.parser import Parser
from tests.fakes.fleet import FleetWorld
from tests.fakes.publisher import LOG, NODE_CA, NOW, MemoryLog, key

Noun = TypeVar("Noun")
_DIGEST = "sha256:" + "0" * 64
_P256 = ec.derive_private_key(7, ec.SECP256R1())


def _message(
    kind: type[Message], read: Callable[..., Noun], write: Callable[[Noun], Message]
) -> Callable[[bytes], None]:
    """Check a message: what gRPC cannot decode never reaches the program."""

    def check(data: bytes) -> None:
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise FleetError(Code.MESSAGE_INVALID, "not protobuf") from error
        noun = read(message)
        assert read(write(noun)) == noun

    return check


def _certificate(data: bytes) -> None:
    _use(data, pem=True)


def _der_certificate(data: bytes) -> None:
    _use(data, pem=False)


def _use(data: bytes, *, pem: bool) -> None:
    """What is asked of a certificate once it is read."""
    certificate = load_certificate(data) if pem else load_der_certificate(data)
    fingerprint(certificate)
    uris_of(certificate)
    p256_key_of(certificate, Code.CERTIFICATE_INVALID)


def _request(data: bytes) -> None:
    requested_key(data)


def _login_token(data: bytes) -> None:
    parse_token(data.decode("utf-8", "replace"))


def _receipt(data: bytes) -> None:
    receipt = decode_receipt(data)
    assert decode_receipt(encode_receipt(receipt)) == receipt


def _action(data: bytes) -> None:
    action = decode_action(data)
    assert decode_action(encode_action(action)) == action


def _witness(data: bytes) -> None:
    decode_witness(data)


def _join(data: bytes) -> None:
    check_join(sign_envelope(JOIN_TYPE, data, [key("token")]), bound_key=b"bound", key=key("token").public)


def _sealed(data: bytes) -> None:
    sealed = read_sealed(data)
    assert peek(sign_sealed(sealed, key("secrets"))) == sealed


def _sealing_key(data: bytes) -> None:
    envelope = sign_envelope(SEALING_KEY_TYPE, data, [key("bound")])
    open_statement(envelope, fleet="demo", node="n1", epoch=1, key=key("bound").public)


def _leaf(data: bytes) -> None:
    read_leaf(data)


def _sighting(data: bytes) -> None:
    sighting = decode_sighting(data)
    assert decode_sighting(encode_sighting(sighting)) == sighting


def _payload(envelope: bytes) -> bytes:
    """What was signed."""
    return decode_base64(json.loads(envelope)["payload"])


_WORLD = FleetWorld()
_DESIRED = _WORLD.assign(_WORLD.agent())
_CERTIFICATE = load_certificate(NODE_CA)
_RECEIPT = Receipt(
    "demo", "n1", 1, 7, _DIGEST, NOW, (ReceiptAgent("app/one", _DIGEST, _DIGEST, "REVOKED", ("a:b/c",)),)
)
_ACTION = Action("demo", "ann", "/fleet.v1.ControlService/Deploy", _DIGEST, NOW, bytes(16), _DIGEST)
_WITNESS = WitnessCertificate(
    "demo", "n1", 1, VerifierKey(witness_name("demo", "n1"), key("witness").public, KeyKind.COSIGNER)
)
_SEALED = Sealed(Label("demo", "n1", "app/one", "token", 1), "00" * 32, b"encrypted")
_STATEMENT = SealingKeyStatement("demo", "n1", 1, bytes(32))
_LOG = MemoryLog(b"a", b"b")
_SIGHTING = place(Sighting(), parse_proof(_LOG.proof(1)).note, (format_vkey(LOG, key("log").public),), 0, ())
_OBSERVED = ObservedState(
    7,
    _DIGEST,
    NOW,
    (ObservedAgent("app/one", Phase.RUNNING, bundle_digest=_DIGEST, grant_digest=_DIGEST),),
    _DIGEST,
)
_CRASH = CrashSummary(
    "0" * 16, "n1", "app/one", "unreachable", "why", 1, _DIGEST, _DIGEST, recorded=True, complete=True
)

PARSERS: dict[str, Parser] = {
    "certificate": Parser(_certificate, [NODE_CA], longest=2048),
    "certificate in DER": Parser(_der_certificate, [_CERTIFICATE.public_bytes(Encoding.DER)], longest=2048),
    "certificate request": Parser(_request, [make_request(_P256)], longest=1024),
    "login token": Parser(_login_token, [b"flo1." + b"A" * 43 + b".id." + b"A" * 43], longest=512),
    "receipt": Parser(_receipt, [encode_receipt(_RECEIPT)]),
    "operator's action": Parser(_action, [encode_action(_ACTION)]),
    "witness key": Parser(_witness, [_payload(sign_witness(_WITNESS, key("bound")))]),
    "join statement": Parser(_join, [_payload(sign_join(b"bound", key("token")))], longest=1024),
    "sealed secret": Parser(_sealed, [_payload(sign_sealed(_SEALED, key("secrets")))]),
    "sealing key": Parser(_sealing_key, [_payload(sign_statement(_STATEMENT, key("bound")))]),
    "leaf": Parser(_leaf, [event_leaf("node:joined:new", NOW, "coordinator", node="n1"), _DESIRED.envelope]),
    "sighting": Parser(_sighting, [encode_sighting(_SIGHTING)]),
    "desired state": Parser(
        _message(model_pb2.DesiredState, from_pb_desired, to_pb_desired),
        [to_pb_desired(_DESIRED).SerializeToString()],
    ),
    "observed state": Parser(
        _message(model_pb2.ObservedState, from_pb_observed, to_pb_observed),
        [to_pb_observed(_OBSERVED).SerializeToString()],
    ),
    "event": Parser(
        _message(model_pb2.Event, from_pb_event, to_pb_event),
        [to_pb_event(Event(NOW, "n1", "app/one", "agent:run:started", "it runs", {"a": "b"})).SerializeToString()],
    ),
    "log line": Parser(
        _message(model_pb2.LogLine, from_pb_log_line, to_pb_log_line),
        [to_pb_log_line(LogLine(NOW, "n1", "app/one", "info", "context", "text")).SerializeToString()],
    ),
    "crash line": Parser(
        _message(model_pb2.Crash, from_pb_crash, lambda crash: to_pb_crash(crash, crash.node)),
        [to_pb_crash(_CRASH, "n1").SerializeToString()],
    ),
}

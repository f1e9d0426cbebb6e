"""What is fuzzed: each parser of bytes from outside. Here: the log, orders, bundles, grants, tokens, values and WIT."""

from __future__ import annotations

import json
from datetime import timedelta

from edge_agent.link.enrolment import parse_token
from fleet.assignment import ASSIGNMENT_TYPE, decode_assignment, encode_assignment
from fleet.bundle import open_bundle
from fleet.checkpoint import KeyKind, format_proof, format_vkey, open_checkpoint, parse_proof
from fleet.documents import load_json
from fleet.errors import Code, FleetError
from fleet.grants import parse_ceiling, parse_grant
from fleet.model import Assignment
from fleet.revocations import Kind, Revocation, Revocations, encode_revocations, parse_revocations
from fleet.signing import verify_envelope
from fleet.trust import encode_fleet_trust, parse_fleet_trust
from fleet.wave import parse_value
from fleet.wave_print import print_value
from fleet.wit_document import parse_document
from fleet.wit_json import value_from_json, value_to_json
from fleet.wit_text import parse_type
from fleet.witnesses import add_lines, cosign, open_witnessed, parse_policy
from tests.endurance.parsers import documents, messages
from tests.endurance.parsers.parser import Parser
from tests.fakes.documents import GRANT
from tests.fakes.fleet import FleetWorld, bundle
from tests.fakes.publisher import NOW, MemoryLog, fleet_trust, key

KIND = parse_type(
    "record { flag: bool, number: s64, real: f64, letter: char, text: string, items: list<u8>,"
    " pair: tuple<u32, string>, maybe: option<string>, done: result<u8, string>, choice: variant { a, b(s8) },"
    " colour: enum { red, green }, bits: flags { one, two } }"
)
"""A type in which everything occurs that has a text form."""

VALUE = (
    '{flag: true, number: -1, real: 1.5, letter: \'x\', text: "a\\n\\u{e9}", items: [1, 2], pair: (3, "p"),'
    ' maybe: some("m"), done: err("e"), choice: b(-7), colour: red, bits: {one}}'
)

WIT = """\
package test:agent@1.2.3;

/// An interface.
interface handler {
  record reading { source: string, value: f64 }
  variant failure { closed, other(string) }
  resource session { constructor(name: string); read: func() -> result<list<reading>, failure>; }
  handle: func(reading: reading) -> result<_, failure>;
}

world agent { import handler; export run: func(); }
"""

POLICY = f"""\
log {fleet_trust().log_vkeys[0]}
witness oslo {{}}
group site any oslo
quorum site
"""


def _note(data: bytes) -> None:
    open_checkpoint(data, fleet_trust().log_vkeys)


def _witnessed(data: bytes) -> None:
    open_witnessed(data, fleet_trust().log_vkeys, parse_policy(_policy()))


def _proof(data: bytes) -> None:
    proof = parse_proof(data)
    assert parse_proof(format_proof(proof.index, proof.hashes, proof.note)) == proof


def _envelope(data: bytes) -> None:
    verify_envelope(data, ASSIGNMENT_TYPE, [key("director").public])


def _assignment(data: bytes) -> None:
    assignment = decode_assignment(data)
    assert decode_assignment(encode_assignment(assignment)) == assignment


def _grant(data: bytes) -> None:
    parse_grant(data, "grants/default/climate/context/7.yaml")


def _ceiling(data: bytes) -> None:
    parse_ceiling(data, "ceiling.yaml")


def _bundle(data: bytes) -> None:
    blobs = bundle("one", "1.0.0", models={"m": b"weights"}).blobs

    def read(digest: str, _limit: int) -> bytes:
        if digest not in blobs:
            raise FleetError(Code.BLOB_MISSING, "not stored", digest=digest)
        return blobs[digest]

    open_bundle(data, read)


def _token(data: bytes) -> None:
    parse_token(_text(data))


def _fleet_trust(data: bytes) -> None:
    trust = parse_fleet_trust(data)
    assert parse_fleet_trust(encode_fleet_trust(trust)) == trust


def _revocations(data: bytes) -> None:
    revocations = parse_revocations(data)
    assert parse_revocations(encode_revocations(revocations)) == revocations


def _wave(data: bytes) -> None:
    printed = print_value(parse_value(_text(data), KIND), KIND)
    assert print_value(parse_value(printed, KIND), KIND) == printed  # text: a NaN is not equal to itself


def _json(data: bytes) -> None:
    value = value_from_json(load_json(data, Code.VALUE_INVALID, "$"), KIND)
    again = value_to_json(value, KIND)
    assert json.dumps(value_to_json(value_from_json(again, KIND), KIND)) == json.dumps(again)


def _wit(data: bytes) -> None:
    parse_document(_text(data), "agent.wit")


def _policy_text(data: bytes) -> None:
    parse_policy(data)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _policy() -> bytes:
    return POLICY.format(format_vkey("oslo", key("witness").public, KeyKind.COSIGNER)).encode()


def _assigned() -> bytes:
    world = FleetWorld()
    return encode_assignment(Assignment("demo", "node-1", 1, 7, NOW, NOW + timedelta(days=30), (world.agent(),)))


def _signed() -> tuple[bytes, bytes]:
    world = FleetWorld()
    desired = world.assign(world.agent())
    return desired.envelope, desired.proof


def _revoked() -> bytes:
    entries = (
        Revocation(Kind.BUNDLE, "sha256:" + "a" * 64, "leaked key", NOW),
        Revocation(Kind.DIRECTOR_KEY, "b" * 64, "captured", NOW),
    )
    return encode_revocations(Revocations({(entry.kind, entry.subject): entry for entry in entries}))


def _value_as_json() -> bytes:
    return json.dumps(value_to_json(parse_value(VALUE, KIND), KIND)).encode()


_LOG_NOTE = MemoryLog(b"a", b"b", b"c").proof(1).partition(b"\n\n")[2]

PARSERS: dict[str, Parser] = {
    "note": Parser(_note, [_LOG_NOTE]),
    "witnessed note": Parser(
        _witnessed, [add_lines(_LOG_NOTE, [cosign(_LOG_NOTE, "oslo", key("witness"), 1_780_000_000)])]
    ),
    "proof": Parser(_proof, [_signed()[1], MemoryLog(b"a", b"b", b"c").proof(1)]),
    "envelope": Parser(_envelope, [_signed()[0]]),
    "assignment": Parser(_assignment, [_assigned()]),
    "grant": Parser(_grant, [GRANT.encode()]),
    "ceiling": Parser(
        _ceiling, [b"schema: fleet.ceiling/v1\ncaps: {wasi:logging/logging: []}\nlimits: {memory: 1MiB}\n"]
    ),
    "bundle index": Parser(_bundle, [bundle("one", "1.0.0", models={"m": b"weights"}).index]),
    "join token": Parser(_token, [b"flt1." + b"A" * 43 + b".id." + b"A" * 43], longest=512),
    "trust/fleet.json": Parser(_fleet_trust, [encode_fleet_trust(fleet_trust())]),
    "witness policy": Parser(_policy_text, [_policy()]),
    "revocations": Parser(_revocations, [_revoked()]),
    "WAVE value": Parser(_wave, [VALUE.encode()], longest=1024),
    "JSON value": Parser(_json, [_value_as_json()], longest=1024),
    "WIT text": Parser(_wit, [WIT.encode()], longest=2048),
    **documents.PARSERS,
    **messages.PARSERS,
}

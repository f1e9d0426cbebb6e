"""Who must have seen the audit log: cosignatures of witnesses and the policy that asks for them.

Owns: timestamped Ed25519 cosignatures (c2sp.org/tlog-cosignature, signature type 0x04) and `WitnessPolicy`, the quorum
rule of `policy/witness.policy` in the syntax of c2sp.org/tlog-policy. The policy is signed offline in the release
repository: a coordinator that can issue certificates to nodes of its own making can invent no witness. What one party
has seen of a log, and whether a new checkpoint fits to it, is in `fleet.sighting`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from fleet.checkpoint import (
    MAX_SIGNATURE_LINES,
    KeyKind,
    VerifierKey,
    format_line,
    format_vkey,
    open_checkpoint,
    parse_line,
    parse_vkey,
    split_note,
)
from fleet.errors import Code, FleetError
from fleet.signing import SIGNATURE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from fleet.checkpoint import Checkpoint, SignatureLine
    from fleet.signing import SigningKey

MAX_POLICY = 64 * 1024
"""Bytes of a policy."""

MAX_LOGS = 32
MAX_WITNESSES = MAX_SIGNATURE_LINES - 1
"""Witnesses of one policy: with the log's own line, their cosignatures fit on one note."""

MAX_GROUPS = 64

NONE = "none"
"""Name of the quorum that is always met (c2sp.org/tlog-policy, "Defining the quorum")."""

_TIME_BYTES = 8
_MAX_TIME = 2**63 - 1
_PLACE = "witness.policy"
_BLANKS = re.compile(r"[ \t]+")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified statement of a witness: at `at_s` (seconds since 1970) this was the largest tree it had seen."""

    witness: VerifierKey
    at_s: int
    line: str


@dataclass(frozen=True, slots=True)
class Group:
    """At least `threshold` of `members`, which name witnesses and groups."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """A quorum rule; `NO_WITNESSES` asks for nobody.

    Attributes:
        logs: the logs that may be believed; none: the log is known from elsewhere.
        witnesses: name within the policy to verifier key.
        groups: name to group.
        quorum: name of the witness or group that decides, or `NONE`.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: Mapping[str, VerifierKey]
    groups: Mapping[str, Group]
    quorum: str

    def is_met(self, cosigned: Collection[VerifierKey]) -> bool:
        """Whether these witnesses are enough."""
        return self.quorum == NONE or self._witnessed(self.quorum, cosigned)

    def absent(self, cosigned: Collection[VerifierKey]) -> tuple[str, ...]:
        """Return the names of the witnesses that have not cosigned, in the order of the policy."""
        return tuple(name for name, key in self.witnesses.items() if key not in cosigned)

    def _witnessed(self, name: str, cosigned: Collection[VerifierKey]) -> bool:
        group = self.groups.get(name)
        if group is None:
            return self.witnesses[name] in cosigned
        return sum(self._witnessed(member, cosigned) for member in group.members) >= group.threshold


NO_WITNESSES = WitnessPolicy((), MappingProxyType({}), MappingProxyType({}), NONE)
"""What holds where the release repository has no policy."""


def witness_name(fleet: str, node: str) -> str:
    """Name under which a node cosigns."""
    return f"{fleet}/node/{node}"


def cosign(note: bytes, name: str, key: SigningKey, at_s: int) -> str:
    """Make the signature line of a witness (c2sp.org/tlog-cosignature, "Ed25519 signed message").

    Args:
        note: a checkpoint that the witness has verified.
        name: the witness's name.
        key: its key, used for nothing else.
        at_s: now, in seconds since 1970.
    """
    witness = parse_vkey(format_vkey(name, key.public, KeyKind.COSIGNER), KeyKind.COSIGNER)
    signature = key.sign(_message(split_note(note).body, at_s))
    return format_line(witness, at_s.to_bytes(_TIME_BYTES, "big") + signature)


def open_cosignatures(note: bytes, witnesses: Iterable[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return the cosignatures of known witnesses on a checkpoint that is verified already.

    Checks, in this order:
        1. The note is one (`fleet.checkpoint.split_note`); lines of others are passed over.
        2. A line under a known witness's name and key hash holds a time and a signature that verifies; the first line
           of each witness counts.

    Raises:
        FleetError: PROOF_INVALID.
    """
    parts = split_note(note)  # 1
    known = {(key.name, key.key_hash): key for key in witnesses}
    found: dict[VerifierKey, Cosignature] = {}
    for line in parts.signatures:
        key = known.get((line.name, line.key_hash))
        if key is not None:
            found.setdefault(key, _open_line(parts.body, line, key))  # 2
    return tuple(found.values())


def open_cosignature(note: bytes, line: str, witness: VerifierKey) -> Cosignature:
    """Verify one signature line that came without its note.

    Raises:
        FleetError: PROOF_INVALID when it is malformed, of another key, or not about this note.
    """
    parsed = parse_line(line)
    if (parsed.name, parsed.key_hash) != (witness.name, witness.key_hash):
        raise _invalid(f"the cosignature is not by {witness.name}")
    return _open_line(split_note(note).body, parsed, witness)


def add_lines(note: bytes, lines: Sequence[str]) -> bytes:
    """Put signature lines below those that a note has."""
    return note + "".join(f"{line}\n" for line in lines).encode()


def open_witnessed(note: bytes, vkeys: tuple[str, ...], policy: WitnessPolicy) -> Checkpoint:
    """Check a checkpoint and that enough witnesses have cosigned it.

    Checks, in this order:
        1. Where the policy names logs, only those of the log's keys count that it names.
        2. The log signed it (`fleet.checkpoint.open_checkpoint`).
        3. Every cosignature of a witness of the policy verifies.
        4. Their signers meet the quorum.

    Raises:
        FleetError: PROOF_INVALID; QUORUM_MISSING for check 4, with who is absent.
    """
    counting = tuple(vkey for vkey in vkeys if not policy.logs or parse_vkey(vkey) in policy.logs)  # 1
    if not counting:
        raise _invalid("the witness policy does not name this log")
    checkpoint = open_checkpoint(note, counting)  # 2
    cosigned = {cosignature.witness for cosignature in open_cosignatures(note, policy.witnesses.values())}  # 3
    if not policy.is_met(cosigned):  # 4
        raise FleetError(
            Code.QUORUM_MISSING,
            f"{len(cosigned)} of {len(policy.witnesses)} witnesses have cosigned, which is no quorum",
            size=checkpoint.size,
            absent=" ".join(policy.absent(cosigned)),
        )
    return checkpoint


def name_logs(data: bytes, vkeys: Sequence[str]) -> bytes:
    """Return a policy that names these logs where it named others; one that names none stays as it is."""
    lines = data.decode().splitlines(keepends=True)
    named = [number for number, line in enumerate(lines) if _BLANKS.split(line.strip(" \t"))[0] == "log"]
    if not named:
        return data
    kept = [line for number, line in enumerate(lines) if number not in named]
    kept[named[0] : named[0]] = [f"log {vkey}\n" for vkey in vkeys]
    return "".join(kept).encode()


def parse_policy(data: bytes) -> WitnessPolicy:
    """Read a policy (c2sp.org/tlog-policy).

    Checks, in this order:
        1. At most MAX_POLICY bytes, in which the only control characters are tab and line end; every line is ended.
        2. Each line is empty, a comment, or one of `log`, `witness`, `group`, `quorum` with its items.
        3. Keys are Ed25519 of the kind that the line takes, and none occurs twice, under whatever name.
        4. Names are new; `none` is taken. Groups and the quorum name what stands above them.
        5. A threshold is `any`, `all` or a number from 1 to the number of members; nothing is a member twice.
        6. There is exactly one quorum.

    Names and comments are bytes to the specification; here they must also be UTF-8, so that they can be printed.

    Raises:
        FleetError: TRUST_INVALID with the line; LIMIT_EXCEEDED.
    """
    if len(data) > MAX_POLICY:  # 1
        raise FleetError(Code.LIMIT_EXCEEDED, f"{len(data)} bytes", place=_PLACE, limit=MAX_POLICY)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _fault(0, "not UTF-8") from error
    if any(c == "\x7f" or (c < " " and c not in "\t\n") for c in text) or (text and not text.endswith("\n")):
        raise _fault(0, "a control character, or a last line without an end")
    reader = _PolicyReader()
    for number, line in enumerate(text.split("\n"), start=1):
        words = _BLANKS.split(line.strip(" \t"))
        if words != [""] and not words[0].startswith("#"):
            reader.take(number, words[0], words[1:])  # 2 to 5
    return reader.policy()  # 6


class _PolicyReader:
    """Builds a policy line by line."""

    def __init__(self) -> None:
        self._logs: list[VerifierKey] = []
        self._witnesses: dict[str, VerifierKey] = {}
        self._groups: dict[str, Group] = {}
        self._members: set[str] = set()
        self._quorum: str | None = None
        self._lines: Mapping[str, tuple[int, int, Callable[[int, list[str]], None]]] = {
            "log": (1, 2, self._log),
            "witness": (2, 3, self._witness),
            "group": (3, 2 + MAX_WITNESSES + MAX_GROUPS, self._group),
            "quorum": (1, 1, self._take_quorum),
        }

    def take(self, number: int, kind: str, words: list[str]) -> None:
        if kind not in self._lines:
            raise _fault(number, f"{kind!r} begins no line")
        least, most, read = self._lines[kind]
        if not least <= len(words) <= most:
            raise _fault(number, f"{kind} takes {least} to {most} items")
        read(number, words)

    def policy(self) -> WitnessPolicy:
        if self._quorum is None:
            raise _fault(0, "there is no quorum line")
        return WitnessPolicy(
            tuple(self._logs), MappingProxyType(self._witnesses), MappingProxyType(self._groups), self._quorum
        )

    def _log(self, number: int, words: list[str]) -> None:
        key = _key(number, words[0], KeyKind.LOG)
        if len(self._logs) == MAX_LOGS or key.public in {known.public for known in self._logs}:
            raise _fault(number, "a log too many, or one that is listed already")
        self._logs.append(key)

    def _witness(self, number: int, words: list[str]) -> None:
        name, key = words[0], _key(number, words[1], KeyKind.COSIGNER)
        if len(self._witnesses) == MAX_WITNESSES or key.public in {known.public for known in self._witnesses.values()}:
            raise _fault(number, "a witness too many, or one that is listed already")
        self._check_new(number, name)
        self._witnesses[name] = key

    def _group(self, number: int, words: list[str]) -> None:
        name, threshold, *members = words
        if len(self._groups) == MAX_GROUPS:
            raise _fault(number, "a group too many")
        for member in members:
            self._check_known(number, member)
            if member in self._members:
                raise _fault(number, f"{member!r} is a member already")
            self._members.add(member)
        self._check_new(number, name)
        counts = {"any": 1, "all": len(members)}
        if threshold not in counts and _THRESHOLD.fullmatch(threshold) is None:
            raise _fault(number, "a threshold is any, all or a number")
        count = counts[threshold] if threshold in counts else int(threshold)
        if count > len(members):
            raise _fault(number, f"{count} of {len(members)} members can never be")
        self._groups[name] = Group(count, tuple(members))

    def _take_quorum(self, number: int, words: list[str]) -> None:
        if self._quorum is not None:
            raise _fault(number, "a second quorum line")
        if words[0] != NONE:
            self._check_known(number, words[0])
        self._quorum = words[0]

    def _check_new(self, number: int, name: str) -> None:
        if name == NONE or name in self._witnesses or name in self._groups:
            raise _fault(number, f"the name {name!r} is taken")

    def _check_known(self, number: int, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise _fault(number, f"nothing above is named {name!r}")


def _open_line(body: str, line: SignatureLine, key: VerifierKey) -> Cosignature:
    if len(line.signature) != _TIME_BYTES + SIGNATURE_BYTES:
        raise _invalid(f"the cosignature of {key.name} has the wrong size")
    at_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
    if at_s > _MAX_TIME:
        raise _invalid(f"the cosignature of {key.name} has no time")
    try:
        key.public.verify(line.signature[_TIME_BYTES:], _message(body, at_s))
    except FleetError as error:
        raise _invalid(f"the cosignature of {key.name} does not verify") from error
    return Cosignature(key, at_s, line.text)


def _message(body: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{body}".encode()


def _key(number: int, text: str, kind: KeyKind) -> VerifierKey:
    try:
        return parse_vkey(text, kind)
    except FleetError as error:
        raise _fault(number, error.private) from error


def _fault(number: int, message: str) -> FleetError:
    return FleetError(Code.TRUST_INVALID, message, place=f"{_PLACE}:{number}" if number else _PLACE)


def _invalid(message: str) -> FleetError:
    return FleetError(Code.PROOF_INVALID, message)

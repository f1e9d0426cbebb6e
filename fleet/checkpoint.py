"""Signed statements about the audit log: C2SP notes, checkpoints and inclusion proofs as text.

Owns: notes and verifier keys (c2sp.org/signed-note), checkpoints (c2sp.org/tlog-checkpoint), proof files
(c2sp.org/tlog-proof) and the rule by which a witness goes from one checkpoint to the next. Hashing is in
`fleet.merkle`, cosignatures and who must give them in `fleet.witnesses`; storage of the log is the coordinator's.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from fleet.errors import Code, FleetError
from fleet.merkle import EMPTY_ROOT, HASH_BYTES, MAX_PROOF, MAX_SIZE, verify_consistency
from fleet.signing import KEY_BYTES, SIGNATURE_BYTES, PublicKey, decode_base64, encode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.signing import SigningKey

MAX_NOTE = 16 * 1024
"""Bytes of a note or a proof file."""

MAX_SIGNATURE_LINES = 64
"""Signature lines on one note: the log's own and the cosignatures of witnesses."""

_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_NAME = re.compile(r"[!-*,-~]{1,255}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class KeyKind(IntEnum):
    """What a verifier key signs (c2sp.org/signed-note, "Signature types"); one key is never of both kinds."""

    LOG = 1
    COSIGNER = 4


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The name and public key of a log or of a witness, written `name+hash+key`."""

    name: str
    public: PublicKey
    kind: KeyKind = KeyKind.LOG

    @property
    def key_hash(self) -> bytes:
        """First four bytes of SHA-256 over name, newline, signature type and key: which key a line is from."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public.raw).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{encode_base64(bytes([self.kind]) + self.public.raw)}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log claims at one moment: its name, how many leaves it has, and their root."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature of a note: `text` is the line as it stands there, without its line end; nothing is verified."""

    name: str
    key_hash: bytes
    signature: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart: `body` is what is signed, with its last line end; nothing is verified."""

    body: str
    signatures: tuple[SignatureLine, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """A parsed, not yet verified proof file: the leaf's index, its path and the checkpoint note it leads to."""

    index: int
    hashes: tuple[bytes, ...]
    note: bytes


def parse_vkey(text: str, kind: KeyKind = KeyKind.LOG) -> VerifierKey:
    """Read a verifier key.

    Raises:
        FleetError: PROOF_INVALID for anything but a well-formed Ed25519 key of that kind whose hash matches.
    """
    parts = text.split("+", 2)
    if len(parts) != 3 or _NAME.fullmatch(parts[0]) is None:
        raise _invalid("a verifier key is name+hash+key")
    raw = _hash_or_key(parts[2], 1 + KEY_BYTES)
    if raw[0] != kind:
        raise _invalid(f"the verifier key is not the Ed25519 key of a {kind.name.lower()}")
    key = VerifierKey(parts[0], PublicKey(raw[1:]), kind)
    if str(key) != text:
        raise _invalid("the verifier key does not match its own hash")
    return key


def format_vkey(origin: str, public: PublicKey, kind: KeyKind = KeyKind.LOG) -> str:
    """Write the verifier key of a log or a witness."""
    if _NAME.fullmatch(origin) is None:
        raise ValueError("a name is 1 to 255 visible characters without '+'")
    return str(VerifierKey(origin, public, kind))


def key_name(vkey: str) -> str:
    """Return name and hash of a verifier key: which key a signature line is from."""
    key = parse_vkey(vkey)
    return f"{key.name}+{key.key_hash.hex()}"


def sign_checkpoint(origin: str, size: int, root: bytes, *keys: SigningKey) -> bytes:
    """Make the signed note of a checkpoint.

    Args:
        origin: the log's name, as in its verifier key.
        size: number of leaves.
        root: root hash of them.
        keys: the log's keys, the newest first; more than one while they change.
    """
    if not 0 <= size <= MAX_SIZE or len(root) != HASH_BYTES:
        raise ValueError("a checkpoint is a size and a SHA-256 root")
    return _signed(f"{origin}\n{size}\n{encode_base64(root)}\n", origin, keys)


def sign_again(note: bytes, origin: str, *keys: SigningKey) -> bytes:
    """Put the present signatures of a log in the place of all that a note of this log has; others stay as they are.

    What a checkpoint says does not change, so whoever cosigned it, cosigned this one.

    Raises:
        FleetError: PROOF_INVALID for what is no note.
    """
    body = split_note(note).body
    return _signed(body, origin, keys) if body.startswith(f"{origin}\n") else note


def format_line(key: VerifierKey, signature: bytes) -> str:
    """Write one signature line, without its line end."""
    return f"\u2014 {key.name} {encode_base64(key.key_hash + signature)}"


def split_note(note: bytes) -> Note:
    """Take a note apart (c2sp.org/signed-note, "Format").

    Checks, in this order:
        1. At most MAX_NOTE bytes of UTF-8 without control characters: text, a blank line, signature lines.
        2. At least one and at most MAX_SIGNATURE_LINES of these, each well-formed.

    Raises:
        FleetError: PROOF_INVALID.
    """
    text = _note_text(note)  # 1
    body, blank, signature_text = text.rpartition("\n\n")
    if not blank or not signature_text.endswith("\n"):
        raise _invalid("the note has no signature block")
    lines = signature_text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURE_LINES:  # 2
        raise _invalid("the note has too many signatures")
    return Note(body + "\n", tuple(map(parse_line, lines)))


def open_checkpoint(note: bytes, vkeys: tuple[str, ...]) -> Checkpoint:
    """Check a checkpoint and return what it says.

    Checks, in this order:
        1. The note is at most MAX_NOTE bytes of UTF-8 without control characters: text, a blank line, signature lines.
        2. Every signature line is well-formed; lines of unknown keys (witnesses) are passed over.
        3. A key of the log signed the text; a bad signature under the name and hash of any of them is an error even if
           another line verifies.
        4. The text is the log's origin, a size and a root, and no extension lines.

    Args:
        note: the note.
        vkeys: verifier keys of the log, all under its one name; any one suffices.

    Raises:
        FleetError: PROOF_INVALID.
    """
    verifiers = {(key.name, key.key_hash): key for key in map(parse_vkey, vkeys)}
    parts = split_note(note)  # 1, 2
    signer = ""
    for line in parts.signatures:
        verifier = verifiers.get((line.name, line.key_hash))
        if verifier is None:
            continue
        if len(line.signature) != SIGNATURE_BYTES:
            raise _invalid("the log's signature has the wrong size")
        try:
            verifier.public.verify(line.signature, parts.body.encode())  # 3
        except FleetError as error:
            raise _invalid("the log's signature does not verify") from error
        signer = verifier.name
    if not signer:
        raise _invalid(f"the note is not signed by {' or '.join(sorted({name for name, _ in verifiers}))}")
    return _checkpoint_body(parts.body, signer)  # 4


def claimed(note: bytes) -> Checkpoint:
    """Return what a note says, whoever signed it.

    Raises:
        FleetError: PROOF_INVALID when it is no checkpoint.
    """
    body = split_note(note).body
    origin = body.partition("\n")[0]
    if _NAME.fullmatch(origin) is None:
        raise _invalid("no log has such a name")
    return _checkpoint_body(body, origin)


def parse_line(line: str) -> SignatureLine:
    """Read one signature line, without its line end.

    Raises:
        FleetError: PROOF_INVALID.
    """
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not parts[1]:
        raise _invalid("a signature line is not well-formed")
    try:
        value = decode_base64(parts[2])
    except ValueError as error:
        raise _invalid("a signature line is not well-formed") from error
    if len(value) < 5:
        raise _invalid("a signature line is not well-formed")
    return SignatureLine(parts[1], value[:4], value[4:], line)


def format_proof(index: int, hashes: Sequence[bytes], note: bytes) -> bytes:
    """Write a proof file: header, index, path, blank line, checkpoint note (c2sp.org/tlog-proof)."""
    lines = [_PROOF_HEADER, f"index {index}", *map(encode_base64, hashes)]
    return ("\n".join(lines) + "\n\n").encode() + note


def parse_proof(data: bytes) -> Proof:
    """Take a proof file apart; nothing in it is verified yet. The optional `extra` line is not used and refused.

    Raises:
        FleetError: PROOF_INVALID.
    """
    head, blank, note = _note_text(data).partition("\n\n")
    lines = head.split("\n")
    if not blank or len(lines) < 2 or lines[0] != _PROOF_HEADER or not lines[1].startswith("index "):
        raise _invalid("not a proof file")
    hashes = lines[2:]
    if len(hashes) > MAX_PROOF:
        raise _invalid("the proof has too many hashes")
    return Proof(
        index=_number(lines[1].removeprefix("index ")),
        hashes=tuple(_hash_or_key(line, HASH_BYTES) for line in hashes),
        note=note.encode(),
    )


def check_extends(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """The witness's rule: the log named by `new` still holds everything that `old` promised.

    From an empty tree the proof must be empty (c2sp.org/tlog-witness, "add-checkpoint"); from any other it is a
    consistency proof.

    Raises:
        FleetError: PROOF_INVALID.
    """
    if old.origin != new.origin:
        raise _invalid("the checkpoints are from two logs")
    if old.size > 0:
        verify_consistency(old.size, new.size, old.root, new.root, proof)
    elif proof or (new.size == 0 and new.root != EMPTY_ROOT):
        raise _invalid("a proof from an empty log is empty")


def _signed(body: str, origin: str, keys: Sequence[SigningKey]) -> bytes:
    verifiers = [(parse_vkey(format_vkey(origin, key.public)), key) for key in keys]
    lines = "".join(f"{format_line(verifier, key.sign(body.encode()))}\n" for verifier, key in verifiers)
    return f"{body}\n{lines}".encode()


def _note_text(data: bytes) -> str:
    if len(data) > MAX_NOTE:
        raise _invalid(f"the note has {len(data)} bytes, the limit is {MAX_NOTE}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _invalid("the note is not UTF-8") from error
    if any(character < " " and character != "\n" for character in text):
        raise _invalid("the note has control characters")
    return text


def _checkpoint_body(body: str, origin: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) != 4 or lines[3] or lines[0] != origin:
        raise _invalid("not a checkpoint of this log")
    return Checkpoint(origin, _number(lines[1]), _hash_or_key(lines[2], HASH_BYTES))


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_SIZE:
        raise _invalid("not a decimal number without leading zeros")
    return int(text)


def _hash_or_key(text: str, size: int) -> bytes:
    try:
        value = decode_base64(text)
    except ValueError as error:
        raise _invalid("not canonical base64") from error
    if len(value) != size:
        raise _invalid(f"expected {size} bytes, found {len(value)}")
    return value


def _invalid(message: str) -> FleetError:
    return FleetError(Code.PROOF_INVALID, message)

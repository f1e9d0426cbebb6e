"""Notes, checkpoints and proof files as C2SP writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.checkpoint import (
    MAX_NOTE,
    MAX_SIGNATURE_LINES,
    Checkpoint,
    VerifierKey,
    check_extends,
    claimed,
    format_proof,
    format_vkey,
    key_name,
    open_checkpoint,
    parse_proof,
    parse_vkey,
    sign_again,
    sign_checkpoint,
)
from fleet.errors import Code, FleetError
from fleet.merkle import EMPTY_ROOT, MAX_PROOF, consistency_proof, leaf_hash, root, verify_inclusion
from fleet.signing import encode_base64
from tests.fakes.publisher import LOG, MemoryLog, key

VKEY = format_vkey(LOG, key("log").public)
ROOT = leaf_hash(b"a")
NOTE = sign_checkpoint(LOG, 1, ROOT, key("log"))
BODY, _, SIGNATURE = NOTE.decode().rpartition("\n\n")
WITNESS = "\u2014 witness.example/w " + encode_base64(b"\0\1\2\3" + b"w" * 72) + "\n"


def refused(note: bytes, vkey: str = VKEY) -> str:
    with pytest.raises(FleetError) as caught:
        open_checkpoint(note, (vkey,))
    assert caught.value.code is Code.PROOF_INVALID
    return caught.value.private


def signed(body: str) -> bytes:
    """A note with any text, rightly signed by the log."""
    hash_and_signature = parse_vkey(VKEY).key_hash + key("log").sign(body.encode())
    return f"{body}\n\u2014 {LOG} {encode_base64(hash_and_signature)}\n".encode()


def test_a_checkpoint_says_what_was_signed() -> None:
    assert open_checkpoint(NOTE, (VKEY,)) == Checkpoint(LOG, 1, ROOT)


def test_the_verifier_key_of_the_specification() -> None:
    # signed-note.md: the example key of PeterNeumann, checked by its own hash
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    parsed = parse_vkey(text)
    assert (parsed.name, str(parsed)) == ("PeterNeumann", text)


def test_the_note_of_the_specification_verifies() -> None:
    # golang.org/x/mod/sumdb/note, "Open" example; its text is no checkpoint, which is the first thing found wrong
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
        "otpRZb6KE6RyyBwJnAM=\n"
    )
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert refused(note.encode(), vkey) == "not a checkpoint of this log"
    assert refused(note.replace("you", "YOU").encode(), vkey) == "the log's signature does not verify"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        "na me+00000000+AA==",
        "name+00000000+*",
        "name+00000000+AA==",
        f"name+00000000+{encode_base64(bytes([4]) + bytes(32))}",
        f"name+00000000+{encode_base64(bytes([1]) + bytes(32))}",
        VKEY + " ",
        VKEY.replace(LOG, "other"),
    ],
)
def test_other_verifier_keys_are_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_vkey(text)
    assert caught.value.code is Code.PROOF_INVALID


def test_names_and_sizes_to_sign_are_the_callers_duty() -> None:
    for name in ("", "a b", "a+b", "\u00e9"):
        with pytest.raises(ValueError, match="name"):
            format_vkey(name, key("log").public)
    for size, value in ((-1, ROOT), (1, b"")):
        with pytest.raises(ValueError, match="SHA-256"):
            sign_checkpoint(LOG, size, value, key("log"))


# The numbers are those of open_checkpoint.


@pytest.mark.parametrize(
    "note",
    [b"", b"\xff", NOTE.replace(b"\n", b"\r\n"), b"a" * (MAX_NOTE + 1), NOTE[:-1], NOTE.replace(b"\n\n", b"\n")],
)
def test_1_only_a_note_is_read(note: bytes) -> None:
    refused(note)


def test_1_a_note_has_a_limit() -> None:
    cosignature = f"\u2014 witness.example/w {encode_base64(bytes(300))}\n".encode()
    most = (MAX_NOTE - len(NOTE)) // len(cosignature)
    assert open_checkpoint(NOTE + cosignature * most, (VKEY,)).size == 1
    assert most + 2 <= MAX_SIGNATURE_LINES
    refused(NOTE + cosignature * (most + 1))


@pytest.mark.parametrize(
    "line",
    [
        "- a AAAAAAA=\n",
        "\u2014 a\n",
        "\u2014  AAAAAAA=\n",
        "\u2014 a *\n",
        "\u2014 a AAAA\n",
        "\n",
        "\u2014 a b AAAAAAA=\n",
    ],
)
def test_2_every_signature_line_is_well_formed(line: str) -> None:
    refused(NOTE + line.encode())


def test_2_witnesses_may_cosign_before_and_after() -> None:
    assert open_checkpoint(f"{BODY}\n\n{WITNESS}{SIGNATURE}{WITNESS}".encode(), (VKEY,)).size == 1


def test_2_there_is_a_limit_of_signatures() -> None:
    refused(NOTE + WITNESS.encode() * MAX_SIGNATURE_LINES)


def test_3_the_logs_key_must_have_signed() -> None:
    refused(sign_checkpoint(LOG, 1, ROOT, key("other")))
    refused(f"{BODY}\n\n{WITNESS}".encode())


def test_3_a_bad_signature_of_the_log_is_an_error_beside_a_good_one() -> None:
    bad = f"\u2014 {LOG} {encode_base64(parse_vkey(VKEY).key_hash + bytes(64))}\n"
    short = f"\u2014 {LOG} {encode_base64(parse_vkey(VKEY).key_hash + bytes(63))}\n"
    refused(NOTE + bad.encode())
    refused(NOTE + short.encode())


def test_3_the_text_is_signed() -> None:
    refused(NOTE.replace(b"\n1\n", b"\n2\n"))


@pytest.mark.parametrize(
    "body",
    [
        f"other\n1\n{encode_base64(ROOT)}\n",
        f"{LOG}\n01\n{encode_base64(ROOT)}\n",
        f"{LOG}\n-1\n{encode_base64(ROOT)}\n",
        f"{LOG}\n9999999999999999999\n{encode_base64(ROOT)}\n",
        f"{LOG}\n1\n{encode_base64(ROOT[1:])}\n",
        f"{LOG}\n1\n{encode_base64(ROOT)}\nextension\n",
        f"{LOG}\n1\n",
    ],
)
def test_4_the_text_is_a_checkpoint_of_this_log(body: str) -> None:
    refused(signed(body))


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_note_raises_anything_but_a_fleet_error(data: bytes) -> None:
    refused(data)


@given(st.text("AZaz09+/=.\u2014 \n", max_size=120))
def test_no_text_raises_anything_but_a_fleet_error(text: str) -> None:
    refused(f"{BODY}\n\n{text}".encode())
    for parse in (lambda: parse_vkey(text), lambda: parse_proof(f"c2sp.org/tlog-proof@v1\nindex {text}".encode())):
        with pytest.raises(FleetError):
            parse()


# Proof files


def test_a_proof_file_leads_from_leaf_to_checkpoint() -> None:
    log = MemoryLog(b"a", b"b", b"c")
    proof = parse_proof(log.proof(2))
    checkpoint = open_checkpoint(proof.note, (VKEY,))
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(b"c"), proof.hashes, checkpoint.root)
    assert format_proof(proof.index, proof.hashes, proof.note) == log.proof(2)


GOOD_PROOF = MemoryLog(b"a", b"b", b"c").proof(2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD_PROOF.replace(b"@v1", b"@v2"),
        GOOD_PROOF.replace(b"index 2\n", b""),
        GOOD_PROOF.replace(b"index 2", b"index 02"),
        GOOD_PROOF.replace(b"index 2", b"index 2\nextra AAAA"),
        GOOD_PROOF.partition(b"\n\n")[0],
        b"c2sp.org/tlog-proof@v1\n\n",
        format_proof(2, [ROOT] * (MAX_PROOF + 1), NOTE),
        GOOD_PROOF + b"\0",
    ],
)
def test_other_proof_files_are_refused(data: bytes) -> None:
    with pytest.raises(FleetError) as caught:
        parse_proof(data)
    assert caught.value.code is Code.PROOF_INVALID


# The witness


def checkpoint(log: MemoryLog) -> Checkpoint:
    return Checkpoint(LOG, log.size, root(log.read, log.size))


def test_a_log_that_grew_extends_its_checkpoint() -> None:
    log = MemoryLog(b"a", b"b", b"c")
    old = checkpoint(log)
    log.append(b"d")
    check_extends(old, checkpoint(log), consistency_proof(log.read, 3, 4))


def test_from_the_empty_log_the_proof_is_empty() -> None:
    empty = Checkpoint(LOG, 0, EMPTY_ROOT)
    check_extends(empty, Checkpoint(LOG, 1, ROOT), [])
    check_extends(empty, empty, [])
    for new, proof in ((Checkpoint(LOG, 1, ROOT), [ROOT]), (Checkpoint(LOG, 0, ROOT), [])):
        with pytest.raises(FleetError):
            check_extends(empty, new, proof)


def test_a_rewritten_log_and_another_log_do_not_extend() -> None:
    log, fork = MemoryLog(b"a", b"b", b"c"), MemoryLog(b"a", b"X", b"c", b"d")
    with pytest.raises(FleetError):
        check_extends(checkpoint(log), checkpoint(fork), consistency_proof(fork.read, 3, 4))
    with pytest.raises(FleetError):
        check_extends(checkpoint(log), Checkpoint("other", 3, ROOT), [])


def test_verifier_keys_compare_by_value() -> None:
    assert parse_vkey(VKEY) == VerifierKey(LOG, key("log").public)


# Several keys of one log.


SECOND = format_vkey(LOG, key("log-2").public)


def test_any_listed_key_of_the_log_suffices_and_a_retired_one_does_not() -> None:
    both = sign_checkpoint(LOG, 1, ROOT, key("log-2"), key("log"))
    for vkeys in ((VKEY,), (SECOND,), (VKEY, SECOND)):
        assert open_checkpoint(both, vkeys) == Checkpoint(LOG, 1, ROOT)
    assert open_checkpoint(NOTE, (SECOND, VKEY)).size == 1
    assert refused(NOTE, SECOND) == f"the note is not signed by {LOG}"


def test_a_bad_line_of_any_listed_key_spoils_the_note() -> None:
    bad = f"\u2014 {LOG} {encode_base64(parse_vkey(SECOND).key_hash + bytes(64))}\n".encode()
    assert open_checkpoint(NOTE + bad, (VKEY,)).size == 1  # of no listed key
    with pytest.raises(FleetError, match="does not verify"):
        open_checkpoint(NOTE + bad, (VKEY, SECOND))


def test_a_checkpoint_is_signed_again_by_the_keys_of_today() -> None:
    again = sign_again(NOTE + WITNESS.encode(), LOG, key("log-2"))
    assert again == sign_checkpoint(LOG, 1, ROOT, key("log-2"))
    assert sign_again(NOTE, "another/log", key("log-2")) == NOTE
    assert claimed(again) == Checkpoint(LOG, 1, ROOT)
    assert key_name(VKEY) == VKEY.rpartition("+")[0]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"log\n1\n",
        b"log\n1\nx\n\n" + WITNESS.encode(),
        NOTE.replace(LOG.encode(), b"a+b"),
        NOTE.replace(LOG.encode(), b"a b"),
    ],
)
def test_what_is_no_checkpoint_claims_nothing(note: bytes) -> None:
    with pytest.raises(FleetError):
        claimed(note)

"""Go's `sumdb/note` and `sumdb/tlog` verify the audit log's key, checkpoint and proofs, and refuse tampered ones."""

from __future__ import annotations

import copy
from base64 import b64decode, b64encode
from typing import Any

import pytest

from fleet.checkpoint import format_vkey, sign_checkpoint
from fleet.merkle import consistency_proof, inclusion_proof, root
from tests.fakes.publisher import LOG, MemoryLog, key
from tests.interop.tools import run_go

pytestmark = pytest.mark.slow

SIZES = (1, 2, 3, 7, 8, 33, 100)


def statements(size: int) -> dict[str, Any]:
    """Everything that a log of so many leaves can prove, as Go reads it."""
    leaves = [f"leaf {number}".encode() for number in range(size)]
    log = MemoryLog(*leaves)
    return {
        "vkey": format_vkey(LOG, key("log").public),
        "checkpoint": sign_checkpoint(LOG, size, root(log.read, size), key("log")).decode(),
        "inclusion": [
            {
                "index": index,
                "leaf": text(leaf),
                "proof": [text(node) for node in inclusion_proof(log.read, index, size)],
            }
            for index, leaf in enumerate(leaves)
        ],
        "consistency": [
            {
                "size": old,
                "root": text(root(log.read, old)),
                "proof": [text(node) for node in consistency_proof(log.read, old, size)],
            }
            for old in range(1, size + 1)
        ],
    }


def text(data: bytes) -> str:
    return b64encode(data).decode()


def spoiled(encoded: str) -> str:
    data = bytearray(b64decode(encoded))
    data[-1] ^= 1
    return text(bytes(data))


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_of_a_log_verifies(size: int) -> None:
    accepted, said = run_go(statements(size))
    assert accepted, said
    assert said == f"verified: size {size}, 1 signatures, {size} inclusion proofs, {size} consistency proofs"


def test_a_checkpoint_by_two_keys_verifies_under_each_of_them_and_no_other() -> None:
    """While the log's key changes, who knows either key takes its checkpoints."""
    document = statements(3)
    whole = root(MemoryLog(*(f"leaf {number}".encode() for number in range(3))).read, 3)
    document["checkpoint"] = sign_checkpoint(LOG, 3, whole, key("log-2"), key("log")).decode()
    for name, accepted in (("log", True), ("log-2", True), ("log-3", False)):
        taken, said = run_go({**document, "vkey": format_vkey(LOG, key(name).public)})
        assert taken is accepted, said
        assert said.startswith("verified: size 3, 1 signatures" if accepted else "refused: checkpoint"), said


def test_what_was_tampered_with_is_refused() -> None:
    honest = statements(7)

    def changed(*path: str | int, value: object = None) -> dict[str, Any]:
        document = copy.deepcopy(honest)
        inner = document
        for step in path[:-1]:
            inner = inner[step]  # type: ignore[index]
        inner[path[-1]] = spoiled(inner[path[-1]]) if value is None else value  # type: ignore[index]
        return document

    note = honest["checkpoint"]
    attacks = {
        "refused: vkey": changed("vkey", value=honest["vkey"].replace(LOG, "other.example/log")),
        "refused: checkpoint": changed("checkpoint", value=note.replace("\n7\n", "\n8\n")),
        "refused: inclusion": changed("inclusion", 3, "leaf"),
        "refused: inclusion: ": changed("inclusion", 3, "proof", 0),
        "refused: inclusion:": changed("inclusion", 3, "index", value=4),
        "refused: consistency": changed("consistency", 2, "root"),
        "refused: consistency:": changed("consistency", 2, "proof", 0),
    }
    for expected, document in attacks.items():
        accepted, said = run_go(document)
        assert not accepted
        assert said.startswith(expected), said

"""The Merkle tree against a naive reading of RFC 9162 and against the vectors of transparency-dev/merkle."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code, FleetError
from fleet.merkle import (
    EMPTY_ROOT,
    MAX_PROOF,
    append,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from tests.fakes.publisher import MemoryLog
from tests.fakes.refusals import code_of
from tests.fakes.vectors import outside_vectors

LEAVES = st.lists(st.binary(max_size=4), max_size=70)


def split(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, as written there."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = split(len(leaves))
    return node_hash(naive_root(leaves[:k]), naive_root(leaves[k:]))


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162, 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole=whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], whole=False), naive_root(leaves[:k])]


@given(LEAVES)
def test_roots_are_those_of_the_rfc_at_every_size(leaves: list[bytes]) -> None:
    log = MemoryLog(*leaves)
    for size in range(len(leaves) + 1):
        assert root(log.read, size) == naive_root(leaves[:size])


@given(LEAVES.filter(bool), st.data())
def test_inclusion_proofs_are_those_of_the_rfc_and_verify(leaves: list[bytes], data: st.DataObject) -> None:
    log = MemoryLog(*leaves)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(log.read, index, size)
    assert list(proof) == naive_path(index, leaves[:size])
    verify_inclusion(index, size, leaf_hash(leaves[index]), proof, naive_root(leaves[:size]))


@given(LEAVES.filter(bool), st.data())
def test_consistency_proofs_are_those_of_the_rfc_and_verify(leaves: list[bytes], data: st.DataObject) -> None:
    log = MemoryLog(*leaves)
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(log.read, old, new)
    assert list(proof) == naive_subproof(old, leaves[:new], whole=True)
    verify_consistency(old, new, naive_root(leaves[:old]), naive_root(leaves[:new]), proof)


@given(LEAVES, LEAVES)
def test_leaves_appended_together_give_the_same_nodes(first: list[bytes], second: list[bytes]) -> None:
    log = MemoryLog(*first)
    added = append(log.read, len(first), [leaf_hash(leaf) for leaf in second])
    assert {(node.level, node.index): node.hash for node in added} | log.nodes == MemoryLog(*first, *second).nodes


@given(LEAVES.filter(lambda leaves: len(leaves) > 1), st.data())
def test_no_changed_proof_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    log = MemoryLog(*leaves)
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(log.read, index, size))
    change = data.draw(st.sampled_from(["drop", "double", "flip", "short"]))
    place = data.draw(st.integers(0, len(proof) - 1))
    match change:
        case "drop":
            del proof[place]
        case "double":
            proof.append(proof[place])
        case "flip":
            proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        case _:
            proof[place] = proof[place][:-1]
    with pytest.raises(FleetError) as caught:
        verify_inclusion(index, size, leaf_hash(leaves[index]), proof, naive_root(leaves))
    assert caught.value.code is Code.PROOF_INVALID


@given(
    st.integers(-1, 9),
    st.integers(-1, 9),
    st.binary(max_size=33),
    st.lists(st.binary(min_size=32, max_size=32), max_size=9),
)
def test_made_up_proofs_only_raise_fleet_errors(a: int, b: int, value: bytes, proof: list[bytes]) -> None:
    allowed = {None, Code.PROOF_INVALID}
    assert code_of(verify_inclusion, a, b, value, proof, value) in allowed
    assert code_of(verify_consistency, a, b, value, value, proof) in allowed


def test_from_an_empty_tree_there_is_nothing_to_prove() -> None:
    log = MemoryLog(b"a")
    assert consistency_proof(log.read, 0, 1) == ()
    with pytest.raises(FleetError):
        verify_consistency(0, 1, EMPTY_ROOT, leaf_hash(b"a"), [])


def test_two_roots_for_one_size_are_refused() -> None:
    with pytest.raises(FleetError):
        verify_consistency(1, 1, leaf_hash(b"a"), leaf_hash(b"b"), [])
    with pytest.raises(FleetError):
        verify_consistency(1, 1, leaf_hash(b"a"), leaf_hash(b"a"), [leaf_hash(b"a")])


def test_long_proofs_are_not_even_hashed() -> None:
    with pytest.raises(FleetError):
        verify_inclusion(0, 2**63 - 1, leaf_hash(b"a"), [leaf_hash(b"a")] * MAX_PROOF, EMPTY_ROOT)


def test_asking_for_what_is_not_there_is_a_programmers_fault() -> None:
    log = MemoryLog(b"a")
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(log.read, 1, 1)
    with pytest.raises(ValueError, match="no proof"):
        consistency_proof(log.read, 2, 1)


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_every_small_tree_proves_everything_and_nothing_shorter_or_longer() -> None:
    """All pairs up to 20 leaves: no shape of a tree is left to chance."""
    roots = [naive_root([bytes([n]) for n in range(size)]) for size in range(21)]
    for size in range(1, 21):
        log = MemoryLog(*(bytes([n]) for n in range(size)))
        for index in range(size):
            proof = inclusion_proof(log.read, index, size)
            leaf = leaf_hash(bytes([index]))
            verify_inclusion(index, size, leaf, proof, roots[size])
            wrong = [[*proof, roots[0]], list(proof[:-1])] if proof else [[roots[0]]]
            for other in wrong:
                assert code_of(verify_inclusion, index, size, leaf, other, roots[size]) is Code.PROOF_INVALID
        for old in range(1, size + 1):
            proof = consistency_proof(log.read, old, size)
            verify_consistency(old, size, roots[old], roots[size], proof)
            for other in [[*proof, roots[0]], *([list(proof[:-1]), []] if proof else [])]:
                failed = code_of(verify_consistency, old, size, roots[old], roots[size], other)
                assert failed is Code.PROOF_INVALID


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_vectors_of_transparency_dev(kind: str) -> None:
    files = sorted(outside_vectors(f"merkle/{kind}").rglob("*.json"))
    assert len(files) == 98
    for case in (json.loads(file.read_text()) for file in files):
        proof = [decoded(item) for item in case["proof"] or []]
        if kind == "inclusion":
            leaf, expected = decoded(case["leafHash"]), decoded(case["root"])
            failed = code_of(verify_inclusion, case["leafIdx"], case["treeSize"], leaf, proof, expected)
        else:
            old, new = decoded(case["root1"]), decoded(case["root2"])
            failed = code_of(verify_consistency, case["size1"], case["size2"], old, new, proof)
        assert (failed is not None) == case["wantErr"], case["desc"]

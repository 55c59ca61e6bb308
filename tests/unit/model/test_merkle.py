"""The tree of RFC 6962: against the vectors of Certificate Transparency, and against somebody else's tree."""

from __future__ import annotations

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.model.merkle import (
    EMPTY,
    Frontier,
    consistency_proof,
    continues,
    includes,
    inclusion_proof,
    leaf_hash,
    root_of,
)

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUDED = {
    (0, 1): [],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENT = {
    (1, 1): [],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

SIZES = st.integers(1, 70)


def leaves(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


def hashes(size: int) -> list[bytes]:
    return [leaf_hash(leaf) for leaf in leaves(size)]


def others(size: int) -> pymerkle.InmemoryTree:
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for leaf in leaves(size):
        tree.append_entry(leaf)
    return tree


# What is published


def test_the_tree_of_nothing() -> None:
    assert Frontier().root == EMPTY == root_of([])
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    assert root_of(HASHES[:size]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("at", "size"), INCLUDED)
def test_published_inclusion_proofs(at: int, size: int) -> None:
    proof = inclusion_proof(HASHES[:size], at)
    assert [each.hex() for each in proof] == INCLUDED[at, size]
    assert includes(HASHES[at], at, size, bytes.fromhex(ROOTS[size - 1]), proof)


@pytest.mark.parametrize(("old", "new"), CONSISTENT)
def test_published_consistency_proofs(old: int, new: int) -> None:
    proof = consistency_proof(HASHES[:new], old)
    assert [each.hex() for each in proof] == CONSISTENT[old, new]
    assert continues(old, bytes.fromhex(ROOTS[old - 1]), new, bytes.fromhex(ROOTS[new - 1]), proof)


# What somebody else's tree says


@given(SIZES)
def test_roots_are_those_of_another_tree(size: int) -> None:
    assert root_of(hashes(size)) == others(size).get_root()


@given(SIZES, st.data())
def test_inclusion_proofs_are_those_of_another_tree(size: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, size - 1))
    theirs = others(size).prove_inclusion(at + 1, size)  # they count from one, and put the leaf in front
    assert [hashes(size)[at], *inclusion_proof(hashes(size), at)] == list(theirs.path)


@given(SIZES, st.data())
def test_what_is_proven_here_is_what_another_tree_proves(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    tree = others(new)
    pymerkle.verify_consistency(tree.get_root(old), tree.get_root(new), tree.prove_consistency(old, new))
    assert continues(old, tree.get_root(old), new, tree.get_root(new), consistency_proof(hashes(new), old))


# What does not belong together


@given(SIZES, st.data())
def test_a_proof_is_for_one_leaf_at_one_place_in_one_tree(size: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, size - 1))
    proof, root, hashed = inclusion_proof(hashes(size), at), root_of(hashes(size)), hashes(size)[at]
    assert includes(hashed, at, size, root, proof)
    assert not includes(leaf_hash(b"another"), at, size, root, proof)
    assert not includes(hashed, at, size, leaf_hash(b"another"), proof)
    assert not includes(hashed, at, size, root, [*proof, EMPTY])
    assert not includes(hashed, -1, size, root, proof)
    assert not includes(hashed, at + size, size, root, proof)
    for left_out in range(len(proof)):
        assert not includes(hashed, at, size, root, proof[:left_out] + proof[left_out + 1 :])


@given(st.integers(2, 70), st.data())
def test_a_tree_that_was_changed_continues_nothing(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    was, now = hashes(new), hashes(new)
    now[changed] = leaf_hash(b"another")
    assert not continues(old, root_of(was[:old]), new, root_of(now), consistency_proof(now, old))
    assert not continues(old, root_of(was[:old]), new, root_of(now), consistency_proof(was, old))


@given(st.integers(2, 70), st.data())
def test_a_proof_of_continuation_has_nothing_to_spare(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    roots, proof = (root_of(hashes(old)), root_of(hashes(new))), consistency_proof(hashes(new), old)
    assert continues(old, roots[0], new, roots[1], proof)
    assert not continues(old, roots[0], new, roots[1], [*proof, EMPTY])
    for left_out in range(len(proof)):
        assert not continues(old, roots[0], new, roots[1], proof[:left_out] + proof[left_out + 1 :])


def test_a_tree_continues_itself_only_as_it_is() -> None:
    assert continues(3, root_of(HASHES[:3]), 3, root_of(HASHES[:3]), [])
    assert not continues(3, root_of(HASHES[:3]), 3, root_of(HASHES[1:4]), [])
    assert not continues(4, root_of(HASHES[:4]), 3, root_of(HASHES[:3]), [])
    assert not continues(0, EMPTY, 3, root_of(HASHES[:3]), [])


@pytest.mark.parametrize("old", [0, 9, -1])
def test_no_continuation_of_what_is_larger_or_nothing(old: int) -> None:
    with pytest.raises(ValueError, match="continues none"):
        consistency_proof(HASHES, old)


@pytest.mark.parametrize("at", [-1, 8])
def test_no_proof_of_a_leaf_that_is_none(at: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(HASHES, at)


def test_a_leaf_is_no_node() -> None:
    left, right = HASHES[:2]
    assert leaf_hash(left + right) != root_of([left, right])


# What is kept of it


@given(st.integers(0, 70))
def test_a_frontier_outlives_being_written_down(size: int) -> None:
    frontier = Frontier()
    for hashed in hashes(size):
        frontier = Frontier.decode(frontier.encode()).append(hashed)
    assert frontier.size == size
    assert len(frontier.roots) == size.bit_count()
    assert frontier.root == root_of(hashes(size))


@pytest.mark.parametrize("raw", [b"", b"1234567", bytes(9), (1).to_bytes(8, "big"), bytes(8 + 32)])
def test_bytes_that_are_no_frontier(raw: bytes) -> None:
    with pytest.raises(ValueError, match="frontier"):
        Frontier.decode(raw)

"""Merkle trees and mountain ranges: all small shapes, and every wrong place in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.accumulator import (
    Mmr,
    MmrProof,
    merkle_leaf,
    merkle_path,
    merkle_root,
    merkle_root_of_hashes,
    merkle_verify,
    mmr_of,
    mmr_prove,
    mmr_verify,
)
from protocols.codec import digest_raw
from protocols.domains import MMR_NODE
from protocols.errors import Invalid
from tests.vectors import load

DOMAIN = "outbox"
COUNT_MAX = 18
VECTORS = load("codec")


def leaves(count: int) -> list[bytes]:
    return [bytes((index,)) * 32 for index in range(count)]


@pytest.mark.parametrize("count", range(1, COUNT_MAX))
def test_a_path_holds_for_its_leaf_at_its_place_only(count: int) -> None:
    tree = leaves(count)
    root = merkle_root(DOMAIN, tree)
    for index in range(count):
        path = merkle_path(DOMAIN, tree, index)
        assert merkle_verify(DOMAIN, root, tree[index], index=index, count=count, path=path)
        for other in range(count):
            fits = merkle_verify(DOMAIN, root, tree[index], index=other, count=count, path=path)
            assert fits == (other == index)
        assert not merkle_verify(DOMAIN, root, b"x", index=index, count=count, path=path)
        longer = (*path, b"\0" * 32)
        assert not merkle_verify(DOMAIN, root, tree[index], index=index, count=count, path=longer)
        if path:
            shorter = path[:-1]
            assert not merkle_verify(
                DOMAIN, root, tree[index], index=index, count=count, path=shorter
            )


def test_an_index_outside_the_tree_never_verifies() -> None:
    root = merkle_root(DOMAIN, leaves(1))
    for index in (-1, 1):
        assert not merkle_verify(DOMAIN, root, leaves(1)[0], index=index, count=1, path=())


def test_roots_of_all_small_trees_differ() -> None:
    roots = {merkle_root(DOMAIN, leaves(count)) for count in range(COUNT_MAX)}
    assert len(roots) == COUNT_MAX
    assert merkle_root("other", leaves(3)) not in roots


def test_a_node_cannot_be_shown_as_a_leaf() -> None:
    pair = leaves(2)
    node = merkle_leaf(DOMAIN, pair[0]) + merkle_leaf(DOMAIN, pair[1])
    assert merkle_root(DOMAIN, [node]) != merkle_root(DOMAIN, pair)


def test_odd_nodes_are_promoted() -> None:
    a, b, c = (merkle_leaf(DOMAIN, leaf) for leaf in leaves(3))
    node = f"{DOMAIN}/node"
    assert merkle_root(DOMAIN, leaves(3)) == digest_raw(node, digest_raw(node, a + b) + c)
    assert merkle_root_of_hashes(DOMAIN, [a, b, c]) == merkle_root(DOMAIN, leaves(3))


def test_golden_roots() -> None:
    for vector in VECTORS["merkle"]:
        tree = [bytes((index,)) for index in range(vector["count"])]
        assert merkle_root(vector["domain"], tree).hex() == vector["root"]
    for vector in VECTORS["mmr"]:
        assert mmr_of(leaves(vector["count"])).root().hex() == vector["root"]


def test_peaks_are_the_perfect_trees_of_the_count() -> None:
    mmr = Mmr()
    roots = {mmr.root()}
    for count, leaf in enumerate(leaves(40), 1):
        mmr = mmr.append(leaf)
        assert mmr.count == count
        assert len(mmr.peaks) == count.bit_count()
        assert Mmr.decode(mmr.encode()) == mmr
        roots.add(mmr.root())
    assert len(roots) == 41
    a, b, c = leaves(3)
    assert mmr_of([a, b, c]).peaks == (digest_raw(MMR_NODE, a + b), c)


@pytest.mark.parametrize("count", range(1, COUNT_MAX))
def test_membership_holds_for_its_leaf_at_its_place_only(count: int) -> None:
    row = leaves(count)
    root = mmr_of(row).root()
    for index in range(count):
        proof = mmr_prove(row, index)
        assert mmr_verify(root, row[index], proof)
        assert MmrProof.decode(proof.encode()) == proof
        assert not mmr_verify(root, b"x" * 32, proof)
        assert not mmr_verify(mmr_of(row[:-1]).root(), row[index], proof)
        for other in range(count):
            moved = MmrProof(other, proof.count, proof.path, proof.peaks)
            assert mmr_verify(root, row[index], moved) == (other == index)


@given(st.binary(max_size=80))
def test_decoding_noise_raises_nothing_but_invalid(blob: bytes) -> None:
    for decode in (Mmr.decode, MmrProof.decode):
        try:
            assert decode(blob).encode() == blob
        except Invalid:
            pass


@pytest.mark.parametrize(
    "value",
    [[1], [1, []], [True, [b"x" * 32]], [2, [b"x" * 31]], [-1, []], [3, [b"x" * 32]], [1, [5]], 7],
    ids=repr,
)
def test_shapes_that_are_no_range_are_refused(value: object) -> None:
    with pytest.raises(Invalid):
        Mmr.of_value(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [[0, 0, [], []], [1, 1, [], [b"x" * 32]], [0, 1, [b"x"], [b"x" * 32]], [0, 1, [], []], []],
    ids=repr,
)
def test_shapes_that_are_no_membership_proof_are_refused(value: list[object]) -> None:
    with pytest.raises(Invalid):
        MmrProof.of_value(value)  # type: ignore[arg-type]

"""Comparing statements without running anything, and what to run when they differ.

What `accuse` makes is judged in `tests/protocols/test_verdict.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.accumulator import Mmr
from protocols.machine.audit import (
    Finding,
    Suspicion,
    accuse,
    check,
    differ,
    first_wrong,
    segment_start,
)
from protocols.wire.proof import StateProof
from tests.protocols.machine.world import Key
from tests.protocols.toy import (
    LIAR,
    PARAMETERS,
    branches,
    receipts,
    resigned,
    state_proof,
)

TRUTH, OTHER = branches()
OWN = TRUTH.own()
HONEST = Key.of("honest")
HASHES = [leaf.hash() for leaf in TRUTH.leaves]
RECEIPTS = receipts(TRUTH.leaves, TRUTH.heads, LIAR)


def wrong_from(slot: int, first: int, last: int) -> tuple[list[bytes], StateProof]:
    hashes = [*HASHES[:slot], *(bytes([n]) * 32 for n in range(slot, len(HASHES)))]
    roots = [Mmr().extend(hashes[:count]).root() for count in range(last + 2)]
    proof = state_proof(RECEIPTS, first, last, LIAR)
    ends = tuple((end, roots[end + 1]) for end, _ in proof.block_roots)
    changed = resigned(
        proof, LIAR, mmr_before=roots[first], mmr_root=roots[last + 1], block_roots=ends
    )
    return hashes, changed


@pytest.mark.parametrize(
    ("slot", "expected"), [(0, range(0, 8)), (9, range(8, 16)), (23, range(16, 24))]
)
def test_the_block_of_the_first_wrong_leaf_is_found(slot: int, expected: range) -> None:
    hashes, wrong = wrong_from(slot, 0, 25)
    assert check(wrong, OWN, PARAMETERS) == Finding(Suspicion.LEAF, expected)
    assert first_wrong(hashes[:26], 0, OWN) == slot
    right = state_proof(receipts(TRUTH.leaves, TRUTH.heads, HONEST), 0, 25, HONEST)
    assert differ(right, wrong, PARAMETERS) == expected
    assert slot in expected


def test_what_continues_a_wrong_range_is_not_to_blame_for_it() -> None:
    _, wrong = wrong_from(3, 12, 20)
    assert check(wrong, OWN, PARAMETERS).suspicion is Suspicion.EARLIER


def test_what_cannot_be_compared() -> None:
    short = TRUTH.own()
    del short.leaves[10:]
    proof = state_proof(RECEIPTS, 0, 20, LIAR)
    assert check(proof, short, PARAMETERS).suspicion is Suspicion.UNKNOWN
    fork = state_proof(receipts(OTHER.leaves, OTHER.heads, LIAR), 0, 20, LIAR)
    assert check(fork, OWN, PARAMETERS).suspicion is Suspicion.OTHER_LOG
    assert check(RECEIPTS[20], OTHER.own(), PARAMETERS).suspicion is Suspicion.OTHER_LOG
    assert differ(proof, fork, PARAMETERS) is None
    assert differ(proof, RECEIPTS[19], PARAMETERS) is None
    assert differ(proof, replace(RECEIPTS[20], profile=bytes(32)), PARAMETERS) is None


def test_statements_that_agree_give_no_reason_to_run_anything() -> None:
    proof = state_proof(RECEIPTS, 3, 20, LIAR)
    assert differ(proof, RECEIPTS[20], PARAMETERS) is None
    assert check(RECEIPTS[20], OWN, PARAMETERS).suspicion is Suspicion.NONE
    assert first_wrong(HASHES[3:21], 3, OWN) is None
    for statement, first in ((proof, 3), (RECEIPTS[20], 16)):
        evidence = accuse(
            statement.encode(), HASHES[first:21], OWN, log=TRUTH.log(), parameters=PARAMETERS,
            witness=TRUTH.witness,
        )  # fmt: skip
        assert evidence is None


def test_segments_begin_at_borders() -> None:
    assert [segment_start(slot, PARAMETERS) for slot in (0, 3, 4, 9)] == [0, 0, 4, 8]

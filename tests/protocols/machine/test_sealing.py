"""State proofs follow from receipts alone, one after another, and never contradict each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aonode.crypto.verify import verify_ed25519
from protocols.errors import Invalid, Reason
from protocols.machine.audit import Suspicion, check
from protocols.machine.sealing import OpenProof, Sealer
from protocols.wire.proof import BLOCK_ENDS_MAX, Statement, StateProof, contradicts
from tests.protocols.machine.world import Key
from tests.protocols.toy import NETWORK, PARAMETERS, PROFILE, branches, receipts

UNIT = Key.of("unit")
TRUTH = branches()[0]
RECEIPTS = receipts(TRUTH.leaves, TRUTH.heads, UNIT)
SEALER = Sealer(NETWORK, PROFILE, UNIT.public, UNIT.sign)
PROCESS = TRUTH.slots[0].process


def sealed(ends: list[int]) -> list[StateProof]:
    """The proofs of a unit that seals after these slots."""
    open, proofs = OpenProof.at_genesis(PROCESS), []
    for receipt in RECEIPTS:
        open = open.add(receipt, PARAMETERS)
        if receipt.slot in ends:
            proofs.append(SEALER.seal(open, receipt.slot))
            open = OpenProof.after(proofs[-1])
    return proofs


@pytest.mark.parametrize(
    "ends", [[7, 15, 23], [0, 1, 2], [2, 7, 12, 29], [15], [23, 24], list(range(30))]
)
def test_proofs_chain_and_are_right(ends: list[int]) -> None:
    proofs = sealed(ends)
    own = TRUTH.own()
    assert [proof.last for proof in proofs] == ends
    assert [proof.sequence for proof in proofs] == list(range(len(ends)))
    assert [proof.first for proof in proofs] == [0, *(end + 1 for end in ends[:-1])]
    for proof in proofs:
        proof.check(PARAMETERS)
        assert StateProof.decode(proof.encode()) == proof
        assert verify_ed25519(UNIT.public, proof.signing_bytes(), proof.signature)
        assert check(proof, own, PARAMETERS).suspicion is Suspicion.NONE
        others: list[Statement] = [*proofs, *RECEIPTS, *sealed([4, 9, 29])]
        for other in others:
            assert not contradicts(proof, other)


def test_it_is_due_at_block_ends_and_less_often_while_catching_up() -> None:
    open, due, late = OpenProof.at_genesis(PROCESS), [], []
    assert open.is_empty()
    for receipt in RECEIPTS:
        open = open.add(receipt, PARAMETERS)
        if open.is_due(PARAMETERS):
            due.append(receipt.slot)
        if open.is_due(PARAMETERS, catching_up=True):
            late.append(receipt.slot)
    assert due == [7, 15, 23]
    assert late == []
    small = replace(PARAMETERS, root_every=1, proof_every=1)
    fitting = [replace(receipt, leaf=replace(receipt.leaf)) for receipt in RECEIPTS]
    open = replace(
        OpenProof.at_genesis(PROCESS),
        block_roots=tuple((slot, bytes(32)) for slot in range(BLOCK_ENDS_MAX)),
    )
    open = open.add(fitting[0], small)
    assert open.is_due(small, catching_up=True)
    with pytest.raises(AssertionError, match="crosses"):
        open.add(fitting[1], small)


def test_a_gap_is_a_mistake_of_ours() -> None:
    open = OpenProof.at_genesis(PROCESS)
    with pytest.raises(AssertionError, match="slot 1 after slot -1"):
        open.add(RECEIPTS[1], PARAMETERS)
    with pytest.raises(AssertionError, match="no slots"):
        SEALER.seal(open, 0)


def test_what_was_signed_is_used_again_or_contradicted_aloud() -> None:
    (durable,) = sealed([7])
    open = OpenProof.at_genesis(PROCESS)
    for receipt in RECEIPTS[:8]:
        open = open.add(receipt, PARAMETERS)
    assert SEALER.seal(open, 99, durable) is durable
    for wrong in (replace(open, mmr_root=bytes(32)), replace(open, fuel=0)):
        with pytest.raises(Invalid) as refusal:
            SEALER.seal(wrong, 99, durable)
        assert refusal.value.reason is Reason.MISMATCH

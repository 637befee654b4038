"""Faults that show without running anything, and what voids evidence of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocols.accumulator import Mmr, mmr_prove
from protocols.codec import encode
from protocols.court import Anchor, Court, Finding, Place
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, NodeKey, ProcessId
from protocols.machine import audit
from protocols.machine.audit import Suspicion, accuse, bad_state_root, check, wrong_sum
from protocols.verdict import verdict
from protocols.wire.evidence import (
    BadLeaf,
    BadStart,
    Contradiction,
    FraudProof,
    TwoAssignments,
    encode_evidence,
)
from protocols.wire.item_head import ItemHead
from protocols.wire.proof import Leaf, Receipt, StateProof
from protocols.wire.vote import Vote
from tests.protocols.machine.world import Key, item, process_item
from tests.protocols.toy import (
    COURT,
    FORK,
    LIAR,
    NETWORK,
    PARAMETERS,
    PROFILE,
    SCHEDULER,
    USER,
    Branch,
    branches,
    court,
    judge,
    receipts,
    resigned,
    state_proof,
    toy_leaves,
    toy_run,
)

TRUTH, OTHER = branches()
OWN = TRUTH.own()
RECEIPTS = receipts(TRUTH.leaves, TRUTH.heads, LIAR)
PROOF = state_proof(RECEIPTS, 4, 19, LIAR)
HASHES = [leaf.hash() for leaf in TRUTH.leaves]


def with_leaf(slot: int, leaf: Leaf) -> list[bytes]:
    return [*HASHES[:slot], leaf.hash(), *HASHES[slot + 1 :]]


def over(hashes: list[bytes], last: int) -> StateProof:
    """A proof of slots 4..last whose range is over these leaf hashes."""
    roots = [Mmr().extend(hashes[:count]).root() for count in range(last + 2)]
    proof = state_proof(RECEIPTS, 4, last, LIAR)
    ends = tuple((slot, roots[slot + 1]) for slot, _ in proof.block_roots)
    return resigned(proof, LIAR, mmr_root=roots[-1], block_roots=ends)


# A leaf that is wrong as it stands


@pytest.mark.parametrize(
    ("slot", "changes"),
    [
        (5, {"status": 6}),
        (5, {"status": 255}),
        (5, {"root": bytes(32)}),
        (7, {"root": None}),
        (5, {"slot": 6}),
        (5, {"process": bytes(32)}),
    ],
)
def test_a_bad_leaf_convicts_without_execution(slot: int, changes: dict[str, object]) -> None:
    leaf = replace(TRUTH.leaves[slot], **changes)  # type: ignore[arg-type]
    hashes = with_leaf(slot, leaf)
    statement = over(hashes, 19).encode()
    path = mmr_prove(hashes[:20], slot).encode()
    assert judge(BadLeaf(statement, slot, leaf.encode(), path)).finding is Finding.GUILTY
    good = mmr_prove(HASHES[:20], slot).encode()
    wrong = BadLeaf(PROOF.encode(), slot, leaf.encode(), good)
    assert judge(wrong).finding is Finding.VOID
    right = BadLeaf(PROOF.encode(), slot, TRUTH.leaves[slot].encode(), good)
    assert judge(right).finding is Finding.INNOCENT
    early = mmr_prove(HASHES[:20], 3).encode()
    not_answered_for = BadLeaf(PROOF.encode(), 3, TRUTH.leaves[3].encode(), early)
    assert judge(not_answered_for).finding is Finding.VOID


def test_a_signed_status_outside_the_table_convicts_by_the_receipt_alone() -> None:
    receipt = RECEIPTS[9]
    leaf = replace(receipt.leaf, status=6)
    bad = replace(receipt, leaf=leaf, signature=b"")
    bad = bad.signed(LIAR.sign(bad.signing_bytes()))
    assert judge(BadLeaf(bad.encode(), 9, leaf.encode(), None)).finding is Finding.GUILTY
    good = BadLeaf(receipt.encode(), 9, receipt.leaf.encode(), None)
    assert judge(good).finding is Finding.INNOCENT
    another = BadLeaf(receipt.encode(), 9, leaf.encode(), None)
    assert judge(another).finding is Finding.VOID


def test_a_receipt_with_another_leaf_than_its_range_is_guilty() -> None:
    receipt = RECEIPTS[9]
    bad = replace(receipt, leaf=replace(receipt.leaf, fuel=1 << 40), signature=b"")
    bad = bad.signed(LIAR.sign(bad.signing_bytes()))
    path = mmr_prove(HASHES[:10], 9).encode()
    evidence = BadLeaf(bad.encode(), 9, TRUTH.leaves[9].encode(), path)
    assert judge(evidence).finding is Finding.GUILTY
    assert check(bad, OWN, PARAMETERS) == audit.Finding(Suspicion.LEAF, range(9, 10))
    proof = accuse(
        bad.encode(), HASHES[8:10], OWN, log=TRUTH.log(), parameters=PARAMETERS,
        witness=TRUTH.witness,
    )  # fmt: skip
    assert proof is not None
    assert judge(proof).finding is Finding.GUILTY


def test_a_state_root_that_is_not_the_leafs_is_guilty() -> None:
    bad = resigned(PROOF, LIAR, state_root=bytes(32))
    assert check(bad, OWN, PARAMETERS).suspicion is Suspicion.STATE_ROOT
    assert judge(bad_state_root(bad.encode(), OWN)).finding is Finding.GUILTY
    assert judge(bad_state_root(PROOF.encode(), OWN)).finding is Finding.INNOCENT


def test_a_wrong_sum_of_fuel_is_guilty() -> None:
    bad = resigned(PROOF, LIAR, fuel=PROOF.fuel + 1)
    assert check(bad, OWN, PARAMETERS).suspicion is Suspicion.SUM
    evidence = wrong_sum(bad.encode(), OWN, PARAMETERS)
    assert judge(evidence).finding is Finding.GUILTY
    innocent = wrong_sum(PROOF.encode(), OWN, PARAMETERS)
    assert judge(innocent).finding is Finding.INNOCENT
    for wrong in (
        replace(evidence, peaks=evidence.peaks[:-1]),
        replace(evidence, peaks=(bytes(32), *evidence.peaks[1:])),
        replace(evidence, leaves=evidence.leaves[1:]),
        replace(evidence, leaves=(*evidence.leaves[:-1], evidence.leaves[0])),
        replace(evidence, statement=RECEIPTS[19].encode()),
    ):
        assert judge(wrong).finding is Finding.VOID


# Two statements


def test_contradictions_of_one_unit_are_guilty() -> None:
    wrong = resigned(PROOF, LIAR, mmr_root=bytes(32))
    both = Contradiction(PROOF.encode(), wrong.encode(), False)
    assert judge(both).finding is Finding.GUILTY
    agree = Contradiction(PROOF.encode(), RECEIPTS[19].encode(), False)
    assert judge(agree).finding is Finding.INNOCENT
    honest = Key.of("honest")
    others = receipts(TRUTH.leaves, TRUTH.heads, honest)[19].encode()
    two_units = Contradiction(wrong.encode(), others, False)
    assert judge(two_units).finding is Finding.VOID
    branch = receipts(OTHER.leaves, OTHER.heads, LIAR)[19].encode()
    fork = Contradiction(RECEIPTS[19].encode(), branch, False)
    assert judge(fork).finding is Finding.INNOCENT


def vote(key: Key, tick: int, root: bytes) -> bytes:
    draft = Vote(NETWORK, tick, 3, bytes(32), root, key.public)
    return draft.signed(key.sign(draft.signing_bytes())).encode()


def test_two_votes_for_one_tick_are_guilty() -> None:
    one, other = vote(LIAR, 5, b"a" * 32), vote(LIAR, 5, b"b" * 32)
    assert judge(Contradiction(one, other, True)).finding is Finding.GUILTY
    assert judge(Contradiction(one, one, True)).finding is Finding.INNOCENT
    later = vote(LIAR, 6, b"b" * 32)
    assert judge(Contradiction(one, later, True)).finding is Finding.INNOCENT
    session = Key.of("session")
    second = vote(session, 5, b"b" * 32)
    assert judge(Contradiction(one, second, True)).finding is Finding.INNOCENT
    same = replace(COURT, account=lambda key: Address(bytes(32)))
    assert judge(Contradiction(one, second, True), same).finding is Finding.GUILTY
    forged = one[:-1] + bytes([one[-1] ^ 1])
    assert judge(Contradiction(forged, other, True)).finding is Finding.VOID


def test_one_slot_given_twice_is_guilty() -> None:
    process = ItemHead.of(TRUTH.process)
    one, other = TRUTH.log().slot(FORK)[0], OTHER.log().slot(FORK)[0]
    judgement = judge(TwoAssignments(one, other, process))
    assert judgement.finding is Finding.GUILTY
    assert judgement.accused == TRUTH.slots[0].assignment.item.owner
    assert judgement.place == Place(TRUTH.slots[0].process, FORK, TRUTH.slots[FORK].assignment.id)
    assert judge(TwoAssignments(one, one, process)).finding is Finding.INNOCENT
    later = OTHER.log().slot(FORK + 1)[0]
    assert judge(TwoAssignments(one, later, process)).finding is Finding.INNOCENT
    forged = bytearray(other)
    forged[10] ^= 1
    assert judge(TwoAssignments(one, bytes(forged), process)).finding is Finding.VOID
    assert judge(TwoAssignments(one, TRUTH.process.raw, process)).finding is Finding.VOID
    another = ItemHead.of(process_item(USER, SCHEDULER, anchor=2))
    assert judge(TwoAssignments(one, other, another)).finding is Finding.VOID


# Anchors

ANCHOR_ID = b"a" * 32


def anchor_after(slot: int, of: Branch = TRUTH, **changes: object) -> Anchor:
    right = Anchor(
        of.slots[0].process, slot, of.heads[slot], Mmr().extend(HASHES[: slot + 1]).root(), False
    )
    return replace(right, **changes)  # type: ignore[arg-type]


def starting(first: int, **changes: object) -> bytes:
    proof = state_proof(RECEIPTS, first, 23, LIAR)
    return resigned(proof, LIAR, start=ANCHOR_ID, **changes).encode()


def test_a_proof_must_fit_the_anchor_it_names() -> None:
    def finding(statement: bytes, anchor: Anchor | None) -> Finding:
        anchors = {} if anchor is None else {ANCHOR_ID: anchor}
        return judge(BadStart(statement), court(anchors)).finding

    right = anchor_after(7)
    assert finding(starting(8), right) is Finding.INNOCENT
    assert finding(starting(12), right) is Finding.INNOCENT
    assert finding(starting(8), None) is Finding.GUILTY
    assert finding(starting(7), right) is Finding.GUILTY
    assert finding(starting(8, mmr_before=bytes(32)), right) is Finding.GUILTY
    assert finding(starting(8), replace(right, process=ProcessId(ANCHOR_ID))) is Finding.GUILTY
    assert finding(starting(8), replace(right, head=bytes(32))) is Finding.VOID
    assert finding(starting(8), replace(right, refuted=True)) is Finding.VOID
    assert finding(PROOF.encode(), right) is Finding.VOID


def test_a_false_anchor_is_refuted_like_a_statement_and_voids_what_rests_on_it() -> None:
    lie, _ = toy_leaves(bytes(32), TRUTH.slots[5:8])
    false = [*HASHES[:5], *(leaf.hash() for leaf in lie)]
    anchor = anchor_after(7, mmr_root=Mmr().extend(false).root())
    evidence = FraudProof(
        ANCHOR_ID,
        TRUTH.process.raw,
        4,
        TRUTH.heads[3],
        b"".join(TRUTH.log().ids[4:8]),
        TRUTH.leaves[3].encode(),
        mmr_prove(false, 3).encode(),
        5,
        false[5],
        mmr_prove(false, 5).encode(),
        tuple(TRUTH.log().slot(slot) for slot in range(4, 8)),
        TRUTH.witness(4),
    )
    judgement = judge(evidence, court({ANCHOR_ID: anchor}))
    assert judgement.finding is Finding.GUILTY
    assert (judgement.anchor, judgement.accused) == (ANCHOR_ID, None)
    refuted = court({ANCHOR_ID: replace(anchor, refuted=True)})
    assert judge(evidence, refuted).finding is Finding.VOID
    assert judge(evidence, court()).finding is Finding.VOID

    # A unit that started there and worked honestly answers for nothing before it, and its own
    # leaves follow from the false state: whatever is shown against it, it is not guilty.
    state = b"false".ljust(32, b".")
    after, _ = toy_leaves(state, TRUTH.slots[8:16])
    mixed = [*false, *(leaf.hash() for leaf in after)]
    roots = [Mmr().extend(mixed[:count]).root() for count in range(17)]
    proof = resigned(
        state_proof(RECEIPTS, 8, 15, LIAR),
        LIAR,
        start=ANCHOR_ID,
        mmr_before=roots[8],
        mmr_root=roots[16],
        state_root=after[-1].root,
    )
    before = replace(
        evidence, accused=proof.encode(), ids=b"".join(TRUTH.log().ids[4:16]),
        before_path=mmr_prove(mixed, 3).encode(), path=mmr_prove(mixed, 5).encode(),
    )  # fmt: skip
    assert judge(before, court({ANCHOR_ID: anchor})).finding is Finding.VOID
    assert judge(before, refuted).finding is Finding.VOID


# What voids any evidence


def good_fraud() -> FraudProof:
    leaf = replace(TRUTH.leaves[9], fuel=1 << 40)
    hashes = with_leaf(9, leaf)
    statement = over(hashes, 19)
    proof = accuse(
        statement.encode(), hashes[4:20], OWN, log=TRUTH.log(), parameters=PARAMETERS,
        witness=TRUTH.witness,
    )  # fmt: skip
    assert proof is not None
    return proof


def no_stake(key: NodeKey) -> None:
    raise Invalid(Reason.INADMISSIBLE, "nothing is at stake")


@pytest.mark.parametrize(
    "other",
    [
        replace(COURT, network=NetworkId(bytes(32))),
        replace(COURT, profile=bytes(32)),
        court(modules=()),
        court(modules=(ItemId(bytes(32)),)),
        replace(COURT, signed=lambda *_: False),
        replace(COURT, item_signed=lambda _: False),
        replace(COURT, answerable=no_stake),
    ],
)
def test_another_court_does_not_judge_it(other: Court) -> None:
    assert judge(good_fraud()).finding is Finding.GUILTY
    assert judge(good_fraud(), other).finding is Finding.VOID


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: replace(proof, witness=replace(proof.witness, pages=1 << 16)),
        lambda proof: replace(proof, witness=replace(proof.witness, runs=((0, 2),))),
        lambda proof: replace(
            proof, witness=replace(proof.witness, pages=3, runs=((1, 1), (0, 1)))
        ),
        lambda proof: replace(proof, witness=replace(proof.witness, pages=0)),
        lambda proof: replace(proof, witness=replace(proof.witness, frame=b"")),
    ],
)
def test_a_witness_beyond_its_bounds_is_never_opened(
    change: Callable[[FraudProof], FraudProof],
) -> None:
    def never(segment: object) -> tuple[bytes, ...]:
        raise AssertionError("must not be run")

    assert judge(change(good_fraud()), run=never).finding is Finding.VOID


@pytest.mark.parametrize("blob", [b"", b"\x80", b"\x82\x07\x80", b"\x82\xf5\x80", encode([1, []])])
def test_other_bytes_are_no_evidence(blob: bytes) -> None:
    assert verdict(blob, toy_run, COURT).finding is Finding.VOID


def test_evidence_is_bounded_before_it_is_read() -> None:
    large = encode_evidence(BadStart(b"x" * 2048)) + bytes(90 << 20)
    assert "bytes" in verdict(large, toy_run, COURT).reason


def test_a_stranger_signing_is_no_excuse() -> None:
    """Statements of two keys never mix: the signature is the accused's own."""
    proof = resigned(PROOF, LIAR, cu=Key.of("honest").public, mmr_root=bytes(32))
    evidence = Contradiction(PROOF.encode(), proof.encode(), False)
    assert judge(evidence).finding is Finding.VOID


def test_receipts_and_profiles_of_other_engines_do_not_contradict() -> None:
    receipt = RECEIPTS[9]
    other: Receipt = replace(receipt, profile=b"q" * 32, mmr_root=bytes(32), signature=b"")
    other = other.signed(LIAR.sign(other.signing_bytes()))
    evidence = Contradiction(receipt.encode(), other.encode(), False)
    judgement = judge(evidence)
    assert judgement.finding is Finding.VOID
    assert other.profile != PROFILE
    assert item(LIAR, []).owner == LIAR.public

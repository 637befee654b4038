"""When state proofs are sealed, and what a unit does about those it has signed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import keyspace
from protocols.errors import Invalid, Reason
from protocols.machine.effects import Effect, Notify, Persist, Publish, SetTimer, Table
from protocols.machine.events import ProofSealed
from protocols.machine.proving import INTERIM_MS_MAX, TIMER, Proving, interim_ms
from protocols.machine.sealing import Sealer
from protocols.wire.proof import Receipt, StateProof, contradicts
from protocols.wire.topics import Topic
from tests.protocols.machine.world import Key
from tests.protocols.toy import FORK, NETWORK, PARAMETERS, PROFILE, branches, receipts, resigned

UNIT = Key.of("unit")
TRUTH, OTHER = branches()
PROCESS = TRUTH.slots[0].process
RECEIPTS = receipts(TRUTH.leaves, TRUTH.heads, UNIT)
FORKED = receipts(OTHER.leaves, OTHER.heads, UNIT)
SEALER = Sealer(NETWORK, PROFILE, UNIT.public, UNIT.sign)
LAST = len(RECEIPTS) - 1


def proving(rows: Sequence[StateProof] = ()) -> Proving:
    made = Proving(PROCESS, SEALER, PARAMETERS)
    made.recover([proof.encode() for proof in rows])
    return made


def run(
    unit: Proving,
    made: Sequence[Receipt] = RECEIPTS,
    *,
    tip: int | None = None,
    interims: Sequence[int] = (),
) -> list[Effect]:
    """Evaluate all slots; the timer runs out after those in `interims`."""
    effects: list[Effect] = []
    for receipt in made:
        at = receipt.slot if tip is None else tip
        effects += unit.add(receipt, tip=at, tick=3, now=1000 * receipt.slot)
        if receipt.slot in interims:
            effects += unit.interim(4)
    return effects


def signed(effects: Sequence[Effect]) -> list[StateProof]:
    """The new proofs; each is durable first, then published, then told."""
    proofs = []
    for index, effect in enumerate(effects):
        if isinstance(effect, Persist):
            assert effect.value is not None
            proof = StateProof.decode(effect.value)
            key = keyspace.proof_key(PROCESS, proof.last, proof.head, PROFILE)
            assert (effect.table, effect.key) == (Table.SIGN_ONCE, key)
            assert effects[index + 1 : index + 3] == [
                Publish(Topic.PROOFS, PROCESS, effect.value),
                Notify(ProofSealed(proof)),
            ]
            proofs.append(proof)
    return proofs


def spans(proofs: Sequence[StateProof]) -> list[tuple[int, int]]:
    return [(proof.first, proof.last) for proof in proofs]


def test_a_unit_that_keeps_up_seals_every_block() -> None:
    effects = run(proving())
    assert spans(signed(effects)) == [(0, 7), (8, 15), (16, 23)]
    wait_ms = interim_ms(PARAMETERS)
    assert [each for each in effects if isinstance(each, SetTimer)] == [
        SetTimer((TIMER, PROCESS), 1000 * slot + wait_ms) for slot in (0, 8, 16, 24)
    ]
    assert {proof.tick for proof in signed(effects)} == {3}


def test_a_unit_that_catches_up_seals_over_several_blocks() -> None:
    assert spans(signed(run(proving(), tip=LAST))) == [(0, 23)]
    assert [end for end, _ in signed(run(proving(), tip=LAST))[0].block_roots] == [7, 15]


def test_an_interim_proof_covers_what_has_waited() -> None:
    unit = proving()
    assert unit.interim(0) == []
    effects = run(unit, interims=(2, 7, 9))
    assert spans(signed(effects)) == [(0, 2), (3, 7), (8, 9), (10, 15), (16, 23)]
    assert [proof.tick for proof in signed(effects)] == [4, 3, 4, 3, 3]
    assert interim_ms(replace(PARAMETERS, tick_ms=10 * INTERIM_MS_MAX)) == INTERIM_MS_MAX
    assert interim_ms(replace(PARAMETERS, tick_ms=1000)) == 1000


def test_what_is_durable_is_used_again_and_the_newest_is_told() -> None:
    before = signed(run(proving(), interims=(2, 9)))
    effects = run(proving(before), tip=LAST, interims=(5, 12, 20))
    assert effects[:1] == [Notify(ProofSealed(before[-1]))]
    assert signed(effects) == []
    assert proving(before).newest() == before[-1]
    later = run(proving(before[:3]), interims=(1, 12))
    assert later[:1] == [Notify(ProofSealed(before[2]))]
    assert spans(signed(later)) == [(10, 12), (13, 15), (16, 23)]
    assert [proof.sequence for proof in signed(later)] == [3, 4, 5]


@pytest.mark.parametrize("changes", [{"mmr_root": bytes(32)}, {"fuel": 1}])
def test_what_is_durable_is_not_contradicted(changes: dict[str, object]) -> None:
    before = signed(run(proving()))
    wrong = resigned(before[1], UNIT, **changes)
    unit = proving([before[0], wrong, before[2]])
    run(unit, RECEIPTS[:15])
    with pytest.raises(Invalid, match=r"slots 8\.\.15") as refusal:
        unit.add(RECEIPTS[15], tip=15, tick=3, now=0)
    assert refusal.value.reason is Reason.MISMATCH


def test_a_gap_in_the_durable_ones_is_filled() -> None:
    """Every proof has one that ends right before it, which can be shown on demand."""
    before = signed(run(proving(), interims=(9,)))
    effects = run(proving([before[0], before[2]]))
    assert spans(signed(effects)) == [(8, 9), (16, 23)]
    assert spans(before) == [(0, 7), (8, 9), (10, 15), (16, 23)]


def test_overlapping_ones_are_both_kept() -> None:
    """A unit that lost its table and signed again elsewhere has told the truth twice."""
    before = [*signed(run(proving())), *signed(run(proving(), interims=(4, 12)))]
    table = {(proof.last, proof.head): proof for proof in before}
    effects = run(proving(list(table.values())))
    assert signed(effects) == []


def test_after_a_fork_the_other_branch_is_proved_too() -> None:
    before = signed(run(proving()))
    after = signed(run(proving(before), FORKED))
    assert spans(after) == [(16, 23)]
    assert after[0].head != before[2].head
    assert FORK in range(16, 24)
    for one in before:
        assert not contradicts(one, after[0])


def test_rows_of_somebody_else_are_refused_or_passed_over() -> None:
    (proof, *_) = signed(run(proving()))
    with pytest.raises(Invalid, match="is of process"):
        proving([resigned(proof, UNIT, process=bytes(32))])
    unit = proving([resigned(proof, UNIT, profile=bytes(32), mmr_root=bytes(32))])
    assert unit.newest() is None
    assert spans(signed(run(unit)))[0] == (0, 7)


def test_a_claim_that_holds_becomes_durable() -> None:
    before = signed(run(proving()))
    unit = proving(before[:1])
    for proof in before:
        unit.claim(proof)
    assert unit.is_claimed()
    assert unit.interim(1) == []
    rows = [
        effect
        for receipt in RECEIPTS
        for effect in unit.check(receipt.slot, receipt.head, receipt.mmr_root)
    ]
    assert not unit.is_claimed()
    assert [row.value for row in rows if isinstance(row, Persist)] == [
        proof.encode() for proof in before[1:]
    ]
    assert signed(run(unit)) == []


def test_a_claim_that_does_not_hold_stops() -> None:
    before = signed(run(proving()))
    unit = proving()
    unit.claim(resigned(before[0], UNIT, mmr_root=bytes(32)))
    with pytest.raises(Invalid, match="has signed another state") as refusal:
        unit.check(7, RECEIPTS[7].head, RECEIPTS[7].mmr_root)
    assert refusal.value.reason is Reason.MISMATCH
    with pytest.raises(Invalid, match="a peer holds another proof"):
        proving(before).claim(resigned(before[0], UNIT, mmr_root=bytes(32)))


def test_a_claim_about_another_branch_binds_nothing() -> None:
    unit = proving()
    unit.claim(signed(run(proving()))[2])
    unit.claim(resigned(signed(run(proving()))[0], UNIT, profile=bytes(32)))
    assert unit.check(23, FORKED[23].head, FORKED[23].mmr_root) == []
    assert not unit.is_claimed()


@given(st.data())
def test_whatever_is_lost_and_found_nothing_is_contradicted(data: st.DataObject) -> None:
    slots = st.lists(st.integers(0, LAST), unique=True)
    table: dict[tuple[int, bytes], StateProof] = {}
    every: list[StateProof] = []
    for _ in range(data.draw(st.integers(1, 4))):
        lost = data.draw(st.sets(st.sampled_from(sorted(table)))) if table else set()
        table = {place: proof for place, proof in table.items() if place not in lost}
        made = data.draw(st.sampled_from([RECEIPTS, FORKED]))
        unit = proving(list(table.values()))
        length = data.draw(st.integers(0, len(made)))
        effects = run(
            unit,
            made[:length],
            tip=data.draw(st.sampled_from([None, LAST])),
            interims=data.draw(slots),
        )
        for proof in signed(effects):
            proof.check(PARAMETERS)
            assert (proof.last, proof.head) not in table, "signed twice"
            table[proof.last, proof.head] = proof
            every.append(proof)
        ends = {(proof.last, proof.mmr_root) for proof in table.values()}
        reached = [p for p in table.values() if p.last < length and p.head == made[p.last].head]
        assert all(not p.first or (p.first - 1, p.mmr_before) in ends for p in reached)
    for one in every:
        for other in every:
            assert not contradicts(one, other)

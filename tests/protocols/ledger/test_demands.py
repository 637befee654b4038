"""Demands, replies, silence; anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from protocols.accumulator import mmr_of, mmr_prove
from protocols.codec import digest
from protocols.domains import HEAD
from protocols.ids import ProcessId
from protocols.ledger.anchors import anchor_id
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import AnchorEntry, Bond, Case, Demanded
from protocols.machine.sealing import OpenProof, Sealer
from protocols.wire.assignment import Chain
from protocols.wire.demand import (
    ASSIGNMENT,
    LEAVES,
    PREVIOUS,
    AssignmentAnswer,
    LeavesAnswer,
    PreviousAnswer,
    StatementSlot,
)
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, OfferAnchor, Reply, Unbond
from protocols.wire.proof import StateProof
from tests.protocols.ledger.test_disputes import Court
from tests.protocols.ledger.world import PARAMETERS, POOR, RICH, STAKERS, TOKEN
from tests.protocols.machine.world import Key, process_item
from tests.protocols.toy import (
    FORK,
    SCHEDULER,
    USER,
    Branch,
    branches,
    receipts,
    state_proof,
)

TRUTH = branches()[0]
HASHES = [leaf.hash() for leaf in TRUTH.leaves]
UNIT, WATCHER = STAKERS[0], STAKERS[1]
MADE = receipts(TRUTH.leaves, TRUTH.heads, UNIT)


def proof(first: int, last: int) -> StateProof:
    return state_proof(MADE, first, last, UNIT)


def reply(id: bytes, first: int, last: int, hashes: Sequence[bytes] = HASHES) -> Reply:
    peaks = mmr_of(hashes[:first]).peaks
    return leaves(id, peaks, b"".join(hashes[first : last + 1]))


def leaves(id: bytes, peaks: tuple[bytes, ...], hashes: bytes) -> Reply:
    return Reply(id, LeavesAnswer(peaks, hashes).encode())


def previous(id: bytes, shown: bytes) -> Reply:
    return Reply(id, PreviousAnswer(shown).encode())


def demand(court: Court, statement: bytes, kind: int = LEAVES) -> bytes:
    known = {key for key, _ in court.state.all(Demanded)}
    court.do(WATCHER, Demand(court.next_sequence(), kind, statement))
    (id,) = {key for key, _ in court.state.all(Demanded)} - known
    return id


@pytest.mark.parametrize(("first", "last"), [(0, 7), (5, 20), (8, 23)])
def test_leaves_are_demanded_and_shown_by_anyone(first: int, last: int) -> None:
    court = Court()
    id = demand(court, court.sealed(proof(first, last), UNIT))
    good = reply(id, first, last)
    peaks, hashes = mmr_of(HASHES[:first]).peaks, b"".join(HASHES[first : last + 1])
    assert leaves(id, peaks, hashes) == good
    for wrong in (
        leaves(id, peaks, hashes[32:]),
        leaves(id, peaks, hashes[1:]),
        leaves(id, peaks, bytes(32) + hashes[32:]),
        leaves(id, (*peaks, bytes(32)), hashes),
        replace(good, demand=bytes(32)),
        reply(id, first, last, [bytes(32), *HASHES[1:]]) if first else leaves(id, peaks, b""),
        replace(good, answer=b"x"),
        previous(id, b"x"),
    ):
        court.refuse(POOR, wrong)
    court.do(POOR, good)
    assert court.state.totals().burnt == PARAMETERS.demand_bond
    court.refuse(POOR, good, "no such demand")
    court.tick(PARAMETERS.demand_window)
    assert court.state.get(Case, UNIT.address) is None
    assert not list(court.state.all(Demanded))


def test_leaves_behind_a_receipt_begin_with_its_block() -> None:
    court = Court()
    id = demand(court, court.sealed(MADE[13], UNIT))
    court.refuse(POOR, reply(id, 0, 13))
    court.do(POOR, reply(id, 8, 13))


def test_a_receipt_that_no_leaves_fit_cannot_be_answered_for() -> None:
    court = Court()
    odd = replace(MADE[13], leaf=replace(MADE[13].leaf, fuel=1))
    id = demand(court, court.sealed(odd, UNIT))
    court.refuse(POOR, reply(id, 8, 13), "not the receipt's")


def test_silence_costs_the_stake_and_all_of_it_is_burnt() -> None:
    court = Court()
    before = court.balance(WATCHER)
    demand(court, court.sealed(proof(0, 7), UNIT))
    court.tick(PARAMETERS.demand_window - 1)
    assert court.state.get(Case, UNIT.address) is None
    minted = court.state.totals().minted
    notes = court.tick(1)
    assert NoteKind.FROZEN in [note.kind for note in notes]
    assert court.state.totals().burnt == 0
    balances = {key: court.balance(key) for key in STAKERS}
    court.tick(1, STAKERS[1:])
    assert court.state.totals().burnt == 2000 * TOKEN
    assert court.state.get(Bond, UNIT.address) == Bond(0, 0, True)
    assert {key: court.balance(key) for key in STAKERS} == balances
    assert court.balance(WATCHER) - before <= court.state.totals().minted - minted


def test_demands_that_change_nothing() -> None:
    court = Court()
    statement = court.sealed(proof(0, 7), UNIT)
    for kind, of, why in (
        (PREVIOUS, statement, "slot 0"),
        (LEAVES, court.sealed(proof(0, 7), POOR), "at stake"),
        (LEAVES, statement[:-1] + bytes([statement[-1] ^ 1]), "not signed"),
        (LEAVES, proof(0, 7).encode(), "another network"),
        (LEAVES, b"x", ""),
        (6, statement, ""),
    ):
        court.refuse(WATCHER, Demand(court.next_sequence(), kind, of), why)
    court.refuse(POOR, Demand(1, LEAVES, statement), "balance")
    demand(court, statement)
    court.refuse(RICH, Demand(court.next_sequence(), LEAVES, statement), "already")


def test_what_a_statement_continues_is_demanded_back_to_genesis() -> None:
    court = Court()
    shown = court.sealed(proof(0, 7), UNIT)
    for statement in (court.sealed(proof(8, 15), UNIT), court.sealed(MADE[13], UNIT)):
        id = demand(court, statement, PREVIOUS)
        other_unit = court.sealed(proof(0, 7), STAKERS[2])
        too_short = court.sealed(proof(0, 6), UNIT)
        other_root = court.sealed(replace(proof(0, 7), mmr_root=bytes(32)), UNIT)
        for wrong in (other_unit, too_short, other_root, statement, b"", bytes(32)):
            court.refuse(POOR, previous(id, wrong))
        court.do(POOR, previous(id, shown))


def test_a_stake_that_left_before_a_demand_ran_out_has_nothing_to_lose() -> None:
    court = Court()
    court.do(UNIT, Unbond(court.next_sequence(), 2000 * TOKEN))
    demand(court, court.sealed(proof(0, 7), UNIT))
    court.tick(PARAMETERS.demand_window, STAKERS[1:])
    case = court.state.get(Case, UNIT.address)
    assert case is not None
    assert case.amount == 2000 * TOKEN, "what is unbonding answers too"


# Anchors


def offer(court: Court, slot: int = 7, keys: Sequence[Key] = STAKERS[2:4]) -> OfferAnchor:
    path = mmr_prove(HASHES[: slot + 1], slot)
    proofs = tuple(court.sealed(proof(0, slot), key) for key in keys)
    leaf = TRUTH.leaves[slot]
    return OfferAnchor(TRUTH.heads[slot], leaf.encode(), path.path, path.peaks, proofs)


def test_an_anchor_is_carried_by_two_stakers() -> None:
    court = Court()
    good = offer(court, 15)
    other = replace(TRUTH.leaves[15], root=bytes(32))
    for wrong, why in (
        (offer(court, 11), "end a proof block"),
        (offer(court, 15, [UNIT, UNIT]), "two stakers"),
        (offer(court, 15, [UNIT, POOR]), "of stakers"),
        (replace(good, head=bytes(32)), "something else"),
        (replace(good, leaf=other.encode()), "not the last"),
        (replace(good, peaks=(bytes(32),)), "not the last"),
        (replace(good, proofs=(good.proofs[0], court.sealed(proof(0, 7), UNIT))), "something else"),
        (replace(good, proofs=(good.proofs[0], court.sealed(MADE[15], UNIT))), "something else"),
        (replace(good, proofs=good.proofs[:1]), ""),
    ):
        court.refuse(POOR, wrong, why)
    court.do(POOR, good)
    id = anchor_id(good, TRUTH.leaves[15])
    entry = court.state.get(AnchorEntry, id)
    assert entry is not None
    assert entry.mmr_root() == MADE[15].mmr_root
    court.refuse(POOR, offer(court, 15, STAKERS[1:3]), "already")


def test_a_proof_that_starts_at_an_anchor_continues_it() -> None:
    court = Court()
    good = offer(court)
    court.do(POOR, good)
    id = anchor_id(good, TRUTH.leaves[7])
    open = OpenProof.at_anchor(TRUTH.slots[0].process, 7, TRUTH.heads[7], MADE[7].mmr_root, id)
    for receipt in MADE[8:16]:
        open = open.add(receipt, PARAMETERS)
    sealer = Sealer(court.network.id, court.network.profile, UNIT.public, UNIT.sign)
    statement = sealer.seal(open, 0).encode()
    demanded = demand(court, statement, PREVIOUS)
    court.do(POOR, previous(demanded, id))
    court.do(POOR, reply(demand(court, statement), 8, 15))


# F4: an invented log

PROCESS = ItemHead.of(TRUTH.process)


def shown_log(first: int, last: int, slot: int, of: Branch = TRUTH) -> AssignmentAnswer:
    head = of.heads[first - 1] if first else Chain.genesis(ProcessId(of.process.id)).head
    ids = b"".join(of.log().ids[first : last + 1])
    return AssignmentAnswer(PROCESS, head, ids, of.log().slot(slot)[0])


@pytest.mark.parametrize(("first", "slot"), [(0, 0), (0, 7), (8, 23), (8, 10)])
def test_the_log_under_a_statement_is_shown_by_anyone(first: int, slot: int) -> None:
    court = Court()
    last = 7 if not first else 23
    statement = court.sealed(proof(first, last), UNIT)
    id = demand(court, StatementSlot(statement, slot).encode(), ASSIGNMENT)
    good = shown_log(first, last, slot)
    other = branches()[1]
    forged = bytearray(good.assignment)
    forged[10] ^= 1
    another = process_item(USER, SCHEDULER, anchor=2)
    for wrong in (
        replace(good, head_before=bytes(32)),
        replace(good, ids=good.ids[32:] or b"x" * 32),
        replace(good, ids=good.ids[32:] + bytes(32)),
        replace(good, assignment=TRUTH.log().slot((slot + 1) % 24)[0]),
        replace(good, assignment=bytes(forged)),
        replace(good, process=ItemHead.of(another)),
        shown_log(first, last, slot, other) if last >= FORK else replace(good, assignment=b""),
    ):
        court.refuse(POOR, Reply(id, wrong.encode()))
    court.do(POOR, Reply(id, good.encode()))
    court.tick(PARAMETERS.demand_window)
    assert court.state.get(Case, UNIT.address) is None


def test_a_receipt_stands_on_its_block_of_the_log() -> None:
    court = Court()
    id = demand(court, StatementSlot(court.sealed(MADE[13], UNIT), 13).encode(), ASSIGNMENT)
    court.refuse(POOR, Reply(id, shown_log(7, 13, 13).encode()))
    court.do(POOR, Reply(id, shown_log(8, 13, 13).encode()))


def test_an_invented_log_costs_the_stake() -> None:
    """The unit made up slots 5 to 7 and evaluated them: nobody has a scheduler's signature."""
    court = Court()
    invented = court.sealed(replace(proof(0, 7), head=bytes(32)), UNIT)
    id = demand(court, StatementSlot(invented, 7).encode(), ASSIGNMENT)
    court.refuse(POOR, Reply(id, shown_log(0, 7, 7).encode()), "do not lead")
    court.tick(PARAMETERS.demand_window)
    case = court.state.get(Case, UNIT.address)
    assert case is not None
    assert case.reason.startswith("F4")
    court.tick(1, STAKERS[1:])
    assert court.state.totals().burnt == 2000 * TOKEN


def test_a_log_invented_in_its_middle_is_found_by_its_ids() -> None:
    """Only the last assignment is real. Its answer shows the ids, and so the slot to ask for."""
    court = Court()
    ids = [bytes([number]) * 32 for number in range(7)] + [TRUTH.log().ids[7]]
    head = genesis = Chain.genesis(ProcessId(TRUTH.process.id)).head
    for each in ids:
        head = digest(HEAD, head, each)
    statement = court.sealed(replace(proof(0, 7), head=head, head_before=genesis), UNIT)
    last = demand(court, StatementSlot(statement, 7).encode(), ASSIGNMENT)
    answer = AssignmentAnswer(PROCESS, genesis, b"".join(ids), TRUTH.log().slot(7)[0])
    court.do(POOR, Reply(last, answer.encode()))
    middle = demand(court, StatementSlot(statement, 3).encode(), ASSIGNMENT)
    wrong = replace(answer, assignment=TRUTH.log().slot(3)[0])
    court.refuse(POOR, Reply(middle, wrong.encode()), "not the assignment of slot 3")


def test_a_unit_on_the_losing_branch_is_no_inventor() -> None:
    court = Court()
    other = branches()[1]
    made = receipts(other.leaves, other.heads, UNIT)
    statement = court.sealed(state_proof(made, 16, 23, UNIT), UNIT)
    id = demand(court, StatementSlot(statement, 23).encode(), ASSIGNMENT)
    court.do(POOR, Reply(id, shown_log(16, 23, 23, other).encode()))


def test_only_slots_that_a_statement_answers_for_are_demanded() -> None:
    court = Court()
    statement = court.sealed(proof(8, 15), UNIT)
    for slot in (7, 16):
        subject = StatementSlot(statement, slot).encode()
        tx = Demand(court.next_sequence(), ASSIGNMENT, subject)
        court.refuse(WATCHER, tx, "does not answer for")
    subject = StatementSlot(statement, 9).encode()
    demand(court, subject, ASSIGNMENT)
    court.refuse(RICH, Demand(court.next_sequence(), ASSIGNMENT, subject), "already")
    demand(court, StatementSlot(statement, 10).encode(), ASSIGNMENT)


def test_what_comes_before_is_of_the_same_log() -> None:
    court = Court()
    other = branches()[1]
    made = receipts(other.leaves, other.heads, UNIT)
    lie = replace(state_proof(made, 24, 27, UNIT), mmr_before=MADE[23].mmr_root)
    id = demand(court, court.sealed(lie, UNIT), PREVIOUS)
    court.refuse(POOR, previous(id, court.sealed(proof(16, 23), UNIT)), "another log")

"""Demands, replies, silence; anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from protocols.accumulator import mmr_of, mmr_prove
from protocols.ledger.anchors import anchor_id
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import AnchorEntry, Bond, Case, Demanded
from protocols.machine.sealing import OpenProof, Sealer
from protocols.wire.demand import LEAVES, PREVIOUS, LeavesAnswer, PreviousAnswer
from protocols.wire.ledger_tx import Demand, OfferAnchor, Reply, Unbond
from protocols.wire.proof import StateProof
from tests.protocols.ledger.test_disputes import Court
from tests.protocols.ledger.world import PARAMETERS, POOR, RICH, STAKERS, TOKEN
from tests.protocols.machine.world import Key
from tests.protocols.toy import branches, receipts, state_proof

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

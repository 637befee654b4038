"""Checkpoints, what makes one final, and what a final one does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.ids import NodeKey
from protocols.ledger.clock import TICKS_MAX, minted
from protocols.ledger.draft import NoteKind
from protocols.ledger.entries import AUDITS, PAST_SLOTS, WORK, Pool
from protocols.ledger.state import State
from protocols.network import default_parameters
from protocols.wire.ledger_tx import Checkpoint, Transfer, Unbond
from tests.protocols.ledger.test_money import delegation
from tests.protocols.ledger.world import (
    PARAMETERS,
    POOR,
    RICH,
    STAKERS,
    TOKEN,
    Ledger,
    network,
)
from tests.protocols.machine.world import Key


def test_two_thirds_of_the_bonded_stake_make_a_checkpoint_final() -> None:
    ledger = Ledger()
    ledger.refuse(POOR, ledger.checkpoint(1, STAKERS[:2]), "less than two thirds")
    notes = ledger.tick(1, STAKERS[:3])
    assert notes[0].kind is NoteKind.FINAL
    totals = ledger.state.totals()
    assert (totals.tick, totals.final) == (1, 1)


def test_exactly_two_thirds_are_enough() -> None:
    ledger = Ledger(network(stakes=tuple((key.address, 2000 * TOKEN) for key in STAKERS[:3])))
    ledger.tick(1, STAKERS[:2])


def test_only_what_is_bonded_now_counts() -> None:
    ledger = Ledger()
    ledger.do(STAKERS[3], Unbond(1, 2000 * TOKEN))
    ledger.tick(1, STAKERS[:2])


def test_a_vote_by_a_session_key_is_its_accounts_and_counts_once() -> None:
    ledger = Ledger()
    session = Key.of("session")
    ledger.do(STAKERS[0], delegation(ledger, STAKERS[0], session))
    twice = [STAKERS[0], session, STAKERS[1]]
    ledger.refuse(POOR, ledger.checkpoint(1, twice), "less than two thirds")
    ledger.tick(1, [session, STAKERS[1], STAKERS[2], RICH])


def votes_changed(good: Checkpoint, **changes: object) -> Checkpoint:
    return replace(good, **changes)  # type: ignore[arg-type]


def test_other_checkpoints_change_nothing() -> None:
    ledger = Ledger()
    ledger.tick(3)
    good = ledger.checkpoint()
    forged = (good.votes[0][0], bytes(64))
    for wrong, why in (
        (ledger.checkpoint(0), "not after"),
        (ledger.checkpoint(-1), "not after"),
        (ledger.checkpoint(TICKS_MAX + 1), "not after"),
        (votes_changed(good, root=bytes(32)), "another head or root"),
        (votes_changed(good, head=bytes(32)), "another head or root"),
        (votes_changed(good, slot=good.slot + 9), "another head or root"),
        (votes_changed(good, slot=0), "not after"),
        (votes_changed(good, votes=good.votes[::-1]), "ascend"),
        (votes_changed(good, votes=good.votes + good.votes[-1:]), "ascend"),
        (votes_changed(good, votes=(forged, *good.votes[1:])), "not signed"),
        (votes_changed(good, tick=good.tick + 1), "not signed"),
        (votes_changed(good, votes=((NodeKey(bytes(32)), bytes(64)),)), "less than two thirds"),
        (votes_changed(good, votes=()), "values"),
    ):
        ledger.refuse(POOR, wrong, why)
    ledger.do(POOR, good)


@pytest.mark.slow
def test_a_checkpoint_may_be_under_any_recent_slot() -> None:
    ledger = Ledger()
    early = ledger.checkpoint()
    for number in range(PAST_SLOTS):
        ledger.do(RICH, Transfer(number, POOR.address, 1))
    late = ledger.checkpoint()
    ledger.refuse(POOR, early, "too old")
    ledger.do(POOR, late)


def test_nothing_is_final_on_a_ledger_without_stake() -> None:
    ledger = Ledger(network(stakes=()))
    ledger.refuse(POOR, ledger.checkpoint(1, [RICH]), "0 of 0 bonded")


def test_a_mint_is_split_and_what_does_not_divide_goes_to_the_last_pool() -> None:
    ledger = Ledger()
    left = ledger.state.totals().left
    ledger.tick(PARAMETERS.mint_epoch - 1)
    assert ledger.state.totals().minted == 0
    ledger.tick(1)
    amount = left * PARAMETERS.mint_numerator >> 64
    assert ledger.state.totals().minted == amount == minted(left, 1, PARAMETERS.mint_numerator)
    each = amount * PARAMETERS.mint_stakers // 10_000 // 4
    assert [ledger.balance(key) for key in STAKERS] == [each] * 4
    work = ledger.state.get(Pool, WORK)
    audits = ledger.state.get(Pool, AUDITS)
    assert work == Pool(amount * PARAMETERS.mint_work // 10_000)
    assert audits == Pool(amount - 4 * each - amount * PARAMETERS.mint_work // 10_000)


def test_missed_ticks_are_minted_as_if_they_had_come_one_by_one() -> None:
    one, many = Ledger(), Ledger()
    one.tick(60)
    for _ in range(60):
        many.tick(1)
    assert one.state.totals().minted == many.state.totals().minted > 0


@pytest.mark.slow
def test_the_fold_mints_what_the_four_year_halving_says() -> None:
    """Whole tokens after 1, 4, 8 and 12 years of 365.25 days, from a ledger that begins empty."""
    parameters = replace(default_parameters(), stake_min=1)
    stakes = tuple((key.address, 1) for key in STAKERS[:1])
    ledger = Ledger(network(parameters, balances=(), stakes=stakes))
    year = 1461 * 1440 // 4
    for years, tokens in ((1, 3_341_175), (4, 10_500_000), (8, 15_750_000), (12, 18_375_000)):
        while (now := ledger.state.totals().tick) < years * year:
            ledger.tick(min(TICKS_MAX, years * year - now), STAKERS[:1])
        totals = ledger.state.totals()
        assert (totals.minted + TOKEN // 2) // TOKEN == tokens
        assert totals.left == parameters.supply_cap - 1 - totals.minted


def test_a_state_is_read_back_from_its_bytes() -> None:
    ledger = Ledger()
    ledger.do(RICH, Transfer(1, POOR.address, 1))
    ledger.tick(5)
    again = State.decode(ledger.state.encode())
    assert again.root() == ledger.state.root()
    assert again.encode() == ledger.state.encode()

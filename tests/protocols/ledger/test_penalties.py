"""Shares and whole stakes of one account, in any order: nothing is taken twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocols.faults import SHARES, Fault
from protocols.ids import ProcessId
from protocols.ledger import penalties
from protocols.ledger.draft import Draft
from protocols.ledger.entries import Bond, Case, Fine, Held, Unbonding
from protocols.ledger.penalties import offence, reason_of
from protocols.wire.ledger_tx import Register, Stake, Transfer, Unbond, Withdraw
from protocols.wire.unit import UnsignedUnit
from tests.protocols.ledger.bench import VOTERS, Bench
from tests.protocols.ledger.test_disputes import Court
from tests.protocols.ledger.test_money import delegation
from tests.protocols.ledger.world import PARAMETERS, RICH, TOKEN
from tests.protocols.machine.world import Key
from tests.protocols.toy import SCHEDULER

PARTIAL = [fault for fault, share in SHARES.items() if share < 10_000]
GUILTY = SCHEDULER.address


def judged(court: Court, fault: Fault, number: int, challenger: Key | None = None) -> int:
    """Fine the scheduler as a verdict in the last slot would; what was taken."""
    draft = Draft(court.state, court.rules, court)
    id = offence(fault, ProcessId(bytes(32)), number)
    address = None if challenger is None else challenger.address
    slot = None if challenger is None else draft.totals.slot
    fine = Fine(draft.totals.slot, str(fault), bytes(32), address, slot, 0, None)
    penalties.fine(draft, GUILTY, id, fault, fine)
    court.state = draft.finished()
    record = court.state.get(Fine, GUILTY, id)
    assert record is not None
    return record.amount


def frozen(court: Court) -> None:
    draft = Draft(court.state, court.rules, court)
    case = Case(draft.totals.slot, "whole", bytes(32), None, None, 0, None)
    penalties.freeze(draft, GUILTY, case)
    court.state = draft.finished()


def at_stake(court: Court) -> int:
    return Draft(court.state, court.rules, court).at_stake(GUILTY)


@given(st.permutations([Fault.CENSORED, Fault.UNPUBLISHED, Fault.BAD_ASSIGNMENT]))
def test_faults_found_together_add_up_in_any_order(order: list[Fault]) -> None:
    court = Bench()
    before = at_stake(court)
    taken = sum(judged(court, fault, number) for number, fault in enumerate(order))
    assert taken == before * 75 // 100
    assert at_stake(court) == before - taken


def test_never_more_is_taken_than_is_there() -> None:
    court = Bench()
    whole = at_stake(court)
    taken = [judged(court, Fault.BAD_ASSIGNMENT, number) for number in range(2)]
    assert taken == [whole // 2, whole // 2]
    assert at_stake(court) == 0
    court.tick(1)
    assert court.state.totals().burnt == whole, "nobody was the challenger"


@pytest.mark.slow
def test_the_last_base_unit_can_be_taken() -> None:
    court = Bench()
    steps = 0
    while at_stake(court):
        judged(court, Fault.CENSORED, steps)
        court.tick(1)
        steps += 1
    assert steps < 1000


def test_what_is_left_of_a_stake_goes_on_as_before() -> None:
    court = Bench()
    judged(court, Fault.BAD_ASSIGNMENT, 0)
    session = Key.of("session")
    court.do(SCHEDULER, delegation(court, SCHEDULER, session))
    unit = UnsignedUnit(SCHEDULER.public, ("scheduler",), (), (), 9, 1)
    raw = unit.signed(SCHEDULER.sign(unit.message(court.network.id))).encode()
    court.do(SCHEDULER, Register(raw))
    judged(court, Fault.CENSORED, 1)
    assert at_stake(court) < PARAMETERS.stake_min
    # Below the least stake it still votes; it can only be filled up or taken out whole.
    voters = [session if key == SCHEDULER else key for key in VOTERS[:5]]
    court.tick(1, voters)
    court.refuse(SCHEDULER, Unbond(court.next_sequence(), TOKEN), "would stay")
    court.refuse(SCHEDULER, Stake(court.next_sequence(), TOKEN), "is below")
    court.do(SCHEDULER, Stake(court.next_sequence(), 200 * TOKEN))
    court.do(SCHEDULER, Unbond(court.next_sequence(), at_stake(court)))
    court.tick(PARAMETERS.unbonding)
    court.do(SCHEDULER, Withdraw())
    assert at_stake(court) == 0


def test_a_stake_that_was_taken_whole_by_shares_is_no_unit_and_may_begin_again() -> None:
    court = Bench()
    for number in range(2):
        judged(court, Fault.BAD_ASSIGNMENT, number)
    assert at_stake(court) == 0
    unit = UnsignedUnit(SCHEDULER.public, ("scheduler",), (), (), 9, 1)
    raw = unit.signed(SCHEDULER.sign(unit.message(court.network.id))).encode()
    court.refuse(SCHEDULER, Register(raw), "only a staked unit")
    court.refuse(SCHEDULER, delegation(court, SCHEDULER, Key.of("session")), "only a stake")
    court.tick(1)
    court.do(RICH, Transfer(court.next_sequence(), GUILTY, 1000 * TOKEN))
    court.do(SCHEDULER, Stake(court.next_sequence(), 1000 * TOKEN))
    court.do(SCHEDULER, Register(raw))


def test_a_reason_fits_its_entry() -> None:
    assert reason_of(Fault.WRONG_LEAF, "x") == "F1: x"
    assert len(reason_of(Fault.WRONG_LEAF, "ä" * 999).encode()) <= penalties.REASON_BYTES_MAX


class OneAccount(RuleBasedStateMachine):
    """Whatever happens to one scheduler's stake."""

    def __init__(self) -> None:
        super().__init__()
        self.court = Bench()
        self.number = 0

    @property
    def gone(self) -> bool:
        bond = self.court.state.get(Bond, GUILTY)
        return bond is not None and (bond.frozen or not at_stake(self.court))

    @rule(fault=st.sampled_from(PARTIAL), paid=st.booleans())
    def fine(self, fault: Fault, paid: bool) -> None:
        if not self.gone:
            self.number += 1
            before = at_stake(self.court)
            taken = judged(self.court, fault, self.number, VOTERS[0] if paid else None)
            assert 0 < taken <= before
            assert at_stake(self.court) == before - taken

    @rule()
    def freeze(self) -> None:
        if not self.gone and self.number > 3:
            frozen(self.court)

    @rule(share=st.integers(1, 4))
    def unbond(self, share: int) -> None:
        bond = self.court.state.get(Bond, GUILTY)
        amount = (bond.amount if bond else 0) // share
        if amount and not self.gone:
            rest = bond.amount - amount if bond else 0
            if not rest or rest >= PARAMETERS.stake_min:
                self.court.do(SCHEDULER, Unbond(self.court.next_sequence(), amount))

    @rule()
    def stake(self) -> None:
        tx = Stake(self.court.next_sequence(), 10 * TOKEN)
        bond = self.court.state.get(Bond, GUILTY)
        if bond and not bond.frozen and bond.amount >= PARAMETERS.stake_min:
            self.court.do(SCHEDULER, replace(tx))

    @rule()
    def withdraw(self) -> None:
        ready = [
            entry
            for key, entry in self.court.state.all(Unbonding, GUILTY)
            if int.from_bytes(key[32:], "big") <= self.court.state.totals().tick
        ]
        if ready and not self.gone:
            self.court.do(SCHEDULER, Withdraw())

    @rule(ticks=st.integers(1, 7))
    def tick(self, ticks: int) -> None:
        self.court.tick(ticks)
        assert not list(self.court.state.all(Held)), "all verdicts so far are under it"

    @invariant()
    def coins_add_up(self) -> None:
        state = self.court.state
        totals = state.totals()
        assert state.held() == totals.genesis + totals.minted - totals.burnt
        bonded = sum(bond.amount for _, bond in state.all(Bond) if not bond.frozen)
        assert bonded == totals.bonded
        held = dict(state.all(Held))
        for key, record in state.all(Fine):
            assert (record.burnt_tick is None) == (key in held)
            assert key not in held or held[key].amount == record.amount


TestOneAccount = pytest.mark.slow(OneAccount.TestCase)

"""Coins, stakes, session keys, units: each rule, and every way to break it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocols.ids import Address, NodeKey
from protocols.ledger.entries import Account, Bond, Registered, Session
from protocols.ledger.money import SESSIONS_MAX, UNBONDINGS_MAX
from protocols.ledger.state import check_entry
from protocols.wire.ledger_tx import (
    Delegate,
    Faucet,
    Register,
    Stake,
    Transfer,
    Unbond,
    Withdraw,
    delegation_bytes,
)
from protocols.wire.unit import UnsignedUnit
from tests.protocols.ledger.world import (
    PARAMETERS,
    POOR,
    RICH,
    STAKERS,
    TOKEN,
    Ledger,
    network,
)
from tests.protocols.machine.world import Key, item

STAKER = STAKERS[0]


def test_a_transfer_moves_coins_once() -> None:
    ledger = Ledger()
    tx = Transfer(5, POOR.address, 7)
    ledger.do(RICH, tx)
    assert ledger.balance(POOR) == 7
    ledger.refuse(RICH, tx, "sequence 5 is not above 5")
    ledger.refuse(RICH, Transfer(4, POOR.address, 7), "sequence")
    ledger.refuse(POOR, Transfer(1, RICH.address, 8), "balance 7 is below 8")
    ledger.do(POOR, Transfer(1, POOR.address, 7))
    assert ledger.balance(POOR) == 7


def test_an_entry_and_its_absence_are_proved_to_a_light_client() -> None:
    ledger = Ledger()
    state = ledger.state
    proof = state.prove(Account, RICH.address)
    account = check_entry(state.root(), proof, Account, RICH.address)
    assert account == Account(100_000 * TOKEN, -1)
    gap = state.prove(Bond, RICH.address)
    assert check_entry(state.root(), gap, Bond, RICH.address) is None


def test_what_is_no_transaction_changes_nothing() -> None:
    ledger = Ledger()
    root = ledger.state.get(Account, RICH.address)
    for tags, data in (
        ([], b""),
        ([("Action", "Mint")], b"\x80"),
        ([("Action", "Transfer")], b""),
        ([("Action", "Transfer")], b"\x83\x01\x01\x01"),
        ([("Action", "Withdraw")], b"\x81\x00"),
        ([("Action", "Faucet")], b"\xa0"),
    ):
        (note,) = ledger.slot(item(RICH, tags, data=data))
        assert note.kind == "refused"
    assert ledger.state.get(Account, RICH.address) == root
    assert ledger.state.totals().slot == 6


def test_stake_unbonds_with_a_delay() -> None:
    ledger = Ledger()
    ledger.refuse(RICH, Stake(1, 999 * TOKEN), "below")
    ledger.do(RICH, Stake(1, 1500 * TOKEN))
    assert ledger.state.totals().bonded == 9500 * TOKEN
    ledger.refuse(RICH, Unbond(2, 1000 * TOKEN), "would stay")
    ledger.refuse(RICH, Unbond(2, 1501 * TOKEN), "would stay")
    ledger.do(RICH, Unbond(2, 400 * TOKEN))
    ledger.do(RICH, Unbond(3, 100 * TOKEN))
    assert ledger.state.totals().bonded == 9000 * TOKEN
    ledger.tick(11)
    ledger.refuse(RICH, Withdraw(), "nothing can be withdrawn at tick 11")
    before = ledger.balance(RICH)
    ledger.tick(1)
    ledger.do(RICH, Withdraw())
    assert ledger.balance(RICH) - before >= 500 * TOKEN
    ledger.refuse(RICH, Withdraw())
    ledger.do(RICH, Unbond(4, 1000 * TOKEN))


@pytest.mark.slow
def test_unbonding_entries_are_bounded() -> None:
    ledger = Ledger(network(replace(PARAMETERS, stake_min=1, unbonding=1000)))
    for number in range(UNBONDINGS_MAX):
        ledger.do(STAKER, Unbond(number, 1))
        ledger.tick()
    ledger.refuse(STAKER, Unbond(999, 1), "withdraw first")


def test_the_faucet_fills_up_on_networks_that_have_one() -> None:
    ledger = Ledger()
    ledger.do(POOR, Faucet())
    assert ledger.balance(POOR) == PARAMETERS.faucet_amount == 10_000 * TOKEN
    ledger.refuse(POOR, Faucet(), "needs no filling")
    ledger.do(POOR, Transfer(1, RICH.address, 5))
    ledger.do(POOR, Faucet())
    assert ledger.state.totals().minted == 10_000 * TOKEN + 5
    dry = Ledger(network(replace(PARAMETERS, faucet_amount=0)))
    dry.refuse(POOR, Faucet(), "no faucet")
    capped = Ledger(network(replace(PARAMETERS, supply_cap=108_000 * TOKEN + 3)))
    capped.do(POOR, Faucet())
    assert capped.balance(POOR) == 3


def delegation(ledger: Ledger, account: Key, session: Key) -> Delegate:
    message = delegation_bytes(ledger.network.id, account.address)
    return Delegate(session.public, session.sign(message))


def test_a_session_key_is_delegated_with_its_consent_and_for_ever() -> None:
    ledger = Ledger()
    session = Key.of("session")
    good = delegation(ledger, STAKER, session)
    ledger.refuse(RICH, delegation(ledger, RICH, session), "only a stake")
    ledger.refuse(STAKERS[1], good, "did not sign")
    ledger.refuse(STAKER, replace(good, signature=bytes(64)), "did not sign")
    ledger.refuse(STAKER, delegation(ledger, STAKER, STAKERS[1]), "of its own")
    ledger.refuse(STAKER, delegation(ledger, STAKER, STAKER), "of its own")
    ledger.do(STAKER, good)
    assert ledger.state.get(Session, session.address) == Session(STAKER.address, 0)
    ledger.refuse(STAKERS[1], delegation(ledger, STAKERS[1], session), "delegated already")
    ledger.do(RICH, Transfer(1, session.address, 2000 * TOKEN))
    ledger.refuse(session, Stake(1, 1000 * TOKEN), "session key")
    for number in range(SESSIONS_MAX - 1):
        ledger.do(STAKER, delegation(ledger, STAKER, Key.of(f"session {number}")))
    ledger.refuse(STAKER, delegation(ledger, STAKER, Key.of("one more")), "at most")


def announcement(ledger: Ledger, key: Key, sequence: int) -> Register:
    unit = UnsignedUnit(key.public, ("compute",), (), (), 5, sequence)
    return Register(unit.signed(key.sign(unit.message(ledger.network.id))).encode())


def test_a_staked_unit_registers_itself() -> None:
    ledger = Ledger()
    session = Key.of("session")
    ledger.refuse(RICH, announcement(ledger, RICH, 1), "staked")
    ledger.refuse(STAKER, announcement(ledger, session, 1), "not the sender's")
    ledger.do(STAKER, announcement(ledger, STAKER, 1))
    ledger.refuse(STAKER, announcement(ledger, STAKER, 1), "not above 1")
    ledger.do(STAKER, delegation(ledger, STAKER, session))
    tx = announcement(ledger, session, 2)
    forged = Register(tx.unit[:-64] + bytes(64))
    ledger.refuse(STAKER, forged, "not signed")
    ledger.do(STAKER, tx)
    assert ledger.state.get(Registered, STAKER.address) == Registered(2, tx.unit)


@pytest.mark.parametrize("amount", [0, -1, 1 << 63])
def test_amounts_are_positive_and_bounded(amount: int) -> None:
    ledger = Ledger()
    ledger.refuse(RICH, Transfer(1, Address(NodeKey(bytes(32))), amount))

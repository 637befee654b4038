"""Transactions that move coins and stake, and say who a unit is."""

from __future__ import annotations

from dataclasses import replace

from protocols.ids import Address, address_of
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import Account, Bond, Registered, Session, Unbonding
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
from protocols.wire.unit import UnitAnnouncement

SESSIONS_MAX = 16
"""Session keys of one stake."""
UNBONDINGS_MAX = 64
"""Ticks at which stake of one account comes out."""


def transfer(draft: Draft, sender: Address, tx: Transfer) -> None:
    """Move coins. Raises Invalid."""
    draft.spend(sender, tx.sequence, tx.amount)
    draft.credit(tx.recipient, tx.amount)


def faucet(draft: Draft, sender: Address, tx: Faucet) -> None:
    """Mint up to the faucet's amount. Raises Invalid."""
    account = draft.get(Account, sender) or Account(0, -1)
    missing = draft.rules.parameters.faucet_amount - account.balance
    amount = min(missing, draft.totals.left)
    if amount <= 0:
        raise refused("this network has no faucet, or the balance needs no filling")
    draft.credit(sender, amount)
    draft.add(minted=amount, left=-amount)


def stake(draft: Draft, sender: Address, tx: Stake) -> None:
    """Move coins into a stake. Raises Invalid."""
    bond = draft.bond(sender)
    if bond.frozen:
        raise refused("a frozen stake takes no more")
    if draft.get(Session, sender) is not None:
        raise refused("a session key has no stake of its own")
    least = draft.rules.parameters.stake_min
    if bond.amount + tx.amount < least:
        raise refused(f"a stake of {bond.amount + tx.amount} is below {least}")
    draft.spend(sender, tx.sequence, tx.amount)
    draft.change_bond(sender, tx.amount)


def unbond(draft: Draft, sender: Address, tx: Unbond) -> None:
    """Move stake to where it waits. It still answers for what was signed. Raises Invalid."""
    bond, parameters = draft.bond(sender), draft.rules.parameters
    if bond.frozen:
        raise refused("the stake is frozen")
    rest = bond.amount - tx.amount
    if rest < 0 or 0 < rest < parameters.stake_min:
        raise refused(f"{rest} would stay, neither 0 nor at least {parameters.stake_min}")
    tick = draft.totals.tick + parameters.unbonding
    waiting = draft.get(Unbonding, sender, tick)
    if waiting is None and len(draft.unbonding(sender)) >= UNBONDINGS_MAX:
        raise refused(f"{UNBONDINGS_MAX} amounts are unbonding; withdraw first")
    draft.spend(sender, tx.sequence, 0)
    draft.change_bond(sender, -tx.amount)
    draft.put(Unbonding(tx.amount + (waiting.amount if waiting else 0)), sender, tick)


def withdraw(draft: Draft, sender: Address, tx: Withdraw) -> None:
    """Move what has waited long enough to the balance. Raises Invalid."""
    if draft.bond(sender).frozen:
        raise refused("the stake is frozen")
    ready = [
        (tick, amount) for tick, amount in draft.unbonding(sender) if tick <= draft.totals.tick
    ]
    if not ready:
        raise refused(f"nothing can be withdrawn at tick {draft.totals.tick}")
    for tick, amount in ready:
        draft.drop(Unbonding, sender, tick)
        draft.credit(sender, amount)


def delegate(draft: Draft, sender: Address, tx: Delegate) -> None:
    """Let a stake answer for a session key. Raises Invalid."""
    bond, address = draft.bond(sender), address_of(tx.key)
    if not draft.voting(sender) or bond.sessions >= SESSIONS_MAX:
        raise refused(f"only a stake can have session keys, at most {SESSIONS_MAX}")
    if address == sender or draft.get(Session, address) or draft.get(Bond, address):
        raise refused("the key has a stake of its own, or is delegated already")
    consent = delegation_bytes(draft.rules.network, sender)
    if not draft.facts.signed(tx.key, consent, tx.signature):
        raise refused("the session key did not sign its delegation")
    draft.put(replace(bond, sessions=bond.sessions + 1), sender)
    draft.put(Session(sender, draft.totals.tick), address)


def register(draft: Draft, sender: Address, tx: Register) -> None:
    """Keep a staked unit's newest announcement. Raises Invalid."""
    if not draft.voting(sender):
        raise refused("only a staked unit is registered")
    unit = UnitAnnouncement.decode(tx.unit)
    if draft.account_of(unit.key) != sender:
        raise refused("the unit's key is not the sender's")
    if not draft.facts.signed(unit.key, unit.message(draft.rules.network), unit.signature):
        raise refused("the announcement is not signed by its unit")
    old = draft.get(Registered, sender)
    if old is not None and unit.sequence <= old.sequence:
        raise refused(f"sequence {unit.sequence} is not above {old.sequence}")
    draft.put(Registered(unit.sequence, tx.unit), sender)

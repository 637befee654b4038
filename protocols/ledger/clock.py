"""Checkpoints: the clock of the ledger. A final one mints, burns, and ends what is overdue.

Nothing here happens at any other time, so missed ticks are caught up in the same order by all.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from protocols.ids import Address, b64url
from protocols.ledger.draft import Draft, NoteKind, refused
from protocols.ledger.entries import (
    AUDITS,
    PAST_SLOTS,
    WORK,
    Bond,
    Commit,
    Demanded,
    Due,
    Fact,
    Part,
    Past,
    Pool,
)
from protocols.ledger.overdue import demand_over
from protocols.ledger.penalties import burn_final
from protocols.parameters import SHARE_WHOLE, Parameters
from protocols.wire.ledger_tx import Checkpoint
from protocols.wire.vote import Vote

TICKS_MAX = 1 << 16
"""Ticks one checkpoint may move the clock."""


def checkpoint(draft: Draft, sender: Address, tx: Checkpoint) -> None:
    """Anybody may bring it; its votes count."""
    totals = draft.totals
    if not totals.tick < tx.tick <= totals.tick + TICKS_MAX or tx.slot <= totals.final:
        raise refused(f"not after checkpoint {totals.tick} under slot {totals.final}")
    past = draft.get(Past, tx.slot % PAST_SLOTS)
    if past != Past(tx.slot, tx.head, tx.root):
        raise refused(f"slot {tx.slot} has another head or root, or is too old")
    signers = _signers(draft, tx)
    signed = sum(draft.voting(account) for account in signers)
    if not totals.bonded or 3 * signed < 2 * totals.bonded:
        raise refused(f"{signed} of {totals.bonded} bonded have signed, less than two thirds")
    draft.totals = replace(totals, tick=tx.tick, final=tx.slot)
    draft.note(NoteKind.FINAL, f"checkpoint {tx.tick} under slot {tx.slot}")
    burn_final(draft, signers)
    _mint(draft, totals.tick)
    _overdue(draft)


def _signers(draft: Draft, tx: Checkpoint) -> list[Address]:
    """Accounts with a stake that signed, each once, in the order of their first key."""
    keys = [key for key, _ in tx.votes]
    if any(one >= other for one, other in pairwise(keys)):
        raise refused("the keys of the votes do not ascend")
    signers: dict[Address, None] = {}
    for key, signature in tx.votes:
        vote = Vote(draft.rules.network, tx.tick, tx.slot, tx.head, tx.root, key)
        account = draft.account_of(key)
        if not draft.voting(account):
            continue
        if not draft.facts.signed(key, vote.signing_bytes(), signature):
            raise refused(f"a vote is not signed by {b64url(key)}")
        signers[account] = None
    return list(signers)


# Minting


def minted(left: int, epochs: int, numerator: int) -> int:
    """Coins of `epochs` mints when `left` can still be minted: each is left * numerator >> 64."""
    rest = left
    for _ in range(epochs):
        rest -= rest * numerator >> 64
    return left - rest


def _mint(draft: Draft, tick_before: int) -> None:
    """The mints of all epochs that ended since the checkpoint before, at once."""
    parameters: Parameters = draft.rules.parameters
    epochs = draft.totals.tick // parameters.mint_epoch - tick_before // parameters.mint_epoch
    amount = minted(draft.totals.left, epochs, parameters.mint_numerator)
    if not amount:
        return
    draft.add(minted=amount, left=-amount)
    work = amount * parameters.mint_work // SHARE_WHOLE
    for_stakers = amount * parameters.mint_stakers // SHARE_WHOLE
    paid, bonded = 0, draft.totals.bonded
    for key, bond in draft.all(Bond):
        if not bond.frozen and bonded:
            part = for_stakers * bond.amount // bonded
            draft.credit(Address(key), part)
            paid += part
    for pool, part in ((WORK, work), (AUDITS, amount - work - paid)):
        old = draft.get(Pool, pool)
        draft.put(Pool(part + (old.amount if old else 0)), pool)


# What is overdue


def _overdue(draft: Draft) -> None:
    """End commits, demands and facts whose time has come, in the order of time and kind."""
    for key, _ in draft.all(Due):
        tick, kind, id = int.from_bytes(key[:8], "big"), key[8], key[9:]
        if tick > draft.totals.tick:
            return
        draft.drop(Due, key)
        if kind == Commit.KIND:
            _unrevealed(draft, id)
        elif kind == Demanded.KIND:
            demand_over(draft, id)
        else:
            _forget(draft, id)


def _unrevealed(draft: Draft, id: bytes) -> None:
    commit = draft.get(Commit, id)
    if commit is not None:
        drop_commit(draft, id)
        draft.burn(commit.bond)
        draft.note(NoteKind.EXPIRED, f"evidence {b64url(id)} was not revealed", id)


def drop_commit(draft: Draft, id: bytes) -> None:
    """Forget a commit and its parts."""
    for key, _ in draft.all(Part, id):
        draft.drop(Part, key)
    draft.drop(Commit, id)


def _forget(draft: Draft, id: bytes) -> None:
    """Drop a fact that nobody used for as long as stakes unbond."""
    fact = draft.get(Fact, id)
    assert fact is not None, "a fact is dropped here only"
    end = fact.used + draft.rules.parameters.unbonding
    if end <= draft.totals.tick:
        draft.drop(Fact, id)
    else:
        draft.remind(end, Fact, id)

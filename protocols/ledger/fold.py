"""The ledger: a deterministic fold of its log. One slot in, one state out, integers only.

A transaction that cannot be carried out changes nothing but the ledger's slot number, and the
note says why. What the fold needs from outside comes through `Facts`; where this node does not
have it yet, what `Facts` raises passes through here, nothing has changed, and the caller folds
the same slot again later.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.errors import Invalid
from protocols.ledger import anchors, clock, demands, disputes, money
from protocols.ledger.draft import Draft, Facts, Note, NoteKind, Rules, refused
from protocols.ledger.entries import PAST_SLOTS, Demanded, Past
from protocols.ledger.state import State
from protocols.wire.item import Item
from protocols.wire.ledger_tx import (
    Checkpoint,
    CommitEvidence,
    Delegate,
    Demand,
    EvidencePart,
    Faucet,
    OfferAnchor,
    Register,
    Reply,
    RevealEvidence,
    Stake,
    Transaction,
    Transfer,
    Unbond,
    Withdraw,
    transaction_of,
)


def apply(
    state: State, head_before: bytes, item: Item, rules: Rules, facts: Facts
) -> tuple[State, tuple[Note, ...]]:
    """The state after the next slot of the ledger's log, and what happened.

    `item` is the slot's item, its signature verified (slot 0's is the process item);
    `head_before` the log's head after the slot before.
    """
    draft = Draft(state, rules, facts)
    slot = draft.totals.slot + 1
    if slot:
        draft.put(Past(slot - 1, head_before, state.root()), (slot - 1) % PAST_SLOTS)
    draft.totals = replace(draft.totals, slot=slot)
    before = draft.finished()
    if not slot:
        return before, ()
    try:
        _carry_out(draft, item)
    except Invalid as error:
        return before, (Note(NoteKind.REFUSED, error.detail, item.id),)
    if not draft.notes:
        draft.note(NoteKind.DONE, str(item.first("Action")), item.id)
    return draft.finished(), tuple(draft.notes)


def _check_sender(draft: Draft, item: Item) -> None:
    """Raise Invalid unless the item's owner wrote it to this ledger.

    A scheduler can assign any item by its id, also one for the ledger of another network. And a
    message of a process is signed by the messenger that pushes it: by nobody who meant it.
    """
    ledger = draft.rules.ledger
    if ledger is not None and item.target != ledger:
        raise refused("the message is not addressed to this ledger")
    if item.first("From-Process") is not None:
        raise refused("a process has no account: its messages are signed by who pushes them")


def _carry_out(draft: Draft, item: Item) -> None:
    """Raise Invalid, after which the draft is worth nothing."""
    _check_sender(draft, item)
    tx: Transaction = transaction_of(item)
    sender = item.owner_address
    match tx:
        case Transfer():
            money.transfer(draft, sender, tx)
        case Stake():
            money.stake(draft, sender, tx)
        case Unbond():
            money.unbond(draft, sender, tx)
        case Withdraw():
            money.withdraw(draft, sender, tx)
        case Faucet():
            money.faucet(draft, sender, tx)
        case Delegate():
            money.delegate(draft, sender, tx)
        case Register():
            money.register(draft, sender, tx)
        case Checkpoint():
            clock.checkpoint(draft, sender, tx)
        case CommitEvidence():
            disputes.commit_evidence(draft, sender, tx, item.id)
        case EvidencePart():
            if draft.get(Demanded, tx.commit) is None:
                disputes.evidence_part(draft, sender, tx, item.id)
            else:
                demands.reply_part(draft, sender, tx, item.id)
        case RevealEvidence():
            disputes.reveal_evidence(draft, sender, tx)
        case Demand():
            demands.demand(draft, sender, tx)
        case Reply():
            demands.reply(draft, tx)
        case OfferAnchor():
            anchors.offer_anchor(draft, tx)
        case _:
            raise AssertionError(f"{type(tx).__name__} is a transaction without a rule")

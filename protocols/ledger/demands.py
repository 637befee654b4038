"""Demands, and replies to them: in one transaction, or in parts that came before."""

from __future__ import annotations

from dataclasses import replace

from protocols.ids import Address, ItemId
from protocols.ledger.answers import check_answer
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import Answering, Demanded, Part
from protocols.ledger.overdue import drop_parts
from protocols.ledger.subjects import subject_of
from protocols.parameters import Parameters
from protocols.wire.demand import PUSH, SCHEDULE, SLOT, answer_bytes_max
from protocols.wire.ledger_tx import PARTS_MAX, Demand, EvidencePart, Reply

MIB = 1 << 20


def demand_bond(kind: int, size: int, parameters: Parameters) -> int:
    """Bond of a demand whose subject has `size` bytes: a base, and as evidence does for every MiB
    begun that the subject has and that the answer may need."""
    answer = {PUSH: parameters.output_bytes_max, SLOT: parameters.item_bytes_max, SCHEDULE: 0}
    more = 0 if kind not in answer else -(-(size + answer[kind]) // MIB)
    return parameters.demand_bond + parameters.evidence_bond_mib * more


def demand(draft: Draft, sender: Address, tx: Demand) -> None:
    """Ask publicly, against a bond. At the deadline silence is punished. Raises Invalid."""
    subject = subject_of(draft, tx)
    if draft.bond(subject.accused).frozen or not draft.at_stake(subject.accused):
        raise refused("nothing is at stake behind what is demanded")
    if draft.get(Demanded, subject.id) is not None:
        raise refused("the demand is made already")
    parameters = draft.rules.parameters
    bond = demand_bond(tx.kind, len(tx.subject), parameters)
    draft.spend(sender, tx.sequence, bond)
    deadline = draft.totals.tick + parameters.demand_window
    accused, kept, slot = subject.accused, subject.kept, draft.totals.slot
    draft.put(Demanded(sender, accused, tx.kind, kept, bond, deadline, False, slot), subject.id)
    draft.remind(deadline, Demanded, subject.id)


def reply_part(draft: Draft, sender: Address, tx: EvidencePart, id: ItemId) -> None:
    """Note that a part of an answer is in the log. Raises Invalid.

    From the accused, who may have nothing left to pay a bond with, and from stakers, who are few:
    so what the ledger has to remember is bounded. An answer of one part anybody can send.
    """
    demanded = _open(draft, tx.commit)
    account = draft.account_at(sender)
    if account != demanded.accused and not draft.voting(account):
        raise refused("parts of an answer come from the accused or from a staker")
    if draft.get(Part, tx.commit, id) is not None:
        raise refused("the part is there already")
    most = answer_bytes_max(draft.rules.parameters)
    sent = draft.get(Answering, tx.commit, account) or Answering(most, 0)
    if sent.parts >= PARTS_MAX or len(tx.data) > sent.left:
        raise refused(f"an answer has at most {PARTS_MAX} parts and {most} bytes")
    draft.put(Answering(sent.left - len(tx.data), sent.parts + 1), tx.commit, account)
    draft.put(Part(len(tx.data)), tx.commit, id)


def reply(draft: Draft, tx: Reply) -> None:
    """Close a demand, if this answers it. Raises Invalid, and whatever `Facts` raises."""
    demanded = _open(draft, tx.demand)
    if tx.parts and tx.answer:
        raise refused("an answer is here or in parts, not both")
    if any(draft.get(Part, tx.demand, id) is None for id in tx.parts):
        raise refused("a part is not in the log")
    sizes = sum(part.size for id in tx.parts if (part := draft.get(Part, tx.demand, id)))
    if sizes > answer_bytes_max(draft.rules.parameters):
        raise refused(f"an answer of {sizes} bytes is too long")
    answer = b"".join(draft.facts.part(id) for id in tx.parts) or tx.answer
    check_answer(draft, demanded, answer)
    drop_parts(draft, tx.demand)
    draft.burn(demanded.bond)
    draft.put(replace(demanded, answered=True, bond=0), tx.demand)


def _open(draft: Draft, id: bytes) -> Demanded:
    demanded = draft.get(Demanded, id)
    if demanded is None or demanded.answered:
        raise refused("no such demand is open")
    return demanded

"""What a demand may be about, whom it accuses, and what the ledger keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.codec import Value, digest
from protocols.court import (
    accepted_statement,
    first_leaf,
    last_leaf,
    scheduled,
    shown_item,
    shown_process,
    signed_item,
)
from protocols.domains import DEMAND
from protocols.errors import Invalid
from protocols.faults import Fault
from protocols.ids import Address, ItemId, NodeKey, ProcessId, parse_id
from protocols.ledger.draft import Draft, refused
from protocols.ledger.entries import Fine, Unhosted
from protocols.ledger.penalties import offence
from protocols.wire import demand
from protocols.wire.demand import (
    ASSIGNMENT,
    KEPT_BYTES_MAX,
    LEAVES,
    PREVIOUS,
    PUSH,
    SCHEDULE,
    SLOT,
    PushKept,
    ScheduleKept,
    ScheduleSubject,
    SlotKept,
    SlotSubject,
    StatementSlot,
    push_fields,
)
from protocols.wire.evidence import statement_id
from protocols.wire.item import SignatureType, signing_message
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand
from protocols.wire.process import ProcessInfo, admissible, outbox_entry, push_key

FAULTS = {
    LEAVES: Fault.WITHHELD,
    PREVIOUS: Fault.WITHHELD,
    ASSIGNMENT: Fault.INVENTED_LOG,
    PUSH: Fault.FALSE_PUSH,
    SLOT: Fault.UNPUBLISHED,
    SCHEDULE: Fault.CENSORED,
}
"""What silence to a kind of demand is."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A demand that may be made."""

    id: bytes
    """Of two demands for one thing there is one."""
    accused: Address
    kept: bytes


def demand_id(kind: int, *fields: Value) -> bytes:
    """Id of a demand: LEAVES, PREVIOUS: statement id. ASSIGNMENT: statement id, slot. PUSH: item
    id. SLOT: process, slot. SCHEDULE: process, item id."""
    return digest(DEMAND, kind, *fields)


def subject_of(draft: Draft, tx: Demand) -> Subject:
    """Read and check what is demanded. Raises Invalid."""
    match tx.kind:
        case demand.PUSH:
            return _push(draft, tx.subject)
        case demand.SLOT:
            return _slot(draft, tx.subject)
        case demand.SCHEDULE:
            return _schedule(draft, tx.subject)
    return _statement(draft, tx)


def _statement(draft: Draft, tx: Demand) -> Subject:
    raw, slot = tx.subject, None
    if tx.kind == ASSIGNMENT:
        asked = StatementSlot.decode(tx.subject, size_max=KEPT_BYTES_MAX)
        raw, slot = asked.statement, asked.slot
    statement = accepted_statement(raw, draft.court())
    accused = draft.account_of(statement.cu)
    first = first_leaf(statement, draft.rules.parameters)
    if tx.kind == PREVIOUS and not first:
        raise refused("nothing comes before a statement from slot 0 on")
    if slot is not None and not first <= slot <= last_leaf(statement):
        raise refused(f"the statement does not answer for slot {slot}")
    place = () if slot is None else (slot,)
    return Subject(demand_id(tx.kind, statement_id(raw), *place), accused, tx.subject)


def _push(draft: Draft, subject: bytes) -> Subject:
    """An item that says it is an outbox entry. Whether it has a slot somewhere does not matter:
    the signature asserts it."""
    item = shown_item(ItemHead.decode(subject, size_max=len(subject)), draft.court())
    if item.signature_type != SignatureType.ED25519:
        raise refused("no node signs what it pushes like this")
    entry = outbox_entry(item)
    if entry is None:
        raise refused("the item does not say that it was pushed")
    try:
        root = ItemId(parse_id(item.first("Pushed-For") or "", "Pushed-For"))
    except Invalid:
        root = ItemId(bytes(32))  # no pushed item is like that, so nothing can answer
    messenger = NodeKey(item.owner)
    kept = PushKept(messenger, *entry, root, signing_message(item))
    return Subject(demand_id(PUSH, item.id), draft.account_of(messenger), kept.encode())


def _slot(draft: Draft, subject: bytes) -> Subject:
    asked = SlotSubject.decode(subject, size_max=len(subject))
    info = shown_process(asked.process, draft.court())
    assignment = scheduled(asked.assignment, info, draft.court())
    if asked.slot > assignment.nonce:
        raise refused(f"slot {assignment.nonce} does not show that there is a slot {asked.slot}")
    accused = _host(draft, info, Fault.UNPUBLISHED)
    kept = SlotKept(info.id, info.scheduler, asked.slot)
    return Subject(demand_id(SLOT, info.id, asked.slot), accused, kept.encode())


def _schedule(draft: Draft, subject: bytes) -> Subject:
    asked = ScheduleSubject.decode(subject, size_max=len(subject))
    info = shown_process(asked.process, draft.court())
    scheduled(asked.assignment, info, draft.court())
    if draft.get(Unhosted, info.id) is not None:
        raise refused("nobody has to schedule for this process any more")
    item = signed_item(asked.item, draft.court())
    admissible(item, info, draft.rules.parameters)
    accused = _host(draft, info, Fault.CENSORED)
    push = push_fields(push_key(item, info))
    kept = ScheduleKept(info.id, info.scheduler, item.id, push)
    return Subject(demand_id(SCHEDULE, info.id, item.id), accused, kept.encode())


def _host(draft: Draft, info: ProcessInfo, fault: Fault) -> Address:
    """Whose stake answers for a log. Raises Invalid if it has paid for this already."""
    account = draft.account_at(info.scheduler)
    if draft.get(Fine, account, offence(fault, info.id, None)) is not None:
        raise refused("its scheduler has paid for this log already")
    return account


def process_of(kind: int, kept: bytes) -> ProcessId:
    """The log that a demand of a scheduler is about."""
    if kind == SLOT:
        return SlotKept.decode(kept, size_max=KEPT_BYTES_MAX).process
    return ScheduleKept.decode(kept, size_max=KEPT_BYTES_MAX).process

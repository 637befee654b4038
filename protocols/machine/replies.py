"""A scheduler's answers to SCHEDULE demands, from its log; and the message that such a demand
holds, which is the scheduler's to assign now."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.errors import Invalid
from protocols.network import Parameters
from protocols.wire.assignment import Slot
from protocols.wire.demand import ScheduleAnswer, ScheduleKept, ScheduleSubject, push_fields
from protocols.wire.item import Item, decode_item
from protocols.wire.item_head import ItemHead
from protocols.wire.ledger_tx import Demand, read_data
from protocols.wire.process import process_info, push_key


def message_demanded(item: Item, parameters: Parameters) -> Item:
    """The message that a SCHEDULE demand carries, of which `item` is the transaction. Raises
    Invalid for any other."""
    tx = Demand.of_value(read_data(item))
    raw = ScheduleSubject.decode(tx.subject, size_max=len(tx.subject)).item
    return decode_item(raw, size_max=parameters.item_bytes_max)


def schedule_answer(kept: ScheduleKept, log: Iterable[Slot]) -> ScheduleAnswer | None:
    """What a log, from slot 0 on, answers to the demand for a message: its slot, or that of
    another copy of the same outbox entry, since a log has one slot for an entry."""
    process: Item | None = None
    for slot in log:
        if process is None:
            process = slot.message
            info = process_info(process)
            continue
        raw = slot.assignment.item.raw
        if slot.message.id == kept.item:
            return ScheduleAnswer(raw)
        try:
            push = push_fields(push_key(slot.message, info)) if kept.push else None
        except Invalid:
            continue  # assigned before its form was checked: no copy of anything
        if push is not None and push == kept.push:
            return ScheduleAnswer(raw, ItemHead.of(process), ItemHead.of(slot.message))
    return None

"""The answer to a demand for the outbox entry behind a pushed item. Part of `replying`."""

from __future__ import annotations

from protocols.errors import Invalid
from protocols.ids import ProcessId
from protocols.ledger.answers import FORMATS
from protocols.machine.watch import Watch
from protocols.outbox import Bounds, Entry, OutAssignment, OutSpawn, derive
from protocols.wire.demand import PushAnswer, PushKept
from protocols.wire.item import Item
from protocols.wire.item_head import ItemHead
from protocols.wire.outcome import Status, outcome_hash
from protocols.wire.process import outbox_entry, process_info
from protocols.wire.proof import Receipt
from protocols.wire.pushed import Parent, entry_of, spawned_reply


def push_answer(watch: Watch, kept: PushKept) -> PushAnswer | None:
    """The output of the slot as this node's compute unit has it, if the item is in its outbox."""
    found = watch.views.result(kept.process, kept.slot)
    slots = watch.views.slots(kept.process, 0, 0)
    if found is None or not slots:
        return None
    raw, receipt_raw = found
    receipt = Receipt.decode(receipt_raw)
    outbox = _outbox(watch, raw, receipt)
    if outbox is None or kept.index >= len(outbox[1]):
        return None
    root, entries = outbox
    process = slots[0].message
    answer = PushAnswer(ItemHead.of(process), receipt_raw, root, raw, None)
    parent = Parent(process_info(process), kept.slot, kept.root)
    entry = entries[kept.index]
    if isinstance(entry, OutAssignment):
        return None
    try:
        made = entry_of(kept.messenger, parent, kept.index, entry)
        if made.message() == kept.message:
            return answer
        child = _child(watch, kept) if isinstance(entry, OutSpawn) else None
        if child is None or spawned_reply(kept.messenger, child).message() != kept.message:
            return None
    except Invalid:
        return None
    return PushAnswer(ItemHead.of(process), receipt_raw, root, raw, child.signature)


def _outbox(watch: Watch, raw: bytes, receipt: Receipt) -> tuple[bytes, tuple[Entry, ...]] | None:
    """Root and entries of the outbox that the receipt binds."""
    if receipt.leaf.status != Status.OK:
        return None
    parameters = watch.parameters
    bounds = Bounds(parameters.output_bytes_max, parameters.outbox_max)
    for format in FORMATS:
        derived = derive(format, Status.OK, raw, bounds)
        root = derived.outbox.root()
        if outcome_hash(raw, root) == receipt.leaf.outcome_hash:
            return root, tuple(derived.outbox.entries())
    return None


def _child(watch: Watch, kept: PushKept) -> Item | None:
    """The process that the messenger made of the entry."""
    for process in watch.views.processes():
        for slot in watch.views.slots(process, 0, 0):
            if _is_child(slot.message, kept, process):
                return slot.message
    return None


def _is_child(item: Item, kept: PushKept, process: ProcessId) -> bool:
    if item.owner != kept.messenger or process == kept.process:
        return False
    try:
        return outbox_entry(item) == (kept.process, kept.slot, kept.index)
    except Invalid:
        return False

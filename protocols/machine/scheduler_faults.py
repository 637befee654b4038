"""Evidence against a scheduler, from slots that a node has seen. Pure; `None`: nothing is wrong."""

from __future__ import annotations

from protocols.errors import Invalid
from protocols.ids import ProcessId
from protocols.network import Parameters
from protocols.wire.assignment import Assignment, Chain, Slot
from protocols.wire.evidence import BadAssignment, TwoAssignments
from protocols.wire.item import Item
from protocols.wire.item_head import ItemHead
from protocols.wire.process import admissible, enterable, process_info


def two_assignments(process: Item, one: Assignment, other: Assignment) -> TwoAssignments | None:
    """One slot given twice. `one` is the branch this node stands on: it is selected if nobody
    shows the other first."""
    if (one.process, one.nonce) != (other.process, other.nonce) or one.id == other.id:
        return None
    return TwoAssignments(one.item.raw, other.item.raw, ItemHead.of(process))


def bad_item(process: Item, slot: Slot, parameters: Parameters) -> BadAssignment | None:
    """A slot whose item, signed by its owner, must have been refused."""
    head, raw = ItemHead.of(process), slot.assignment.item.raw
    try:
        if not slot.nonce:
            admissible(process, None, parameters)
        else:
            enterable(slot.message, process_info(process), slot.assignment.exclude, parameters)
    except Invalid:
        item = None if not slot.nonce else ItemHead.of(slot.message)
        return BadAssignment(head, raw, None, item)
    return None


def bad_order(
    process: Item, before: Assignment | None, assignment: Assignment
) -> BadAssignment | None:
    """An assignment that does not follow the one before, or the genesis."""
    raw = assignment.item.raw
    if before is None:
        chain, shown = Chain.genesis(ProcessId(process.id)), None
    else:
        shown = before.item.raw
        chain = Chain(
            before.process, before.nonce, b"", before.hash_chain, before.id, before.timestamp
        )
    if assignment.process != chain.process or assignment.nonce != chain.nonce + 1:
        return None
    if assignment.epoch != (0 if before is None else before.epoch):
        return None
    later = assignment.timestamp >= chain.timestamp
    if later and assignment.hash_chain == chain.hash_chain_next():
        return None
    return BadAssignment(ItemHead.of(process), raw, shown, None)

"""Invariants of a run (design, section 12), as sentences a report can print.

I1  same log, same results and roots, on every node
I2  what was answered with 202 is scheduled exactly once, each outbox entry at most once
I3  a slot that anyone has seen is never replaced by another
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocols.errors import Invalid
from protocols.ids import ItemId, ProcessId, b64url
from protocols.wire.assignment import Slot, assignment_of
from protocols.wire.batch import ASSIGNMENT_BYTES_MAX, unpack_slots
from protocols.wire.item import decode_item
from protocols.wire.proof import Receipt
from protocols.wire.topics import Topic
from simnet.wire import Gossip

Place = tuple[ProcessId, int]


def place_text(place: Place) -> str:
    """A slot, for a person."""
    return f"slot {place[1]} of {b64url(place[0])}"


class SlotWatch:
    """I3 on the wire: every assignment ever gossiped, by its slot. A watcher of `Medium`."""

    def __init__(self) -> None:
        self.seen: dict[Place, ItemId] = {}
        self.violations: list[str] = []

    def __call__(self, gossip: Gossip) -> None:
        if gossip.topic is not Topic.SLOTS:
            return
        try:
            for ref in unpack_slots(gossip.payload):
                item = decode_item(ref.assignment_raw, size_max=ASSIGNMENT_BYTES_MAX)
                assignment = assignment_of(item)
                self.note((assignment.process, assignment.nonce), assignment.id, "gossip")
        except Invalid:
            return  # a planted fault broke the payload; nobody can read a slot in it

    def note(self, place: Place, assignment: ItemId, where: str) -> None:
        """Somebody has seen this assignment at this place."""
        known = self.seen.setdefault(place, assignment)
        if known != assignment:
            self.violations.append(
                f"I3: {place_text(place)} is {b64url(known)} and, in {where}, {b64url(assignment)}"
            )


def check_log(slots: Sequence[Slot], name: str, watch: SlotWatch) -> list[str]:
    """I2 and I3 in one replica of one log. `name` is its node."""
    violations: list[str] = []
    messages: dict[ItemId, int] = {}
    entries: dict[tuple[str, str], int] = {}
    for nonce, slot in enumerate(slots):
        if slot.nonce != nonce:
            violations.append(f"I3: {name} holds slot {slot.nonce} where {nonce} belongs")
        watch.note((slot.process, slot.nonce), slot.assignment.id, f"the log of {name}")
        first = messages.setdefault(slot.message.id, nonce)
        if first != nonce:
            violations.append(
                f"I2: message {b64url(slot.message.id)} has slots {first} and {nonce} at {name}"
            )
        outbox, source = slot.message.first("Outbox"), slot.message.first("From-Process")
        if outbox is not None and source is not None:
            first = entries.setdefault((source, outbox), nonce)
            if first != nonce:
                violations.append(
                    f"I2: outbox entry {outbox} of {source} has slots {first} and {nonce} at {name}"
                )
    return violations


def check_acknowledged(acknowledged: Iterable[ItemId], places: dict[ItemId, Place]) -> list[str]:
    """I2: nothing that was answered with 202 is missing from the logs."""
    return [
        f"I2: message {b64url(id)} was acknowledged and never scheduled"
        for id in acknowledged
        if id not in places
    ]


def check_receipts(receipts: Sequence[tuple[str, Receipt]]) -> list[str]:
    """I1: what several compute units say of one slot. Each with its node's name."""
    (name, first), *others = receipts
    return [
        f"I1: {name} and {other_name} differ at slot {first.slot} of {b64url(first.process)}"
        for other_name, other in others
        if (other.leaf, other.mmr_root, other.head) != (first.leaf, first.mmr_root, first.head)
    ]

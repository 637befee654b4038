"""Gossip batches: many entries in one payload, packed without encoding any of them again.

    payload  = [1, [entry, ...]]
    item     = [0, raw item] | [1, item id, size in bytes]
    slot     = [raw assignment, item]

On `messages` the entries are items, on `slots` they are slots, runs of many processes mixed. An
item above the network's `inline_bytes_max` travels as id and size; whoever wants it fetches it
by `/ao/item/1`. Entries are canonical CBOR when they are made, so packing is concatenation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from protocols import codec
from protocols.codec import Value
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId
from protocols.limits import BATCH_ENTRIES_MAX, ITEM_BYTES_MIN
from protocols.wire import shape
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

VERSION = 1
INLINE, REMOTE = 0, 1

ITEM_BYTES_CEILING = 1 << 30
"""Largest size a remote item may claim here; the network's `item_bytes_max` is far below."""
ASSIGNMENT_BYTES_MAX = 8 << 10
"""Largest raw assignment: fixed tags and a bounded number of Exclude names."""
BATCH_OVERHEAD_BYTES = 8
"""Most bytes that `pack` adds around its entries."""


@dataclass(frozen=True, slots=True)
class InlineItem:
    """An item that came along. Unparsed."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class RemoteItem:
    """An item to fetch from whoever announced it."""

    id: ItemId
    size: int
    """Bytes of the raw item, as claimed."""


ItemRef: TypeAlias = InlineItem | RemoteItem


@dataclass(frozen=True, slots=True)
class SlotRef:
    """An assignment, unparsed, and its item."""

    assignment_raw: bytes
    item: ItemRef


def item_entry(raw: bytes, id: bytes, inline_bytes_max: int) -> bytes:
    """Entry of one item: inline up to `inline_bytes_max` bytes, else by id and size."""
    if len(raw) <= inline_bytes_max:
        return codec.encode((INLINE, raw))
    return codec.encode((REMOTE, id, len(raw)))


def slot_entry(assignment_raw: bytes, item: bytes) -> bytes:
    """Entry of one slot; `item` is the `item_entry` of what it assigns."""
    return b"\x82" + codec.encode(assignment_raw) + item


def pack(entries: Sequence[bytes]) -> bytes:
    """One payload of 1..4096 entries, in order."""
    assert 0 < len(entries) <= BATCH_ENTRIES_MAX, f"{len(entries)} entries in a batch"
    return b"".join((b"\x82\x01", _array_head(len(entries)), *entries))


def _array_head(count: int) -> bytes:
    """CBOR head of an array of `count` values (RFC 8949, section 3)."""
    if count < 24:
        return bytes((0x80 | count,))
    if count < 256:
        return bytes((0x98, count))
    return b"\x99" + count.to_bytes(2, "big")


def unpack_messages(
    payload: bytes, *, size_max: int = TOPIC_BYTES_MAX[Topic.MESSAGES]
) -> list[ItemRef]:
    """Entries of a message batch. Raises Invalid; reads no item."""
    return [_item_ref(entry) for entry in _entries(payload, size_max)]


def unpack_slots(payload: bytes, *, size_max: int = TOPIC_BYTES_MAX[Topic.SLOTS]) -> list[SlotRef]:
    """Entries of a slot batch. Raises Invalid; reads no assignment and no item."""
    slots = []
    for entry in _entries(payload, size_max):
        assignment, item = shape.record(entry, "slot entry", 2)
        slots.append(
            SlotRef(
                shape.octets(
                    assignment, "assignment", least=ITEM_BYTES_MIN, most=ASSIGNMENT_BYTES_MAX
                ),
                _item_ref(item),
            )
        )
    return slots


def _entries(payload: bytes, size_max: int) -> list[Value]:
    value = codec.decode(payload, size_max=size_max)
    version, entries = shape.record(value, "batch", 2)
    if version != VERSION or type(version) is not int:
        raise Invalid(Reason.UNSUPPORTED, f"batch version {version!r}, this release reads 1")
    return shape.array(entries, "batch entries", least=1, most=BATCH_ENTRIES_MAX)


def _item_ref(value: Value) -> ItemRef:
    match value:
        case [0, bytes(raw)] if type(value[0]) is int and len(raw) >= ITEM_BYTES_MIN:
            return InlineItem(raw)
        case [1, bytes(id), size] if type(value[0]) is int:
            return RemoteItem(
                ItemId(shape.identifier(id, "remote item id")),
                shape.integer(
                    size, "remote item size", least=ITEM_BYTES_MIN, most=ITEM_BYTES_CEILING
                ),
            )
    raise Invalid(Reason.MALFORMED, "batch entry is neither [0, raw item] nor [1, item id, size]")

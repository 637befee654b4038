"""An item without its data, which still shows who signed it and what its tags say.

An item is signed over a deep hash, in which the data stand as their size and SHA-384. With those
two the signature can be checked and the id is the same, so a process can be shown to the ledger
without the megabytes it starts with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from protocols.errors import Invalid, Reason
from protocols.limits import ITEM_TAGS_BYTES_MAX
from protocols.wire import shape
from protocols.wire.deep_hash import sha384
from protocols.wire.item import Item, decode_item
from protocols.wire.record import Record, octets

HEAD_BYTES_MAX = 2 + 512 + 512 + 33 + 33 + 16 + ITEM_TAGS_BYTES_MAX
"""Signature type, the longest signature and owner, target, anchor, counts, tags."""
DATA_BYTES_MAX = 1 << 40
"""Far above any item, so that an item above its bound can be shown to be."""


@dataclass(frozen=True, slots=True)
class ItemHead(Record):
    """Everything an item is but its data."""

    head: bytes
    """The item up to its data."""
    size: int
    """Bytes of the data."""
    hash: bytes
    """SHA-384 of the data."""

    READ = (
        octets(HEAD_BYTES_MAX),
        lambda value, what: shape.integer(value, what, most=DATA_BYTES_MAX),
        octets(48, 48),
    )

    @classmethod
    def of(cls, item: Item) -> Self:
        """The head of an item."""
        if item.cut is not None:
            return cls(item.raw, *item.cut)
        return cls(item.raw[: item.data_start], len(item.raw) - item.data_start, _hash(item))

    def item(self) -> Item:
        """The item, cut: its signature can be checked, its data cannot be read. Raises Invalid."""
        item = decode_item(self.head, size_max=HEAD_BYTES_MAX)
        if item.data_start != len(self.head):
            raise Invalid(
                Reason.MALFORMED,
                f"the head of item ends at byte {len(self.head)}, its tags at {item.data_start}",
            )
        return replace(item, cut=(self.size, self.hash))


def _hash(item: Item) -> bytes:
    return sha384(item.data_view)

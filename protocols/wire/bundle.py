"""ANS-104 binary bundles: many items as the data of one, or in a file.

Layout: item count (32, little-endian); per item its size (32) and its id (32); then the items.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import Invalid, Reason
from protocols.ids import b64url
from protocols.limits import BUNDLE_ENTRY_BYTES, BUNDLE_HEADER_BYTES, BUNDLE_ITEMS_MAX
from protocols.wire.item import Item, Tag, decode_item, item_id

BUNDLE_TAGS = (Tag("Bundle-Format", "binary"), Tag("Bundle-Version", "2.0.0"))
"""Tags of an item whose data are a bundle."""


def encode_bundle(items: Sequence[bytes]) -> bytes:
    """A bundle of encoded items, in order. Raises Invalid if one of them has no id."""
    header = [len(items).to_bytes(32, "little")]
    for raw in items:
        header += (len(raw).to_bytes(32, "little"), item_id(raw))
    return b"".join((*header, *items))


def decode_bundle(raw: bytes, *, size_max: int, items_max: int = BUNDLE_ITEMS_MAX) -> list[bytes]:
    """The encoded items of a bundle that fills `raw`. Raises Invalid.

    Checked: total size, count, that the items fill the rest exactly, and that each has the id
    stated for it. The items themselves are left to `decode_item`.
    """
    if len(raw) > size_max:
        raise Invalid(Reason.OVERSIZE, f"a bundle of {len(raw)} bytes, at most {size_max}")
    count = int.from_bytes(raw[:BUNDLE_HEADER_BYTES], "little")
    if count > items_max:
        raise Invalid(Reason.OVERSIZE, f"a bundle of {count} items, at most {items_max}")
    position = BUNDLE_HEADER_BYTES + count * BUNDLE_ENTRY_BYTES
    if position > len(raw):
        raise Invalid(Reason.MALFORMED, f"a bundle of {len(raw)} bytes has no room for its header")
    items: list[bytes] = []
    for entry in range(BUNDLE_HEADER_BYTES, position, BUNDLE_ENTRY_BYTES):
        end = position + int.from_bytes(raw[entry : entry + 32], "little")
        if end > len(raw):
            raise Invalid(Reason.MALFORMED, f"item {len(items)} reaches beyond the bundle")
        item = raw[position:end]
        if item_id(item) != raw[entry + 32 : entry + 64]:
            raise Invalid(Reason.MALFORMED, f"item {len(items)} of the bundle has another id")
        items.append(item)
        position = end
    if position != len(raw):
        raise Invalid(Reason.MALFORMED, f"{len(raw) - position} bytes after the bundle's last item")
    return items


def is_bundle(item: Item) -> bool:
    """True iff the item says that its data are a binary bundle."""
    return all(item.first(tag.name) == tag.value for tag in BUNDLE_TAGS)


def unbundle(item: Item, *, item_size_max: int, items_max: int = BUNDLE_ITEMS_MAX) -> list[Item]:
    """The items that `item` carries, or `[item]` if it is no bundle. Raises Invalid.

    One level only: a bundle inside a bundle is refused, so that a small upload cannot make a
    node parse the same bytes over and over. Signatures are not checked.
    """
    if not is_bundle(item):
        return [item]
    carried = decode_bundle(item.data, size_max=len(item.raw), items_max=items_max)
    items = [decode_item(raw, size_max=item_size_max) for raw in carried]
    for inner in items:
        if is_bundle(inner):
            raise Invalid(
                Reason.OVERSIZE, f"{b64url(inner.id)} is a bundle inside a bundle; send it alone"
            )
    return items

"""Tags of an ANS-104 item: an Avro array of records of two strings.

Written as one block. Read as Avro allows it: several blocks, and blocks whose count is negative
and followed by their size, because the owner signed whatever the client's library made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from protocols.errors import Invalid, Reason
from protocols.limits import ITEM_TAGS_BYTES_MAX, ITEM_TAGS_MAX

_VARINT_BYTES_MAX = 10
_new_tag = tuple.__new__
"""Every message is made of tags, and `Tag(...)` itself takes twice as long."""


class Tag(NamedTuple):
    """One tag. Bytes that are not UTF-8 read as U+FFFD; the item's raw bytes keep them."""

    name: str
    value: str


def encode_tags(tags: Sequence[Tag]) -> bytes:
    """One Avro block, and nothing at all for no tags. Raises Invalid above the item's bounds."""
    if not tags:
        return b""
    if len(tags) > ITEM_TAGS_MAX:
        raise Invalid(Reason.OVERSIZE, f"{len(tags)} tags, at most {ITEM_TAGS_MAX}")
    parts = [_varint(2 * len(tags))]
    try:
        for tag in tags:
            for text in tag:
                encoded = text.encode("utf-8")
                parts += (_varint(2 * len(encoded)), encoded)
    except UnicodeEncodeError as error:
        raise Invalid(Reason.MALFORMED, f"tag text is not Unicode: {error}") from None
    parts.append(b"\0")
    region = b"".join(parts)
    if len(region) > ITEM_TAGS_BYTES_MAX:
        raise Invalid(
            Reason.OVERSIZE, f"{len(region)} bytes of tags, at most {ITEM_TAGS_BYTES_MAX}"
        )
    return region


def decode_tags(region: bytes, count: int) -> tuple[Tag, ...]:
    """Exactly `count` tags that fill `region`, in any valid Avro blocks. Raises Invalid."""
    if not region:
        if count:
            raise Invalid(Reason.MALFORMED, f"{count} tags in 0 bytes")
        return ()
    tags: list[Tag] = []
    block, position = _long(region, 0)
    while block:
        block_end = None
        if block < 0:  # a negative count is followed by the block's size
            block = -block
            block_bytes, position = _long(region, position)
            block_end = position + block_bytes
        if len(tags) + block > count:
            raise Invalid(Reason.MALFORMED, f"{len(tags) + block} tags or more, {count} stated")
        for _ in range(block):
            name, position = _text(region, position)
            value, position = _text(region, position)
            tags.append(_new_tag(Tag, (name, value)))
        if block_end is not None and position != block_end:
            raise Invalid(Reason.MALFORMED, f"a tag block ends at {position}, not {block_end}")
        block, position = _long(region, position)
    if position != len(region) or len(tags) != count:
        raise Invalid(
            Reason.MALFORMED,
            f"{len(tags)} tags in {position} bytes, {count} in {len(region)} stated",
        )
    return tuple(tags)


def _varint(number: int) -> bytes:
    """A base-128 number, least significant group first."""
    if number < 0x80:
        return bytes((number,))
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _long(region: bytes, position: int) -> tuple[int, int]:
    """One zigzag Avro long of 64 bits, and the position after it."""
    number = 0
    groups = region[position : position + _VARINT_BYTES_MAX]
    for index, group in enumerate(groups):
        number |= (group & 0x7F) << (7 * index)
        if group < 0x80:
            if number >> 64:
                break
            return number >> 1 ^ -(number & 1), position + index + 1
    raise Invalid(Reason.MALFORMED, f"tags are cut short, or an Avro long is too long: {position}")


def _text(region: bytes, position: int) -> tuple[str, int]:
    """One Avro string, and the position after it."""
    total = len(region)
    size = region[position] if position < total else 1
    if size & 0x81:  # rare: two bytes or more, or negative
        size, start = _long(region, position)
    else:
        size, start = size >> 1, position + 1
    end = start + size
    if size < 0 or end > total:
        raise Invalid(Reason.MALFORMED, f"a tag of {size} bytes at byte {position} of the tags")
    return region[start:end].decode("utf-8", "replace"), end

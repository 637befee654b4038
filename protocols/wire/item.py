"""ANS-104 data items: messages, processes, modules and assignments.

An item is kept as the bytes it came in. Its id and its signature are taken over those bytes, so
an item that another client encoded in another valid way (several Avro blocks, say) stays what
its owner signed. Layout, little-endian and without padding: signature type (2), signature,
owner, target flag (1), target (32), anchor flag (1), anchor (32), tag count (8), tag bytes (8),
tags (Avro), data. Source: ANS-104, and arbundles where the text leaves a choice.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from functools import cache, cached_property

from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, address_of, b64url
from protocols.limits import (
    ANCHOR_BYTES,
    ITEM_BYTES_MIN,
    ITEM_TAGS_BYTES_MAX,
    ITEM_TAGS_MAX,
    TARGET_BYTES,
)
from protocols.wire.deep_hash import blob_hash, deep_hash, sha384
from protocols.wire.tags import Tag, decode_tags, encode_tags

__all__ = [
    "Item",
    "SignatureType",
    "Tag",
    "Unsigned",
    "decode_item",
    "deep_hash",
    "item_id",
    "signing_message",
]


class SignatureType(enum.IntEnum):
    """The schemes this release knows; a superset of every deployed scheduler's."""

    ARWEAVE = 1
    """RSA-PSS over SHA-256, 4096-bit modulus as owner."""
    ED25519 = 2
    """Ed25519 over the raw 48-byte message. Every node signs with this one."""
    ETHEREUM = 3
    """secp256k1 over the EIP-191 personal message; uncompressed public key as owner."""
    SOLANA = 4
    """Ed25519 over the message in lowercase hexadecimal."""


_LENGTHS = {1: (512, 512), 2: (64, 32), 3: (65, 65), 4: (64, 32)}
"""Bytes of signature and of owner, by signature type."""


@dataclass(frozen=True, eq=False, repr=False)
class Item:
    """A well-formed item whose signature nobody has checked (see `protocols.trust`).

    Made by `decode_item` and `Unsigned.signed` only. Two items are equal iff their bytes are.
    """

    raw: bytes
    signature_type: int
    signature: bytes
    owner: bytes
    """Public key, as the signature type has it."""
    target: bytes | None
    anchor: bytes | None
    tags: tuple[Tag, ...]
    tags_raw: bytes
    """The Avro region, which the owner signed."""
    data_start: int
    """Where in `raw` the data begin; they go on to the end."""
    cut: tuple[int, bytes] | None = None
    """(bytes, SHA-384) of the data, where `raw` ends before them (`protocols.wire.item_head`)."""

    @property
    def size(self) -> int:
        """Bytes of the item, with data that are cut off."""
        return len(self.raw) + (0 if self.cut is None else self.cut[0])

    @cached_property
    def id(self) -> ItemId:
        """SHA-256 of the signature."""
        return ItemId(hashlib.sha256(self.signature).digest())

    @cached_property
    def owner_address(self) -> Address:
        """SHA-256 of the owner."""
        return address_of(self.owner)

    @cached_property
    def data(self) -> bytes:
        """A copy of the data, made on first use; `data_view` makes none."""
        return self.raw[self.data_start :]

    @property
    def data_view(self) -> memoryview:
        """The data without a copy."""
        return memoryview(self.raw)[self.data_start :]

    def first(self, name: str) -> str | None:
        """Value of the first tag with this exact name."""
        for tag in self.tags:
            if tag.name == name:
                return tag.value
        return None

    def all(self, name: str) -> tuple[str, ...]:
        """Values of all tags with this exact name, in order."""
        return tuple(tag.value for tag in self.tags if tag.name == name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self.raw == other.raw and self.cut == other.cut

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"Item({b64url(self.id)}, type {self.signature_type}, {len(self.raw)} bytes)"


@dataclass(frozen=True)
class Unsigned:
    """An item that lacks its signature. Raises Invalid for fields that no item can hold."""

    signature_type: int
    owner: bytes
    target: bytes | None
    anchor: bytes | None
    tags: tuple[Tag, ...]
    data: bytes
    tags_raw: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _, owner_bytes = _lengths(self.signature_type)
        _check_length("owner", self.owner, owner_bytes)
        if self.target is not None:
            _check_length("target", self.target, TARGET_BYTES)
        if self.anchor is not None:
            _check_length("anchor", self.anchor, ANCHOR_BYTES)
        object.__setattr__(self, "tags_raw", encode_tags(self.tags))

    def message(self) -> bytes:
        """The 48 bytes that the owner signs."""
        target, anchor = self.target or b"", self.anchor or b""
        fields = (self.owner, target, anchor, self.tags_raw)
        return _message(self.signature_type, fields, deep_hash(self.data))

    def signed(self, signature: bytes) -> Item:
        """The item with this signature, which is taken on trust."""
        signature_bytes, _ = _lengths(self.signature_type)
        _check_length("signature", signature, signature_bytes)
        front = b"".join(
            (
                self.signature_type.to_bytes(2, "little"),
                signature,
                self.owner,
                b"\0" if self.target is None else b"\1" + self.target,
                b"\0" if self.anchor is None else b"\1" + self.anchor,
                len(self.tags).to_bytes(8, "little"),
                len(self.tags_raw).to_bytes(8, "little"),
                self.tags_raw,
            )
        )
        return Item(
            raw=front + self.data,
            signature_type=self.signature_type,
            signature=signature,
            owner=self.owner,
            target=self.target,
            anchor=self.anchor,
            tags=self.tags,
            tags_raw=self.tags_raw,
            data_start=len(front),
        )


def decode_item(raw: bytes, *, size_max: int) -> Item:
    """Parse one item that fills `raw` to its end. Raises Invalid; checks no signature."""
    size = len(raw)
    if size > size_max:
        raise Invalid(Reason.OVERSIZE, f"an item of {size} bytes, at most {size_max}")
    if size < ITEM_BYTES_MIN:
        raise Invalid(Reason.MALFORMED, f"an item of {size} bytes, at least {ITEM_BYTES_MIN}")
    signature_type = raw[0] | raw[1] << 8
    signature_bytes, owner_bytes = _lengths(signature_type)
    owner_start = 2 + signature_bytes
    position = owner_start + owner_bytes
    target, position = _optional(raw, position, TARGET_BYTES, "target")
    anchor, position = _optional(raw, position, ANCHOR_BYTES, "anchor")
    tags_start = position + 16
    if tags_start > size:
        raise Invalid(Reason.MALFORMED, f"an item of {size} bytes ends before its tag counts")
    count = int.from_bytes(raw[position : position + 8], "little")
    tags_bytes = int.from_bytes(raw[position + 8 : tags_start], "little")
    if count > ITEM_TAGS_MAX or tags_bytes > ITEM_TAGS_BYTES_MAX:
        raise Invalid(
            Reason.OVERSIZE,
            f"{count} tags in {tags_bytes} bytes, at most {ITEM_TAGS_MAX} in {ITEM_TAGS_BYTES_MAX}",
        )
    data_start = tags_start + tags_bytes
    if data_start > size:
        raise Invalid(Reason.MALFORMED, f"{tags_bytes} bytes of tags reach beyond the item")
    tags_raw = raw[tags_start:data_start]
    return Item(
        raw=raw,
        signature_type=signature_type,
        signature=raw[2:owner_start],
        owner=raw[owner_start : owner_start + owner_bytes],
        target=target,
        anchor=anchor,
        tags=decode_tags(tags_raw, count),
        tags_raw=tags_raw,
        data_start=data_start,
    )


def item_id(raw: bytes) -> ItemId:
    """Id of an encoded item, without parsing the rest of it. Raises Invalid."""
    signature_bytes, _ = _lengths(int.from_bytes(raw[:2], "little"))
    signature = raw[2 : 2 + signature_bytes]
    _check_length("signature", signature, signature_bytes)
    return ItemId(hashlib.sha256(signature).digest())


def _lengths(signature_type: int) -> tuple[int, int]:
    """Bytes of signature and owner. Raises Invalid for a type we do not know."""
    lengths = _LENGTHS.get(signature_type)
    if lengths is None:
        raise Invalid(
            Reason.UNSUPPORTED,
            f"signature type {signature_type}; sign with type 1, 2, 3 or 4",
        )
    return lengths


def _check_length(what: str, value: bytes, expected: int) -> None:
    """Raise Invalid unless `value` has `expected` bytes."""
    if len(value) != expected:
        raise Invalid(Reason.MALFORMED, f"{what} of {len(value)} bytes, not {expected}")


def _optional(raw: bytes, position: int, size: int, what: str) -> tuple[bytes | None, int]:
    """A field behind its presence byte, and the position after it."""
    flag = raw[position : position + 1]
    if flag == b"\0":
        return None, position + 1
    end = position + 1 + size
    if flag > b"\1":
        raise Invalid(
            Reason.MALFORMED, f"{what} flag {flag.hex()!r} at byte {position}, not 0 or 1"
        )
    if end > len(raw):
        raise Invalid(Reason.MALFORMED, f"an item of {len(raw)} bytes ends inside its {what}")
    return raw[position + 1 : end], end


def signing_message(item: Item) -> bytes:
    """The 48 bytes over which `item` is signed."""
    target, anchor = item.target or b"", item.anchor or b""
    data = deep_hash(item.data_view) if item.cut is None else blob_hash(*item.cut)
    return _message(item.signature_type, (item.owner, target, anchor, item.tags_raw), data)


def _message(signature_type: int, fields: tuple[bytes, ...], data: bytes) -> bytes:
    """Deep hash of ["dataitem", "1", type, owner, target, anchor, tags, data]. `data`: its own."""
    acc = _message_prefix(signature_type)
    for part in fields:
        acc = sha384(acc + deep_hash(part))
    return sha384(acc + data)


@cache
def _message_prefix(signature_type: int) -> bytes:
    """The deep hash of an item up to its signature type, the same for all items of a type."""
    acc = sha384(b"list8")
    for part in (b"dataitem", b"1", b"%d" % signature_type):
        acc = sha384(acc + deep_hash(part))
    return acc

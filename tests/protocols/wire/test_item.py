"""ANS-104 items: golden bytes of another library, round trips, and refusals."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Invalid, Reason
from protocols.ids import b64url
from protocols.limits import ITEM_TAGS_BYTES_MAX, ITEM_TAGS_MAX
from protocols.wire.deep_hash import deep_hash
from protocols.wire.item import (
    Item,
    Tag,
    Unsigned,
    decode_item,
    item_id,
    signing_message,
)
from protocols.wire.tags import decode_tags, encode_tags
from tests.vectors import load

VECTORS = load("ans104")["items"]
SIZE_MAX = 1 << 20
LENGTHS = {1: (512, 512), 2: (64, 32), 3: (65, 65), 4: (64, 32)}

tag_lists = st.lists(st.builds(Tag, st.text(max_size=80), st.text(max_size=200)), max_size=8)


@st.composite
def items(draw: st.DrawFn) -> Item:
    signature_type = draw(st.sampled_from(sorted(LENGTHS)))
    signature_bytes, owner_bytes = LENGTHS[signature_type]
    field = st.none() | st.binary(min_size=32, max_size=32)
    unsigned = Unsigned(
        signature_type,
        draw(st.binary(min_size=4, max_size=4)) * (owner_bytes // 4) + b"\4" * (owner_bytes % 4),
        draw(field),
        draw(field),
        tuple(draw(tag_lists)),
        draw(st.binary(max_size=200)),
    )
    return unsigned.signed(b"\5" * signature_bytes)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_golden_items(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["raw"])
    item = decode_item(raw, size_max=len(raw))
    assert signing_message(item).hex() == vector["deep_hash"]
    assert b64url(item.id) == b64url(item_id(raw)) == vector["id"]
    assert b64url(item.owner) == vector["owner"]
    assert b64url(item.owner_address) == vector["address"]
    assert (item.target.hex() if item.target else None) == vector["target"]
    assert (item.anchor.hex() if item.anchor else None) == vector["anchor"]
    assert [list(tag) for tag in item.tags] == vector["tags"]
    assert item.data.hex() == bytes(item.data_view).hex() == vector["data"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_building_gives_the_golden_bytes(vector: dict[str, Any]) -> None:
    item = decode_item(bytes.fromhex(vector["raw"]), size_max=SIZE_MAX)
    unsigned = Unsigned(
        item.signature_type, item.owner, item.target, item.anchor, item.tags, item.data
    )
    assert unsigned.message().hex() == vector["deep_hash"]
    assert unsigned.signed(item.signature).raw.hex() == vector["raw"]


@given(items())
def test_what_is_built_is_read_back_field_by_field(item: Item) -> None:
    read = decode_item(item.raw, size_max=len(item.raw))
    assert vars(read) == vars(item)
    assert read == item
    assert hash(read) == hash(item)
    assert signing_message(read) == signing_message(item)
    assert read.id == hashlib.sha256(item.signature).digest()


@given(items(), st.randoms(use_true_random=False))
def test_a_changed_item_is_refused_or_is_another_item(item: Item, rng: random.Random) -> None:
    raw = bytearray(item.raw)
    place = rng.randrange(len(raw))
    raw[place] ^= rng.randrange(1, 256)
    try:
        other = decode_item(bytes(raw), size_max=SIZE_MAX)
    except Invalid:
        return
    assert other != item
    same_message = signing_message(other) == signing_message(item)
    assert not same_message or other.signature != item.signature


@given(items(), st.integers(0, 1200))
def test_a_cut_item_raises_nothing_but_invalid(item: Item, size: int) -> None:
    cut = item.raw[:size]
    try:
        read = decode_item(cut, size_max=SIZE_MAX)
    except Invalid:
        return
    assert read.data == item.data[: len(cut) - item.data_start]


@given(st.binary(min_size=80, max_size=400))
def test_noise_raises_nothing_but_invalid(noise: bytes) -> None:
    for kind in LENGTHS:
        try:
            decode_item(kind.to_bytes(2, "little") + noise, size_max=SIZE_MAX)
        except Invalid:
            pass


def test_deep_hash_of_a_list_is_the_item_message() -> None:
    item = decode_item(bytes.fromhex(VECTORS[0]["raw"]), size_max=SIZE_MAX)
    assert item.target is not None
    assert item.anchor is not None
    parts = [b"dataitem", b"1", b"2", item.owner, item.target, item.anchor]
    assert deep_hash([*parts, item.tags_raw, item.data]) == signing_message(item)
    assert deep_hash([[b"a"], b"b"]) != deep_hash([b"a", [b"b"]])


def minimal(**changes: Any) -> Unsigned:
    fields: dict[str, Any] = {
        "signature_type": 2,
        "owner": b"o" * 32,
        "target": None,
        "anchor": None,
        "tags": (),
        "data": b"",
    }
    return Unsigned(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signature_type": 5}, Reason.UNSUPPORTED),
        ({"owner": b"o" * 31}, Reason.MALFORMED),
        ({"target": b"t" * 31}, Reason.MALFORMED),
        ({"target": b""}, Reason.MALFORMED),
        ({"anchor": b"a" * 33}, Reason.MALFORMED),
        ({"tags": (Tag("a", "b"),) * (ITEM_TAGS_MAX + 1)}, Reason.OVERSIZE),
        ({"tags": (Tag("a", "b" * ITEM_TAGS_BYTES_MAX),)}, Reason.OVERSIZE),
        ({"tags": (Tag("a", "\ud800"),)}, Reason.MALFORMED),
    ],
    ids=str,
)
def test_fields_that_no_item_can_hold_are_refused(changes: Any, reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        minimal(**changes)
    assert refusal.value.reason is reason


def test_a_signature_of_another_length_is_refused() -> None:
    with pytest.raises(Invalid):
        minimal().signed(b"s" * 63)


GOOD = minimal(tags=(Tag("a", "b"),), data=b"data").signed(b"s" * 64).raw
FLAG = 2 + 64 + 32


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (GOOD[:79], Reason.MALFORMED),
        (b"\0\0" + GOOD[2:], Reason.UNSUPPORTED),
        (b"\7\0" + GOOD[2:], Reason.UNSUPPORTED),
        (b"\2\1" + GOOD[2:], Reason.UNSUPPORTED),
        (GOOD[:FLAG] + b"\2" + GOOD[FLAG + 1 :], Reason.MALFORMED),
        (GOOD[:FLAG] + b"\1" + GOOD[FLAG + 1 :], Reason.MALFORMED),
        (GOOD[: FLAG + 1] + b"\2" + GOOD[FLAG + 2 :], Reason.MALFORMED),
        (GOOD[: FLAG + 10], Reason.MALFORMED),
        (GOOD[: FLAG + 2] + b"\2" + GOOD[FLAG + 3 :], Reason.MALFORMED),
        (GOOD[: FLAG + 2] + b"\xff" * 8 + GOOD[FLAG + 10 :], Reason.OVERSIZE),
        (GOOD[: FLAG + 10] + b"\xff" * 8 + GOOD[FLAG + 18 :], Reason.OVERSIZE),
        (GOOD[: FLAG + 10] + b"\x00\x01" + b"\0" * 6 + GOOD[FLAG + 18 :], Reason.MALFORMED),
    ],
)
def test_malformed_items_are_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        decode_item(raw, size_max=SIZE_MAX)
    assert refusal.value.reason is reason


def test_size_bound_comes_first() -> None:
    decode_item(GOOD, size_max=len(GOOD))
    with pytest.raises(Invalid) as refusal:
        decode_item(GOOD, size_max=len(GOOD) - 1)
    assert refusal.value.reason is Reason.OVERSIZE


def test_tags_are_found_by_exact_name() -> None:
    item = minimal(tags=(Tag("A", "1"), Tag("a", "2"), Tag("A", "3"))).signed(b"s" * 64)
    assert item.first("A") == "1"
    assert item.all("A") == ("1", "3")
    assert item.first("b") is None
    assert item.all("b") == ()
    assert b64url(item.id) in repr(item)


# Avro


@given(tag_lists)
def test_tags_round_trip(tags: list[Tag]) -> None:
    assert decode_tags(encode_tags(tags), len(tags)) == tuple(tags)


ONE = b"\x02a\x02b"  # one tag, a = b


@pytest.mark.parametrize(
    ("region", "count"),
    [
        (b"", 0),
        (b"\x00", 0),
        (b"\x02" + ONE + b"\x00", 1),
        (b"\x02" + ONE + b"\x02" + ONE + b"\x00", 2),
        (b"\x03\x10" + ONE + ONE + b"\x00", 2),
        (b"\x01\x08" + ONE + b"\x02" + ONE + b"\x00", 2),
        (b"\x82\x00" + ONE + b"\x80\x00", 1),
        (b"\x02\x82\x00a\x82\x80\x00b\x00", 1),
    ],
    ids=lambda v: v.hex() if isinstance(v, bytes) else str(v),
)
def test_every_valid_avro_encoding_is_read(region: bytes, count: int) -> None:
    assert decode_tags(region, count) == (Tag("a", "b"),) * count


@pytest.mark.parametrize(
    ("region", "count"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x02" + ONE, 1),
        (b"\x02" + ONE + b"\x00", 0),
        (b"\x02" + ONE + b"\x00", 2),
        (b"\x02" + ONE + b"\x00\x00", 1),
        (b"\x04" + ONE + b"\x00", 2),
        (b"\x01\x06" + ONE + b"\x00", 1),
        (b"\x01\x07" + ONE + b"\x00", 1),
        (b"\x02\x01a\x02b\x00", 1),
        (b"\x02\x7ea\x02b\x00", 1),
        (b"\xff" * 10, 1),
        (b"\x80" * 11 + b"\x02", 1),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 128),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03", 128),
        (b"\x02\x02", 1),
    ],
    ids=lambda v: v.hex() if isinstance(v, bytes) else str(v),
)
def test_malformed_avro_is_refused(region: bytes, count: int) -> None:
    with pytest.raises(Invalid) as refusal:
        decode_tags(region, count)
    assert refusal.value.reason is Reason.MALFORMED


@given(st.binary(max_size=60), st.integers(0, ITEM_TAGS_MAX))
def test_noise_as_tags_raises_nothing_but_invalid(region: bytes, count: int) -> None:
    try:
        assert len(decode_tags(region, count)) == count
    except Invalid:
        pass


def test_bytes_that_are_not_utf8_read_as_replacement_and_stay_raw() -> None:
    region = b"\x02\x02\xff\x04\xc3(\x00"
    assert decode_tags(region, 1) == (Tag("\ufffd", "\ufffd("),)
    start = FLAG + 2
    raw = GOOD[:start] + (1).to_bytes(8, "little") + len(region).to_bytes(8, "little") + region
    item = decode_item(raw, size_max=SIZE_MAX)
    assert item.tags_raw == region
    assert item.raw == raw

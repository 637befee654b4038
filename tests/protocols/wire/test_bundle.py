"""Binary bundles: golden bytes, round trips, and that nothing reaches outside of one."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import Invalid, Reason
from protocols.limits import BUNDLE_ITEMS_MAX
from protocols.wire.bundle import BUNDLE_TAGS, decode_bundle, encode_bundle, is_bundle, unbundle
from protocols.wire.item import Item, Tag, Unsigned
from tests.vectors import load

GOLDEN = load("ans104")
SIZE_MAX = 1 << 20


def item(data: bytes, *tags: Tag, signature: bytes = b"s" * 64) -> Item:
    return Unsigned(2, b"o" * 32, None, None, tags, data).signed(signature)


def test_golden_bundle() -> None:
    raws = {vector["name"]: bytes.fromhex(vector["raw"]) for vector in GOLDEN["items"]}
    members = [raws[name] for name in GOLDEN["bundle"]["items"]]
    bundle = encode_bundle(members)
    assert len(bundle) == GOLDEN["bundle"]["size"]
    assert hashlib.sha256(bundle).hexdigest() == GOLDEN["bundle"]["sha256"]
    assert decode_bundle(bundle, size_max=len(bundle)) == members


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_bundles_round_trip(datas: list[bytes]) -> None:
    members = [item(data, signature=bytes((number,)) * 64).raw for number, data in enumerate(datas)]
    bundle = encode_bundle(members)
    assert decode_bundle(bundle, size_max=SIZE_MAX) == members


@given(st.lists(st.binary(max_size=20), max_size=3), st.randoms(use_true_random=False))
def test_mutated_bundles_raise_nothing_but_invalid(datas: list[bytes], rng: random.Random) -> None:
    bundle = bytearray(encode_bundle([item(data).raw for data in datas]))
    for _ in range(rng.randint(1, 3)):
        bundle[rng.randrange(len(bundle))] = rng.randrange(256)
    mutated = bytes(bundle)
    try:
        assert encode_bundle(decode_bundle(mutated, size_max=SIZE_MAX)) == mutated
    except Invalid:
        pass


TWO = encode_bundle([item(b"a").raw, item(b"b").raw])


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"\1" + b"\0" * 30, Reason.MALFORMED),
        (b"\xff" * 32, Reason.OVERSIZE),
        ((BUNDLE_ITEMS_MAX + 1).to_bytes(32, "little"), Reason.OVERSIZE),
        (BUNDLE_ITEMS_MAX.to_bytes(32, "little"), Reason.MALFORMED),
        (TWO[:-1], Reason.MALFORMED),
        (TWO + b"x", Reason.MALFORMED),
        (TWO[:32] + b"\xff" * 32 + TWO[64:], Reason.MALFORMED),
        (TWO[:64] + b"\0" * 32 + TWO[96:], Reason.MALFORMED),
    ],
    ids=lambda v: str(len(v)) if isinstance(v, bytes) else str(v),
)
def test_malformed_bundles_are_refused(bundle: bytes, reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        decode_bundle(bundle, size_max=SIZE_MAX)
    assert refusal.value.reason is reason


def test_bounds_are_the_callers() -> None:
    with pytest.raises(Invalid):
        decode_bundle(TWO, size_max=len(TWO) - 1)
    with pytest.raises(Invalid):
        decode_bundle(TWO, size_max=SIZE_MAX, items_max=1)


def test_a_plain_item_carries_itself() -> None:
    plain = item(b"x", Tag("Bundle-Format", "json"))
    assert not is_bundle(plain)
    assert unbundle(plain, item_size_max=SIZE_MAX) == [plain]


def test_a_carrier_gives_its_items_and_bounds_each() -> None:
    carrier = item(TWO, *BUNDLE_TAGS)
    assert [inner.data for inner in unbundle(carrier, item_size_max=SIZE_MAX)] == [b"a", b"b"]
    with pytest.raises(Invalid) as refusal:
        unbundle(carrier, item_size_max=100)
    assert refusal.value.reason is Reason.OVERSIZE


def test_a_bundle_inside_a_bundle_is_refused() -> None:
    inner = item(TWO, *BUNDLE_TAGS)
    outer = item(encode_bundle([inner.raw]), *BUNDLE_TAGS)
    with pytest.raises(Invalid) as refusal:
        unbundle(outer, item_size_max=SIZE_MAX)
    assert refusal.value.reason is Reason.OVERSIZE

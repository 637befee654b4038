from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import codec
from protocols.errors import Invalid, Reason
from protocols.limits import BATCH_ENTRIES_MAX
from protocols.wire import batch
from protocols.wire.batch import InlineItem, RemoteItem, SlotRef

RAW = st.binary(min_size=80, max_size=300)
ID = bytes(range(32))


@given(st.lists(RAW, min_size=1, max_size=40), st.integers(0, 320))
def test_items_come_back_in_order(raws: list[bytes], inline_bytes_max: int) -> None:
    entries = [batch.item_entry(raw, ID, inline_bytes_max) for raw in raws]
    expected = [
        InlineItem(raw) if len(raw) <= inline_bytes_max else RemoteItem(ID, len(raw))  # type: ignore[arg-type]
        for raw in raws
    ]
    assert batch.unpack_messages(batch.pack(entries)) == expected


@given(st.lists(st.tuples(RAW, RAW), min_size=1, max_size=40))
def test_slots_come_back_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    entries = [batch.slot_entry(head, batch.item_entry(raw, ID, 1000)) for head, raw in pairs]
    payload = batch.pack(entries)
    assert batch.unpack_slots(payload) == [SlotRef(head, InlineItem(raw)) for head, raw in pairs]
    assert payload == codec.encode([1, [[head, [0, raw]] for head, raw in pairs]])


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, BATCH_ENTRIES_MAX])
def test_every_count_is_canonical(count: int) -> None:
    entry = batch.item_entry(bytes(100), ID, 0)
    payload = batch.pack([entry] * count)
    assert len(batch.unpack_messages(payload)) == count
    assert len(payload) <= count * len(entry) + batch.BATCH_OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1, []], Reason.OVERSIZE),
        ([2, [[0, bytes(80)]]], Reason.UNSUPPORTED),
        ([True, [[0, bytes(80)]]], Reason.UNSUPPORTED),
        ([1], Reason.MALFORMED),
        ([1, [[0, bytes(79)]]], Reason.MALFORMED),
        ([1, [[False, bytes(80)]]], Reason.MALFORMED),
        ([1, [[0, bytes(80), 0]]], Reason.MALFORMED),
        ([1, [[1, bytes(31), 100]]], Reason.MALFORMED),
        ([1, [[1, ID, 79]]], Reason.OVERSIZE),
        ([1, [[1, ID, 1 << 40]]], Reason.OVERSIZE),
        ([1, [[2, ID, 100]]], Reason.MALFORMED),
        ([1, ["x"]], Reason.MALFORMED),
    ],
)
def test_other_message_batches_are_refused(value: codec.Value, reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        batch.unpack_messages(codec.encode(value))
    assert refusal.value.reason is reason


def test_a_payload_above_its_bound_is_refused_unread() -> None:
    payload = batch.pack([batch.item_entry(bytes(256 << 10), ID, 1 << 20)])
    with pytest.raises(Invalid) as refusal:
        batch.unpack_messages(payload)
    assert refusal.value.reason is Reason.OVERSIZE


def test_too_many_entries_are_refused() -> None:
    entry: codec.Value = [1, ID, 100]
    payload = codec.encode([1, [entry] * (BATCH_ENTRIES_MAX + 1)])
    with pytest.raises(Invalid) as refusal:
        batch.unpack_messages(payload)
    assert refusal.value.reason is Reason.OVERSIZE


@pytest.mark.parametrize("size", [79, batch.ASSIGNMENT_BYTES_MAX + 1])
def test_assignments_have_a_size(size: int) -> None:
    payload = codec.encode([1, [[bytes(size), [0, bytes(80)]]]])
    with pytest.raises(Invalid) as refusal:
        batch.unpack_slots(payload)
    assert refusal.value.reason is Reason.OVERSIZE


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(blob: bytes) -> None:
    for unpack in (batch.unpack_messages, batch.unpack_slots):
        with pytest.raises(Invalid):
            unpack(blob)

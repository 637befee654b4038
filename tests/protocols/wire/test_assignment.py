from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from aonode.crypto.signers import SolanaSigner, sign_item
from protocols import codec, domains
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.wire.assignment import (
    Assignment,
    Chain,
    Slot,
    assignment_of,
    decimal,
    scheduler_of,
    slot_of,
)
from protocols.wire.item import Item, Tag, decode_item
from tests.protocols.wire.sample import (
    SCHEDULER,
    START_MS,
    extend,
    message_item,
    process_item,
    sample_log,
)


def assignment_item(*, change: dict[str, str] | None = None, **fields: object) -> Item:
    """A valid assignment of nonce 1 with some tag values replaced (by index of equal name)."""
    slots, _ = sample_log(1)
    kept = [
        Tag(tag.name, (change or {}).get(tag.name, tag.value))
        for tag in slots[1].assignment.item.tags
    ]
    given = {"tags": tuple(kept), "anchor": bytes(32), **fields}
    return sign_item(SCHEDULER, **given)  # type: ignore[arg-type]


def test_tags_are_those_of_ao_in_order() -> None:
    slots, _ = sample_log(1)
    first, second = (slot.assignment.item for slot in slots)
    process = b64url(slots[0].process)
    assert [tuple(tag) for tag in second.tags] == [
        ("Process", process),
        ("Epoch", "0"),
        ("Nonce", "1"),
        ("Hash-Chain", b64url(slots[1].assignment.hash_chain)),
        ("Block-Height", "000000000000"),
        ("Timestamp", str(START_MS + 1000)),
        ("Data-Protocol", "ao"),
        ("Type", "Assignment"),
        ("Variant", "ao.TN.1"),
        ("Message", b64url(slots[1].message.id)),
    ]
    assert first.first("Message") is None
    assert slots[0].assignment.assigned == ItemId(slots[0].process)
    assert scheduler_of(slots[0].assignment) == SCHEDULER.address


def test_reading_gives_what_was_written() -> None:
    slots, chains = sample_log(0)
    message = message_item(slots[0].process)
    slot = extend(chains[0], message, START_MS + 5, exclude=("Data", "Tags"))
    again = assignment_of(decode_item(slot.assignment.item.raw, size_max=8192))
    assert again == slot.assignment
    assert (again.nonce, again.epoch, again.timestamp) == (1, 0, START_MS + 5)
    assert (again.message, again.exclude) == (message.id, ("Data", "Tags"))


def test_signing_a_slot_again_gives_the_same_bytes() -> None:
    slots, chains = sample_log(1)
    again = extend(chains[0], slots[1].message, START_MS + 1000)
    assert again.assignment.item.raw == slots[1].assignment.item.raw
    other_head = replace(chains[0], head=bytes(32))
    assert (
        extend(other_head, slots[1].message, START_MS + 1000).assignment.id != again.assignment.id
    )


def test_hash_chain_is_the_one_of_ao() -> None:
    slots, chains = sample_log(2)
    expected = hashlib.sha256(slots[0].process).digest()
    assert slots[0].assignment.hash_chain == expected
    for before, slot in itertools.pairwise(slots):
        expected = hashlib.sha256(before.assignment.id + expected).digest()
        assert slot.assignment.hash_chain == expected
    assert chains[-1].hash_chain == expected


def test_head_covers_every_assignment() -> None:
    slots, chains = sample_log(2)
    head = codec.digest(domains.HEAD_GENESIS, slots[0].process)
    assert Chain.genesis(slots[0].process).head == head
    for slot, chain in zip(slots, chains, strict=True):
        head = codec.digest(domains.HEAD, head, slot.assignment.id)
        assert chain.head == head
        assert (chain.nonce, chain.assignment_id) == (slot.nonce, slot.assignment.id)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Process": "short"}, Reason.MALFORMED),
        ({"Epoch": "-1"}, Reason.MALFORMED),
        ({"Nonce": "01"}, Reason.MALFORMED),
        ({"Nonce": "0"}, Reason.MALFORMED),
        ({"Nonce": "١"}, Reason.MALFORMED),
        ({"Nonce": str(1 << 63)}, Reason.OVERSIZE),
        ({"Hash-Chain": "x" * 43}, Reason.MALFORMED),
        ({"Block-Height": "12"}, Reason.MALFORMED),
        ({"Timestamp": "1e3"}, Reason.MALFORMED),
        ({"Timestamp": ""}, Reason.MALFORMED),
        ({"Data-Protocol": "zone"}, Reason.MALFORMED),
        ({"Type": "Message"}, Reason.MALFORMED),
        ({"Variant": "ao.N.1"}, Reason.MALFORMED),
        ({"Message": "nobody"}, Reason.MALFORMED),
    ],
)
def test_wrong_values_are_refused(change: dict[str, str], reason: Reason) -> None:
    with pytest.raises(Invalid) as refusal:
        assignment_of(assignment_item(change=change))
    assert refusal.value.reason is reason


def test_other_tags_and_fields_are_refused() -> None:
    good = assignment_item()
    assert assignment_of(good).nonce == 1
    wrong = [
        assignment_item(target=bytes(32)),
        assignment_item(data=b"x"),
        assignment_item(tags=good.tags[:-1]),
        assignment_item(tags=good.tags[:5]),
        assignment_item(tags=(good.tags[1], good.tags[0], *good.tags[2:])),
        assignment_item(tags=(*good.tags, good.tags[-1])),
        assignment_item(tags=(*good.tags, Tag("Exclude", ""))),
        assignment_item(tags=(*good.tags, *[Tag("Exclude", "Data")] * 17)),
        assignment_item(tags=(*good.tags, Tag("Extra", "x"))),
    ]
    for item in wrong:
        with pytest.raises(Invalid):
            assignment_of(item)


def test_only_node_keys_sign_assignments() -> None:
    good = assignment_item()
    item = sign_item(SolanaSigner(bytes(32)), tags=good.tags)
    with pytest.raises(Invalid) as refusal:
        assignment_of(item)
    assert refusal.value.reason is Reason.UNSUPPORTED


def test_a_slot_carries_what_it_assigns() -> None:
    slots, _ = sample_log(2)
    with pytest.raises(Invalid) as refusal:
        slot_of(slots[1].assignment, slots[2].message)
    assert refusal.value.reason is Reason.MISMATCH
    with pytest.raises(Invalid):
        slot_of(slots[0].assignment, slots[1].message)


def moved(slot: Slot, **fields: object) -> Slot:
    assignment: Assignment = replace(slot.assignment, **fields)  # type: ignore[arg-type]
    return Slot(assignment, slot.message)


def test_only_the_next_slot_follows() -> None:
    slots, chains = sample_log(3)
    after_first = chains[1]
    assert after_first.next(slots[2]) == chains[2]
    wrong = [
        slots[0],
        slots[1],
        slots[3],
        moved(slots[2], process=ProcessId(bytes(32))),
        moved(slots[2], epoch=1),
        moved(slots[2], timestamp=after_first.timestamp - 1),
        moved(slots[2], hash_chain=bytes(32)),
    ]
    for slot in wrong:
        with pytest.raises(Invalid) as refusal:
            after_first.next(slot)
        assert refusal.value.reason is Reason.NOT_NEXT
    with pytest.raises(Invalid) as refusal:
        after_first.next(moved(slots[2], message=ItemId(bytes(32))))
    assert refusal.value.reason is Reason.MISMATCH


def test_time_never_runs_back() -> None:
    process = process_item()
    chain = Chain.genesis(ProcessId(process.id))
    first = extend(chain, process, START_MS)
    chain = chain.next(first)
    second = extend(chain, message_item(process.id), START_MS - 60_000)
    assert second.assignment.timestamp == START_MS
    assert chain.next(second).timestamp == START_MS


@pytest.mark.parametrize(
    "row",
    [
        [],
        [bytes(32), 0, bytes(32), b"", b"", 0],
        [bytes(32), -1, bytes(32), bytes(32), bytes(32), 0],
        [bytes(32), -2, bytes(32), b"", b"", 0],
        [bytes(32), True, bytes(32), bytes(32), bytes(32), 0],
        [bytes(31), -1, bytes(32), b"", b"", 0],
        [bytes(32), 0, bytes(32), bytes(32), bytes(32), -1],
        [bytes(32), -1, bytes(32), b"", b"", 0, 0],
    ],
)
def test_other_chain_rows_are_refused(row: list[codec.Value]) -> None:
    with pytest.raises(Invalid):
        Chain.decode(codec.encode(row))


@pytest.mark.parametrize("text", ["0", "7", "10", str((1 << 63) - 1)])
def test_decimals(text: str) -> None:
    assert decimal(text, "number") == int(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "00", "1_0", "²", "9" * 20])
def test_what_is_no_decimal(text: str) -> None:
    with pytest.raises(Invalid):
        decimal(text, "number")

"""Items without their data: same id, same signature, nothing else to choose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aonode.crypto.verify import verify_item
from protocols.errors import Invalid
from protocols.wire.item import decode_item, signing_message
from protocols.wire.item_head import ItemHead
from tests.protocols.machine.world import Key, item
from tests.vectors import load

USER = Key.of("user")


@given(data=st.binary(max_size=300), tags=st.lists(st.tuples(st.text(max_size=9), st.text())))
def test_a_head_is_the_item_without_its_data(data: bytes, tags: list[tuple[str, str]]) -> None:
    whole = item(USER, [(name or "n", value or "v") for name, value in tags[:4]], data=data)
    head = ItemHead.of(whole)
    cut = head.item()
    verify_item(cut)
    assert (cut.id, cut.tags, cut.owner, cut.size) == (
        whole.id,
        whole.tags,
        whole.owner,
        whole.size,
    )
    assert signing_message(cut) == signing_message(whole)
    assert ItemHead.of(cut) == head
    assert (cut == whole) == (cut.raw == whole.raw and cut.cut == whole.cut)
    for wrong in (
        replace(head, size=head.size + 1),
        replace(head, hash=bytes(48)),
        replace(head, head=head.head[:-1] + bytes([head.head[-1] ^ 1])) if tags else None,
    ):
        if wrong is not None:
            with pytest.raises(Invalid):
                verify_item(wrong.item())
    with pytest.raises(Invalid):
        replace(head, head=head.head + b"x").item()


def test_heads_of_all_signature_types_verify() -> None:
    kinds = set()
    for row in load("ans104")["items"]:
        whole = decode_item(bytes.fromhex(row["raw"]), size_max=1 << 20)
        verify_item(ItemHead.of(whole).item())
        kinds.add(whole.signature_type)
    assert kinds == {1, 2, 3, 4}


def test_two_heads_that_differ_in_their_data_are_not_equal() -> None:
    one = ItemHead.of(item(USER, [], data=b"one", anchor=1))
    other = replace(one, hash=bytes(48))
    assert one.item() != other.item()
    assert one.item() == one.item()

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols import keyspace
from protocols.keyspace import Prefix

IDS = st.binary(min_size=32, max_size=32)
NONCES = st.integers(0, keyspace.NONCE_MAX)
A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))


@given(IDS, st.lists(NONCES, min_size=2, max_size=8))
def test_key_order_is_slot_order(process: bytes, nonces: list[int]) -> None:
    keys = [keyspace.slot_key(process, nonce) for nonce in nonces]
    assert [keyspace.nonce_of(key) for key in sorted(keys)] == sorted(nonces)
    assert all(keyspace.id_of(key) == process for key in keys)


@given(IDS, IDS, NONCES)
def test_a_process_range_holds_its_rows_and_no_others(a: bytes, b: bytes, nonce: int) -> None:
    start, stop = keyspace.process_range(Prefix.SLOT, a)
    assert start <= keyspace.slot_key(a, nonce) < stop
    assert (start <= keyspace.slot_key(b, nonce) < stop) == (a == b)


def test_an_id_of_all_ones_has_a_range() -> None:
    id = b"\xff" * 32
    start, stop = keyspace.process_range(Prefix.BY_ID, id)
    assert start <= keyspace.by_id_key(id, id) < stop <= bytes((Prefix.BY_ID + 1,))


@given(IDS, NONCES, NONCES, NONCES)
def test_a_nonce_range_is_inclusive(process: bytes, first: int, last: int, nonce: int) -> None:
    start, stop = keyspace.nonce_range(Prefix.SLOT, process, first, last)
    inside = start <= keyspace.slot_key(process, nonce) < stop
    assert inside == (first <= nonce <= last)


def test_no_two_rows_share_a_key() -> None:
    keys = [
        keyspace.meta_key("schema"),
        keyspace.counter_key("schema"),
        keyspace.item_key(A),
        keyspace.module_key(A),
        keyspace.delivery_key(A),
        keyspace.outbox_key(A, 1, 2),
        keyspace.pushed_key(A),
        keyspace.assignment_key(A, 1),
        keyspace.assigned_key(A, B),
        keyspace.push_row_key(A, B, 1, 2, None),
        keyspace.push_row_key(A, B, 1, 2, C),
        keyspace.push_row_key(A, B, 2, 1, None),
        keyspace.receipt_key(A, 1, B, C),
        keyspace.proof_key(A, 1, B, C),
        keyspace.slot_key(A, 1),
        keyspace.head_key(A),
        keyspace.by_id_key(A, B),
        keyspace.result_key(A, 1),
        keyspace.post_key(A),
        keyspace.challenge_key(A),
        keyspace.vote_key(1),
        keyspace.ledger_key(1),
        keyspace.fact_key(A),
        keyspace.heard_key(A, 1, B),
        keyspace.leaf_key(A, 1),
        keyspace.mmr_key(A, 1),
        keyspace.snapshot_key(A, 1),
        keyspace.unit_key(A),
        keyspace.peer_key(A),
        keyspace.evidence_key(A, 1, B),
    ]
    assert len(set(keys)) == len(keys)
    start, stop = keyspace.prefix_range(Prefix.PUSH)
    assert [start <= key < stop for key in keys].count(True) == 3
    assert {key[0] for key in keys} == set(Prefix)

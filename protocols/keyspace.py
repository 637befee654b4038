"""Every key of every table, in one place.

A key is one prefix byte and fixed-width fields; integers are big-endian, so that key order is
slot order and a range scan is a page of the log. Tables are `protocols.machine.effects.Table`;
no prefix is used twice, in any of them.

    ITEMS        item module delivery outbox pushed-up-to post challenge
    SIGN_ONCE    assignment assigned push receipt proof counter vote
    LOG          slot head by-id result leaf mmr snapshot unit peer evidence ledger fact heard
    all three    meta
"""

from __future__ import annotations

import enum

from protocols.ids import ID_BYTES

NONCE_MAX = (1 << 63) - 1


class Prefix(enum.IntEnum):
    """First byte of a key. The table it belongs to is named in its comment."""

    META = 0x00  # every table: schema version, cleanliness
    ITEM = 0x10  # ITEMS: raw data item by id
    MODULE = 0x11  # ITEMS: raw module item by id (larger bound, listed apart)
    DELIVERY = 0x12  # ITEMS: a messenger's delivery row by item id
    OUTBOX = 0x13  # ITEMS: an outbox entry's row by (process, slot, index)
    PUSHED = 0x14  # ITEMS: by process, the slot up to which outboxes are opened
    POST = 0x15  # ITEMS: own ledger transaction that has no slot yet, by item id
    CHALLENGE = 0x16  # ITEMS: what a watcher holds against a statement, by statement id
    ASSIGNMENT = 0x20  # SIGN_ONCE: raw assignment by (process, nonce)
    ASSIGNED = 0x21  # SIGN_ONCE: nonce by (item id, process)
    PUSH = 0x22  # SIGN_ONCE: nonce by outbox entry
    RECEIPT = 0x23  # SIGN_ONCE: receipt by (process, nonce, head, profile)
    PROOF = 0x24  # SIGN_ONCE: state proof by (process, nonce, head, profile)
    COUNTER = 0x25  # SIGN_ONCE: a sequence number by name
    VOTE = 0x26  # SIGN_ONCE: vote for a checkpoint by tick
    SLOT = 0x30  # LOG: slot row by (process, nonce)
    HEAD = 0x31  # LOG: Chain by process
    BY_ID = 0x32  # LOG: nonce by (message or assignment id, process)
    RESULT = 0x33  # LOG: result row by (process, nonce)
    LEAF = 0x34  # LOG: leaf hash by (process, nonce)
    MMR = 0x35  # LOG: MMR by (process, nonce of its last leaf)
    SNAPSHOT = 0x36  # LOG: snapshot name by (process, nonce)
    UNIT = 0x37  # LOG: last announcement by node key
    PEER = 0x38  # LOG: peer book row by node key
    EVIDENCE = 0x39  # LOG: second assignment of a slot by (process, nonce, assignment id)
    LEDGER = 0x3A  # LOG: state of the ledger after a final checkpoint, by its slot
    FACT = 0x3B  # LOG: leaf hashes of a segment that this node has run for the ledger, by fact
    HEARD = 0x3C  # LOG: state proof of a unit by (process, last slot, unit)


def _id(value: bytes) -> bytes:
    assert len(value) == ID_BYTES, f"{len(value)} bytes are not an id"
    return bytes(value)


def nonce_bytes(nonce: int) -> bytes:
    """A nonce as it stands in keys and as a row value: 8 bytes, big-endian."""
    return nonce.to_bytes(8, "big")


def nonce_of(raw: bytes) -> int:
    """Inverse of `nonce_bytes`, also of the last 8 bytes of a (process, nonce) key."""
    return int.from_bytes(raw[-8:], "big")


def _one(prefix: Prefix, value: bytes) -> bytes:
    return bytes((prefix,)) + _id(value)


def _numbered(prefix: Prefix, process: bytes, nonce: int) -> bytes:
    return bytes((prefix,)) + _id(process) + nonce_bytes(nonce)


def _successor(key: bytes) -> bytes:
    """The least key above every key that starts with `key` (which never is all 0xff)."""
    head = key.rstrip(b"\xff")
    return head[:-1] + bytes((head[-1] + 1,))


def prefix_range(prefix: Prefix) -> tuple[bytes, bytes]:
    """(start, stop) of all rows of one kind."""
    return bytes((prefix,)), bytes((prefix + 1,))


def process_range(prefix: Prefix, process: bytes) -> tuple[bytes, bytes]:
    """(start, stop) of all rows of one kind that belong to `process` (or to an id)."""
    start = _one(prefix, process)
    return start, _successor(start)


def nonce_range(prefix: Prefix, process: bytes, first: int, last: int) -> tuple[bytes, bytes]:
    """(start, stop) of the rows with first <= nonce <= last."""
    return _numbered(prefix, process, first), _numbered(prefix, process, last + 1)


def id_of(key: bytes) -> bytes:
    """The id right after the prefix: of the process, item or node the row belongs to."""
    return key[1 : 1 + ID_BYTES]


def meta_key(name: str) -> bytes:
    return bytes((Prefix.META,)) + name.encode("ascii")


def counter_key(name: str) -> bytes:
    return bytes((Prefix.COUNTER,)) + name.encode("ascii")


# ITEMS


def item_key(id: bytes) -> bytes:
    return _one(Prefix.ITEM, id)


def module_key(id: bytes) -> bytes:
    return _one(Prefix.MODULE, id)


def delivery_key(id: bytes) -> bytes:
    return _one(Prefix.DELIVERY, id)


def outbox_key(process: bytes, slot: int, index: int) -> bytes:
    return _numbered(Prefix.OUTBOX, process, slot) + index.to_bytes(4, "big")


def outbox_of(key: bytes) -> tuple[bytes, int, int]:
    """Inverse of `outbox_key`."""
    return id_of(key), nonce_of(key[:-4]), int.from_bytes(key[-4:], "big")


def pushed_key(process: bytes) -> bytes:
    return _one(Prefix.PUSHED, process)


def post_key(id: bytes) -> bytes:
    return _one(Prefix.POST, id)


def challenge_key(statement: bytes) -> bytes:
    return _one(Prefix.CHALLENGE, statement)


# SIGN_ONCE


def assignment_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.ASSIGNMENT, process, nonce)


def assigned_key(id: bytes, process: bytes) -> bytes:
    """One item may stand in several logs (assign-by-id), once in each."""
    return _one(Prefix.ASSIGNED, id) + _id(process)


def push_row_key(
    target: bytes, from_process: bytes, slot: int, index: int, owner: bytes | None
) -> bytes:
    """Row of `protocols.wire.process.PushKey`; `owner` is an address, or None for authorities."""
    place = nonce_bytes(slot) + index.to_bytes(4, "big")
    tail = b"" if owner is None else _id(owner)
    return bytes((Prefix.PUSH,)) + _id(target) + _id(from_process) + place + tail


def receipt_key(process: bytes, nonce: int, head: bytes, profile: bytes) -> bytes:
    return _numbered(Prefix.RECEIPT, process, nonce) + _id(head) + _id(profile)


def proof_key(process: bytes, nonce: int, head: bytes, profile: bytes) -> bytes:
    return _numbered(Prefix.PROOF, process, nonce) + _id(head) + _id(profile)


def vote_key(tick: int) -> bytes:
    return bytes((Prefix.VOTE,)) + nonce_bytes(tick)


# LOG


def slot_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.SLOT, process, nonce)


def head_key(process: bytes) -> bytes:
    return _one(Prefix.HEAD, process)


def by_id_key(id: bytes, process: bytes) -> bytes:
    """Value: `nonce_bytes`. `process_range(Prefix.BY_ID, id)` finds an id in all logs."""
    return _one(Prefix.BY_ID, id) + _id(process)


def result_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.RESULT, process, nonce)


def leaf_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.LEAF, process, nonce)


def mmr_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.MMR, process, nonce)


def snapshot_key(process: bytes, nonce: int) -> bytes:
    return _numbered(Prefix.SNAPSHOT, process, nonce)


def unit_key(key: bytes) -> bytes:
    return _one(Prefix.UNIT, key)


def peer_key(key: bytes) -> bytes:
    return _one(Prefix.PEER, key)


def evidence_key(process: bytes, nonce: int, assignment_id: bytes) -> bytes:
    """A second assignment that a scheduler signed for one nonce; the first is in the log."""
    return _numbered(Prefix.EVIDENCE, process, nonce) + _id(assignment_id)


def ledger_key(slot: int) -> bytes:
    return bytes((Prefix.LEDGER,)) + nonce_bytes(slot)


def fact_key(fact: bytes) -> bytes:
    return _one(Prefix.FACT, fact)


def heard_key(process: bytes, last: int, cu: bytes) -> bytes:
    return _numbered(Prefix.HEARD, process, last) + _id(cu)

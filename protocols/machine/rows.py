"""Values of the rows that machines write, and how adapters read them back.

LOG        slot -> slot entry with its item inline    head -> Chain
           by id -> nonce (8 bytes)                   evidence -> raw assignment
SIGN_ONCE  assignment -> raw assignment               assigned, push -> nonce (8 bytes)
ITEMS      item -> raw item                           delivery -> raw item, or raw assignment
           outbox -> [item id, [process, ...]] of an assignment that a process ordered
"""

from __future__ import annotations

from protocols import keyspace
from protocols.codec import decode
from protocols.errors import Invalid, Reason
from protocols.machine.effects import Persist, Table
from protocols.wire import batch
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, decode_item
from protocols.wire.process import PushKey

_ROW_OVERHEAD_BYTES = 64


def slot_row(slot: Slot) -> bytes:
    """A slot with its item, whatever its size; byte for byte a slot batch's inline entry."""
    raw = slot.message.raw
    return batch.slot_entry(
        slot.assignment.item.raw, batch.item_entry(raw, slot.message.id, len(raw))
    )


def slot_of_row(row: bytes, *, item_bytes_max: int) -> Slot:
    """Inverse of `slot_row`. Raises Invalid for a row no replica wrote."""
    size_max = item_bytes_max + batch.ASSIGNMENT_BYTES_MAX + _ROW_OVERHEAD_BYTES
    match decode(row, size_max=size_max):
        case [bytes(assignment_raw), [0, bytes(item_raw)]]:
            assignment = assignment_of(
                decode_item(assignment_raw, size_max=batch.ASSIGNMENT_BYTES_MAX)
            )
            return slot_of(assignment, decode_item(item_raw, size_max=item_bytes_max))
    raise Invalid(Reason.STORAGE, f"a slot row of {len(row)} bytes does not hold a slot")


def log_rows(slot: Slot, chain: Chain) -> list[Persist]:
    """What a replica writes for one slot, but for the head row."""
    nonce = keyspace.nonce_bytes(slot.nonce)
    process = slot.process
    return [
        Persist(Table.LOG, keyspace.slot_key(process, slot.nonce), slot_row(slot)),
        Persist(Table.LOG, keyspace.by_id_key(slot.message.id, process), nonce),
        Persist(Table.LOG, keyspace.by_id_key(chain.assignment_id, process), nonce),
    ]


def head_row(chain: Chain) -> Persist:
    """Where the replica of one log stands."""
    return Persist(Table.LOG, keyspace.head_key(chain.process), chain.encode())


def sign_once_rows(slot: Slot, push: PushKey | None) -> list[Persist]:
    """What a scheduler writes before anybody sees its assignment; the item comes first."""
    nonce = keyspace.nonce_bytes(slot.nonce)
    process, item = slot.process, slot.message
    rows = [
        Persist(Table.ITEMS, keyspace.item_key(item.id), item.raw),
        Persist(
            Table.SIGN_ONCE,
            keyspace.assignment_key(process, slot.nonce),
            slot.assignment.item.raw,
        ),
        Persist(Table.SIGN_ONCE, keyspace.assigned_key(item.id, process), nonce),
    ]
    if push is not None:
        rows.append(Persist(Table.SIGN_ONCE, push_key_row(push), nonce))
    return rows


def push_key_row(push: PushKey) -> bytes:
    """Key of the sign-once row of an outbox entry."""
    return keyspace.push_row_key(push.target, push.from_process, push.slot, push.index, push.owner)


def delivery_row(item: Item) -> Persist:
    """A messenger's promise: this item will be scheduled and its outbox pushed."""
    return Persist(Table.ITEMS, keyspace.delivery_key(item.id), item.raw)


def delivered_row(id: bytes) -> Persist:
    """The promise is kept: forget it."""
    return Persist(Table.ITEMS, keyspace.delivery_key(id), None)

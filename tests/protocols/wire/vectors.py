"""Golden bytes of the wire types in `protocols/vectors`.

The test compares; only `python -m tests.protocols.wire.vectors --write` writes. A file that
changes means that old and new nodes no longer understand each other.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, NodeKey, b64url
from protocols.wire import batch, proof_streams, streams
from protocols.wire.alarm import ForkAlarm
from protocols.wire.demand import LeavesAnswer
from protocols.wire.unit import UnsignedUnit
from tests.protocols.wire.ledger_vectors import demand_vectors, evidence_vectors, ledger_tx_vectors
from tests.protocols.wire.sample import SCHEDULER, extend, message_item, sample_log

FOLDER = Path(__file__).parents[3] / "protocols" / "vectors"
NETWORK = NetworkId(bytes([9]) * 32)
INLINE_BYTES_MAX = 1024


def assignment_vectors() -> Any:
    """A log of four slots; the last withholds a field of its message."""
    slots, chains = sample_log(2)
    message = message_item(slots[0].process, number=3)
    slots.append(extend(chains[-1], message, 0, exclude=("Data",)))
    chains.append(chains[-1].next(slots[-1]))
    return {
        "slots": [
            {
                "assignment": slot.assignment.item.raw.hex(),
                "assignment_id": b64url(slot.assignment.id),
                "message": slot.message.raw.hex(),
                "message_id": b64url(slot.message.id),
                "nonce": slot.nonce,
                "timestamp": slot.assignment.timestamp,
                "exclude": list(slot.assignment.exclude),
                "hash_chain": b64url(chain.hash_chain),
                "head": chain.head.hex(),
                "chain_row": chain.encode().hex(),
            }
            for slot, chain in zip(slots, chains, strict=True)
        ]
    }


def batch_vectors() -> Any:
    """One inline and one remote item in each kind of batch."""
    slots, _ = sample_log(1)
    process = slots[0].process
    large = message_item(process, data=bytes(2048), number=4)
    items = [
        batch.item_entry(item.raw, item.id, INLINE_BYTES_MAX) for item in (slots[1].message, large)
    ]
    entries = [batch.slot_entry(slot.assignment.item.raw, items[0]) for slot in slots]
    return {
        "inline_bytes_max": INLINE_BYTES_MAX,
        "messages": batch.pack(items).hex(),
        "slots": batch.pack(entries).hex(),
    }


def streams_vectors() -> Any:
    slots, chains = sample_log(1)
    process = slots[0].process
    item = ItemId(slots[1].message.id)
    head = streams.Head(process, chains[-1].nonce, chains[-1].head)
    fates = (
        streams.MessageFate(item, 1, None),
        streams.MessageFate(item, None, "inadmissible: it has no tag Data-Protocol = ao"),
        streams.MessageFate(item, None, None),
    )
    assignment = slots[1].assignment.item.raw
    refusal = Invalid(Reason.UNKNOWN_ITEM, "no item of this id is known here")
    result = streams.ResultEntry(b"receipt", b'{"Output":""}')
    leaves = LeavesAnswer((bytes([1]) * 32, bytes([2]) * 32), bytes([3]) * 64)
    unit = NodeKey(SCHEDULER.key)
    proofs = proof_streams.ProofsAnswer((b"proof", b"another"), (b"vote",))
    return {
        "item_request": streams.ItemRequest(item).encode().hex(),
        "log_request": streams.LogRequest(process, 3, 700, 1 << 20).encode().hex(),
        "log_answer": [frame.hex() for frame in streams.encode_log(slots, 1 << 20)],
        "heads_request": streams.HeadsRequest(Address(SCHEDULER.address), ()).encode().hex(),
        "heads_request_named": streams.HeadsRequest(None, (process,)).encode().hex(),
        "heads": streams.Heads((head,)).encode().hex(),
        "result_request": streams.ResultRequest(process, 1, 1, 10_000, True).encode().hex(),
        "result_answer": [
            frame.hex()
            for frame in streams.encode_results([result, streams.ResultEntry(b"receipt", None)])
        ],
        "message_answer": streams.MessageAnswer(fates).encode().hex(),
        "assign_request": streams.AssignRequest(process, item, ("Data", "Tags")).encode().hex(),
        "assign_answer": streams.AssignAnswer(assignment, None).encode().hex(),
        "assign_answer_refused": streams.AssignAnswer(None, refusal).encode().hex(),
        "leaves_request": proof_streams.LeavesRequest(b"statement").encode().hex(),
        "leaves_answer": [frame.hex() for frame in proof_streams.encode_leaves(leaves)],
        "proofs_request": proof_streams.ProofsRequest(None, None, 0, False).encode().hex(),
        "proofs_request_named": proof_streams.ProofsRequest(process, unit, 64, True).encode().hex(),
        "proofs_answer": [frame.hex() for frame in proofs.encode()],
    }


def unit_vectors() -> Any:
    unsigned = UnsignedUnit(
        key=NodeKey(SCHEDULER.key),
        roles=("messenger", "scheduler"),
        addresses=("/ip4/127.0.0.1/tcp/4001",),
        urls=(("messenger", "http://127.0.0.1:3005"),),
        expiry_ms=1_700_000_060_000,
        sequence=7,
    )
    message = unsigned.message(NETWORK)
    return {
        "network": NETWORK.hex(),
        "signed_bytes": message.hex(),
        "announcement": unsigned.signed(SCHEDULER.sign(message)).encode().hex(),
    }


def alarm_vectors() -> Any:
    slots, _ = sample_log(1)
    one, other = (ItemId(slot.assignment.id) for slot in slots)
    return {"fork": ForkAlarm(NETWORK, slots[0].process, one, other).encode().hex()}


FILES = {
    "alarm.json": alarm_vectors,
    "assignment.json": assignment_vectors,
    "batch.json": batch_vectors,
    "demand.json": demand_vectors,
    "evidence.json": evidence_vectors,
    "ledger_tx.json": ledger_tx_vectors,
    "streams.json": streams_vectors,
    "unit.json": unit_vectors,
}


def text_of(name: str) -> str:
    """What the file should say."""
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.protocols.wire.vectors --write")
    for name in FILES:
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")

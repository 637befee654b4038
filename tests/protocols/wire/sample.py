"""Signed items and a small log, made from fixed seeds: the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence

from aonode.crypto.signers import Ed25519Signer, sign_item
from protocols.ids import ID_BYTES, NodeKey, ProcessId, b64url
from protocols.wire.assignment import Chain, Slot, assignment_of, slot_of
from protocols.wire.item import Item, Tag

SCHEDULER = Ed25519Signer(bytes(range(32)))
MESSENGER = Ed25519Signer(bytes(range(1, 33)))
USER = Ed25519Signer(bytes(range(2, 34)))

MODULE = bytes(range(64, 96))
START_MS = 1_700_000_000_000


def tags(*pairs: tuple[str, str]) -> tuple[Tag, ...]:
    return tuple(Tag(name, value) for name, value in pairs)


def process_item(*extra: tuple[str, str], drop: Sequence[str] = (), data: bytes = b" ") -> Item:
    """A process of `SCHEDULER`; `drop` leaves tags out, `extra` adds some."""
    pairs = [
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", b64url(MODULE)),
        ("Scheduler", b64url(SCHEDULER.address)),
    ]
    kept = [pair for pair in pairs if pair[0] not in drop]
    return sign_item(USER, anchor=bytes([7]) * 32, tags=tags(*kept, *extra), data=data)


def message_item(
    target: bytes,
    *extra: tuple[str, str],
    data: bytes = b"hello",
    number: int = 0,
    signer: Ed25519Signer = USER,
    drop: Sequence[str] = (),
) -> Item:
    """A message to `target`; another `number` gives another id."""
    pairs = [("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message")]
    kept = [pair for pair in pairs if pair[0] not in drop]
    anchor = number.to_bytes(ID_BYTES, "big")
    return sign_item(signer, target=target, anchor=anchor, tags=tags(*kept, *extra), data=data)


def extend(chain: Chain, item: Item, now_ms: int, exclude: tuple[str, ...] = ()) -> Slot:
    """The next slot of `chain`, signed by `SCHEDULER`."""
    message = None if chain.nonce < 0 else item.id
    draft = chain.draft(NodeKey(SCHEDULER.key), now_ms, message, exclude)
    return slot_of(assignment_of(draft.signed(SCHEDULER.sign(draft.message()))), item)


def sample_log(messages: int) -> tuple[list[Slot], list[Chain]]:
    """Slot 0 and `messages` more, one per second, and the chain after each."""
    process = process_item()
    chain = Chain.genesis(ProcessId(process.id))
    slots: list[Slot] = []
    chains: list[Chain] = []
    for number in range(messages + 1):
        item = message_item(process.id, number=number) if number else process
        slots.append(extend(chain, item, START_MS + 1000 * number))
        chain = chain.next(slots[-1])
        chains.append(chain)
    return slots, chains

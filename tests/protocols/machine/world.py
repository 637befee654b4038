"""Keys, items and a disk for tests of machines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from protocols.ids import Address, NodeKey, ProcessId, address_of, b64url
from protocols.machine.effects import Effect, Persist, Table
from protocols.network import Parameters, default_parameters
from protocols.trust import Verified
from protocols.wire.assignment import Chain, Slot, assignment_of
from protocols.wire.item import Item, Tag, Unsigned

PARAMETERS: Parameters = default_parameters()
MODULE = b"m" * 32


@dataclass(frozen=True)
class Key:
    """An Ed25519 key from a short name."""

    public: NodeKey
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str) -> Key:
        public, secret = crypto_sign_seed_keypair(name.encode().ljust(32, b"."))
        return cls(NodeKey(public), secret)

    @property
    def address(self) -> Address:
        return address_of(self.public)

    def sign(self, message: bytes) -> bytes:
        return crypto_sign(message, self.secret)[:64]


_anchors = itertools.count()


def item(
    signer: Key,
    tags: Iterable[tuple[str, str]],
    *,
    target: bytes | None = None,
    data: bytes = b"",
    anchor: int | None = None,
) -> Item:
    """A signed item; its anchor is a counter unless given."""
    number = next(_anchors) if anchor is None else anchor
    unsigned = Unsigned(
        2,
        signer.public,
        target,
        number.to_bytes(32, "big"),
        tuple(Tag(name, value) for name, value in tags),
        data,
    )
    return unsigned.signed(signer.sign(unsigned.message()))


def process_item(
    owner: Key, scheduler: Key, *more: tuple[str, str], anchor: int | None = None
) -> Item:
    """A process scheduled by `scheduler`."""
    tags = [
        ("Data-Protocol", "ao"),
        ("Variant", "ao.TN.1"),
        ("Type", "Process"),
        ("Module", b64url(MODULE)),
        ("Scheduler", b64url(scheduler.address)),
        *more,
    ]
    return item(owner, tags, anchor=anchor)


def message_item(
    owner: Key,
    process: bytes,
    *more: tuple[str, str],
    data: bytes = b"hello",
    anchor: int | None = None,
) -> Item:
    """A message to `process`."""
    tags = [("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message"), *more]
    return item(owner, tags, target=process, data=data, anchor=anchor)


def log(scheduler: Key, items: Sequence[Item], *, now: int = 1_000) -> list[Slot]:
    """The slots a scheduler gives to a process and its messages."""
    chain = Chain.genesis(ProcessId(items[0].id))
    slots = []
    for each in items:
        slot = next_slot(scheduler, chain, each, now)
        chain = chain.next(slot)
        slots.append(slot)
    return slots


def next_slot(scheduler: Key, chain: Chain, message: Item, now: int) -> Slot:
    """The slot after `chain`."""
    draft = chain.draft(scheduler.public, now, None if chain.nonce < 0 else message.id)
    return Slot(assignment_of(draft.signed(scheduler.sign(draft.message()))), message)


def verified(slots: Iterable[Slot]) -> tuple[Verified[Slot], ...]:
    return tuple(Verified(slot) for slot in slots)


def chain_of(slots: Sequence[Slot]) -> Chain:
    chain = Chain.genesis(slots[0].process)
    for slot in slots:
        chain = chain.next(slot)
    return chain


class Disk:
    """Rows by table; what `Persist` effects leave behind."""

    def __init__(self) -> None:
        self.tables: dict[Table, dict[bytes, bytes]] = {table: {} for table in Table}

    def write(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                if effect.value is None:
                    self.tables[effect.table].pop(effect.key, None)
                else:
                    self.tables[effect.table][effect.key] = effect.value

    def scan(self, table: Table, start: bytes, stop: bytes) -> list[tuple[bytes, bytes]]:
        rows = self.tables[table]
        return [(key, rows[key]) for key in sorted(rows) if start <= key < stop]

"""The state of the ledger after a slot: entries in a Merkle map. Immutable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from protocols.codec import decode, encode
from protocols.errors import Invalid, Reason
from protocols.ids import Address
from protocols.ledger.entries import (
    KINDS,
    TOTALS,
    Account,
    Bond,
    Commit,
    Demanded,
    Entry,
    Held,
    Pool,
    Totals,
    Unbonding,
    key_of,
)
from protocols.ledger.trie import KEY_BYTES_MAX, VALUE_BYTES_MAX, EntryProof, Trie, lookup
from protocols.network import Network
from protocols.wire import shape

E = TypeVar("E", bound=Entry)


HELD: dict[type[Entry], Callable[[Any], int]] = {
    Account: lambda entry: entry.balance,
    Bond: lambda entry: entry.amount,
    Unbonding: lambda entry: entry.amount,
    Commit: lambda entry: entry.bond,
    Demanded: lambda entry: entry.bond,
    Pool: lambda entry: entry.amount,
    Held: lambda entry: entry.amount,
}
"""The kinds that hold coins, and how many."""

SNAPSHOT_BYTES_MAX = 1 << 30
SNAPSHOT_ITEMS_MAX = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """All entries. Two states are equal iff their roots are."""

    trie: Trie

    def root(self) -> bytes:
        """What a checkpoint is signed over."""
        return self.trie.root()

    def get(self, kind: type[E], *parts: bytes | int) -> E | None:
        """The entry of this kind with this key."""
        value = self.trie.get(key_of(kind, *parts))
        return None if value is None else read_entry(kind, value)

    def all(self, kind: type[E], *parts: bytes | int) -> Iterator[tuple[bytes, E]]:
        """Entries of one kind whose keys begin like this: (rest of the key after its kind,
        entry), ascending."""
        for key, value in self.trie.items(key_of(kind, *parts)):
            yield key[1:], read_entry(kind, value)

    def totals(self) -> Totals:
        """The entry about the whole."""
        return read_entry(Totals, self.trie.get(TOTALS) or b"")

    def prove(self, kind: type[Entry], *parts: bytes | int) -> EntryProof:
        """Proof of an entry, or of its absence, for `check_entry`."""
        return self.trie.prove(key_of(kind, *parts))

    def held(self) -> int:
        """Coins in all entries: always genesis + minted - burnt."""
        return sum(count(entry) for kind, count in HELD.items() for _, entry in self.all(kind))

    def encode(self) -> bytes:
        """Canonical CBOR of `[[key, value], ...]`, keys ascending."""
        return encode([list(pair) for pair in self.trie.items()])

    @classmethod
    def decode(cls, blob: bytes) -> State:
        """Inverse of `encode`. Raises Invalid. What it is worth, its root says."""
        pairs = decode(blob, size_max=SNAPSHOT_BYTES_MAX, items_max=SNAPSHOT_ITEMS_MAX)
        trie, last = Trie(), b""
        for pair in shape.array(pairs, "ledger state", most=SNAPSHOT_ITEMS_MAX):
            key, value = shape.record(pair, "ledger entry", 2)
            key = shape.octets(key, "entry key", least=1, most=KEY_BYTES_MAX)
            value = shape.octets(value, "entry value", most=VALUE_BYTES_MAX)
            kind = KINDS.get(key[0])
            if key <= last or kind is None or len(key) != kind.KEY_BYTES:
                raise Invalid(Reason.MALFORMED, f"ledger entry {key.hex()} is out of place")
            read_entry(kind, value)
            trie, last = trie.put(key, value), key
        return cls(trie)


def read_entry(kind: type[E], value: bytes) -> E:
    """An entry from its bytes. Raises Invalid."""
    return kind.decode(value, size_max=VALUE_BYTES_MAX)


def check_entry(root: bytes, proof: EntryProof, kind: type[E], *parts: bytes | int) -> E | None:
    """What a state with this root has there, as a light client checks it; None for no entry.

    Raises Invalid if the proof does not show it.
    """
    value = lookup(root, key_of(kind, *parts), proof)
    return None if value is None else read_entry(kind, value)


def genesis(network: Network) -> State:
    """The state before ledger slot 0."""
    held = sum(amount for _, amount in network.balances + network.stakes)
    bonded = sum(amount for _, amount in network.stakes)
    totals = Totals(
        slot=-1,
        tick=0,
        final=-1,
        genesis=held,
        minted=0,
        burnt=0,
        left=network.parameters.supply_cap - held,
        bonded=bonded,
    )
    trie = Trie().put(TOTALS, totals.encode())
    entries: list[tuple[Address, Entry]] = [
        (address, Account(amount, -1)) for address, amount in network.balances if amount
    ]
    entries += [(address, Bond(amount, 0, False)) for address, amount in network.stakes if amount]
    for address, entry in entries:
        trie = trie.put(key_of(type(entry), address), entry.encode())
    return State(trie)

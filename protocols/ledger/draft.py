"""What one transaction may read and change, and what every kind of transaction needs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from protocols.court import Anchor, Court, Segment
from protocols.errors import Invalid, Reason
from protocols.ids import Address, ItemId, NetworkId, NodeKey, ProcessId, address_of
from protocols.ledger.entries import (
    TOTALS,
    Account,
    AnchorEntry,
    Bond,
    Due,
    Entry,
    Session,
    Unbonding,
    key_of,
)
from protocols.ledger.state import State
from protocols.network import Network
from protocols.parameters import Parameters
from protocols.wire.item import Item

E = TypeVar("E", bound=Entry)


class NoteKind(enum.StrEnum):
    """What a note tells. Closed: it is a metric label."""

    REFUSED = "refused"
    """The transaction changed nothing."""
    DONE = "done"
    FINAL = "final"
    """A checkpoint is final."""
    VERDICT = "verdict"
    FROZEN = "frozen"
    BURNT = "burnt"
    UNHOSTED = "unhosted"
    """A scheduler may keep a log no longer."""
    EXPIRED = "expired"
    """Evidence was not revealed in time: its bond is burnt."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something the fold did, for people and metrics. No result depends on it."""

    kind: NoteKind
    detail: str
    subject: bytes = b""
    """Account, anchor or item it is about."""


class Facts(Protocol):
    """What the fold takes from outside. All of it is a function of the ledger's log, so every
    node gives the same; what a node cannot give yet it raises for, out of the fold."""

    def signed(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is Ed25519 of `key` over `message`."""
        ...

    def item_signed(self, item: Item) -> bool:
        """Whether an item's owner signed it."""
        ...

    def part(self, id: ItemId) -> bytes:
        """Data of the Evidence-Part transaction with this id, which is in the log."""
        ...

    def run(self, segment: Segment) -> tuple[bytes, ...] | None:
        """Leaf hashes of a segment that the state knows no fact of: `protocols.court.RunSegment`.
        Raises for a segment that this node has not run yet."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the network file says to the ledger."""

    network: NetworkId
    parameters: Parameters
    profile: bytes
    modules: tuple[ItemId, ...]
    ledger: ProcessId | None = None
    """Only what is addressed to it is carried out; None: whatever stands in its log."""

    @classmethod
    def of(cls, network: Network) -> Rules:
        """The rules of a network."""
        modules = network.slashable_modules
        return cls(network.id, network.parameters, network.profile, modules, network.ledger)


class Draft:
    """A state that is being changed by one ledger slot."""

    def __init__(self, state: State, rules: Rules, facts: Facts) -> None:
        self.state = state
        self.rules = rules
        self.facts = facts
        self.notes: list[Note] = []
        self.totals = state.totals()

    # Entries

    def get(self, kind: type[E], *parts: bytes | int) -> E | None:
        """As `State.get`."""
        return self.state.get(kind, *parts)

    def all(self, kind: type[E], *parts: bytes | int) -> Iterator[tuple[bytes, E]]:
        """As `State.all`, of the state as it is now."""
        return self.state.all(kind, *parts)

    def put(self, entry: Entry, *parts: bytes | int) -> None:
        """Write an entry."""
        key = key_of(type(entry), *parts)
        assert len(key) == entry.KEY_BYTES, f"key {key.hex()} of a {type(entry).__name__}"
        self.state = State(self.state.trie.put(key, entry.encode()))

    def drop(self, kind: type[Entry], *parts: bytes | int) -> None:
        """Delete an entry that is there."""
        self.state = State(self.state.trie.delete(key_of(kind, *parts)))

    def remind(self, tick: int, kind: type[Entry], id: bytes) -> None:
        """Have the entry looked at when this tick is reached."""
        self.put(Due(), tick, bytes((kind.KIND,)), id)

    def add(self, **changes: int) -> None:
        """Add to fields of the totals."""
        for name, change in changes.items():
            value = getattr(self.totals, name) + change
            assert value >= 0, f"{name} is {value}"
            self.totals = replace(self.totals, **{name: value})

    def note(self, kind: NoteKind, detail: str, subject: bytes = b"") -> None:
        """Tell people."""
        self.notes.append(Note(kind, detail, subject))

    def finished(self) -> State:
        """The state with the totals."""
        return State(self.state.trie.put(TOTALS, self.totals.encode()))

    # Coins

    def credit(self, account: Address, amount: int) -> None:
        """Add to a balance."""
        if amount:
            old = self.get(Account, account) or Account(0, -1)
            self.put(replace(old, balance=old.balance + amount), account)

    def spend(self, account: Address, sequence: int, amount: int) -> None:
        """Take from a balance, once per sequence. Raises Invalid."""
        old = self.get(Account, account) or Account(0, -1)
        if sequence <= old.sequence:
            raise refused(f"sequence {sequence} is not above {old.sequence}, the account's last")
        if amount > old.balance:
            raise refused(f"balance {old.balance} is below {amount}")
        self.put(Account(old.balance - amount, sequence), account)

    def burn(self, amount: int) -> None:
        """Coins that were in an entry are nowhere now."""
        self.add(burnt=amount)

    # Stakes

    def account_of(self, key: NodeKey) -> Address:
        """The account that answers for what a key signs."""
        return self.account_at(address_of(key))

    def account_at(self, address: Address) -> Address:
        """The account that answers for the key with this address."""
        session = self.get(Session, address)
        return address if session is None else session.account

    def bond(self, account: Address) -> Bond:
        """The stake of an account, zero if it has none."""
        return self.get(Bond, account) or Bond(0, 0, False)

    def voting(self, account: Address) -> int:
        """What an account's vote weighs: its stake, nothing once frozen."""
        bond = self.bond(account)
        return 0 if bond.frozen else bond.amount

    def change_bond(self, account: Address, change: int) -> None:
        """Add to a stake that is not frozen."""
        old = self.bond(account)
        self.put(replace(old, amount=old.amount + change), account)
        self.add(bonded=change)

    def unbonding(self, account: Address) -> list[tuple[int, int]]:
        """(tick, amount) of stake on its way out."""
        return [
            (int.from_bytes(key[32:], "big"), entry.amount)
            for key, entry in self.all(Unbonding, account)
        ]

    def at_stake(self, account: Address) -> int:
        """What an account can lose: its stake and what is unbonding of it."""
        return self.bond(account).amount + sum(each for _, each in self.unbonding(account))

    # Judging

    def court(self) -> Court:
        """What statements are judged by on this state, by whoever has made sure they matter."""
        return self.court_with(lambda key: None)

    def court_with(self, answerable: Callable[[NodeKey], None]) -> Court:
        """What verdicts on this state depend on."""
        rules = self.rules
        return Court(
            rules.network,
            rules.parameters,
            rules.profile,
            rules.modules,
            self.facts.signed,
            self.facts.item_signed,
            self.anchor,
            self.account_of,
            answerable,
        )

    def anchor(self, id: bytes) -> Anchor | None:
        """An anchor as verdicts see it."""
        entry = self.get(AnchorEntry, id)
        if entry is None:
            return None
        return Anchor(entry.process, entry.slot, entry.head, entry.mmr_root(), entry.refuted)


def refused(why: str) -> Invalid:
    """A transaction that changes nothing."""
    return Invalid(Reason.INADMISSIBLE, why)

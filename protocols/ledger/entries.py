"""Entries of the ledger's state: one class per kind, and their keys.

A key is one byte for the kind and then ids or big-endian numbers of fixed size, so entries of one
kind stand together and deadlines in the order of time. Amounts are base units, times ticks
(final checkpoints). The value is the canonical array of the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from protocols.accumulator import Mmr
from protocols.codec import Value
from protocols.ids import Address, ItemId, ProcessId
from protocols.limits import MMR_PEAKS_MAX
from protocols.wire import shape
from protocols.wire.demand import KEPT_BYTES_MAX
from protocols.wire.record import Reader, Record, listed, octets, optional
from protocols.wire.topics import TOPIC_BYTES_MAX, Topic

_hash: Reader = shape.identifier
_number: Reader = shape.integer
_maybe_number = optional(shape.integer)


def _or_minus(value: Value, what: str) -> int:
    return shape.integer(value, what, least=-1)


class Entry(Record):
    """Base of all kinds."""

    __slots__ = ()
    KIND: ClassVar[int]
    KEY_BYTES: ClassVar[int] = 33
    """Of one size per kind, so that no key begins another."""


@dataclass(frozen=True, slots=True)
class Totals(Entry):
    """The one entry about the whole. Supply = genesis + minted - burnt."""

    slot: int
    """Last ledger slot that is in this state."""
    tick: int
    """Number of the last final checkpoint: the clock."""
    final: int
    """Ledger slot under that checkpoint."""
    genesis: int
    minted: int
    burnt: int
    left: int
    """What can still be minted."""
    bonded: int
    """Sum of all stakes that are not frozen."""

    KIND = 0
    KEY_BYTES = 1
    READ = (_or_minus, _number, _or_minus, *(_number,) * 5)


@dataclass(frozen=True, slots=True)
class Account(Entry):
    """Free coins. By address."""

    balance: int
    sequence: int
    """Of the last transaction that had one; -1 if none had."""

    KIND = 1
    READ = (_number, _or_minus)


@dataclass(frozen=True, slots=True)
class Bond(Entry):
    """A stake. By address."""

    amount: int
    sessions: int
    """Session keys delegated to it."""
    frozen: bool
    """Since a verdict, for ever."""

    KIND = 2
    READ = (_number, _number, shape.boolean)


@dataclass(frozen=True, slots=True)
class Unbonding(Entry):
    """Stake on its way out. By address and the tick from which it can be withdrawn."""

    amount: int

    KIND = 3
    KEY_BYTES = 41
    READ = (_number,)


@dataclass(frozen=True, slots=True)
class Session(Entry):
    """A session key. By its address."""

    account: Address
    """Whose stake answers for what it signs."""
    tick: int
    """Since when."""

    KIND = 4
    READ = (_hash, _number)


@dataclass(frozen=True, slots=True)
class Registered(Entry):
    """A staked unit's announcement. By address."""

    sequence: int
    unit: bytes

    KIND = 5
    READ = (_number, octets(TOPIC_BYTES_MAX[Topic.UNITS]))


@dataclass(frozen=True, slots=True)
class AnchorEntry(Entry):
    """A state that units may start from. By its id; kept for ever."""

    process: ProcessId
    slot: int
    head: bytes
    root: bytes
    """State root after the slot."""
    peaks: tuple[bytes, ...]
    tick: int
    """When it was offered: final after the challenge window."""
    refuted: bool

    KIND = 6
    READ = (_hash, _number, _hash, _hash, listed(_hash, MMR_PEAKS_MAX), _number, shape.boolean)

    def mmr_root(self) -> bytes:
        """Root of the range over leaves 0..slot."""
        return Mmr(self.slot + 1, self.peaks).root()


@dataclass(frozen=True, slots=True)
class Commit(Entry):
    """Evidence that is announced. By the id of the committing item."""

    accuser: Address
    hash: bytes
    size: int
    left: int
    """Bytes of it that may still come in parts."""
    parts: int
    bond: int
    slot: int
    """Ledger slot of the commit: the earliest valid one has the bounty."""
    deadline: int

    KIND = 7
    READ = (_hash, _hash, *(_number,) * 6)


@dataclass(frozen=True, slots=True)
class Part(Entry):
    """A part of committed evidence, or of an answer, that is in the log. By the commit or demand
    and the part's item id."""

    size: int

    KIND = 8
    KEY_BYTES = 65
    READ = (_number,)


@dataclass(frozen=True, slots=True)
class Demanded(Entry):
    """A demand. By its id (`protocols.ledger.subjects`)."""

    demander: Address
    accused: Address
    kind: int
    """One of `protocols.wire.demand`."""
    subject: bytes
    """What is kept of it to check an answer: as that module says."""
    bond: int
    deadline: int
    """Until then it must be answered; an answered one is kept until then."""
    answered: bool
    slot: int
    """Ledger slot of the demand, whose transaction holds all of its subject."""

    KIND = 9
    READ = (
        _hash,
        _hash,
        _number,
        octets(KEPT_BYTES_MAX),
        _number,
        _number,
        shape.boolean,
        _number,
    )


@dataclass(frozen=True, slots=True)
class Case(Entry):
    """Why a whole stake is frozen. By address; kept for ever."""

    slot: int
    """Ledger slot of the verdict."""
    reason: str
    evidence: bytes
    """Hash of the evidence, or id of the demand."""
    challenger: Address | None
    """Who has the bounty: the earliest valid committer. None for an unanswered demand."""
    commit_slot: int | None
    amount: int
    """What is at stake; what was taken once `burnt_tick` is set."""
    burnt_tick: int | None

    KIND = 10
    READ = (
        _number,
        lambda value, what: shape.text(value, what, most=256),
        _hash,
        optional(_hash),
        _maybe_number,
        _number,
        _maybe_number,
    )


@dataclass(frozen=True, slots=True)
class Fact(Entry):
    """What running a segment gives. By the key of `protocols.court.Segment`."""

    leaves: bytes
    """Leaf hashes, one after another."""
    used: int
    """Tick of the last use."""

    KIND = 11
    READ = (octets(32 * 512), _number)


@dataclass(frozen=True, slots=True)
class Past(Entry):
    """The ledger after an earlier slot, for votes under it. By slot modulo `PAST_SLOTS`."""

    slot: int
    head: bytes
    root: bytes

    KIND = 12
    KEY_BYTES = 9
    READ = (_number, _hash, _hash)


@dataclass(frozen=True, slots=True)
class Pool(Entry):
    """Minted coins that are set aside. By number: 0 work, 1 audits."""

    amount: int

    KIND = 13
    KEY_BYTES = 9
    READ = (_number,)


@dataclass(frozen=True, slots=True)
class Pending(Entry):
    """A frozen stake that is not burnt yet. By address."""

    KIND = 15
    READ = ()


@dataclass(frozen=True, slots=True)
class Fine(Entry):
    """Why a share of a stake was taken. By address and offence; kept for ever, so that an offence
    costs once."""

    slot: int
    """Ledger slot of the verdict."""
    reason: str
    evidence: bytes
    """Hash of the evidence, or id of the demand."""
    challenger: Address | None
    """Who has the bounty, as in a `Case`."""
    commit_slot: int | None
    amount: int
    """What was taken."""
    burnt_tick: int | None

    KIND = 16
    KEY_BYTES = 65
    READ = Case.READ


@dataclass(frozen=True, slots=True)
class Held(Entry):
    """Coins of a fine that are not burnt yet. By address and offence."""

    amount: int

    KIND = 17
    KEY_BYTES = 65
    READ = (_number,)


@dataclass(frozen=True, slots=True)
class Unhosted(Entry):
    """A log that its scheduler may keep no longer. By process; kept for ever."""

    scheduler: Address
    fault: str
    """A `protocols.faults.Fault`: the first one."""
    at: int
    """Ledger slot."""
    slot: int | None
    """If a slot was given twice: that slot, ..."""
    assignment: ItemId | None
    """... and the assignment of it that holds: the first that was shown."""

    KIND = 18
    READ = (
        _hash,
        lambda value, what: shape.text(value, what, most=16),
        _number,
        _maybe_number,
        optional(_hash),
    )


@dataclass(frozen=True, slots=True)
class Answering(Entry):
    """Who sends an answer in parts. By demand and address."""

    left: int
    """Bytes that may still come."""
    parts: int

    KIND = 19
    KEY_BYTES = 65
    READ = (_number, _number)


@dataclass(frozen=True, slots=True)
class Due(Entry):
    """A reminder. By tick, kind and key of the entry whose time has come."""

    KIND = 14
    KEY_BYTES = 42
    READ = ()


KINDS: dict[int, type[Entry]] = {
    kind.KIND: kind
    for kind in (
        Totals, Account, Bond, Unbonding, Session, Registered, AnchorEntry, Commit, Part,
        Demanded, Case, Fact, Past, Pool, Due, Pending, Fine, Held, Unhosted, Answering,
    )
}  # fmt: skip

WORK, AUDITS = 0, 1
"""Pools."""
PAST_SLOTS = 1024
"""Ledger slots back that a checkpoint may be under."""


def key_of(kind: type[Entry], *parts: bytes | int) -> bytes:
    """Key of an entry: integers are eight bytes, big-endian."""
    return bytes((kind.KIND,)) + b"".join(
        part if isinstance(part, bytes) else part.to_bytes(8, "big") for part in parts
    )


TOTALS = key_of(Totals)

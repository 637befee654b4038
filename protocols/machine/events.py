"""What machines of one node hear, beyond the common events of `effects`.

Each names who makes it and which machine takes it. A machine ignores events it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from protocols.ids import ItemId, NodeKey, ProcessId
from protocols.ledger.draft import Note
from protocols.ledger.state import State
from protocols.machine.effects import Event, Refusal
from protocols.trust import Verified
from protocols.wire.alarm import ForkAlarm
from protocols.wire.assignment import Assignment, Slot
from protocols.wire.evidence import Witness
from protocols.wire.item import Item
from protocols.wire.proof import Leaf, Receipt, Statement, StateProof
from protocols.wire.unit import UnitAnnouncement
from protocols.wire.vote import Vote


@dataclass(frozen=True, slots=True)
class PeersChanged(Event):
    """The wire's connected peers, sorted. Adapter -> every machine that sends."""

    peers: tuple[NodeKey, ...]


@dataclass(frozen=True, slots=True)
class UnitSeen(Event):
    """A unit announced its roles and addresses. Admission -> delivery, replica."""

    unit: Verified[UnitAnnouncement]


@dataclass(frozen=True, slots=True)
class Submit(Event):
    """A client hands an item to this messenger. HTTP -> delivery; answered by Reply(ticket).

    `known` is where its id already stands in the replica's log, looked up by the adapter.
    """

    ticket: int
    item: Verified[Item]
    known: tuple[ProcessId, int] | None = None


@dataclass(frozen=True, slots=True)
class AssignAsked(Event):
    """A client wants an existing item in one more log. HTTP -> delivery; answered by
    Reply(ticket) with the id of the assignment, which is durable at the scheduler then."""

    ticket: int
    process: ProcessId
    item: ItemId
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssignmentArrived(Event):
    """The answer to an ASSIGN request, or to an ITEM request for an assignment. Admission, from
    `Answered` -> delivery, book.

    Either the assignment, its signature verified and nothing else, or why there is none.
    """

    assignment: Verified[Assignment] | None
    refusal: Refusal | None
    peer: NodeKey
    tag: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Offered(Event):
    """An item for one of this scheduler's logs. Admission or stream -> slot log.

    `known` is the slot its id already has in the sign-once table; `pushed` is the nonce already
    given to the same outbox entry. The adapter looks both up; the machine remembers what it
    assigned since. `into` is the log to assign it to by id, with the `exclude` fields withheld;
    None for the log it is for.
    """

    item: Verified[Item]
    sender: NodeKey
    ticket: int | None = None
    known: Slot | None = None
    pushed: int | None = None
    into: ProcessId | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheduled(Event):
    """This node's scheduler has assigned slots (durable). Slot log -> replica."""

    slots: tuple[Verified[Slot], ...]


@dataclass(frozen=True, slots=True)
class SlotsArrived(Event):
    """Slots from gossip. Admission -> replica."""

    slots: tuple[Verified[Slot], ...]
    sender: NodeKey


@dataclass(frozen=True, slots=True)
class LogArrived(Event):
    """The answer to a LOG request. Admission, from `Answered` -> replica, slot log (restoring).

    `slots` is None if the peer gave none in time, or gave bytes that do not decode or verify;
    then `wrong` says what was wrong with them, and is empty for mere silence.
    """

    process: ProcessId
    slots: tuple[Verified[Slot], ...] | None
    peer: NodeKey
    tag: tuple[Any, ...]
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Conflicting(Event):
    """A slot from a peer for a nonce where the durable log holds assignment `held`, not this one.

    Admission looks it up, because the replica remembers recent assignment ids only. -> replica.
    """

    slot: Verified[Slot]
    held: ItemId


@dataclass(frozen=True, slots=True)
class ReceiptsArrived(Event):
    """The answer to a RESULT request. Admission, from `Answered` -> delivery.

    `entries` are the receipts whose signature by `cu` verifies, with the raw outcome where it was
    asked for and given (unverified: the receipt's leaf decides). None: no answer, or a wrong one.
    """

    process: ProcessId
    cu: NodeKey
    entries: tuple[tuple[Verified[Receipt], bytes | None], ...] | None
    tag: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Extended(Event):
    """The replica of one process grew by these consecutive slots (durable).

    Replica -> evaluation, delivery.
    """

    process: ProcessId
    slots: tuple[Slot, ...]
    heads: tuple[bytes, ...]
    """Log head after each of `slots`."""


@dataclass(frozen=True, slots=True)
class ExecutedSlot:
    """One evaluated slot. Made by `protocols.machine.results.executed_slot` only."""

    slot: int
    assignment: ItemId
    """Id of the assignment that was evaluated: the machine chains heads over it."""
    status: int
    raw: bytes
    """Empty unless the status has an output."""
    outbox_root: bytes
    fuel: int
    root: bytes | None
    """State root iff the slot is a segment border."""


@dataclass(frozen=True, slots=True)
class Executed(Event):
    """The answer to `Execute`: one or more consecutive slots from `first` on, not necessarily all.

    Engine -> evaluation.
    """

    process: ProcessId
    results: tuple[ExecutedSlot, ...]


@dataclass(frozen=True, slots=True)
class ExecutionRefused(Event):
    """The engine cannot evaluate `slot` deterministically. Engine -> evaluation."""

    process: ProcessId
    slot: int
    detail: str


@dataclass(frozen=True, slots=True)
class Evaluated(Event):
    """Results and receipts up to slot `last` are durable. Evaluation -> result waiters."""

    process: ProcessId
    last: int


@dataclass(frozen=True, slots=True)
class Undeliverable(Event):
    """An outbox entry or message will not be scheduled, and why. Delivery -> trace."""

    item: ItemId
    detail: str


# The ledger, state proofs and those who watch them


@dataclass(frozen=True, slots=True)
class VoteArrived(Event):
    """A staker's vote for a checkpoint. Admission -> ledger, watcher."""

    vote: Verified[Vote]


@dataclass(frozen=True, slots=True)
class FoldedSlot:
    """One ledger slot and what the fold made of it."""

    nonce: int
    item: Item
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class LedgerMoved(Event):
    """The ledger was folded further; also sent once after a start, with no slots.

    Ledger -> evaluation, watcher, waiters.
    """

    state: State
    """After the last of `slots`."""
    head: bytes
    """Head of the ledger's log there."""
    slots: tuple[FoldedSlot, ...]


@dataclass(frozen=True, slots=True)
class SegmentRun(Event):
    """The answer to `RunSegment`. Engine -> whoever asked.

    `leaves` are the segment's leaf hashes; None if there is no witness, or it is not the state.
    `refused` says why this node cannot run it deterministically; empty when it could.
    """

    fact: bytes
    leaves: tuple[bytes, ...] | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Audited(Event):
    """The answer to `Audit`: own leaves of slots 0.., fewer than asked for where the log ends or
    the engine refuses (`refused` says why); or the state before `witness_at`, without leaves.
    Engine -> watcher."""

    process: ProcessId
    leaves: tuple[Leaf, ...]
    witness_at: int | None
    witness: Witness | None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class PostAsked(Event):
    """Bring an own, signed transaction into the ledger's log. Watcher, HTTP -> ledger, which makes
    it durable and sends it to the ledger's scheduler until it has a slot."""

    item: Item
    ticket: int | None = None
    """Answered by Reply(ticket) with the item's id, once it is durable."""


@dataclass(frozen=True, slots=True)
class StatementArrived(Event):
    """A receipt or state proof whose signature verifies, of this network.

    Admission (gossip, PROOFS answers), messenger's quorum, HTTP -> watcher.
    """

    raw: bytes
    statement: Verified[Statement]


@dataclass(frozen=True, slots=True)
class ProofSealed(Event):
    """This unit's own state proof, durable. Evaluation -> watcher."""

    proof: StateProof


@dataclass(frozen=True, slots=True)
class LeavesArrived(Event):
    """The answer to a LEAVES request about a statement. Admission, from `Answered` -> watcher.

    `leaves` are hashes from the statement's first slot to its last, which give every MMR root it
    names from `peaks`; None if the peer gave none, or others.
    """

    statement: bytes
    """Id of the statement (`protocols.wire.evidence.statement_id`)."""
    peer: NodeKey
    peaks: tuple[bytes, ...]
    leaves: tuple[bytes, ...] | None
    tag: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ProofsArrived(Event):
    """The answer to a PROOFS request. Admission, from `Answered` -> whoever asked.

    Proofs and votes that were asked for, of this network, all signatures verified; None if the
    peer gave no answer in time, or a wrong one. The book has heard of the proofs as well.
    """

    peer: NodeKey
    proofs: tuple[Verified[StateProof], ...] | None
    votes: tuple[Verified[Vote], ...]
    tag: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ForkFound(Event):
    """The scheduler of a followed log has signed a second assignment for a slot (durable).
    Replica -> book, readers of items."""

    process: ProcessId
    nonce: int
    held: ItemId
    """The assignment seen first."""
    second: ItemId


@dataclass(frozen=True, slots=True)
class Misplaced(Event):
    """The scheduler of a log has signed an assignment right after its last slot that does not
    follow from it, in time or Hash-Chain. Replica -> watcher."""

    assignment: Assignment
    process: Item | None = None
    """The process item, where it is slot 0 that is wrong: then there is no log."""


@dataclass(frozen=True, slots=True)
class ForkHeard(Event):
    """Somebody says that it holds two assignments of one slot. Admission -> book."""

    alarm: ForkAlarm
    sender: NodeKey


@dataclass(frozen=True, slots=True)
class ForkSeen(Event):
    """Two different assignments of one slot by one scheduler, both signatures verified; whether it
    is the process's scheduler is not. Book -> watcher."""

    one: Assignment
    other: Assignment

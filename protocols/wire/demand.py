"""What a demand asks for, and what answers it. Canonical arrays (demand.cddl).

    LEAVES      a statement                the leaf hashes under it
    PREVIOUS    a statement                what it continues: a state proof, or an anchor's id
    ASSIGNMENT  a statement and a slot     the scheduler's assignment of that slot
    PUSH        a pushed item              the outbox entry that it is
    SLOT        a log that goes on, slot   assignment and item of the slot
    SCHEDULE    a message to a log         its assignment

The first three are about a compute unit's statement, PUSH about a messenger's item, the last two
about a scheduler's log. What anybody demands, anybody may answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocols.ids import Address, ItemId, NodeKey, ProcessId
from protocols.limits import MMR_PEAKS_MAX
from protocols.parameters import Parameters
from protocols.wire import shape
from protocols.wire.evidence import ASSIGNMENT_BYTES_MAX, CLAIM_SLOTS_MAX, ITEM_BYTES_MAX
from protocols.wire.item_head import HEAD_BYTES_MAX, ItemHead
from protocols.wire.process import PushKey
from protocols.wire.proof import PROOF_BYTES_MAX, RECEIPT_BYTES_MAX
from protocols.wire.record import Record, ed25519, listed, octets, optional, together

LEAVES, PREVIOUS, ASSIGNMENT, PUSH, SLOT, SCHEDULE = range(6)
KIND_NAMES = ("LEAVES", "PREVIOUS", "ASSIGNMENT", "PUSH", "SLOT", "SCHEDULE")
KINDS_OF_STATEMENTS = (LEAVES, PREVIOUS, ASSIGNMENT)
SUBJECT_BYTES_MAX = ITEM_BYTES_MAX + (1 << 20)
"""A message with the head of its process."""
KEPT_BYTES_MAX = PROOF_BYTES_MAX + 64
"""What the ledger keeps of a subject until its demand is over."""
OUTPUT_BYTES_MAX = 16 << 20

_hash = shape.identifier
_number = shape.integer

# Subjects. That of LEAVES and PREVIOUS is the encoded statement, that of PUSH an `ItemHead`.


@dataclass(frozen=True, slots=True)
class StatementSlot(Record):
    """ASSIGNMENT: a slot that a statement answers for."""

    statement: bytes
    slot: int

    READ = (octets(PROOF_BYTES_MAX), _number)


@dataclass(frozen=True, slots=True)
class SlotSubject(Record):
    """SLOT: its scheduler has assigned this slot or a later one, so this one must exist."""

    process: ItemHead
    assignment: bytes
    """Of slot `slot` or a later one."""
    slot: int

    READ = (ItemHead.of_value, octets(ASSIGNMENT_BYTES_MAX), _number)


@dataclass(frozen=True, slots=True)
class ScheduleSubject(Record):
    """SCHEDULE: an admissible message, whole, to a log that its scheduler keeps."""

    process: ItemHead
    assignment: bytes
    """Any of this log: its scheduler has taken it."""
    item: bytes

    READ = (ItemHead.of_value, octets(ASSIGNMENT_BYTES_MAX), octets(ITEM_BYTES_MAX))


# What the ledger keeps of the last three; of the others it keeps the subject.


@dataclass(frozen=True, slots=True)
class PushKept(Record):
    """PUSH: what the item says it is, and what its signature is over."""

    messenger: NodeKey
    process: ProcessId
    """Its From-Process."""
    slot: int
    index: int
    """Its Outbox entry."""
    root: ItemId
    """Its Pushed-For, taken as it says."""
    message: bytes
    """48 bytes: the deep hash that the messenger has signed."""

    READ = (_hash, _hash, _number, _number, _hash, octets(48, 48))


@dataclass(frozen=True, slots=True)
class SlotKept(Record):
    """SLOT."""

    process: ProcessId
    scheduler: Address
    slot: int

    READ = (_hash, _hash, _number)


@dataclass(frozen=True, slots=True)
class ScheduleKept(Record):
    """SCHEDULE."""

    process: ProcessId
    scheduler: Address
    item: ItemId
    push: tuple[ProcessId, int, int, Address | None] | None
    """(From-Process, slot, index, owner) if it is a pushed item: another messenger's copy of the
    same entry may have its slot."""

    READ = (_hash, _hash, _hash, optional(together(_hash, _number, _number, optional(_hash))))


def push_fields(
    key: PushKey | None,
) -> tuple[ProcessId, int, int, Address | None] | None:
    """A push key as `ScheduleKept` holds it."""
    return None if key is None else (key.from_process, key.slot, key.index, key.owner)


# Answers


@dataclass(frozen=True, slots=True)
class LeavesAnswer(Record):
    """To LEAVES."""

    peaks: tuple[bytes, ...]
    """Of the range before the statement's first leaf."""
    leaves: bytes
    """Leaf hashes, one after another."""

    READ = (listed(_hash, MMR_PEAKS_MAX), octets(32 * CLAIM_SLOTS_MAX))


@dataclass(frozen=True, slots=True)
class PreviousAnswer(Record):
    """To PREVIOUS."""

    proof: bytes
    """Encoded state proof of the same unit that ends right before; or the 32-byte id of an anchor
    there."""

    READ = (octets(PROOF_BYTES_MAX),)


@dataclass(frozen=True, slots=True)
class AssignmentAnswer(Record):
    """To ASSIGNMENT."""

    process: ItemHead
    head_before: bytes
    """Log head before the statement's first slot."""
    ids: bytes
    """Assignment ids from its first slot to its last, one after another."""
    assignment: bytes
    """Of the slot that was asked for."""

    READ = (
        ItemHead.of_value,
        _hash,
        octets(32 * CLAIM_SLOTS_MAX, 32),
        octets(ASSIGNMENT_BYTES_MAX),
    )


@dataclass(frozen=True, slots=True)
class PushAnswer(Record):
    """To PUSH: a staked unit's word for the slot, and the output whose entry gives the item."""

    process: ItemHead
    """The process that sent it."""
    receipt: bytes
    outbox_root: bytes
    """With `raw` it makes the receipt's outcome hash."""
    raw: bytes
    child: bytes | None
    """For the message that tells a process of its child: the messenger's signature of the child,
    which is the outbox entry."""

    READ = (
        ItemHead.of_value,
        octets(RECEIPT_BYTES_MAX),
        _hash,
        octets(OUTPUT_BYTES_MAX),
        optional(ed25519),
    )


@dataclass(frozen=True, slots=True)
class SlotAnswer(Record):
    """To SLOT."""

    assignment: bytes
    item: bytes
    """The process item for slot 0."""

    READ = (octets(ASSIGNMENT_BYTES_MAX), octets(ITEM_BYTES_MAX))


@dataclass(frozen=True, slots=True)
class ScheduleAnswer(Record):
    """To SCHEDULE."""

    assignment: bytes
    process: ItemHead | None = None
    copy: ItemHead | None = None
    """Where another copy of the same outbox entry has the slot: that copy, and the process, which
    says whom it believes."""

    READ = (
        octets(ASSIGNMENT_BYTES_MAX),
        optional(ItemHead.of_value),
        optional(ItemHead.of_value),
    )


Answer = LeavesAnswer | PreviousAnswer | AssignmentAnswer | PushAnswer | SlotAnswer | ScheduleAnswer
ANSWERS: tuple[type[Answer], ...] = (
    LeavesAnswer,
    PreviousAnswer,
    AssignmentAnswer,
    PushAnswer,
    SlotAnswer,
    ScheduleAnswer,
)
"""By kind of demand."""


def answer_bytes_max(parameters: Parameters) -> int:
    """Largest encoded answer of a network: above any that can be right."""
    return parameters.item_bytes_max + parameters.output_bytes_max + HEAD_BYTES_MAX + (1 << 20)


def read_answer(kind: int, blob: bytes, parameters: Parameters) -> Answer:
    """An answer to a demand of this kind. Raises Invalid."""
    return ANSWERS[kind].decode(blob, size_max=answer_bytes_max(parameters))

"""The log of one process: assignments, slots, and the chain that orders them.

An assignment is an ANS-104 item signed by the process's scheduler; its tags are the ones AO's
scheduler emits, in that order. The process item itself is nonce 0. Two chains run through a log:

- AO's Hash-Chain, so that AO's own software can check the log. It leaves out the assignment's
  own fields: `sha256(process)` first, then `sha256(previous assignment id + previous chain)`.
- ours, `head_n = H(head_{n-1}, assignment id_n)` from `head_{-1} = H(process)`. It covers every
  byte of every assignment before it, and every statement about a slot is bound to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from protocols import codec, domains
from protocols.errors import Invalid, Reason
from protocols.ids import ID_BYTES, Address, ItemId, NodeKey, ProcessId, b64url, parse_id
from protocols.wire.item import Item, SignatureType, Tag, Unsigned

NAMES = (
    "Process",
    "Epoch",
    "Nonce",
    "Hash-Chain",
    "Block-Height",
    "Timestamp",
    "Data-Protocol",
    "Type",
    "Variant",
)
"""Tags of every assignment, in this order; then `Message` unless nonce is 0; then `Exclude`s."""

CONSTANTS = ("ao", "Assignment", "ao.TN.1")
"""Values of the last three of `NAMES`."""

BLOCK_HEIGHT_NONE = "000000000000"
"""Block-Height of a scheduler without an Arweave gateway."""

EXCLUDES_MAX = 16
EXCLUDE_CHARACTERS_MAX = 64
INTEGER_MAX = (1 << 63) - 1
"""Largest nonce, epoch and timestamp: what canonical CBOR of this protocol can carry."""

CHAIN_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Assignment:
    """A scheduler's statement that an item has a slot. Fields are read from `item`'s tags."""

    item: Item
    process: ProcessId
    epoch: int
    nonce: int
    hash_chain: bytes
    """AO's chain value at this slot, 32 bytes."""
    block_height: str
    """12 decimal digits."""
    timestamp: int
    """Milliseconds since the epoch by the scheduler's clock; never less than the slot before."""
    message: ItemId | None
    """The assigned item; None at nonce 0, where it is the process itself."""
    exclude: tuple[str, ...] = ()
    """Names of message fields that are withheld from the process."""

    @property
    def id(self) -> ItemId:
        return self.item.id

    @property
    def assigned(self) -> ItemId:
        """Id of the item in this slot; at nonce 0 the process item's."""
        return ItemId(self.process) if self.message is None else self.message


@dataclass(frozen=True, slots=True)
class Slot:
    """One position of a log with what stands in it. At nonce 0 `message` is the process item."""

    assignment: Assignment
    message: Item

    @property
    def process(self) -> ProcessId:
        return self.assignment.process

    @property
    def nonce(self) -> int:
        return self.assignment.nonce


def slot_of(assignment: Assignment, message: Item) -> Slot:
    """Pair an assignment with its item; raises Invalid(MISMATCH) if it names another one."""
    if message.id != assignment.assigned:
        raise Invalid(
            Reason.MISMATCH,
            f"slot {assignment.nonce} of {b64url(assignment.process)} assigns "
            f"{b64url(assignment.assigned)}, but carries item {b64url(message.id)}",
        )
    return Slot(assignment, message)


def assignment_of(item: Item) -> Assignment:
    """Read an assignment item. Strict: exactly AO's tags in AO's order, no target, no data.

    Raises Invalid(MALFORMED, or UNSUPPORTED for a signature that is not Ed25519's type 2, which
    has one valid form). Checks no signature and no chain.
    """
    tags = item.tags
    if item.signature_type != SignatureType.ED25519:
        raise Invalid(
            Reason.UNSUPPORTED,
            f"an assignment of signature type {item.signature_type}; schedulers sign with type 2",
        )
    if item.target is not None or item.data_start != len(item.raw):
        raise Invalid(Reason.MALFORMED, "an assignment has neither a target nor data")
    if len(tags) < len(NAMES):
        raise Invalid(Reason.MALFORMED, f"an assignment has {len(NAMES)} tags, not {len(tags)}")
    values = []
    for name, tag in zip(NAMES, tags, strict=False):
        if tag.name != name:
            raise Invalid(
                Reason.MALFORMED, f"assignment tag {tag.name[:64]!r} stands where {name!r} belongs"
            )
        values.append(tag.value)
    process, epoch, nonce_text, hash_chain, height, timestamp, *constants = values
    if tuple(constants) != CONSTANTS:
        raise Invalid(Reason.MALFORMED, f"assignment tags {NAMES[6:]} must be {CONSTANTS}")
    if not (len(height) == 12 and height.isascii() and height.isdigit()):
        raise Invalid(Reason.MALFORMED, f"Block-Height {height[:32]!r} is not 12 digits")
    nonce = decimal(nonce_text, "Nonce")
    message, exclude = _message_and_excludes(tags[len(NAMES) :], nonce)
    return Assignment(
        item=item,
        process=ProcessId(parse_id(process, "Process")),
        epoch=decimal(epoch, "Epoch"),
        nonce=nonce,
        hash_chain=parse_id(hash_chain, "Hash-Chain"),
        block_height=height,
        timestamp=decimal(timestamp, "Timestamp"),
        message=message,
        exclude=exclude,
    )


def _message_and_excludes(
    rest: tuple[Tag, ...], nonce: int
) -> tuple[ItemId | None, tuple[str, ...]]:
    message: ItemId | None = None
    if rest and rest[0].name == "Message":
        message = ItemId(parse_id(rest[0].value, "Message"))
        rest = rest[1:]
    if (message is None) != (nonce == 0):
        raise Invalid(
            Reason.MALFORMED,
            f"the assignment of nonce {nonce} must have {'no' if nonce == 0 else 'a'} Message tag",
        )
    for tag in rest:
        if tag.name != "Exclude":
            raise Invalid(Reason.MALFORMED, f"assignment tag {tag.name[:64]!r} is not an Exclude")
    return message, check_excludes([tag.value for tag in rest])


def check_excludes(names: Sequence[str]) -> tuple[str, ...]:
    """Names of message fields to withhold. Raises Invalid above the bounds of an assignment."""
    if len(names) > EXCLUDES_MAX:
        raise Invalid(Reason.OVERSIZE, f"{len(names)} Exclude names, at most {EXCLUDES_MAX}")
    for name in names:
        if not 0 < len(name) <= EXCLUDE_CHARACTERS_MAX:
            raise Invalid(
                Reason.MALFORMED,
                f"Exclude name {name[:64]!r} has {len(name)} characters, "
                f"not 1..{EXCLUDE_CHARACTERS_MAX}",
            )
    return tuple(names)


def decimal(text: str, what: str) -> int:
    """A non-negative decimal below 2**63 without sign, space or leading zero."""
    if (
        not 0 < len(text) <= 19
        or not (text.isascii() and text.isdigit())
        or (text[0] == "0" and text != "0")
    ):
        raise Invalid(Reason.MALFORMED, f"{what} {text[:64]!r} is not a plain decimal number")
    value = int(text)
    if value > INTEGER_MAX:
        raise Invalid(Reason.OVERSIZE, f"{what} {value} is above {INTEGER_MAX}")
    return value


def unsigned_assignment(
    owner: NodeKey,
    process: ProcessId,
    nonce: int,
    *,
    hash_chain: bytes,
    timestamp: int,
    message: ItemId | None,
    head_prev: bytes,
    exclude: tuple[str, ...] = (),
) -> Unsigned:
    """The assignment a scheduler signs. Its anchor is a hash of its place, not random: signing
    the same slot again gives the same bytes (Ed25519 is deterministic, RFC 8032)."""
    assert (message is None) == (nonce == 0), f"nonce {nonce} with message {message!r}"
    values = (b64url(process), "0", str(nonce), b64url(hash_chain), BLOCK_HEIGHT_NONE)
    tags = [
        Tag(name, value)
        for name, value in zip(NAMES, (*values, str(timestamp), *CONSTANTS), strict=True)
    ]
    if message is not None:
        tags.append(Tag("Message", b64url(message)))
    tags.extend(Tag("Exclude", name) for name in exclude)
    return Unsigned(
        signature_type=SignatureType.ED25519,
        owner=bytes(owner),
        target=None,
        anchor=codec.digest(domains.ASSIGNMENT_ANCHOR, process, nonce, head_prev),
        tags=tuple(tags),
        data=b"",
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a log stands after its slot `nonce` (-1: no slot yet). Immutable."""

    process: ProcessId
    nonce: int
    head: bytes
    """Our head after the last slot."""
    hash_chain: bytes
    """AO's Hash-Chain of the last slot; empty before slot 0."""
    assignment_id: bytes
    """Id of the last assignment; empty before slot 0."""
    timestamp: int

    @classmethod
    def genesis(cls, process: ProcessId) -> Chain:
        """The empty log of `process`."""
        head = codec.digest(domains.HEAD_GENESIS, process)
        return cls(process, -1, head, b"", b"", 0)

    def hash_chain_next(self) -> bytes:
        """AO's Hash-Chain of the next slot (operand order: AO's scheduler's)."""
        if self.nonce < 0:
            return hashlib.sha256(self.process).digest()
        return hashlib.sha256(self.assignment_id + self.hash_chain).digest()

    def draft(
        self,
        owner: NodeKey,
        now_ms: int,
        message: ItemId | None,
        exclude: tuple[str, ...] = (),
    ) -> Unsigned:
        """The next assignment, unsigned: timestamp = max(previous, now)."""
        return unsigned_assignment(
            owner,
            self.process,
            self.nonce + 1,
            hash_chain=self.hash_chain_next(),
            timestamp=max(self.timestamp, now_ms),
            message=message,
            head_prev=self.head,
            exclude=exclude,
        )

    def next(self, slot: Slot) -> Chain:
        """The chain after `slot`. Raises Invalid(NOT_NEXT) naming what does not follow, or
        Invalid(MISMATCH) if the slot carries another item than it assigns."""
        slot_of(slot.assignment, slot.message)
        return self.next_assignment(slot.assignment)

    def next_assignment(self, assignment: Assignment) -> Chain:
        """As `next`, of the assignment alone."""
        if assignment.process != self.process:
            raise self._not_next(assignment, f"belongs to {b64url(assignment.process)}")
        if assignment.nonce != self.nonce + 1:
            raise self._not_next(assignment, f"slot {self.nonce + 1} comes first")
        if assignment.epoch != 0:
            raise self._not_next(assignment, f"epoch {assignment.epoch} is not 0")
        if assignment.timestamp < self.timestamp:
            raise self._not_next(
                assignment, f"timestamp {assignment.timestamp} is before {self.timestamp}"
            )
        if assignment.hash_chain != self.hash_chain_next():
            raise self._not_next(
                assignment,
                f"Hash-Chain {b64url(assignment.hash_chain)} is not "
                f"{b64url(self.hash_chain_next())}",
            )
        assignment_id = assignment.id
        return Chain(
            self.process,
            assignment.nonce,
            codec.digest(domains.HEAD, self.head, assignment_id),
            assignment.hash_chain,
            assignment_id,
            assignment.timestamp,
        )

    def _not_next(self, assignment: Assignment, why: str) -> Invalid:
        return Invalid(
            Reason.NOT_NEXT,
            f"slot {assignment.nonce} after slot {self.nonce} of {b64url(self.process)}: {why}",
        )

    def encode(self) -> bytes:
        """Canonical CBOR: `[process, nonce, head, hash chain, assignment id, timestamp]`."""
        return codec.encode(
            [
                self.process,
                self.nonce,
                self.head,
                self.hash_chain,
                self.assignment_id,
                self.timestamp,
            ]
        )

    @classmethod
    def decode(cls, blob: bytes) -> Chain:
        """Inverse of `encode`; raises Invalid(MALFORMED)."""
        match codec.decode(blob, size_max=CHAIN_BYTES_MAX):
            case [
                bytes(process),
                int(nonce),
                bytes(head),
                bytes(chain),
                bytes(assignment),
                int(timestamp),
            ] if (
                type(nonce) is int
                and type(timestamp) is int
                and len(process) == len(head) == ID_BYTES
                and nonce >= -1
                and timestamp >= 0
                and len(chain) == len(assignment) == (ID_BYTES if nonce >= 0 else 0)
            ):
                return cls(ProcessId(process), nonce, head, chain, assignment, timestamp)
        raise Invalid(Reason.MALFORMED, "not a chain: [process, nonce, head, chain, id, time]")


def scheduler_of(assignment: Assignment) -> Address:
    """Address of whoever signed the assignment: must be the process's Scheduler."""
    return assignment.item.owner_address

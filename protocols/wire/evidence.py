"""Evidence: what shows, to anybody and for ever, that a unit signed what it must not have.

    [1, fraud proof]      a leaf is not what running its segment gives
    [2, contradiction]    two statements, or two votes, of one unit that exclude each other
    [3, two assignments]  a scheduler gave one slot to two
    [4, bad leaf]         a leaf that is wrong as it stands, or does not fit its statement
    [5, wrong sum]        the fuel of a state proof is not that of its leaves
    [6, bad start]        a state proof does not fit the anchor that it names
    [7, bad assignment]   a scheduler assigned what it must refuse, or out of order

Decoding checks shape and bounds only; what it means is `protocols.verdict`. Evidence is judged
inside the ledger: committed first by its hash, then sent in parts, then revealed, so that nobody
can take over somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocols.codec import Value, decode, digest, digest_raw, encode
from protocols.domains import EVIDENCE, EVIDENCE_COMMIT, STATEMENT
from protocols.errors import Invalid, Reason
from protocols.ids import Address
from protocols.limits import PAGE_BYTES
from protocols.parameters import PROOF_SLOTS_MAX, Parameters
from protocols.wire import shape
from protocols.wire.item_head import ItemHead
from protocols.wire.proof import LEAF_BYTES_MAX, PROOF_BYTES_MAX, Receipt, Statement, StateProof
from protocols.wire.record import Record, listed, octets, optional, together
from protocols.wire.zstd import check_frame

PAGES_MAX = 1 << 16
RUNS_MAX = 1 << 14
GLOBALS_MAX = 256
SLOTS_MAX = PROOF_SLOTS_MAX
"""Slots of one segment that evidence can carry."""
CLAIM_SLOTS_MAX = 1 << 15
"""Slots from the segment's first to the claim's last."""
PATH_BYTES_MAX = 64 + 128 * 34
ASSIGNMENT_BYTES_MAX = 4096
ITEM_BYTES_MAX = 16 << 20
_SMALL_BYTES_MAX = 2 << 20
"""All of a fraud proof but its items and its frame."""


def statement_of(blob: bytes) -> Statement:
    """Read a receipt or a state proof. Raises Invalid; checks no signature."""
    kind = Receipt if blob[:1] == b"\x8a" else StateProof
    return kind.decode(blob)


def statement_id(blob: bytes) -> bytes:
    """Id of an encoded statement."""
    return digest(STATEMENT, blob)


@dataclass(frozen=True, slots=True)
class Witness(Record):
    """The state before a segment: memory size, mutable globals, and the pages that are not
    zero, one after another in a zstd frame. Its root decides whether it is that state."""

    pages: int
    runs: tuple[tuple[int, int], ...]
    """(first page, count) of the pages in the frame, ascending, with gaps between."""
    globals: tuple[tuple[int, int, bytes], ...]
    """(index, type, little-endian bytes) of the mutable globals, ascending."""
    frame: bytes

    READ = (
        lambda value, what: shape.integer(value, what, most=PAGES_MAX),
        listed(together(shape.integer, shape.integer), RUNS_MAX),
        listed(together(shape.integer, shape.integer, octets(16)), GLOBALS_MAX),
        octets(256 << 20),
    )

    def content_bytes(self) -> int:
        """Bytes the frame gives."""
        return PAGE_BYTES * sum(count for _, count in self.runs)

    def check(self, parameters: Parameters) -> None:
        """Raise Invalid unless it can be decompressed within the network's bounds."""
        if len(self.frame) > parameters.witness_bytes_max:
            raise Invalid(
                Reason.OVERSIZE,
                f"a witness of {len(self.frame)} bytes, at most {parameters.witness_bytes_max}",
            )
        if self.pages * PAGE_BYTES > parameters.memory_max:
            raise Invalid(Reason.OVERSIZE, f"a witness of {self.pages} pages of memory")
        end = -1
        for first, count in self.runs:
            if first <= end or not 0 < count <= self.pages - first:
                raise Invalid(
                    Reason.MALFORMED, f"witness pages {first}, {count} more, do not ascend"
                )
            end = first + count
        check_frame(self.frame, self.content_bytes())


@dataclass(frozen=True, slots=True)
class FraudProof(Record):
    """That leaf `index` of an MMR is not what its segment gives.

    The segment begins at slot `first` and ends at the next border, or where the claim ends.
    """

    accused: bytes
    """Encoded statement; or the 32-byte id of an anchor, which is refuted then."""
    process: bytes
    """The process item."""
    first: int
    head_before: bytes
    """Log head after slot first - 1."""
    ids: bytes
    """Assignment ids from `first` to the claim's last slot, one after another."""
    before: bytes | None
    """Preimage of leaf first - 1; None for slot 0."""
    before_path: bytes | None
    """Its encoded `MmrProof` under one of the accused's MMR roots."""
    index: int
    leaf: bytes | None
    """Hash of the wrong leaf; None where the receipt itself holds it."""
    path: bytes | None
    """Its encoded `MmrProof` under one of the accused's MMR roots."""
    slots: tuple[tuple[bytes, bytes], ...]
    """(assignment, item) of every slot of the segment; none where the ledger knows its leaves."""
    witness: Witness | None
    """The state before; None for slot 0, and where the ledger knows the segment's leaves."""

    KIND = 1
    READ = (
        octets(PROOF_BYTES_MAX),
        octets(ITEM_BYTES_MAX),
        shape.integer,
        shape.identifier,
        octets(32 * CLAIM_SLOTS_MAX, 32),
        optional(octets(LEAF_BYTES_MAX)),
        optional(octets(PATH_BYTES_MAX)),
        shape.integer,
        optional(shape.identifier),
        optional(octets(PATH_BYTES_MAX)),
        listed(together(octets(ASSIGNMENT_BYTES_MAX), octets(ITEM_BYTES_MAX)), SLOTS_MAX),
        optional(Witness.of_value),
    )


@dataclass(frozen=True, slots=True)
class Contradiction(Record):
    """Two statements of one unit, or two votes of one staker."""

    one: bytes
    other: bytes
    votes: bool

    KIND = 2
    READ = (octets(PROOF_BYTES_MAX), octets(PROOF_BYTES_MAX), shape.boolean)


@dataclass(frozen=True, slots=True)
class TwoAssignments(Record):
    """Two assignments of one slot of one process, as items. The first to be shown on the ledger
    is selected: `one` of the first such evidence about the process."""

    one: bytes
    other: bytes
    process: ItemHead
    """Says whose log it is."""

    KIND = 3
    READ = (octets(ASSIGNMENT_BYTES_MAX), octets(ASSIGNMENT_BYTES_MAX), ItemHead.of_value)


@dataclass(frozen=True, slots=True)
class BadLeaf(Record):
    """A leaf under a statement: no status of the table, a root where none belongs or none where
    one does, another process or slot, another state root or leaf than the statement says."""

    statement: bytes
    index: int
    leaf: bytes
    """Preimage."""
    path: bytes | None
    """Encoded `MmrProof`; None for the leaf in a receipt itself."""

    KIND = 4
    READ = (
        octets(PROOF_BYTES_MAX),
        shape.integer,
        octets(LEAF_BYTES_MAX),
        optional(octets(PATH_BYTES_MAX)),
    )


@dataclass(frozen=True, slots=True)
class WrongSum(Record):
    """All leaves of a state proof, whose fuel does not add up to what it says."""

    statement: bytes
    peaks: tuple[bytes, ...]
    """Of the range before its first leaf."""
    leaves: tuple[bytes, ...]
    """Preimages."""

    KIND = 5
    READ = (
        octets(PROOF_BYTES_MAX),
        listed(shape.identifier, 64),
        listed(octets(LEAF_BYTES_MAX), CLAIM_SLOTS_MAX, 1),
    )


@dataclass(frozen=True, slots=True)
class BadStart(Record):
    """A state proof that names an anchor which is none, or of which it says something else."""

    statement: bytes

    KIND = 6
    READ = (octets(PROOF_BYTES_MAX),)


@dataclass(frozen=True, slots=True)
class BadAssignment(Record):
    """An assignment that no honest scheduler signs. With `item`: what it assigns, signed by its
    owner, is to be refused. With `before`, the assignment of the slot before: time goes back or
    the Hash-Chain is another. With neither, slot 0: the process itself is to be refused, or its
    Hash-Chain is another.

    An item id is a hash of a signature, so an item whose signature is wrong shows nothing: anybody
    could have made it. Of a slot whose item nobody can show, a demand tells (SLOT).
    """

    process: ItemHead
    assignment: bytes
    before: bytes | None = None
    item: ItemHead | None = None

    KIND = 7
    READ = (
        ItemHead.of_value,
        octets(ASSIGNMENT_BYTES_MAX),
        optional(octets(ASSIGNMENT_BYTES_MAX)),
        optional(ItemHead.of_value),
    )


PlainEvidence: TypeAlias = (
    Contradiction | TwoAssignments | BadLeaf | WrongSum | BadStart | BadAssignment
)
"""Judged without running anything."""
Evidence: TypeAlias = FraudProof | PlainEvidence

KINDS: dict[int, type[Evidence]] = {
    kind.KIND: kind
    for kind in (
        FraudProof,
        Contradiction,
        TwoAssignments,
        BadLeaf,
        WrongSum,
        BadStart,
        BadAssignment,
    )
}


def evidence_bytes_max(parameters: Parameters) -> int:
    """Largest evidence of a network, encoded."""
    slots = min(parameters.root_every, SLOTS_MAX)
    items = (slots + 1) * (parameters.item_bytes_max + ASSIGNMENT_BYTES_MAX)
    return parameters.witness_bytes_max + items + _SMALL_BYTES_MAX


def encode_evidence(evidence: Evidence) -> bytes:
    """Canonical CBOR of `[kind, fields]`."""
    return encode([evidence.KIND, evidence.to_value()])


def decode_evidence(blob: bytes, parameters: Parameters) -> Evidence:
    """Inverse of `encode_evidence`. Raises Invalid."""
    fields: Value
    kind, fields = shape.record(
        decode(blob, size_max=evidence_bytes_max(parameters)), "evidence", 2
    )
    known = KINDS.get(kind) if type(kind) is int else None
    if known is None:
        raise Invalid(Reason.UNSUPPORTED, f"evidence of kind {kind!r}; known are 1 to {len(KINDS)}")
    return known.of_value(fields)


def evidence_hash(blob: bytes) -> bytes:
    """Hash of an encoded evidence, for its commitment."""
    return digest_raw(EVIDENCE, blob)


def commitment(salt: bytes, hash: bytes, accuser: Address) -> bytes:
    """What a commit shows of evidence with this `evidence_hash`: nothing, and nobody but
    `accuser` can reveal it."""
    return digest(EVIDENCE_COMMIT, salt, hash, accuser)

"""What a verdict rests on: the network's rules, what a statement answers for, and its leaves.

A statement answers for some leaves only: a state proof for first..last, a receipt for those
after the last block end before it. Leaves further back belong to the proofs that it continues,
which can be demanded. So a unit that started from a false anchor answers for nothing before it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from protocols.accumulator import Mmr, MmrProof, mmr_verify
from protocols.errors import Invalid, Reason
from protocols.faults import Fault
from protocols.ids import Address, ItemId, NetworkId, NodeKey, ProcessId
from protocols.parameters import Parameters
from protocols.wire.assignment import Assignment, Slot, assignment_of, scheduler_of
from protocols.wire.evidence import (
    ASSIGNMENT_BYTES_MAX,
    Witness,
    statement_id,
    statement_of,
)
from protocols.wire.item import Item, decode_item
from protocols.wire.item_head import ItemHead
from protocols.wire.process import ProcessInfo, process_info
from protocols.wire.proof import Receipt, Statement, StateProof, block_end_before


class Finding(enum.StrEnum):
    """What a verdict says."""

    GUILTY = "guilty"
    INNOCENT = "innocent"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Anchor:
    """An anchor as the ledger holds it."""

    process: ProcessId
    slot: int
    head: bytes
    mmr_root: bytes
    refuted: bool


@dataclass(frozen=True, slots=True)
class Court:
    """What a verdict depends on beside the evidence."""

    network: NetworkId
    parameters: Parameters
    profile: bytes
    modules: tuple[ItemId, ...]
    """Modules whose segments can be run by everybody (`Network.slashable_modules`)."""
    signed: Callable[[bytes, bytes, bytes], bool]
    """Ed25519: (key, message, signature)."""
    item_signed: Callable[[Item], bool]
    """Whether an item's owner signed it."""
    anchor: Callable[[bytes], Anchor | None]
    """The ledger's anchor with this id."""
    account: Callable[[NodeKey], Address]
    """Whose stake answers for what a key signs."""
    answerable: Callable[[NodeKey], None]
    """Raises Invalid if nothing is at stake behind a key, so that judging it would cost
    everybody and nobody pays."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Slots to run from one state. What they give depends on nothing else."""

    fact: bytes
    """Key of the fact that is established by running it."""
    process: Item
    module: ItemId
    slots: tuple[Slot, ...]
    """None if the evidence shows none: then a fact can be looked up, and nothing be run."""
    root_before: bytes | None
    """State root before the first slot; None: a fresh instance."""
    witness: Witness | None
    """Claims to be that state; whoever runs it compares the root."""


RunSegment = Callable[[Segment], tuple[bytes, ...] | None]
"""The leaf hashes of a segment's slots. None if there are no slots, or no witness where one is
needed, or it is not the state with `root_before`. A node that cannot run it deterministically
raises."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of a log, and one assignment of it."""

    process: ProcessId
    slot: int
    assignment: ItemId


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, whom it is about, and what was learned."""

    finding: Finding
    reason: str
    accused: NodeKey | None = None
    """The signer; None for VOID, and for an anchor."""
    anchor: bytes | None = None
    """Id of the accused anchor."""
    statement: bytes | None = None
    """Id of the accused statement."""
    fact: tuple[bytes, tuple[bytes, ...]] | None = None
    """Key and leaf hashes of the segment that was run."""
    fault: Fault = Fault.MALFORMED
    """What it is or would be guilty of."""
    place: Place | None = None
    """For a scheduler's fault: where."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is accused of holding a wrong leaf."""

    process: ProcessId
    head: bytes
    lowest: int
    """First leaf it answers for, ..."""
    last: int
    """... and the last, where the log's head is `head`."""
    roots: dict[int, bytes]
    """MMR roots by number of leaves."""
    receipt: Receipt | None = None
    accused: NodeKey | None = None
    anchor: bytes | None = None
    statement: bytes | None = None


def accepted_statement(blob: bytes, court: Court) -> Statement:
    """A statement of this network and profile with a valid signature. Raises Invalid."""
    statement = statement_of(blob)
    if statement.network != court.network:
        raise void("the statement is of another network")
    if statement.profile != court.profile:
        raise void("the statement is of another profile, which is never punished")
    statement.check(court.parameters)
    if not court.signed(statement.cu, statement.signing_bytes(), statement.signature):
        raise void("the statement is not signed by its unit")
    return statement


def accused_statement(blob: bytes, court: Court) -> Statement:
    """As `accepted_statement`, of a unit that has something to lose. Raises Invalid."""
    statement = accepted_statement(blob, court)
    court.answerable(statement.cu)
    return statement


def roots_of(statement: Statement, parameters: Parameters) -> dict[int, bytes]:
    """The MMR roots a statement gives, by number of leaves."""
    if isinstance(statement, Receipt):
        roots = {statement.slot + 1: statement.mmr_root}
        end = block_end_before(statement.slot, parameters.proof_every)
        if end is not None and statement.block_root is not None:
            roots[end + 1] = statement.block_root
        return roots
    roots = {end + 1: root for end, root in statement.block_roots}
    roots[statement.first] = statement.mmr_before
    roots[statement.last + 1] = statement.mmr_root
    return roots


def first_leaf(statement: Statement, parameters: Parameters) -> int:
    """The first leaf a statement answers for."""
    if isinstance(statement, StateProof):
        return statement.first
    end = block_end_before(statement.slot, parameters.proof_every)
    return 0 if end is None else end + 1


def last_leaf(statement: Statement) -> int:
    """The last leaf a statement answers for."""
    return statement.slot if isinstance(statement, Receipt) else statement.last


def leaves_of(
    statement: Statement, peaks: tuple[bytes, ...], hashes: bytes, parameters: Parameters
) -> tuple[bytes, ...]:
    """Leaf hashes, one after another, from a statement's first leaf to its last. Raises Invalid
    unless they follow these peaks and give every MMR root that the statement names."""
    roots = roots_of(statement, parameters)
    first, last = first_leaf(statement, parameters), last_leaf(statement)
    if len(hashes) != 32 * (last - first + 1):
        raise void(f"{len(hashes)} bytes are not the leaf hashes of {first}..{last}")
    leaves = tuple(hashes[at : at + 32] for at in range(0, len(hashes), 32))
    if isinstance(statement, Receipt) and leaves[-1] != statement.leaf.hash():
        raise void("the last leaf is not the receipt's")
    mmr = peaks_before(first, peaks)
    for leaf in (None, *leaves):
        mmr = mmr if leaf is None else mmr.append(leaf)
        if roots.get(mmr.count) not in (None, mmr.root()):
            raise void(f"these leaves do not give the statement's root of {mmr.count} leaves")
    return leaves


def claim_of(accused: bytes, court: Court) -> Claim:
    """What an encoded statement, or the anchor with this id, answers for. Raises Invalid."""
    if len(accused) == 32:
        anchor = court.anchor(accused)
        if anchor is None:
            raise void("no such anchor")
        if anchor.refuted:
            raise void("the anchor is refuted already")
        roots = {anchor.slot + 1: anchor.mmr_root}
        return Claim(anchor.process, anchor.head, 0, anchor.slot, roots, anchor=accused)
    statement = accused_statement(accused, court)
    receipt = statement if isinstance(statement, Receipt) else None
    if isinstance(statement, StateProof) and statement.start is not None:
        start = court.anchor(statement.start)
        if start is not None and start.refuted:
            raise void("the statement rests on a refuted anchor")
    return Claim(
        statement.process,
        statement.head,
        first_leaf(statement, court.parameters),
        last_leaf(statement),
        roots_of(statement, court.parameters),
        receipt,
        statement.cu,
        None,
        statement_id(accused),
    )


def check_path(claim: Claim, index: int, leaf: bytes, path: bytes) -> None:
    """Raise Invalid unless an encoded `MmrProof` shows leaf `index` under one of its roots."""
    proof = MmrProof.decode(path)
    root = claim.roots.get(proof.count)
    if root is None or proof.index != index or not mmr_verify(root, leaf, proof):
        raise void(f"leaf {index} is not shown to be under the accused's root")


def signed_item(raw: bytes, court: Court, size_max: int | None = None) -> Item:
    """An item that its owner signed. Raises Invalid.

    An id is a hash of the signature alone, so an unsigned item could claim any id. With its
    signature checked it is the only one with that id: the owner is part of what is signed.
    """
    item = decode_item(raw, size_max=size_max or court.parameters.item_bytes_max)
    if not court.item_signed(item):
        raise void("an item is not signed by its owner")
    return item


def peaks_before(count: int, peaks: tuple[bytes, ...]) -> Mmr:
    """The range of `count` leaves with these peaks. Raises Invalid."""
    return Mmr.of_value([count, list(peaks)])


def scheduled(raw: bytes, process: ProcessInfo, court: Court) -> Assignment:
    """An assignment of this process's log, signed by its scheduler. Raises Invalid."""
    assignment = assignment_of(signed_item(raw, court, size_max=ASSIGNMENT_BYTES_MAX))
    if assignment.process != process.id:
        raise void("the assignment is of another process")
    if scheduler_of(assignment) != process.scheduler:
        raise void("the assignment is not by the process's scheduler")
    return assignment


def shown_item(head: ItemHead, court: Court) -> Item:
    """As `signed_item`, of an item without its data. Raises Invalid."""
    item = head.item()
    if not court.item_signed(item):
        raise void("an item is not signed by its owner")
    return item


def shown_process(head: ItemHead, court: Court) -> ProcessInfo:
    """What a process item says, its data cut off. Raises Invalid."""
    return process_info(shown_item(head, court))


def guilty_if(
    guilty: bool,
    reason: str,
    accused: NodeKey,
    statement: bytes,
    fault: Fault = Fault.MALFORMED,
    *,
    place: Place | None = None,
) -> Judgement:
    """GUILTY or INNOCENT of an encoded statement, vote or assignment."""
    finding = Finding.GUILTY if guilty else Finding.INNOCENT
    id = statement_id(statement)
    return Judgement(finding, reason, accused, statement=id, fault=fault, place=place)


def void(why: str) -> Invalid:
    """What makes evidence VOID."""
    return Invalid(Reason.MISMATCH, why)

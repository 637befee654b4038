"""Blocking checks that turn claimed bytes into `Verified` values. Run off the event loop.

Nothing else in the node makes a `Verified` from a peer's or a client's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, NetworkId, NodeKey, ProcessId, b64url
from protocols.parameters import Parameters
from protocols.trust import Verified
from protocols.wire.assignment import Assignment, Slot, assignment_of, slot_of
from protocols.wire.batch import ASSIGNMENT_BYTES_MAX
from protocols.wire.evidence import statement_of
from protocols.wire.item import Item, decode_item
from protocols.wire.proof import Receipt, Statement, StateProof
from protocols.wire.streams import ResultEntry
from protocols.wire.unit import UnitAnnouncement
from protocols.wire.vote import VOTE_BYTES_MAX, Vote

Held = Callable[[ProcessId, int], ItemId | None]
"""Id of the assignment the local replica holds for (process, nonce), if any."""


@dataclass(frozen=True, slots=True)
class RawSlot:
    """Both items of a slot, fetched but unread."""

    assignment: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class CheckedSlots:
    """What became of a run of raw slots."""

    new: tuple[Verified[Slot], ...]
    conflicting: tuple[tuple[Verified[Slot], ItemId], ...]
    """Slots whose nonce the replica holds with another assignment (its id)."""
    refused: tuple[Invalid, ...]


def check_item(raw: bytes, size_max: int) -> Verified[Item]:
    """Decode one item and check its signature; raises Invalid."""
    item = decode_item(raw, size_max=size_max)
    verify_item(item)
    return Verified(item)


def checked_item(item: Item) -> Verified[Item] | Invalid:
    """Check the signature of a decoded item: the item, or why it is refused."""
    try:
        verify_item(item)
    except Invalid as error:
        return error
    return Verified(item)


def check_items(raws: Sequence[bytes], size_max: int) -> tuple[list[Verified[Item]], list[Invalid]]:
    """As `check_item` for many: the good ones, and why the others are not."""
    good: list[Verified[Item]] = []
    refused: list[Invalid] = []
    for raw in raws:
        try:
            good.append(check_item(raw, size_max))
        except Invalid as error:
            refused.append(error)
    return good, refused


def check_slot(raw: RawSlot, assignment: Assignment, size_max: int) -> Verified[Slot]:
    """Check both signatures of a slot and that they belong together; raises Invalid."""
    verify_item(assignment.item)
    return Verified(slot_of(assignment, check_item(raw.message, size_max).value))


def check_assignment(raw: bytes) -> Verified[Assignment]:
    """Decode one assignment and check its signature; raises Invalid."""
    assignment = assignment_of(decode_item(raw, size_max=ASSIGNMENT_BYTES_MAX))
    verify_item(assignment.item)
    return Verified(assignment)


def check_slots(raws: Sequence[RawSlot], size_max: int, held: Held) -> CheckedSlots:
    """Verify slots from gossip; those the replica has already are dropped before any signature."""
    new: list[Verified[Slot]] = []
    conflicting: list[tuple[Verified[Slot], ItemId]] = []
    refused: list[Invalid] = []
    for raw in raws:
        try:
            assignment = assignment_of(decode_item(raw.assignment, size_max=size_max))
            ours = held(assignment.process, assignment.nonce)
            if ours == assignment.id:
                continue
            slot = check_slot(raw, assignment, size_max)
        except Invalid as error:
            refused.append(error)
            continue
        if ours is None:
            new.append(slot)
        else:
            conflicting.append((slot, ours))
    return CheckedSlots(tuple(new), tuple(conflicting), tuple(refused))


def check_log(raws: Sequence[RawSlot], size_max: int) -> tuple[Verified[Slot], ...]:
    """Verify the slots of a log answer; raises Invalid at the first bad one."""
    return tuple(
        check_slot(raw, assignment_of(decode_item(raw.assignment, size_max=size_max)), size_max)
        for raw in raws
    )


def check_receipts(
    entries: Sequence[ResultEntry], process: ProcessId, cu: NodeKey, network: NetworkId
) -> tuple[tuple[Verified[Receipt], bytes | None], ...]:
    """Verify the receipts of a result answer of `cu`; raises Invalid at the first bad one."""
    checked: list[tuple[Verified[Receipt], bytes | None]] = []
    for entry in entries:
        receipt = Receipt.decode(entry.receipt_raw)
        if receipt.network != network:
            raise Invalid(
                Reason.WRONG_NETWORK,
                f"a receipt of network {b64url(receipt.network)}, this is {b64url(network)}",
            )
        if receipt.process != process or receipt.cu != cu:
            raise Invalid(
                Reason.MISMATCH,
                f"asked {b64url(cu)} about {b64url(process)}, "
                f"got a receipt of {b64url(receipt.cu)} about {b64url(receipt.process)}",
            )
        if not verify_ed25519(receipt.cu, receipt.signing_bytes(), receipt.signature):
            raise Invalid(
                Reason.BAD_SIGNATURE, f"receipt of slot {receipt.slot} by {b64url(receipt.cu)}"
            )
        checked.append((Verified(receipt), entry.outcome_raw))
    return tuple(checked)


def check_unit(blob: bytes, network: NetworkId) -> Verified[UnitAnnouncement]:
    """Decode one announcement and check its signature; raises Invalid."""
    unit = UnitAnnouncement.decode(blob)
    if not verify_ed25519(unit.key, unit.message(network), unit.signature):
        raise Invalid(Reason.BAD_SIGNATURE, f"announcement of unit {b64url(unit.key)}")
    return Verified(unit)


def check_proof(raw: bytes, network: NetworkId, parameters: Parameters) -> Verified[StateProof]:
    """Decode one state proof of any profile and check its signature; raises Invalid."""
    proof = StateProof.decode(raw)
    if proof.network != network:
        raise Invalid(
            Reason.WRONG_NETWORK,
            f"a state proof of network {b64url(proof.network)}, this is {b64url(network)}",
        )
    proof.check(parameters)
    if not verify_ed25519(proof.cu, proof.signing_bytes(), proof.signature):
        raise Invalid(
            Reason.BAD_SIGNATURE, f"state proof up to slot {proof.last} by {b64url(proof.cu)}"
        )
    return Verified(proof)


def check_statement(raw: bytes, network: NetworkId, parameters: Parameters) -> Verified[Statement]:
    """Decode one receipt or state proof and check its signature; raises Invalid."""
    statement = statement_of(raw)
    if isinstance(statement, StateProof):
        return Verified(check_proof(raw, network, parameters).value)
    if statement.network != network:
        raise Invalid(
            Reason.WRONG_NETWORK,
            f"a receipt of network {b64url(statement.network)}, this is {b64url(network)}",
        )
    statement.check(parameters)
    if not verify_ed25519(statement.cu, statement.signing_bytes(), statement.signature):
        raise Invalid(
            Reason.BAD_SIGNATURE, f"receipt of slot {statement.slot} by {b64url(statement.cu)}"
        )
    return Verified(statement)


def check_vote(raw: bytes, network: NetworkId) -> Verified[Vote]:
    """Decode one vote for a checkpoint and check its signature; raises Invalid."""
    vote = Vote.decode(raw, size_max=VOTE_BYTES_MAX)
    if vote.network != network:
        raise Invalid(
            Reason.WRONG_NETWORK,
            f"a vote of network {b64url(vote.network)}, this is {b64url(network)}",
        )
    if not verify_ed25519(vote.key, vote.signing_bytes(), vote.signature):
        raise Invalid(Reason.BAD_SIGNATURE, f"vote for tick {vote.tick} by {b64url(vote.key)}")
    return Verified(vote)

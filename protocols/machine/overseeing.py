"""What a scheduler does wrong in a log that this node follows, as cases. Part of `watching`."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.errors import Invalid
from protocols.ids import NodeKey, ProcessId
from protocols.machine.case import Case, Kind
from protocols.machine.events import Misplaced
from protocols.machine.scheduler_faults import bad_item, bad_order, two_assignments
from protocols.machine.watch import Watch
from protocols.wire.assignment import Assignment, Slot, assignment_of
from protocols.wire.evidence import (
    ASSIGNMENT_BYTES_MAX,
    BadAssignment,
    TwoAssignments,
    encode_evidence,
    evidence_hash,
    statement_id,
)
from protocols.wire.item import SignatureType, decode_item
from protocols.wire.process import ProcessInfo, enterable, process_info


def fork_case(watch: Watch, a: Assignment, b: Assignment, now: int) -> Case | None:
    """One slot given twice. Of the two, this node stands on the one in its log, if on any."""
    genesis = watch.views.slots(a.process, 0, 0)
    if not genesis:
        return None
    held = watch.views.slots(a.process, a.nonce, a.nonce)
    one, other = (b, a) if held and held[0].assignment.id == b.id else (a, b)
    return _case(two_assignments(genesis[0].message, one, other), other, now)


def slot_cases(watch: Watch, process: ProcessId, slots: Iterable[Slot], now: int) -> list[Case]:
    """Slots whose item must have been refused."""
    genesis = watch.views.slots(process, 0, 0)
    if not genesis:
        return []
    found, process_item = [], genesis[0].message
    try:
        info = process_info(process_item)
    except Invalid:
        # It must have been refused itself: that is a case about slot 0.
        slots = [slot for slot in genesis if not slot.nonce]
    for slot in slots:
        if slot.nonce and _may_enter(slot, info, watch):
            continue
        evidence = bad_item(process_item, slot, watch.parameters)
        if case := _case(evidence, slot.assignment, now):
            found.append(case)
    return found


def order_case(watch: Watch, found: Misplaced, now: int) -> Case | None:
    """An assignment that does not follow the one before in this node's log."""
    assignment, process, before = found.assignment, found.process, None
    if assignment.nonce:
        genesis = watch.views.slots(assignment.process, 0, 0)
        last = watch.views.slots(assignment.process, assignment.nonce - 1, assignment.nonce - 1)
        if not genesis or not last:
            return None
        process, before = genesis[0].message, last[0].assignment
    if process is None:
        return None
    case = _case(bad_order(process, before, assignment), assignment, now)
    if case is not None:
        # Its slot may turn out to be given twice as well: that is a case about the assignment.
        case.id = evidence_hash(case.evidence)
    return case


def _may_enter(slot: Slot, info: ProcessInfo, watch: Watch) -> bool:
    """All but every slot may: evidence, which takes a hash of the process item, is not made."""
    try:
        enterable(slot.message, info, slot.assignment.exclude, watch.parameters)
    except Invalid:
        return False
    return True


def shown_assignment(watch: Watch, raw: bytes, process: ProcessId, slot: int) -> Assignment | None:
    """An assignment of this slot that is signed by its owner."""
    try:
        assignment = assignment_of(decode_item(raw, size_max=ASSIGNMENT_BYTES_MAX))
    except Invalid:
        return None
    if (assignment.process, assignment.nonce) != (process, slot):
        return None
    return assignment if watch.views.item_signed(assignment.item) else None


def _case(
    evidence: TwoAssignments | BadAssignment | None, accused: Assignment, now: int
) -> Case | None:
    """Nobody but the holder of an Ed25519 key has a stake."""
    item = accused.item
    if evidence is None or item.signature_type != SignatureType.ED25519:
        return None
    slot = accused.nonce
    unit = NodeKey(item.owner)
    id = statement_id(item.raw)
    case = Case(id, Kind.ASSIGNMENTS, item.raw, unit, accused.process, slot, slot, now)
    case.evidence = encode_evidence(evidence)
    return case

"""The verdict: a pure function of evidence, of the network file, and of what running one segment
gives. Every node that folds the ledger reaches it alone, and all reach the same.

GUILTY    the accused signed what no honest unit signs
INNOCENT  the evidence is in order, and what it accuses is right
VOID      anything else: malformed, unsigned, of another network or profile, of a process that
          cannot be judged, resting on a refuted anchor, a witness that is not the state

Here is the fault that takes execution, a wrong leaf; the others are in `protocols.plain_faults`.
"""

from __future__ import annotations

from protocols import domains, plain_faults
from protocols.codec import digest
from protocols.court import (
    Claim,
    Court,
    Finding,
    Judgement,
    RunSegment,
    Segment,
    check_path,
    claim_of,
    signed_item,
    void,
)
from protocols.errors import Invalid
from protocols.faults import Fault
from protocols.ids import ProcessId
from protocols.wire.assignment import Chain, Slot, assignment_of, scheduler_of, slot_of
from protocols.wire.evidence import ASSIGNMENT_BYTES_MAX, FraudProof, decode_evidence
from protocols.wire.item import Item
from protocols.wire.process import process_info
from protocols.wire.proof import Leaf


def verdict(blob: bytes, run_segment: RunSegment, court: Court) -> Judgement:
    """Judge encoded evidence. Total but for what `run_segment` raises."""
    try:
        evidence = decode_evidence(blob, court.parameters)
        if isinstance(evidence, FraudProof):
            return _fraud(evidence, run_segment, court)
        return plain_faults.judge(evidence, court)
    except Invalid as error:
        return Judgement(Finding.VOID, error.detail)


def _fraud(evidence: FraudProof, run_segment: RunSegment, court: Court) -> Judgement:
    parameters = court.parameters
    claim = claim_of(evidence.accused, court)
    first, index = evidence.first, evidence.index
    if not claim.lowest <= index <= claim.last:
        raise void(f"the accused does not answer for leaf {index}")
    if first != index // parameters.root_every * parameters.root_every:
        raise void(f"leaf {index} is not in a segment that begins at slot {first}")
    last = min(first + parameters.root_every - 1, claim.last)
    root_before = _root_before(evidence, claim)
    leaf = _accused_leaf(evidence, claim)
    process = signed_item(evidence.process, court)
    if ProcessId(process.id) != claim.process:
        raise void("the process item is of another process")
    module = process_info(process).module
    if module not in court.modules:
        raise void("the process runs a module that is not slashable on this network")
    head_after = _check_chain(evidence, claim, last)
    slots = _slots(evidence, process, court)
    if evidence.witness is not None:
        evidence.witness.check(parameters)
        if root_before is None:
            raise void("a fresh instance needs no witness")
    heads = (evidence.head_before, head_after)
    fact = digest(domains.FACT, court.profile, process.id, module, first, *heads, root_before)
    segment = Segment(fact, process, module, slots, root_before, evidence.witness)
    leaves = run_segment(segment)
    if leaves is None:
        raise void("there is no witness of the state before the segment")
    assert len(leaves) == last - first + 1, "a segment has a leaf for every slot"
    right = leaves[index - first] == leaf
    return Judgement(
        Finding.INNOCENT if right else Finding.GUILTY,
        f"leaf {index} is {'right' if right else 'wrong'}",
        claim.accused,
        claim.anchor,
        claim.statement,
        (fact, leaves),
        Fault.WRONG_LEAF,
    )


def _root_before(evidence: FraudProof, claim: Claim) -> bytes | None:
    """State root the accused itself stands on before the segment: by genesis or its own leaf."""
    if evidence.first == 0:
        if evidence.before is not None or evidence.before_path is not None:
            raise void("no leaf stands before slot 0")
        return None
    if evidence.before is None or evidence.before_path is None:
        raise void("the leaf before the segment is not shown")
    leaf = Leaf.decode(evidence.before)
    check_path(claim, evidence.first - 1, leaf.hash(), evidence.before_path)
    if leaf.process != claim.process or leaf.slot != evidence.first - 1 or leaf.root is None:
        raise void("the leaf before the segment is none of a segment border")
    return leaf.root


def _accused_leaf(evidence: FraudProof, claim: Claim) -> bytes:
    """Hash of the leaf that is accused."""
    if evidence.leaf is None:
        if claim.receipt is None or evidence.index != claim.last or evidence.path is not None:
            raise void("no leaf is shown")
        return claim.receipt.leaf.hash()
    if evidence.path is None:
        raise void("the leaf is not shown to be the accused's")
    check_path(claim, evidence.index, evidence.leaf, evidence.path)
    return evidence.leaf


def _check_chain(evidence: FraudProof, claim: Claim, last: int) -> bytes:
    """Check that the ids lead to the claim's head; the head after slot `last`."""
    if len(evidence.ids) != 32 * (claim.last - evidence.first + 1):
        raise void("not one assignment id for each slot up to the claim's last")
    if evidence.slots and len(evidence.slots) != last - evidence.first + 1:
        raise void(f"the segment has {last - evidence.first + 1} slots")
    if not evidence.first and evidence.head_before != Chain.genesis(claim.process).head:
        raise void("the head before slot 0 is another one")
    head = head_after = evidence.head_before
    for slot in range(evidence.first, claim.last + 1):
        start = 32 * (slot - evidence.first)
        head = digest(domains.HEAD, head, evidence.ids[start : start + 32])
        if slot == last:
            head_after = head
    if head != claim.head:
        raise void("the assignments do not lead to the accused's head")
    return head_after


def _slots(evidence: FraudProof, process: Item, court: Court) -> tuple[Slot, ...]:
    """The segment's slots, all signatures checked: an id does not bind what its item says. None
    may be shown: a fact names the heads, so what is known of it was run from these very slots."""
    scheduler = process_info(process).scheduler
    slots = []
    for number, (assignment_raw, item_raw) in enumerate(evidence.slots, evidence.first):
        start = 32 * (number - evidence.first)
        assignment = assignment_of(
            signed_item(assignment_raw, court, size_max=ASSIGNMENT_BYTES_MAX)
        )
        if assignment.id != evidence.ids[start : start + 32]:
            raise void(f"another assignment than the one of slot {number}")
        if assignment.nonce != number or assignment.process != ProcessId(process.id):
            raise void(f"the assignment is not of slot {number}")
        if scheduler_of(assignment) != scheduler:
            raise void(f"the assignment of slot {number} is not by the process's scheduler")
        slots.append(slot_of(assignment, signed_item(item_raw, court)))
    return tuple(slots)

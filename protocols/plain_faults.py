"""Faults that show in signatures and hashes alone: no segment is run to judge them."""

from __future__ import annotations

from protocols.court import (
    Court,
    Judgement,
    Place,
    accused_statement,
    check_path,
    claim_of,
    guilty_if,
    peaks_before,
    scheduled,
    shown_item,
    shown_process,
    signed_item,
    void,
)
from protocols.errors import Invalid
from protocols.faults import Fault
from protocols.ids import NodeKey, ProcessId
from protocols.wire.assignment import Assignment, Chain, assignment_of
from protocols.wire.evidence import (
    ASSIGNMENT_BYTES_MAX,
    BadAssignment,
    BadLeaf,
    BadStart,
    Contradiction,
    PlainEvidence,
    TwoAssignments,
    WrongSum,
    statement_of,
)
from protocols.wire.item import Item
from protocols.wire.outcome import Status
from protocols.wire.process import ProcessInfo, admissible, enterable, process_info
from protocols.wire.proof import Leaf, StateProof, contradicts, is_border
from protocols.wire.vote import VOTE_BYTES_MAX, Vote


def judge(evidence: PlainEvidence, court: Court) -> Judgement:
    """The verdict on any of these. Raises Invalid for VOID."""
    match evidence:
        case Contradiction():
            return _contradiction(evidence, court)
        case TwoAssignments():
            return _two_assignments(evidence, court)
        case BadLeaf():
            return _bad_leaf(evidence, court)
        case WrongSum():
            return _wrong_sum(evidence, court)
        case BadStart():
            return _bad_start(evidence, court)
        case BadAssignment():
            return _bad_assignment(evidence, court)


def _contradiction(evidence: Contradiction, court: Court) -> Judgement:
    if evidence.votes:
        one, other = (
            Vote.decode(raw, size_max=VOTE_BYTES_MAX) for raw in (evidence.one, evidence.other)
        )
        for vote in (one, other):
            if vote.network != court.network or not court.signed(
                vote.key, vote.signing_bytes(), vote.signature
            ):
                raise void("a vote is not signed, or of another network")
        court.answerable(one.key)
        twice = court.account(one.key) == court.account(other.key) and one.against(other)
        reason = "two votes for one tick"
        return guilty_if(twice, reason, one.key, evidence.one, Fault.CONTRADICTION)
    a, b = (accused_statement(raw, court) for raw in (evidence.one, evidence.other))
    if a.cu != b.cu:
        raise void("the statements are of two units")
    reason = "two statements exclude each other"
    return guilty_if(contradicts(a, b), reason, a.cu, evidence.one, Fault.CONTRADICTION)


def _two_assignments(evidence: TwoAssignments, court: Court) -> Judgement:
    """Whether anything is at stake behind the scheduler does not matter: which of the two holds
    is decided here too."""
    process = shown_process(evidence.process, court)
    one, other = (scheduled(raw, process, court) for raw in (evidence.one, evidence.other))
    twice = (one.epoch, one.nonce) == (other.epoch, other.nonce) and one.id != other.id
    return guilty_if(
        twice,
        "one slot given twice",
        NodeKey(one.item.owner),
        evidence.one,
        Fault.TWO_ASSIGNMENTS,
        place=Place(process.id, one.nonce, one.id),
    )


def _bad_assignment(evidence: BadAssignment, court: Court) -> Judgement:
    process = shown_item(evidence.process, court)
    raw = evidence.assignment
    assignment = assignment_of(signed_item(raw, court, size_max=ASSIGNMENT_BYTES_MAX))
    signer = NodeKey(assignment.item.owner)
    court.answerable(signer)
    if assignment.process != ProcessId(process.id):
        raise void("the assignment is of another process")
    if assignment.nonce:
        fault = _fault_in_log(evidence, process_info(process), court)
    elif evidence.before is not None or evidence.item is not None:
        raise void("slot 0 holds the process, and nothing is before it")
    else:
        fault = _fault_of_first(assignment, process, court)
    place = Place(assignment.process, assignment.nonce, assignment.id)
    reason = fault or "nothing is wrong"
    return guilty_if(bool(fault), reason, signer, raw, Fault.BAD_ASSIGNMENT, place=place)


def _fault_of_first(assignment: Assignment, process: Item, court: Court) -> str:
    """What is wrong with a slot 0, or nothing."""
    try:
        admissible(process, None, court.parameters)
    except Invalid as error:
        return error.detail
    if process_info(process).scheduler != assignment.item.owner_address:
        raise void("the process names another scheduler")
    wrong = assignment.hash_chain != Chain.genesis(assignment.process).hash_chain_next()
    return "the Hash-Chain of slot 0 is another" if wrong else ""


def _fault_in_log(evidence: BadAssignment, info: ProcessInfo, court: Court) -> str:
    """What is wrong with an assignment, by the one before it or the item it assigns."""
    assignment = scheduled(evidence.assignment, info, court)
    if (evidence.before is None) == (evidence.item is None):
        raise void("it takes the assignment before or the item, and not both")
    if evidence.item is not None:
        item = shown_item(evidence.item, court)
        if item.id != assignment.message:
            raise void("the assignment is of another item")
        try:
            enterable(item, info, assignment.exclude, court.parameters)
        except Invalid as error:
            return error.detail
        return ""
    assert evidence.before is not None, "one of the two is there"
    before = scheduled(evidence.before, info, court)
    if (before.epoch, before.nonce + 1) != (assignment.epoch, assignment.nonce):
        raise void("the assignments do not follow each other")
    if assignment.timestamp < before.timestamp:
        return f"time goes back from {before.timestamp} to {assignment.timestamp}"
    chain = Chain(info.id, before.nonce, b"", before.hash_chain, before.id, before.timestamp)
    wrong = assignment.hash_chain != chain.hash_chain_next()
    return "the Hash-Chain does not follow" if wrong else ""


def _bad_leaf(evidence: BadLeaf, court: Court) -> Judgement:
    claim = claim_of(evidence.statement, court)
    if claim.accused is None:
        raise void("an anchor is accused with a fraud proof")
    statement = statement_of(evidence.statement)
    leaf = Leaf.decode(evidence.leaf)
    index = evidence.index
    if not claim.lowest <= index <= claim.last:
        raise void(f"the accused does not answer for leaf {index}")
    own = claim.receipt.leaf if claim.receipt is not None and index == claim.last else None
    if evidence.path is None:
        if leaf != own:
            raise void("the leaf is not shown to be the accused's")
    else:
        check_path(claim, index, leaf.hash(), evidence.path)
    border = is_border(index, court.parameters.root_every)
    faults = (
        (leaf.process != claim.process or leaf.slot != index, "a leaf of another slot"),
        (leaf.status not in list(Status), f"status {leaf.status} is none of the table"),
        ((leaf.root is not None) != border, "a state root iff none belongs there"),
        (own is not None and own != leaf, "a receipt with another leaf than its own range"),
        (
            isinstance(statement, StateProof)
            and index == claim.last
            and statement.state_root != leaf.root,
            "a state root that is not its leaf's",
        ),
    )
    fault = next((reason for found, reason in faults if found), "")
    return guilty_if(bool(fault), fault or "nothing is wrong", claim.accused, evidence.statement)


def _wrong_sum(evidence: WrongSum, court: Court) -> Judgement:
    statement = accused_statement(evidence.statement, court)
    if not isinstance(statement, StateProof):
        raise void("a receipt has no sum")
    if len(evidence.leaves) != statement.last - statement.first + 1:
        raise void("not one leaf for each slot of the proof")
    leaves = [Leaf.decode(leaf) for leaf in evidence.leaves]
    mmr = peaks_before(statement.first, evidence.peaks)
    if mmr.root() != statement.mmr_before:
        raise void("the peaks are not those before the proof")
    if mmr.extend([leaf.hash() for leaf in leaves]).root() != statement.mmr_root:
        raise void("the leaves are not those of the proof")
    wrong = sum(leaf.fuel for leaf in leaves) != statement.fuel
    return guilty_if(wrong, "the fuel of the leaves", statement.cu, evidence.statement)


def _bad_start(evidence: BadStart, court: Court) -> Judgement:
    statement = accused_statement(evidence.statement, court)
    if not isinstance(statement, StateProof) or statement.start is None:
        raise void("the statement names no anchor")
    anchor = court.anchor(statement.start)
    if anchor is not None and anchor.refuted:
        raise void("the statement rests on a refuted anchor")
    fault = ""
    if anchor is None:
        fault = "the anchor it names is none"  # anchors stay in the ledger for ever
    elif anchor.process != statement.process or statement.first <= anchor.slot:
        fault = "the anchor is of another process or a later slot"
    elif statement.first == anchor.slot + 1:
        if statement.head_before != anchor.head:
            raise void("the anchor is of another branch of the log")
        if statement.mmr_before != anchor.mmr_root:
            fault = "the range before is not the anchor's"
    reason = fault or "it fits its anchor"
    return guilty_if(bool(fault), reason, statement.cu, evidence.statement)
